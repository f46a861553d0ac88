"""Rung 2: our network equals transformers' Qwen2-VL with the score head, in float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sightrank.inputs.positions import positions
from tests.parity.conftest import END, IMAGE, SCORE, START, Grids, Twins

Layout = list[int | tuple[int, int]]
PROMPTS: dict[str, Layout] = {
    "text": [37],
    "short": [1],
    "image": [4, (4, 6), 9],
    "wide image": [4, (2, 20), 3],
    "tall image": [0, (18, 2), 5],
    "two images": [4, (4, 4), 7, (6, 10), 5],
    "mixed": [11, (2, 2), 0, (8, 6), 1, (2, 4), 12],
}


def build(layout: Layout, seed: int) -> tuple[Tensor, Tensor | None, Grids]:
    """Ids with the score token last, random patches, patch grids."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = []
    grids = [item for item in layout if isinstance(item, tuple)]
    for item in layout:
        if isinstance(item, int):
            ids += torch.randint(0, 280, (item,), generator=generator).tolist()
        else:
            ids += [START, *[IMAGE] * (item[0] * item[1] // 4), END]
    count = sum(rows * columns for rows, columns in grids)
    patches = torch.randn(count, 588, generator=generator) if grids else None
    return torch.tensor([*ids, SCORE]), patches, grids


@pytest.mark.parametrize("layout", PROMPTS.values(), ids=PROMPTS.keys())
def test_scores_equal(twins: Twins, layout: Layout) -> None:
    ids, patches, grids = build(layout, seed=len(layout))
    rows = twins.reference_positions(ids, grids)
    ours = twins.ours.score_one(ids, rows, patches, grids)
    assert_close(torch.tensor(ours), twins.reference_logit(ids, patches, grids))


@pytest.mark.parametrize("layout", PROMPTS.values(), ids=PROMPTS.keys())
def test_positions_equal(twins: Twins, layout: Layout) -> None:
    ids, _, grids = build(layout, seed=0)
    ours, following = positions(
        [x if isinstance(x, int) else (x[0] // 2, x[1] // 2) for x in _tokens(layout)]
    )
    reference = twins.reference_positions(ids, grids)
    assert_close(torch.from_numpy(ours).long(), reference)
    assert following == int(reference[:, -1].max()) + 1


def _tokens(layout: Layout) -> Layout:
    """The layout with start and end marks counted as text, and the score token."""
    out: Layout = []
    for item in layout:
        out += [item] if isinstance(item, int) else [1, item, 1]
    return [*out, 1]


@torch.no_grad()
def test_vision_tower_and_merger_equal(twins: Twins) -> None:
    _, patches, grids = build([(4, 6), (10, 2), (6, 6)], seed=3)
    assert patches is not None
    frames = patches.view(-1, 3, 1, 14, 14).expand(-1, 3, 2, 14, 14).reshape(len(patches), -1)
    thw = torch.tensor([[1, *grid] for grid in grids])
    reference = twins.reference.visual(frames, grid_thw=thw)
    for plain in (False, True):
        assert_close(twins.ours.visual(patches, grids, plain=plain), reference)


@torch.no_grad()
def test_decoder_states_equal(twins: Twins) -> None:
    from sightrank.model.attention import Packed

    ids, _, _ = build([23], seed=4)
    rows = torch.arange(len(ids)).expand(3, -1)
    reference = twins.reference(input_ids=ids[None], output_hidden_states=True).hidden_states[-1][0]
    for plain in (False, True):
        plan = Packed([len(ids)], causal=True, plain=plain)
        ours = twins.ours.model(twins.ours.embed(ids, None), twins.ours.rotary(rows), plan)
        assert_close(ours, reference)
