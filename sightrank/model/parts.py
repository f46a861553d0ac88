"""Attention to part of the keys, with its weight, so that parts can be joined afterwards.

softmax over two sets of keys is the mean of the softmaxes over each, weighted by the sums of their
exponentials (Milakov and Gimelshein 2018); with those sums as logarithms nothing overflows. So many
queries read one document's keys where they lie, and their own keys apart from them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightrank.model.attention import causal_mask
from sightrank.model.wide import widens

MOST_SCORES = 1 << 24
"""Of a plain part that are held at once: 64 MiB."""


def plain_part(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Segments of one shape, in the obvious way, softmax in float32.

    q (segments, queries, heads, head_dim), k and v (segments, keys, kv_heads, head_dim) -> the output
    as q, and the logarithm of the sum of exponentials, (segments, queries, heads) in float32.
    """
    repeat = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(repeat, dim=2), v.repeat_interleave(repeat, dim=2)
    rows = max(1, MOST_SCORES // (k.shape[0] * k.shape[1] * k.shape[2]))
    hidden = ~causal_mask(q.shape[1], k.shape[1], q.device) if causal else None
    outs, sums = [], []
    for start in range(0, q.shape[1], rows):
        scores = torch.einsum("sqhd,skhd->shqk", q[:, start : start + rows], k).float()
        scores *= q.shape[-1] ** -0.5
        if hidden is not None:
            scores = scores.masked_fill(hidden[start : start + rows], float("-inf"))
        sums.append(scores.logsumexp(dim=-1).transpose(1, 2))
        weights = scores.softmax(dim=-1).to(q.dtype)
        outs.append(torch.einsum("shqk,skhd->sqhd", weights, v))
    return torch.cat(outs, dim=1), torch.cat(sums, dim=1)


def fused_part(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """`plain_part` through PyTorch's fused kernel, which tells the sums on a CPU.

    A causal part has as many queries as keys, or one query, which sees all.
    """
    if q.device.type != "cpu" or (causal and q.shape[1] not in (1, k.shape[1])):
        return plain_part(q, k, v, causal)
    wide = (q.float(), k.float(), v.float()) if widens(q) else (q, k, v)
    out, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        *(tensor.transpose(1, 2) for tensor in wide), 0.0, causal and q.shape[1] > 1
    )
    return out.transpose(1, 2).to(q.dtype), sums.transpose(1, 2)


def joined(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> Tensor:
    """The attention to the keys of both parts: outputs (..., heads, head_dim), sums (..., heads)."""
    share = torch.sigmoid(one[1] - two[1])[..., None]  # of the first part
    return torch.lerp(two[0].float(), one[0].float(), share).to(one[0].dtype)
