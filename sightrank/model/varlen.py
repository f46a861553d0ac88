"""Attention of packed segments of any lengths in one call, on GPUs whose flash kernel takes them.

A GPU runs a thousand short segments in the time of a long one, but not a thousand calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST_HEAD = 256
FIRST_CAPABILITY = (8, 0)
"""Ampere; the kernel has no form for older ones."""


class Bounds:
    """Where segments of these lengths begin and end in a packed tensor."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        self.longest = max(self.lengths, default=0)
        self._on: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        """(segments + 1,) in int32, moved there once and not in every layer."""
        if device not in self._on:
            ends = torch.tensor([0, *self.lengths]).cumsum(0)
            self._on[device] = ends.to(device, torch.int32)
        return self._on[device]


def takes(q: Tensor) -> bool:
    """Whether `flash_part` runs for queries (tokens, heads, head_dim) like these."""
    if q.device.type != "cuda" or q.dtype not in (torch.bfloat16, torch.float16):
        return False
    if q.requires_grad and torch.is_grad_enabled():
        return False  # PyTorch's own choice of kernel tells how to go back
    size = q.shape[-1]
    fits = size % 8 == 0 and size <= LARGEST_HEAD
    return fits and torch.cuda.get_device_capability(q.device) >= FIRST_CAPABILITY


def flash_part(
    q: Tensor, k: Tensor, v: Tensor, queries: Bounds, keys: Bounds, causal: bool
) -> tuple[Tensor, Tensor]:
    """`parts.plain_part` of packed segments of any lengths.

    q (tokens, heads, head_dim) cut at `queries`, k and v (tokens, kv_heads, head_dim) at `keys`; a
    causal segment has as many of one as of the other. Returns the output as q, and the logarithms of
    the sums of exponentials, (tokens, heads) in float32.
    """
    out, sums, *_ = torch.ops.aten._flash_attention_forward(
        q,
        k,
        v,
        queries.on(q.device),
        keys.on(q.device),
        queries.longest,
        keys.longest,
        0.0,  # dropout
        causal,
        False,  # no mask for debugging
    )
    return out, sums.transpose(0, 1)
