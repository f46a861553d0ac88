"""Documents run once under several queries: logits and gradients are those of one pair at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sightrank.inputs.images import normalise
from sightrank.inputs.segments import Encoder
from sightrank.model.multimodal import RerankerModel
from sightrank.train.batches import assemble, share
from sightrank.train.packed import PairScorer
from sightrank.train.records import Group
from sightrank.types import Document, Query
from sightrank.weights import Checkpoint
from tests.tolerances import ENGINE, GRADIENT
from tests.train.conftest import DOCUMENTS, QUERIES, make_groups

TEXTS = {"text": DOCUMENTS["text"], "long": DOCUMENTS["long"]}
ASKED = {"text": QUERIES["text"], "break": QUERIES["break"]}
KINDS: dict[str, tuple[dict[str, Query], dict[str, Document]]] = {
    "text": (ASKED, TEXTS),
    "image": ({"image": QUERIES["image"], "text": QUERIES["text"]}, {"image": DOCUMENTS["image"]}),
    "mixed": (QUERIES, DOCUMENTS),
}


def one_at_a_time(model: RerankerModel, encoder: Encoder, groups: list[Group]) -> list[Tensor]:
    """Logits by the plain path: `score_one` itself, outside of its inference mode."""
    plain = RerankerModel.score_one.__wrapped__  # type: ignore[attr-defined]
    logits: list[Tensor] = []
    hook = model.score.register_forward_hook(lambda _module, _inputs, out: logits.append(out[0]))
    for group in groups:
        for each in group.candidates:
            whole = encoder.pair(group.query, each.document)
            patches = [torch.from_numpy(normalise(image)) for image in whole.images]
            plain(
                model,
                torch.from_numpy(whole.ids).long(),
                torch.from_numpy(whole.positions).long(),
                torch.cat(patches) if patches else None,
                [image.grid for image in whole.images],
            )
    hook.remove()
    return logits


def weighted(logits: Tensor) -> Tensor:
    """A sum in which every pair has another weight, so that none can stand for another."""
    return (logits * torch.linspace(-1, 2, len(logits))).sum()


def gradients(model: RerankerModel) -> dict[str, Tensor]:
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return {name: gradient.clone() for name, gradient in found.items()}


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_gradients_are_those_of_one_pair_at_a_time(
    loaded: Checkpoint, encoder: Encoder, kind: str, checkpointing: bool
) -> None:
    groups = make_groups(*KINDS[kind])
    model = loaded.model.requires_grad_(True).train()
    expected = torch.stack(one_at_a_time(model, encoder, groups))
    weighted(expected).backward()  # type: ignore[no-untyped-call]
    truth = gradients(model)

    model.model.checkpointing = checkpointing
    batch = assemble(groups, encoder)
    assert len(batch.trees) == len(KINDS[kind][1])
    logits = PairScorer(model, see=True)(batch)[batch.rows].flatten()
    assert (logits - expected).abs().max() <= ENGINE
    weighted(logits).backward()  # type: ignore[no-untyped-call]
    found = gradients(model)

    unseen = found.keys() - truth.keys()
    assert all(name.startswith("visual.") and not found[name].any() for name in unseen)
    assert not unseen or batch.patches is None
    for name, gradient in truth.items():
        off, size = (found[name] - gradient).abs(), gradient.abs().max()
        assert off.max() <= GRADIENT * max(float(size), 1.0), (
            f"{name}: {off.max():.1e} of {size:.1e}"
        )
    assert truth["model.layers.0.self_attn.k_proj.weight"].abs().max() > 1e-3


def test_an_image_under_many_queries_goes_through_the_tower_once(
    loaded: Checkpoint, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = assemble(make_groups(QUERIES, DOCUMENTS), encoder)
    distinct = 3  # FIRST, SECOND and THIRD, in five documents and four queries
    assert len(batch.grids) == distinct
    assert batch.patches is not None
    assert len(batch.patches) == sum(rows * columns for rows, columns in batch.grids)
    assert len(batch.visual_rows) > len(batch.patches) // 4


def test_the_vision_tower_has_no_gradients_where_it_is_frozen(
    loaded: Checkpoint, encoder: Encoder
) -> None:
    model = loaded.model.requires_grad_(True)
    batch = assemble(make_groups(QUERIES, DOCUMENTS), encoder)
    PairScorer(model)(batch).sum().backward()
    names = {name for name, each in model.named_parameters() if each.grad is not None}
    assert not any(name.startswith("visual.") for name in names)
    assert "model.layers.0.mlp.up_proj.weight" in names


def test_bfloat16_autocast_is_near_float32(loaded: Checkpoint, encoder: Encoder) -> None:
    batch = assemble(make_groups(QUERIES, DOCUMENTS), encoder)
    scorer = PairScorer(loaded.model.requires_grad_(True), see=True)
    truth = scorer(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = scorer(batch)
    found.sum().backward()
    off = (found - truth).abs()
    assert 0 < off.max() < 0.06, f"largest difference {off.max():.1e}"


def test_a_batch_may_borrow_documents_of_its_other_groups() -> None:
    groups = [
        make_groups(ASKED, {"text": DOCUMENTS["text"], "long": DOCUMENTS["long"]})[0],
        make_groups(ASKED, {"image": DOCUMENTS["image"], "long": DOCUMENTS["long"]})[1],
    ]
    first, second = share(groups, 5)
    assert [each.key for each in first.candidates] == ["text", "long", "image"]
    assert [each.key for each in second.candidates] == ["image", "long", "text"]
    assert first.candidates[-1].label == second.candidates[-1].label == 0
    assert share(groups, 0) == groups
    assert len(share(groups, 1)[0].candidates) == 3


def test_labels_follow_their_documents(loaded: Checkpoint, encoder: Encoder) -> None:
    groups = make_groups(QUERIES, DOCUMENTS)
    short = make_groups(ASKED, TEXTS)[0]
    batch = assemble([*groups, short], encoder)
    assert batch.mask.sum(dim=1).tolist() == [5, 5, 5, 5, 2]
    assert batch.labels[0].tolist() == [each.label for each in groups[0].candidates]
    assert batch.teacher is not None
    assert batch.teacher[-1].tolist() == [0, 1, 0, 0, 0]
    logits = PairScorer(loaded.model)(batch)[batch.rows]
    alone = PairScorer(loaded.model)(assemble([groups[2]], encoder))
    assert (logits[2] - alone).abs().max() <= ENGINE
