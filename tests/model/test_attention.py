"""The fast forms of attention against the plain ones, in every dtype that they are used in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sightrank.engine.plans import CachedPrefix, Extend, Suffix
from sightrank.model import parts, varlen
from sightrank.model.attention import Packed, plain_attention
from sightrank.model.parts import fused_part, joined, plain_part
from sightrank.model.varlen import Bounds
from tests.tolerances import BF16_ATTENTION, BF16_SUMS

HEADS = ((4, 4, 80), (6, 2, 64), (4, 4, 48), (3, 1, 8))
"""(heads, kv_heads, head_dim): m0's vision tower, nano's two towers, an odd one."""
ORDERS = ((5,), (7, 7, 7), (3, 9, 3, 1, 9), (1, 1), (9, 1))


def random_qkv(
    queries: int, keys: int, heads: tuple[int, int, int], seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    num_heads, kv_heads, size = heads
    q, k, v = (
        torch.randn(count, number, size, generator=random)
        for count, number in ((queries, num_heads), (keys, kv_heads), (keys, kv_heads))
    )
    return q, k, v


def one_by_one(
    q: Tensor, k: Tensor, v: Tensor, queries: Bounds, keys: Bounds, causal: bool
) -> tuple[Tensor, Tensor]:
    """What a GPU's kernel computes for packed segments in one call."""
    starts = (each.on(q.device) for each in (queries, keys))
    sizes = [each.diff().tolist() for each in starts]
    assert sizes == [queries.lengths, keys.lengths]
    assert not causal or sizes[0] == sizes[1]
    assert [max(each) for each in sizes] == [queries.longest, keys.longest]
    cuts = zip((q, k, v), (sizes[0], sizes[1], sizes[1]), strict=True)
    pieces = [torch.split(each[None], size, dim=1) for each, size in cuts]
    found = [
        plain_part(mine, theirs, said, causal) for mine, theirs, said in zip(*pieces, strict=True)
    ]
    outs, sums = (torch.cat([part[0] for part in each]) for each in zip(*found, strict=True))
    return outs, sums


