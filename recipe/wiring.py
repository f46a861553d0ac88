"""Heads of the decoder set by hand: what a ranker would be long in finding by gradient descent alone.

Training starts from here and is free to change all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sightrank.model.decoder import DecoderLayer, SelfAttention
from sightrank.model.multimodal import RerankerModel

WIRED = 4
"""Layers that rank; those below them, where there are more, compose meanings (`recipe/composing.py`)."""
MEANING_SIZE = 96
MEANING = 0.6
"""Length of what a token means where it stands, in that of a row of the embedding matrix."""
WRITTEN = Path(__file__).with_name("written.npy")
"""Orthonormal directions (MEANING_SIZE, hidden_size) along which the rows that composing began with were
shortest: eigenvectors of their second moments, least first, the largest number of each positive. What a
token means takes little of its row's place there. Kept, as layers that go on learning need the same."""


@cache
def written_basis() -> Tensor:
    """The directions (MEANING_SIZE, hidden_size) along which layers write what tokens mean."""
    rows = torch.from_numpy(np.load(WRITTEN)).double()
    return (
        1.5 * rows - 0.5 * rows @ rows.T @ rows
    ).float()  # orthonormal again, from half precision


SIZE = 6.0
"""Length of a written feature; an embedding has about 1 along any direction."""
MARGIN = 6.0
"""By how much a token's attention to its equal in the document beats attention to itself."""
SHARPNESS = (9.0, 13.0, 18.0)
"""Attention logit between equal tokens, in the three heads that match."""


