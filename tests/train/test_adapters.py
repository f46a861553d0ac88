"""Adapters: nothing at first, the same merged and unmerged, nothing else learns unless asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sightrank.inputs.segments import Encoder
from sightrank.model.multimodal import RerankerModel
from sightrank.train.batches import assemble
from sightrank.train.packed import PairScorer
from sightrank.train.stages import Stage, adapt, prepare, start, with_main
from tests.tolerances import ENGINE
from tests.train.conftest import DOCUMENTS, QUERIES, make_groups
from tests.train.runs import settings

MAIN, HEAD = Stage("main", 0, 5), Stage("head", 5, 5)


def logits(model: RerankerModel, encoder: Encoder) -> Tensor:
    model.eval()
    with torch.no_grad():
        found: Tensor = PairScorer(model)(assemble(make_groups(QUERIES, DOCUMENTS), encoder))
    return found


def shaken(model: RerankerModel) -> dict[str, Tensor]:
    """Random numbers in all that learns."""
    torch.manual_seed(3)
    trained = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.1
            trained[name] = parameter.data.clone()
    return trained


def test_at_first_adapters_change_nothing(
    checkpoint: Path, encoder: Encoder, tmp_path: Path
) -> None:
    config = settings(tmp_path, checkpoint)
    truth = logits(start(config).model, encoder)
    assert torch.equal(logits(prepare(config, MAIN, None).model, encoder), truth)


def test_merged_adapters_score_as_unmerged_ones(
    checkpoint: Path, encoder: Encoder, tmp_path: Path
) -> None:
    config = settings(tmp_path, checkpoint)
    before = logits(start(config).model, encoder)
    model = prepare(config, MAIN, None).model
    trained = shaken(model)
    unmerged = logits(model, encoder)
    merged = with_main(config, start(config), trained).model
    assert not any("lora" in name for name, _ in merged.named_parameters())
    off = (logits(merged, encoder) - unmerged).abs().max()
    assert off <= ENGINE, f"largest difference {off:.1e}"
    assert (unmerged - before).abs().max() > 0.05, "the adapters did something"


def test_adapters_lie_in_the_language_model_alone(checkpoint: Path, tmp_path: Path) -> None:
    model = start(settings(tmp_path, checkpoint)).model
    adapt(settings(tmp_path, checkpoint), model)
    names = [name for name, _ in model.named_parameters() if "lora_A" in name]
    assert len(names) == 7 * model.config.num_hidden_layers
    assert all(name.startswith("model.layers.") for name in names)


LEARNS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"adapters", "score"}),
    ({"train": {"head": False}}, {"adapters"}),
    ({"model": {"language": "frozen"}}, {"score"}),
    ({"model": {"language": "full"}}, {"model", "score"}),
    ({"model": {"merger": True}}, {"adapters", "score", "merger"}),
    ({"model": {"vision": True}}, {"adapters", "score", "vision"}),
]


def part(name: str) -> str:
    if "lora_" in name:
        return "adapters"
    if name.startswith("visual.merger."):
        return "merger"
    return "vision" if name.startswith("visual.") else name.split(".")[0]


@pytest.mark.parametrize(("changes", "parts"), LEARNS, ids=[str(change) for change, _ in LEARNS])
def test_only_the_parts_that_are_named_learn(
    checkpoint: Path, tmp_path: Path, changes: dict[str, Any], parts: set[str]
) -> None:
    config = settings(tmp_path, checkpoint, **changes)
    model = prepare(config, MAIN, None).model
    learning = {name for name, each in model.named_parameters() if each.requires_grad}
    assert {part(name) for name in learning} == parts
    assert not any("embed_tokens" in name for name in learning)
    head = prepare(config, HEAD, None).model
    assert {part(n) for n, each in head.named_parameters() if each.requires_grad} == {"score"}


def test_what_learns_is_float32_and_the_rest_bfloat16(checkpoint: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, checkpoint, train={"precision": "bfloat16"})
    for _, parameter in prepare(config, MAIN, None).model.named_parameters():
        wanted = torch.float32 if parameter.requires_grad else torch.bfloat16
        assert parameter.dtype == wanted


def test_a_start_without_a_head_gets_the_same_one_every_time(
    checkpoint: Path, encoder: Encoder, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "instruct"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((checkpoint / name).read_bytes())
    whole = load_file(checkpoint / "model.safetensors")
    kept = {name: each for name, each in whole.items() if not name.startswith("score.")}
    save_file(kept, folder / "model.safetensors")
    one, two = (start(settings(tmp_path, folder)) for _ in range(2))
    other = start(settings(tmp_path, folder, model={"head_seed": 1}))
    assert one.fresh_head and not start(settings(tmp_path, checkpoint)).fresh_head
    first, second, third = (logits(each.model, encoder) for each in (one, two, other))
    assert torch.equal(first, second)
    assert not torch.allclose(first, third)
    assert (first.mean() - one.config.logit_bias).abs() < 3