@pytest.fixture(params=["by length", "in one call"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on a CPU, and as on a GPU with a kernel for segments of any lengths."""
    if request.param == "in one call":
        monkeypatch.setattr(varlen, "takes", lambda _: True)
        monkeypatch.setattr(varlen, "flash_part", one_by_one)
    return str(request.param)


@pytest.mark.parametrize("lengths", ORDERS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.usefixtures("form")
def test_segments_run_together_as_one_by_one(
    lengths: Sequence[int], heads: tuple[int, int, int], causal: bool
) -> None:
    q, k, v = random_qkv(sum(lengths), sum(lengths), heads)
    last = torch.tensor(lengths).cumsum(0) - 1
    fast, plain = (Packed(lengths, causal=causal, plain=each).layer(0) for each in (False, True))
    assert_close(fast(q, k, v), plain(q, k, v))
    assert_close(fast(q[last], k, v), plain(q[last], k, v))


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize(("queries", "keys", "causal"), [(9, 9, True), (1, 9, True), (4, 9, False)])
@pytest.mark.parametrize("most", [parts.MOST_SCORES, 40])
def test_a_part_and_its_weight_are_those_of_the_plain_form(
    heads: tuple[int, int, int],
    queries: int,
    keys: int,
    causal: bool,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "MOST_SCORES", most)
    q, k, v = (torch.stack((each, 2 * each)) for each in random_qkv(queries, keys, heads))
    (out, sums), (true_out, true_sums) = (
        form(q, k, v, causal) for form in (fused_part, plain_part)
    )
    assert_close(out, true_out)
    assert_close(sums, true_sums)
    assert_close(true_out[0], plain_attention(q[0], k[0], v[0], causal))


def test_causal_parts_with_more_keys_than_queries_are_aligned_at_the_right() -> None:
    q, k, v = (each[None] for each in random_qkv(3, 8, (6, 2, 8)))
    assert_close(fused_part(q, k, v, causal=True)[0][0], plain_attention(q[0], k[0], v[0], True))


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_parts_join_to_the_whole(scale: float) -> None:
    q, k, v = (each[None] for each in random_qkv(3, 12, (6, 2, 8)))
    k *= scale
    whole, _ = plain_part(q, k, v, causal=False)
    halves = [fused_part(q, k[:, part], v[:, part], causal=False) for part in cut(5, 12)]
    assert_close(joined(halves[0], halves[1]), whole)


def cut(at: int, end: int) -> tuple[slice, slice]:
    return slice(0, at), slice(at, end)


SUFFIXES = (
    [(0, 4, 0)],
    [(0, 3, 0), (0, 3, 0), (1, 3, 0)],
    [(0, 2, 0), (0, 5, 1), (1, 2, 0), (0, 1, 1)],
)
"""(number of the prefix, length, tokens of the prefix that give way) of every suffix."""


@pytest.mark.parametrize("suffixes", SUFFIXES)
@pytest.mark.usefixtures("form")
def test_suffixes_over_prefixes_see_what_one_prompt_sees(
    suffixes: list[tuple[int, int, int]],
) -> None:
    heads = (6, 2, 16)
    prefixes = [
        CachedPrefix(*(torch.stack((each, each + 1)) for each in random_qkv(1, length, heads)[1:]))
        for length in (7, 11)
    ]
    total = sum(length for _, length, _ in suffixes)
    q, k, v = random_qkv(total, total, heads, seed=1)
    plan = Extend([Suffix(prefixes[number], length, rewind) for number, length, rewind in suffixes])
    ends = torch.tensor([length for _, length, _ in suffixes]).cumsum(0)
    for layer in range(2):
        attend = plan.layer(layer)
        truth = []
        for (number, length, rewind), end in zip(suffixes, ends.tolist(), strict=True):
            own = slice(end - length, end)
            kept = prefixes[number].num_tokens - rewind
            keys = torch.cat((prefixes[number].keys[layer, :kept], k[own]))
            values = torch.cat((prefixes[number].values[layer, :kept], v[own]))
            truth.append(plain_attention(q[own], keys, values, causal=True))
        assert_close(attend(q, k, v), torch.cat(truth))
        assert_close(attend(q[ends - 1], k, v), torch.cat(truth)[ends - 1])


def test_the_kernel_for_any_lengths_is_not_asked_on_a_cpu_nor_for_other_numbers() -> None:
    q = torch.zeros(3, 2, 64, dtype=torch.bfloat16)
    assert not varlen.takes(q)
    assert not varlen.takes(q.to("meta"))


@pytest.mark.parametrize("heads", HEADS)
def test_the_kernel_for_any_lengths_takes_what_it_is_given(heads: tuple[int, int, int]) -> None:
    """By its own account of shapes, which needs no GPU."""
    queries, keys = Bounds([5, 1, 9]), Bounds([12, 3, 70])
    q, k, v = (each.bfloat16().to("meta") for each in random_qkv(15, 85, heads))
    out, sums = varlen.flash_part(q, k, v, queries, keys, causal=False)
    assert (out.shape, out.dtype) == (q.shape, q.dtype)
    assert (sums.shape, sums.dtype) == (q.shape[:2], torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("causal", [False, True])
def test_the_kernel_for_any_lengths_is_the_plain_form(
    heads: tuple[int, int, int], causal: bool
) -> None:
    queries, keys = Bounds([5, 1, 9]), Bounds([5, 1, 9] if causal else [12, 3, 70])
    q, k, v = (each.cuda().bfloat16() for each in random_qkv(15, sum(keys.lengths), heads))
    assert varlen.takes(q)
    out, sums = varlen.flash_part(q, k, v, queries, keys, causal)
    true_out, true_sums = one_by_one(q, k, v, queries, keys, causal)
    assert_close(out, true_out, atol=BF16_ATTENTION, rtol=BF16_ATTENTION)
    assert_close(sums, true_sums, atol=BF16_SUMS, rtol=BF16_SUMS)
