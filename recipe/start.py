"""A nano that has learned nothing yet: its shape, and initial weights that give it a good start."""

from __future__ import annotations

from itertools import cycle

import torch
from torch import Tensor, nn

from sightrank.config import ModelConfig, VisionConfig
from sightrank.model.decoder import DecoderLayer, SelfAttention
from sightrank.model.multimodal import RerankerModel
from sightrank.model.rope import VISION_THETA
from sightrank.model.vision import VisionTower

NUM_SPECIAL = 14  # endoftext, im_start, im_end, six of boxes and quads, five of vision


WIRED = 4
"""Layers that rank; those below them, where there are more, compose meanings (`recipe/composing.py`)."""
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
    _wire(model, query_word)
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


MEANING_SIZE = 96
MEANING = 0.6
"""Length of what a token means where it stands, in that of a row of the embedding matrix."""


def meaning_basis(vectors: Tensor) -> Tensor:
    """Orthonormal directions (MEANING_SIZE, hidden_size) along which rows (vocab_size, hidden_size)
    are shortest: what a token means is written there and takes little of its row's place."""
    vectors = vectors.double()
    directions: Tensor = torch.linalg.eigh(vectors.T @ vectors).eigenvectors[:, :MEANING_SIZE].T
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return directions.mul(largest.sign()).float()  # of the two signs always the same


SIZE = 6.0
"""Length of a written feature; an embedding has about 1 along any direction."""
MARGIN = 6.0
"""By how much a token's attention to its equal in the document beats attention to itself."""
SHARPNESS = (9.0, 13.0, 18.0)
"""Attention logit between equal tokens, in the three heads that match."""


