"""A nano that has learned nothing yet: its shape, and initial weights that give it a good start."""

from __future__ import annotations

from itertools import cycle

import torch
from torch import Tensor, nn

from recipe.wiring import WIRED, wire
from sightrank.config import ModelConfig, VisionConfig
from sightrank.model.decoder import DecoderLayer
from sightrank.model.multimodal import RerankerModel
from sightrank.model.rope import VISION_THETA
from sightrank.model.vision import VisionTower

NUM_SPECIAL = 14  # endoftext, im_start, im_end, six of boxes and quads, five of vision


LAYERS = 6
"""All layers of the decoder, once it composes."""


def nano_config(vocab_size: int, layers: int = WIRED) -> ModelConfig:
    """Nano's shape: m0's architecture at a width of 384, the tokenizer's special tokens last."""
    special = vocab_size - NUM_SPECIAL
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=384,
        num_hidden_layers=layers,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=1024,
        mrope_section=(8, 12, 12),
        tie_word_embeddings=True,
        vision=VisionConfig(depth=6, embed_dim=192, num_heads=4, mlp_ratio=4),
        image_token_id=special + 12,
        vision_start_token_id=special + 9,
        vision_end_token_id=special + 10,
        torch_dtype="float32",
    )


def fresh(config: ModelConfig, vectors: Tensor, query_word: int, seed: int = 0) -> RerankerModel:
    """Random weights with the given input embeddings (vocab_size, hidden_size), which stay fixed.

    `query_word` is the token of the prompt that only what follows it, the query, can see.
    """
    torch.manual_seed(seed)
    model = RerankerModel(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.7 / parameter.flatten(1).shape[1] ** 0.5)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data /= (2 * config.num_hidden_layers) ** 0.5
        layer.mlp.down_proj.weight.data /= (2 * config.num_hidden_layers) ** 0.5
    for block in model.visual.blocks:
        block.attn.proj.weight.data /= (2 * config.vision.depth) ** 0.5
        block.mlp.fc2.weight.data /= (2 * config.vision.depth) ** 0.5
    _see(model.visual.patch_embed.proj)
    _look_around(model.visual)
    model.model.embed_tokens.weight.data.copy_(vectors)
    model.model.embed_tokens.weight.requires_grad_(False)
    for layer in model.model.layers[:-WIRED]:
        _look_back(layer, config.rope_theta)
    wire(model, query_word)
    return model


@torch.no_grad()
def _see(patch_embed: nn.Conv3d) -> None:
    """Patches start as their grey cosine coefficients, lowest frequencies first, without the mean.

    Nothing of a patch is lost to chance, and paper, whatever its colour, is zero.
    """
    side = patch_embed.kernel_size[-1]
    steps = torch.arange(side, dtype=torch.float64)
    waves = torch.cos(torch.pi / side * (steps + 0.5) * steps[:, None]) * (2 / side) ** 0.5
    waves[0] /= 2**0.5  # (frequency, place), orthonormal
    order = sorted(((y, x) for y in range(side) for x in range(side)), key=lambda yx: (sum(yx), yx))
    filters = torch.stack([waves[y][:, None] * waves[x] for y, x in order[1:]])
    count = min(len(filters), patch_embed.out_channels)
    channels, frames = patch_embed.in_channels, patch_embed.kernel_size[0]
    patch_embed.weight[:count] = (filters[:count] / (channels * frames))[:, None, None].float()


LOCAL_BLOCKS = 4
"""Blocks of the vision tower whose heads start by looking at a neighbour; the others look anywhere."""
NEIGHBOURS = ((0, -1), (0, 1), (-1, 0), (1, 0))
FOCUS = 6.0
"""Attention logit of the neighbour from each of the three fastest frequencies of either axis."""


@torch.no_grad()
def _look_around(tower: VisionTower) -> None:
    """Heads start by attending to the patch at the left, at the right, above or below.

    A letter lies on two or more patches more often than on one, and to find by chance that adjoining
    patches belong together takes long (d'Ascoli et al. 2021, ConViT, start from convolutions for the
    same reason). With rotary positions constant queries and keys are enough: their product then
    depends on the distance alone, cos(f (distance - neighbour)) for each frequency f.
    """
    width = tower.head_dim
    axis = width // 4
    frequencies = VISION_THETA ** (-torch.arange(axis) / axis)
    for block in tower.blocks[:LOCAL_BLOCKS]:
        q, k, _ = block.attn.qkv.bias.view(3, -1, width).unbind()
        for head, offsets in zip(range(block.attn.num_heads), cycle(NEIGHBOURS), strict=False):
            for start, offset in zip((0, axis), offsets, strict=True):
                _aim(q[head], k[head], start, frequencies[:3] * offset)


def _aim(q: Tensor, k: Tensor, start: int, turns: Tensor) -> None:
    """Biases q and k (head_dim,) of a head that make it look where the frequencies from `start` on
    have turned by so much."""
    half = len(q) // 2
    length = (FOCUS * len(q) ** 0.5) ** 0.5
    stop = start + len(turns)
    k[start:stop] = length
    q[start:stop] = length * turns.cos()
    q[half + start : half + stop] = length * turns.sin()


@torch.no_grad()
def _look_back(layer: DecoderLayer, theta: float) -> None:
    """Heads start by attending to the token one, two or three places before, by the same means as
    `_look_around`; what they find is not written anywhere yet, so the layer changes nothing."""
    attention = layer.self_attn
    width = attention.head_dim
    q, k = attention.q_proj.bias.view(-1, width), attention.k_proj.bias.view(-1, width)
    frequencies = theta ** (-torch.arange(4) / (width // 2))
    for head, row in enumerate(q):
        _aim(row, k[head * len(k) // len(q)], 0, -(1 + head % 3) * frequencies)
    nn.init.zeros_(attention.o_proj.weight)
    nn.init.zeros_(layer.mlp.down_proj.weight)
