"""Attention over packed segments: one signature, a plain truth and a fast form.

Tokens of several segments lie one after another in one tensor, without padding. `lengths` cut it up.
Where a segment has fewer queries than keys, its queries are its last tokens (aligned at the right),
the same convention as flash attention's variable-length functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from sightrank.model import varlen
from sightrank.model.wide import widens


class Attend(Protocol):
    """q (queries, heads, head_dim), k and v (keys, kv_heads, head_dim) -> (queries, heads, head_dim)."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of one layer."""
        ...


class AttentionPlan(Protocol):
    """Which tokens see which, for one pass through a tower: an `Attend` for every layer."""

    def layer(self, index: int) -> Attend:
        """The attention of layer `index`."""
        ...


def plain_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """One segment, in the obvious way: softmax(q k^T / sqrt(head_dim)) v with softmax in float32.

    q (queries, heads, head_dim), k and v (keys, kv_heads, head_dim) -> (queries, heads, head_dim).
    """
    return weighted(plain_weights(q, k, causal), v)


def plain_weights(q: Tensor, k: Tensor, causal: bool) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) of one segment, (heads, queries, keys) in float32."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[-1] ** -0.5
    if causal:
        hidden = ~causal_mask(q.shape[0], k.shape[0], q.device)
        scores = scores.masked_fill(hidden, float("-inf"))
    weights: Tensor = scores.softmax(dim=-1, dtype=torch.float32)
    return weights


def weighted(weights: Tensor, v: Tensor) -> Tensor:
    """(heads, queries, keys) weights, (keys, kv_heads, head_dim) -> (queries, heads, head_dim)."""
    v = v.repeat_interleave(len(weights) // v.shape[1], dim=1)
    return torch.einsum("hqk,khd->qhd", weights.to(v.dtype), v)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """`plain_attention` of segments of one shape, through PyTorch's fused kernels.

    q (segments, queries, heads, head_dim), k and v (segments, keys, kv_heads, head_dim) -> as q.
    """
    queries, keys = q.shape[1], k.shape[1]
    square = queries == keys
    mask = causal_mask(queries, keys, q.device) if causal and not square and queries > 1 else None
    wide_q, wide_k, wide_v = (q.float(), k.float(), v.float()) if widens(q) else (q, k, v)
    out = F.scaled_dot_product_attention(
        wide_q.transpose(1, 2),
        wide_k.transpose(1, 2),
        wide_v.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal and square,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return out.transpose(1, 2).to(q.dtype)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """(queries, keys), True where a query may look; the last query sees every key."""
    shape = (queries, keys)
    return torch.ones(shape, dtype=torch.bool, device=device).tril(diagonal=keys - queries)


class Runs:
    """Packed segments gathered by their length, so that those of one length run as one call."""

    def __init__(self, lengths: Sequence[int]) -> None:
        order = sorted(range(len(lengths)), key=lambda segment: lengths[segment])
        self._groups = [
            (length, len(list(members)))
            for length, members in groupby(order, key=lengths.__getitem__)
        ]
        self._segments = self._tokens = None
        if len(self._groups) > 1:  # else all are in order as they are
            tokens = torch.split(torch.arange(sum(lengths)), list(lengths))
            self._segments = torch.tensor(order)
            self._tokens = torch.cat([tokens[segment] for segment in order])

    def each(
        self, run: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]], *qkv: Tensor
    ) -> tuple[Tensor, ...]:
        """`run` over q, k, v, each (tokens, ...), one group at a time as (segments, length, ...).

        q may instead have one row a segment. Results come back packed as q is.
        """
        reading = len(qkv[0]) != len(qkv[1])
        orders = (self._segments if reading else self._tokens, self._tokens, self._tokens)
        seen = [count * length for length, count in self._groups]
        sizes = ([count for _, count in self._groups] if reading else seen, seen, seen)
        cut = [
            torch.split(packed if order is None else packed[order.to(packed.device)], size)
            for packed, order, size in zip(qkv, orders, sizes, strict=True)
        ]
        results = [
            run(*(rows.unflatten(0, (count, -1)) for rows in group))
            for *group, (_, count) in zip(*cut, self._groups, strict=True)
        ]
        columns = zip(*results, strict=True)
        return tuple(
            _restored([rows.flatten(0, 1) for rows in each], orders[0]) for each in columns
        )


def _restored(pieces: list[Tensor], order: Tensor | None) -> Tensor:
    gathered = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
    return gathered if order is None else gathered[order.argsort().to(gathered.device)]


class Packed:
    """Every segment attends within itself: an image's patches (full) or a prompt's tokens (causal)."""

    def __init__(self, lengths: Sequence[int], *, causal: bool, plain: bool = False) -> None:
        self.lengths, self.causal, self.plain = list(lengths), causal, plain
        self._runs = Runs(lengths)
        self._all, self._last = varlen.Bounds(lengths), varlen.Bounds([1] * len(lengths))

    def layer(self, index: int) -> Attend:
        """The same for every layer."""
        return self._one_by_one if self.plain else self._together

    def _together(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if varlen.takes(q):
            reading = len(q) != len(k)  # the last token of each, which sees all
            rows, causal = (self._last, False) if reading else (self._all, self.causal)
            return varlen.flash_part(q, k, v, rows, self._all, causal)[0]
        (out,) = self._runs.each(self._batch, q, k, v)
        return out

    def _batch(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (fused_attention(q, k, v, self.causal),)

    def _one_by_one(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        query_lengths = [1] * len(self.lengths) if q.shape[0] != k.shape[0] else self.lengths
        pieces = zip(
            torch.split(q, query_lengths),
            torch.split(k, self.lengths),
            torch.split(v, self.lengths),
            strict=True,
        )
        return torch.cat([plain_attention(*piece, self.causal) for piece in pieces])
