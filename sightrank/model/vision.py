"""The vision tower: patches -> blocks with full attention inside each image -> merged visual tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sightrank.config import VisionConfig
from sightrank.model.attention import Attend, Packed
from sightrank.model.rope import Rotary, rotate, vision_rotary
from sightrank.model.wide import Linear, linear

LAYER_NORM_EPS = 1e-6


class PatchEmbed(nn.Module):
    """Linear map of a patch, stored as the checkpoint's 3-D convolution over two equal frames."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        kernel = (config.temporal_patch_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(
            config.in_channels, config.embed_dim, kernel_size=kernel, stride=kernel, bias=False
        )

    def forward(self, patches: Tensor) -> Tensor:
        """(patches, 3 * 14 * 14) -> (patches, embed_dim).

        A still image is the same frame twice, so the two frames' weights are added first.
        """
        weight = self.proj.weight.float().sum(dim=2).flatten(1).to(patches.dtype)
        return linear(patches, weight)


class VisionAttention(nn.Module):
    """Multi-head attention with one joint projection for queries, keys and values."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = Linear(config.embed_dim, config.embed_dim)

    def forward(self, hidden: Tensor, rotary: Rotary, attend: Attend) -> Tensor:
        """(patches, embed_dim) -> the same shape."""
        states = self.qkv(hidden).view(hidden.shape[0], 3, self.num_heads, -1)
        q, k, v = states.unbind(dim=1)  # each (patches, heads, head_dim)
        q, k = (rotate(part.float(), rotary).to(v.dtype) for part in (q, k))
        out: Tensor = self.proj(attend(q, k, v).flatten(1))
        return out


class VisionMlp(nn.Module):
    """Two linear maps with quick GELU, x * sigmoid(1.702 x), between them."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = int(config.embed_dim * config.mlp_ratio)
        self.fc1 = Linear(config.embed_dim, width)
        self.fc2 = Linear(width, config.embed_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """(patches, embed_dim) -> the same shape."""
        wide = self.fc1(hidden)
        out: Tensor = self.fc2(wide * torch.sigmoid(1.702 * wide))
        return out


class VisionBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPS)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPS)
        self.attn = VisionAttention(config)
        self.mlp = VisionMlp(config)

    def forward(self, hidden: Tensor, rotary: Rotary, attend: Attend) -> Tensor:
        """(patches, embed_dim) -> the same shape."""
        hidden = hidden + self.attn(self.norm1(hidden), rotary, attend)
        out: Tensor = hidden + self.mlp(self.norm2(hidden))
        return out


class PatchMerger(nn.Module):
    """Joins each 2 x 2 block of patches into one visual token of the decoder's width."""

    def __init__(self, config: VisionConfig, hidden_size: int) -> None:
        super().__init__()
        self.width = config.embed_dim * config.spatial_merge_size**2
        self.ln_q = nn.LayerNorm(config.embed_dim, eps=LAYER_NORM_EPS)
        self.mlp = nn.Sequential(
            Linear(self.width, self.width), nn.GELU(), Linear(self.width, hidden_size)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """(patches, embed_dim) -> (patches / 4, hidden_size)."""
        out: Tensor = self.mlp(self.ln_q(hidden).view(-1, self.width))
        return out


class VisionTower(nn.Module):
    """Qwen2-VL's vision transformer and merger."""

    def __init__(self, config: VisionConfig, hidden_size: int) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.patch_embed = PatchEmbed(config)
        self.blocks = cast(
            "Sequence[VisionBlock]",
            nn.ModuleList(VisionBlock(config) for _ in range(config.depth)),
        )
        self.merger = PatchMerger(config, hidden_size)

    def forward(
        self, patches: Tensor, grids: Sequence[tuple[int, int]], *, plain: bool = False
    ) -> Tensor:
        """Images, packed: patches (sum of rows * columns, 588) in merge-block order, normalised.

        Returns visual tokens (patches / 4, hidden_size), image after image.
        """
        out: Tensor = self.merger(self.encode(patches, grids, plain=plain))
        return out

    def encode(
        self, patches: Tensor, grids: Sequence[tuple[int, int]], *, plain: bool = False
    ) -> Tensor:
        """The blocks without the merger: (patches, 588) -> (patches, embed_dim)."""
        plan = Packed([rows * columns for rows, columns in grids], causal=False, plain=plain)
        rotary = vision_rotary(grids, self.head_dim, patches.device)
        hidden: Tensor = self.patch_embed(patches)
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, rotary, plan.layer(index))
        return hidden