@torch.no_grad()
def _wire(model: RerankerModel, query_word: int) -> None:
    """Set one key-value head in each of the first three layers that rank: word overlap is seen at once.

    A ranker's first skill is to notice which words of the query stand in the document; found by
    gradient descent alone it comes after a long plateau. Layer 0 flags what follows `query_word`.
    Layer 1 lets each token attend to its equals; where the only one is itself it reads the flag,
    and writes -1, where there is one in the document, +1. Layer 2 averages that over the query.
    Training starts from here and is free to change all of it.
    """
    layers = [layer.self_attn for layer in model.model.layers[-WIRED:][:3]]
    width = layers[0].head_dim
    size = model.config.hidden_size
    flag, *found = torch.linalg.qr(torch.randn(size, 4)).Q.T  # directions of features
    mark, match, pool = layers

    _clear(mark)
    slow = width // 4  # in each half of a head: frequencies too low to tell near from far
    word = model.model.embed_tokens.weight[query_word]
    mark.k_proj.weight[slow + 4] = word / word.norm() ** 2 * 12
    mark.q_proj.bias.view(-1, width)[:3, slow + 4] = width**0.5
    mark.v_proj.weight[0] = word / word.norm() ** 2
    mark.o_proj.weight[:, 0] = flag * SIZE

    _clear(match)
    names = torch.zeros(width, size)
    rows = [*range(slow - 4, width // 2), *range(width // 2 + slow - 4, width)]
    plain = torch.eye(size) - flag[:, None] * flag  # the flag is no part of a token's identity
    names[rows] = torch.randn(len(rows), size) @ plain / len(rows) ** 0.5
    names /= (size / width**0.5) ** 0.5  # equal tokens: logit 1
    match.k_proj.weight[:width] = names
    near = torch.zeros(width)
    near[:8] = (MARGIN * width**0.5 / 8) ** 0.5  # the fast frequencies: only what is near
    match.k_proj.bias[:width] = -near
    for head, sharpness in enumerate(SHARPNESS):
        rows_of_head = slice(head * width, (head + 1) * width)
        match.q_proj.weight[rows_of_head] = names * sharpness
        match.q_proj.bias[rows_of_head] = near
        match.o_proj.weight[:, head * width] = found[head] * SIZE
    match.v_proj.bias[0] = 1
    match.v_proj.weight[0] = -2 * flag / SIZE

    _clear(pool)
    pool.k_proj.weight[slow + 4] = flag / SIZE * 8
    pool.q_proj.bias.view(-1, width)[:3, slow + 4] = width**0.5
    for feature, direction in enumerate(found):
        pool.v_proj.weight[feature] = direction / SIZE
    for head, direction in enumerate(torch.linalg.qr(torch.randn(size, 3)).Q.T):
        pool.o_proj.weight[:, head * width + head] = direction * SIZE


SHARE = 0.2
"""Of the square of a meaning's length, the part that one head compares, what is uncertain being short:
with it a token of a query has a logit of about 1 to itself, and 0.6 to 0.9 to what means the same."""
MEANING_SHARPNESS = (15.0, 22.0, 32.0)
"""Attention logit between tokens that mean the same, in the three heads that match meanings."""
ALIKE = 0.2
"""Cosine of two meanings from which a token's attention to the other beats attention to itself."""
FLAG = 8.0
"""Length of the flag on tokens of the query; what they mean has about 1 along any direction."""


@torch.no_grad()
def wire_meaning(model: RerankerModel, query_word: int) -> None:
    """Set the second key-value head of the first three layers that rank: a path of its own for what
    tokens mean, beside the trained one for what they are.

    As in `_wire`: one layer flags the query, one lets each of its tokens attend to what means the
    same, and writes -1 where that is in the query itself and +1 where it is in the document, one
    averages that over the query. All of it is written along the last directions of meaning, where
    nothing else is written and which the trained path does not read.
    """
    basis = meaning_basis(model.model.embed_tokens.weight)
    flag, *features = basis.flip(0)[:7]
    found, pooled = features[:3], features[3:]
    layers = list(model.model.layers[-WIRED:])
    for number, layer in enumerate(layers):
        _keep_off(layer, basis if number == 0 else basis[-7:], basis[-7:])
    head = model.score[0]
    assert isinstance(head, nn.Linear)
    head.weight -= head.weight @ basis[-7:].T @ basis[-7:]
    mark, match, pool = (layer.self_attn for layer in layers[:3])
    width, size = mark.head_dim, model.config.hidden_size
    second, slow = slice(width, 2 * width), width // 4
    repeat = mark.q_proj.out_features // mark.k_proj.out_features
    heads = [slice((repeat + head) * width, (repeat + head + 1) * width) for head in range(repeat)]
    for attention in (mark, match, pool):
        for part in (attention.k_proj, attention.v_proj):
            part.weight[second], part.bias[second] = 0, 0
        for mine in heads:
            attention.q_proj.weight[mine], attention.q_proj.bias[mine] = 0, 0
            attention.o_proj.weight[:, mine] = 0

    word = model.model.embed_tokens.weight[query_word]
    word = word - word @ basis.T @ basis
    mark.k_proj.weight[width + slow + 4] = word / word.norm() ** 2 * 12
    mark.v_proj.weight[width] = word / word.norm() ** 2
    for mine in heads:
        mark.q_proj.bias[mine.start + slow + 4] = width**0.5
    mark.o_proj.weight[:, heads[0].start] = flag * FLAG

    pairs = range(width // 2 - 2, slow - 5, -1)  # the slowest frequencies first
    rows = [row for pair in pairs for row in (pair, width // 2 + pair)]
    names = torch.zeros(width, size)
    names[rows] = basis[: len(rows)]
    names /= (SHARE * size * MEANING**2 / width**0.5) ** 0.5  # equal meanings: logit 1
    asked = width // 2 - 1
    match.k_proj.weight[second] = names
    match.k_proj.weight[width + asked] = -flag / FLAG
    match.v_proj.weight[width], match.v_proj.bias[width] = -2 * flag / FLAG, 1
    for mine, sharpness, direction in zip(heads, MEANING_SHARPNESS, found, strict=True):
        match.q_proj.weight[mine] = names * sharpness
        match.q_proj.bias[mine.start + asked] = ALIKE * sharpness * width**0.5
        match.o_proj.weight[:, mine.start] = direction * SIZE

    pool.k_proj.weight[width + slow + 4] = flag / FLAG * 8
    for feature, (mine, read, write) in enumerate(zip(heads, found, pooled, strict=True)):
        pool.q_proj.bias[mine.start + slow + 4] = width**0.5
        pool.v_proj.weight[width + feature] = read / SIZE
        pool.o_proj.weight[:, mine.start + feature] = write * SIZE


def _keep_off(layer: DecoderLayer, written: Tensor, read: Tensor) -> None:
    """Let a trained layer write nothing along some directions, and read nothing along others."""
    attention, mlp = layer.self_attn, layer.mlp
    for part in (attention.o_proj, mlp.down_proj):
        part.weight -= written.T @ (written @ part.weight)
    for part in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
        part.weight -= part.weight @ read.T @ read


def _clear(attention: SelfAttention) -> None:
    """Make the first key-value head, and the three heads that share it, empty."""
    width = attention.head_dim
    repeat = attention.q_proj.out_features // attention.k_proj.out_features
    attention.k_proj.weight[:width] = 0
    attention.v_proj.weight[:width] = 0
    attention.q_proj.weight[: repeat * width] = 0
    attention.o_proj.weight[:, : repeat * width] = 0
