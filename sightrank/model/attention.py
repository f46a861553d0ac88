"""Attention over packed segments: one signature, a plain truth and a fast form.

Tokens of several segments lie one after another in one tensor, without padding. `lengths` cut it up.
Where a segment has fewer queries than keys, its queries are its last tokens (aligned at the right),
the same convention as flash attention's variable-length functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


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
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[-1] ** -0.5
    if causal:
        hidden = ~causal_mask(q.shape[0], k.shape[0], q.device)
        scores = scores.masked_fill(hidden, float("-inf"))
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    return torch.einsum("hqk,khd->qhd", weights, v)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """`plain_attention` through PyTorch's fused kernels."""
    queries, keys = q.shape[0], k.shape[0]
    square = queries == keys
    mask = causal_mask(queries, keys, q.device) if causal and not square and queries > 1 else None
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        k.transpose(0, 1)[None],
        v.transpose(0, 1)[None],
        attn_mask=mask,
        is_causal=causal and square,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return out[0].transpose(0, 1)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """(queries, keys), True where a query may look; the last query sees every key."""
    shape = (queries, keys)
    return torch.ones(shape, dtype=torch.bool, device=device).tril(diagonal=keys - queries)


class Packed:
    """Every segment attends within itself: an image's patches (full) or a prompt's tokens (causal)."""

    def __init__(self, lengths: Sequence[int], *, causal: bool, plain: bool = False) -> None:
        self.lengths = list(lengths)
        self.causal = causal
        self._segment = plain_attention if plain else fused_attention

    def layer(self, index: int) -> Attend:
        """The same for every layer."""
        return self._attend

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        query_lengths = [1] * len(self.lengths) if q.shape[0] != k.shape[0] else self.lengths
        pieces = zip(
            torch.split(q, query_lengths),
            torch.split(k, self.lengths),
            torch.split(v, self.lengths),
            strict=True,
        )
        return torch.cat([self._segment(*piece, causal=self.causal) for piece in pieces])
