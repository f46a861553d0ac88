"""The fast forms of attention against the plain ones, in every dtype that they are used in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sightrank.engine.plans import CachedPrefix, Extend, Suffix
from sightrank.model import parts
from sightrank.model.attention import Packed, plain_attention
from sightrank.model.parts import fused_part, joined, plain_part

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


@pytest.mark.parametrize("lengths", ORDERS)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("causal", [False, True])
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
