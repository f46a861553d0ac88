"""What training writes: opened by our strict loader, by `transformers` and by peft, with equal scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from sightrank import Reranker
from sightrank.config import InputConfig
from sightrank.inputs.images import normalise
from sightrank.inputs.segments import Segment
from sightrank.train.loop import train
from sightrank.types import Document, Query
from tests.parity.conftest import SHAPES, reference_model, released_tensors, save_checkpoint
from tests.parity.test_whole import qwen_like
from tests.tolerances import ENGINE
from tests.train.runs import quiet, settings, write_groups

transformers = pytest.importorskip("transformers", reason="the reference is not installed")

LIMITS = InputConfig(max_pixels=84 * 84)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the reference's making, with Qwen's special tokens."""
    bpe = qwen_like()
    names = {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    ids = {f"{name}_token_id": bpe.token_to_id(token) for name, token in names.items()}
    config = SHAPES["grouped"].config() | {
        **ids,
        "vocab_size": bpe.get_vocab_size(),
        "image_token_id": bpe.token_to_id("<|image_pad|>"),
        "video_token_id": bpe.token_to_id("<|video_pad|>"),
    }
    folder = tmp_path_factory.mktemp("start")
    save_checkpoint(folder, config, released_tensors(*reference_model(config, seed=5)))
    bpe.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def trained(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a short training wrote, of texts and a picture."""
    folder = tmp_path_factory.mktemp("trained")
    write_groups(folder / "train.jsonl", 6)
    PIL.Image.new("RGB", (60, 40), "teal").save(folder / "teal.png")
    row = {"query": "teal", "positives": [{"image": "teal.png"}], "negatives": ["grey", "red"]}
    with (folder / "train.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    train(settings(folder, start), quiet)
    return folder / "out"


def pairs() -> list[tuple[Query, Document]]:
    picture = PIL.Image.new("RGB", (60, 90), "orange")
    documents = [Document.text("ab"), Document.image(picture), Document.of(["Seen: ", picture])]
    queries = [Query.text("what is it?"), Query.image(picture)]
    return [(query, document) for query in queries for document in documents]


def reference_logits(model: nn.Module, head: nn.Module, prompts: list[Segment]) -> list[float]:
    """By the network of `transformers`, as the released wrapper reads it."""
    logits = []
    for prompt in prompts:
        ids = torch.from_numpy(prompt.ids).long()[None]
        seen: dict[str, Any] = {}
        if prompt.images:
            patches = torch.cat([torch.from_numpy(normalise(image)) for image in prompt.images])
            frames = patches.view(-1, 3, 1, 14, 14).expand(-1, 3, 2, 14, 14)
            grids = [[1, *image.grid] for image in prompt.images]
            seen = {
                "pixel_values": frames.reshape(len(patches), -1),
                "image_grid_thw": torch.tensor(grids),
            }
        with torch.no_grad():
            mask = torch.ones_like(ids)
            out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, **seen)
            logits.append(float(head(out.hidden_states[-1][0, -1])[0]))
    return logits


def reference_head(tensors: dict[str, torch.Tensor], size: int) -> nn.Module:
    head = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 1)).eval()
    own = {k.removeprefix("score."): v for k, v in tensors.items() if k.startswith("score.")}
    head.load_state_dict(own)
    return head


def off(one: list[float], two: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, two, strict=True))


def test_a_trained_folder_scores_the_same_in_transformers(trained: Path) -> None:
    ours = Reranker.from_pretrained(trained, device="cpu", inputs=LIMITS)
    scores = ours.score(pairs(), probabilities=False)
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(
        trained, torch_dtype=torch.float32
    ).eval()
    head = reference_head(load_file(trained / "model.safetensors"), ours.config.hidden_size)
    found = reference_logits(model, head, [ours.encoder.pair(*pair) for pair in pairs()])
    assert off(scores, found) <= ENGINE
    assert off(scores, [ours.score_one(*pair) for pair in pairs()]) <= ENGINE


def test_the_adapter_on_the_start_scores_as_the_folder(start: Path, trained: Path) -> None:
    from peft import PeftModel

    ours = Reranker.from_pretrained(trained, device="cpu", inputs=LIMITS)
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(
        start, torch_dtype=torch.float32
    )
    model.score = reference_head(load_file(start / "model.safetensors"), ours.config.hidden_size)
    adapted = PeftModel.from_pretrained(model, trained / "adapter").eval()
    prompts = [ours.encoder.pair(*pair) for pair in pairs()]
    inner: Any = adapted.base_model.model
    found = reference_logits(inner, inner.score, prompts)
    assert off(found, ours.score(pairs(), probabilities=False)) <= ENGINE


def test_training_changed_the_language_model_and_the_head_alone(start: Path, trained: Path) -> None:
    before, after = (load_file(each / "model.safetensors") for each in (start, trained))
    before.pop("lm_head.weight")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("visual.") or "norm" in name for name in changed)
    assert "model.embed_tokens.weight" not in changed
    assert {"score.0.weight", "model.layers.0.self_attn.q_proj.weight"} <= changed


def test_others_can_read_what_lies_beside_the_weights(trained: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert config["architectures"] == ["JinaVLForRanking"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained)
    ours = Reranker.from_pretrained(trained, device="cpu")
    text = "**Document**:\nslm markdown"
    assert tokenizer(text)["input_ids"] == ours.encoder.tokenizer.encode(text)
    assert tokenizer.padding_side == "left" and tokenizer.pad_token == "<|endoftext|>"
    processor = transformers.AutoImageProcessor.from_pretrained(trained, use_fast=False)
    assert (processor.min_pixels, processor.max_pixels) == (3136, 602_112)


def test_what_was_done_is_written_beside_the_weights(trained: Path) -> None:
    facts = json.loads((trained / "training" / "run.json").read_text())
    assert facts["settings"]["lora"]["rank"] == 4
    assert facts["settings"]["head"]["steps"] == 3
    assert len(facts["data"]["train"]["sha256"]) == 64
    assert facts["data"]["train"]["groups"] == 7
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["result"]["steps"] == 9
    with PIL.Image.open(trained / "training" / "curve.png") as plot:
        assert plot.format == "PNG" and min(plot.size) > 300
    assert not list((trained / "training").glob("*.pt"))


def test_tensorboard_has_the_curve(trained: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(trained / "training" / "tensorboard")).Reload()
    log = [json.loads(x) for x in (trained / "training" / "log.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in log if "loss" in line}
    shown = {event.step: event.value for event in board.Scalars("loss")}
    assert shown == pytest.approx(losses)
    assert len(board.Scalars("ndcg@10")) == len([line for line in log if "ndcg@10" in line])


def test_weights_are_cut_into_shards_that_load(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightrank.train import export
    from sightrank.weights import load

    checkpoint = load(trained, torch.device("cpu"), None)
    monkeypatch.setattr(export, "SHARD_BYTES", 100_000)
    state = checkpoint.model.state_dict()
    export.write_folder(checkpoint, state, tmp_path / "cut")
    shards = sorted((tmp_path / "cut").glob("model-*.safetensors"))
    assert len(shards) > 2
    again = load(tmp_path / "cut", torch.device("cpu"), None).model.state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_a_bfloat16_start_is_written_in_bfloat16(start: Path, tmp_path: Path) -> None:
    folder = tmp_path / "start"
    folder.mkdir()
    config = json.loads((start / "config.json").read_text()) | {"torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).symlink_to(start / name)
    write_groups(tmp_path / "train.jsonl", 4)
    changes: dict[str, Any] = {"train": {"precision": "bfloat16", "checkpointing": True}}
    train(settings(tmp_path, folder, **changes), quiet)
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert Reranker.from_pretrained(tmp_path / "out", device="cpu").dtype == torch.bfloat16
