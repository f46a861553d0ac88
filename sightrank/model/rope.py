"""Rotary positions: two axes for image patches, three rows (time, height, width) for tokens.

Formulas: Su et al. 2021 (RoFormer) and Wang et al. 2024 (Qwen2-VL, M-RoPE); rotate-half layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

VISION_THETA = 10_000.0


@dataclass(frozen=True)
class Rotary:
    """cos and sin, each (tokens, head_dim), both halves filled."""

    cos: Tensor
    sin: Tensor

    def rows(self, rows: Tensor | None) -> Rotary:
        """Only these tokens; None means all."""
        return self if rows is None else Rotary(self.cos[rows], self.sin[rows])


def _inverse_frequencies(dim: int, theta: float, device: torch.device) -> Tensor:
    steps = torch.arange(0, dim, 2, dtype=torch.int64, device=device).float()
    return 1.0 / (theta ** (steps / dim))  # (dim / 2,)


def _rotary(angles: Tensor, dtype: torch.dtype) -> Rotary:
    both = torch.cat((angles, angles), dim=-1)  # float32 until here, as in the reference
    return Rotary(both.cos().to(dtype), both.sin().to(dtype))


def text_rotary(
    positions: Tensor, head_dim: int, theta: float, sections: Sequence[int], dtype: torch.dtype
) -> Rotary:
    """Rotary of a decoder: positions (3, tokens) -> cos, sin (tokens, head_dim) in `dtype`.

    Frequency k takes its angle from the time row while k < sections[0], then from the height row
    for sections[1] frequencies, then from the width row.
    """
    frequencies = _inverse_frequencies(head_dim, theta, positions.device)
    angles = positions.float()[..., None] * frequencies  # (3, tokens, head_dim / 2)
    parts = torch.split(angles, list(sections), dim=-1)
    return _rotary(torch.cat([part[row] for row, part in enumerate(parts)], dim=-1), dtype)


def vision_rotary(grids: Sequence[tuple[int, int]], head_dim: int, device: torch.device) -> Rotary:
    """Rotary of the vision tower: patch grids (rows, columns) -> cos, sin (patches, head_dim), fp32.

    Rows follow the patches' own order: merge blocks in raster order, 2 x 2 patches inside each.
    """
    frequencies = _inverse_frequencies(head_dim // 2, VISION_THETA, device)
    places = torch.cat([patch_places(height, width, device) for height, width in grids])
    angles = (places.float()[..., None] * frequencies).flatten(1)  # (patches, head_dim / 2)
    return _rotary(angles, torch.float32)


def patch_places(height: int, width: int, device: torch.device) -> Tensor:
    """(row, column) of each patch of one image in merge-block order: (height * width, 2)."""
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    places = torch.stack((rows, columns), dim=-1)
    blocks = places.view(height // 2, 2, width // 2, 2, 2).transpose(1, 2)
    return blocks.reshape(-1, 2)


def rotate(states: Tensor, rotary: Rotary) -> Tensor:
    """Rotate (tokens, heads, head_dim) by (tokens, head_dim): x cos + rotate_half(x) sin."""
    low, high = states.chunk(2, dim=-1)
    turned = torch.cat((-high, low), dim=-1)
    return states * rotary.cos[:, None] + turned * rotary.sin[:, None]