@torch.no_grad()
def wire(model: RerankerModel, query_word: int) -> None:
    """Set one key-value head in each of the first three layers that rank: word overlap is seen at once.

    A ranker's first skill is to notice which words of the query stand in the document; found by
    gradient descent alone it comes after a long plateau. Layer 0 flags what follows `query_word`.
    Layer 1 lets each token attend to its equals; where the only one is itself it reads the flag,
    and writes -1, where there is one in the document, +1. Layer 2 averages that over the query.
    """
    mark, match, pool = (
        _Group.emptied(layer.self_attn, 0) for layer in model.model.layers[-WIRED:][:3]
    )
    size = model.config.hidden_size
    flag, *found = torch.linalg.qr(torch.randn(size, 4)).Q.T  # directions of features
    mark.flag(model.model.embed_tokens.weight[query_word], flag * SIZE)

    width, attention = match.width, match.attention
    slow = width // 4  # in each half of a head: frequencies too low to tell near from far
    names = torch.zeros(width, size)
    rows = [*range(slow - 4, width // 2), *range(width // 2 + slow - 4, width)]
    plain = torch.eye(size) - flag[:, None] * flag  # the flag is no part of a token's identity
    names[rows] = torch.randn(len(rows), size) @ plain / len(rows) ** 0.5
    names /= (size / width**0.5) ** 0.5  # equal tokens: logit 1
    near = torch.zeros(width)
    near[:8] = (MARGIN * width**0.5 / 8) ** 0.5  # the fast frequencies: only what is near
    attention.k_proj.weight[match.keys], attention.k_proj.bias[match.keys] = names, -near
    for head, sharpness in zip(match.heads, SHARPNESS, strict=True):
        attention.q_proj.weight[head], attention.q_proj.bias[head] = names * sharpness, near
    match.find(flag / SIZE, found)
    pool.average(flag / SIZE, found, torch.linalg.qr(torch.randn(size, 3)).Q.T)


@dataclass(frozen=True)
class _Group:
    """A key-value head of a layer and the three query heads that share it, each by its rows."""

    attention: SelfAttention
    keys: slice
    heads: tuple[slice, ...]

    @classmethod
    @torch.no_grad()
    def emptied(cls, attention: SelfAttention, number: int) -> _Group:
        """The key-value head `number`, which from now on looks at nothing and says nothing."""
        width = attention.head_dim
        repeat = attention.q_proj.out_features // attention.k_proj.out_features
        first = number * repeat
        keys = slice(number * width, (number + 1) * width)
        heads = tuple(slice(h * width, (h + 1) * width) for h in range(first, first + repeat))
        for part in (attention.k_proj, attention.v_proj):
            part.weight[keys], part.bias[keys] = 0, 0
        for head in heads:
            attention.q_proj.weight[head], attention.q_proj.bias[head] = 0, 0
            attention.o_proj.weight[:, head] = 0
        return cls(attention, keys, heads)

    @property
    def width(self) -> int:
        """Of a head."""
        return self.attention.head_dim

    def flag(self, word: Tensor, written: Tensor) -> None:
        """Attend to a token by its row; what can see it is written upon."""
        self._look_for(word / word.norm() ** 2 * 12)
        self.attention.v_proj.weight[self.keys.start] = word / word.norm() ** 2
        self.attention.o_proj.weight[:, self.heads[0].start] = written

    def find(self, flag: Tensor, found: Sequence[Tensor]) -> None:
        """Write along `found`, a direction a head, -1 where it attends to what is flagged, else +1."""
        value = self.keys.start
        self.attention.v_proj.weight[value], self.attention.v_proj.bias[value] = -2 * flag, 1
        for head, direction in zip(self.heads, found, strict=True):
            self.attention.o_proj.weight[:, head.start] = direction * SIZE

    def average(self, flag: Tensor, found: Sequence[Tensor], pooled: Sequence[Tensor]) -> None:
        """Attend to all that is flagged; what stands there along `found` is written along `pooled`."""
        self._look_for(flag * 8)
        for feature, (head, read, write) in enumerate(zip(self.heads, found, pooled, strict=True)):
            self.attention.v_proj.weight[self.keys.start + feature] = read / SIZE
            self.attention.o_proj.weight[:, head.start + feature] = write * SIZE

    def _look_for(self, feature: Tensor) -> None:
        """By a frequency too low to tell near from far."""
        place = self.width // 4 + 4
        self.attention.k_proj.weight[self.keys.start + place] = feature
        for head in self.heads:
            self.attention.q_proj.bias[head.start + place] = self.width**0.5


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

    As in `wire`: one layer flags the query, one lets each of its tokens attend to what means the
    same, and writes -1 where that is in the query itself and +1 where it is in the document, one
    averages that over the query. All of it is written along the last directions of meaning, where
    nothing else is written and which the trained path does not read.
    """
    basis = written_basis()
    own = basis[-7:]
    flag, *features = own.flip(0)
    found, pooled = features[:3], features[3:]
    layers = list(model.model.layers[-WIRED:])
    for number, layer in enumerate(layers):
        _keep_off(layer, own if number else basis, own)
    head = model.score[0]
    assert isinstance(head, nn.Linear)
    head.weight -= head.weight @ own.T @ own
    mark, match, pool = (_Group.emptied(layer.self_attn, 1) for layer in layers[:3])
    word = model.model.embed_tokens.weight[query_word]
    mark.flag(word - word @ basis.T @ basis, flag * FLAG)

    width, attention = match.width, match.attention
    asked = width // 2 - 1  # the slowest frequency tells the query from the document
    slow = range(asked - 1, width // 4 - 5, -1)  # the next ones compare, slowest first
    rows = [row for pair in slow for row in (pair, width // 2 + pair)]
    names = torch.zeros(width, model.config.hidden_size)
    names[rows] = basis[: len(rows)]
    squared = SHARE * model.config.hidden_size * MEANING**2
    names /= (squared / width**0.5) ** 0.5  # equal meanings: logit 1
    attention.k_proj.weight[match.keys] = names
    attention.k_proj.weight[match.keys.start + asked] = -flag / FLAG
    for mine, sharpness in zip(match.heads, MEANING_SHARPNESS, strict=True):
        attention.q_proj.weight[mine] = names * sharpness
        attention.q_proj.bias[mine.start + asked] = ALIKE * sharpness * width**0.5
    match.find(flag / FLAG, found)
    pool.average(flag / FLAG, found, pooled)


def _keep_off(layer: DecoderLayer, written: Tensor, read: Tensor) -> None:
    """Let a trained layer write nothing along some directions, and read nothing along others."""
    attention, mlp = layer.self_attn, layer.mlp
    for part in (attention.o_proj, mlp.down_proj):
        part.weight -= written.T @ (written @ part.weight)
    for part in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
        part.weight -= part.weight @ read.T @ read
