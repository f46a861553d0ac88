"""Composing: the lowest layers learn to make a word's row out of the rows of its pieces.

A word that the tokenizer cuts up reaches the decoder as fragments that mean nothing, or something else.
Where its last piece stands, the state is taught to be the row that the word would have in the embedding
matrix, which lies beside the rows of its translations. What stands alone, and the cells of a grid, stay
what they are. All of it is dense: each word has a target, no ranking is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from recipe.grid import embed_slots, pad_prefixes
from recipe.layout import Ints, Special, as_grid
from recipe.pack import TextPack, vocabulary
from recipe.trainer import Batch
from recipe.words import WordPack
from sightrank.model.attention import Packed
from sightrank.model.multimodal import RerankerModel

SIGNS = ("\n", '"', "(", "-", "/", "«", "„", "“", "‘", "'", ":", "¿", "¡")
"""After which a word has no space."""
HELD_OUT = 50
"""One word in so many is never shown in training."""


@dataclass(frozen=True)
class ComposingConfig:
    """What a step of composing is made of."""

    rows: int = 24
    tokens: int = 96
    """Tokens of a row, words drawn one by one: what stands before a word says nothing about it."""
    alone: float = 0.3
    """Share of tokens drawn that are words or signs of their own."""
    bare: float = 0.15
    """Share of words that begin a line or follow a sign, without the space that is part of most."""
    grid_share: float = 0.15
    """How often a step is one of grids of cells instead."""
    grids: int = 4
    layers: int = 2
    """Layers that compose, from the lowest."""
    temperature: float = 0.1
    """Of the softmax over the words of a step, for the state and for the row that it should be."""


@dataclass(frozen=True)
class Row:
    """Tokens, and where a state is taught: `ends` what word it is, `kept` that it stays its token."""

    tokens: Ints
    ends: Ints
    words: Ints
    kept: Ints


class Composing:
    """The task."""

    def __init__(
        self,
        pack: TextPack,
        words: WordPack,
        tokenizer: Tokenizer,
        config: ComposingConfig,
        special: Special,
    ) -> None:
        self.pack, self.words, self.config, self.special = pack, words, config, special
        surfaces, _ = vocabulary(tokenizer)
        self.alone = np.array([i for i, text in enumerate(surfaces) if not text[:1].isalpha()])
        self.signs = np.array([i for i, text in enumerate(surfaces) if text in SIGNS])
        lengths = np.diff(pack.documents.offsets)
        self.documents = np.flatnonzero(~pack.document_valid & (lengths > 0))
        self._edges = words.weights.cumsum()

    def batches(self, seed: int) -> Iterator[Batch]:
        """Endless steps: rows of words, and now and then grids."""
        rng = np.random.default_rng(seed)
        while True:
            if rng.random() < self.config.grid_share:
                yield self.grid_batch(rng)
            else:
                yield self.batch([self.row(rng) for _ in range(self.config.rows)])

    def row(self, rng: np.random.Generator, valid: bool = False) -> Row:
        """Words one after another, each drawn by its weight, and single tokens between them."""
        parts: list[Ints] = []
        ends: list[int] = []
        chosen: list[int] = []
        kept: list[int] = []
        used = 0
        while used < self.config.tokens:
            if rng.random() < self.config.alone:
                tokens = rng.choice(self.alone, 1)
                kept.append(used)
            else:
                word, tokens = self._draw(rng, valid)
                ends.append(used + len(tokens) - 1)
                chosen.append(word)
                kept += range(used, used + len(tokens) - 1)
            parts.append(tokens)
            used += len(tokens)
        return Row(np.concatenate(parts), *map(np.array, (ends, chosen, kept)))

    def _draw(self, rng: np.random.Generator, valid: bool) -> tuple[int, Ints]:
        """A word, one in `HELD_OUT` of which are kept for validation, and its tokens."""
        while True:
            word = min(int(np.searchsorted(self._edges, rng.random())), len(self._edges) - 1)
            if (word % HELD_OUT == 0) == valid:
                break
        if rng.random() < self.config.bare:
            return word, np.concatenate((rng.choice(self.signs, 1), self.words.bare[word]))
        return word, self.words.words[word]

    def batch(self, rows: list[Row]) -> Batch:
        """Rows cut to one length; `ends` and `kept` count through all of them."""
        length = self.config.tokens
        ends, chosen, kept = [], [], []
        for number, row in enumerate(rows):
            inside = row.ends < length
            ends.append(row.ends[inside] + number * length)
            chosen.append(row.words[inside])
            kept.append(row.kept[row.kept < length] + number * length)
        words = np.concatenate(chosen)
        targets = self.words.rows[words] * self.words.scales[words, None]
        return {
            "ids": torch.from_numpy(np.stack([row.tokens[:length] for row in rows])),
            "ends": torch.from_numpy(np.concatenate(ends)),
            "kept": torch.from_numpy(np.concatenate(kept)),
            "targets": torch.from_numpy(targets.astype(np.float32)),
        }

    def grid_batch(self, rng: np.random.Generator) -> Batch:
        """Passages as grids of cells."""
        pack = self.pack
        bodies = [pack.documents[index] for index in rng.choice(self.documents, self.config.grids)]
        return pad_prefixes(
            [as_grid(pack.head, body, pack.tail, pack.widths, self.special, rng) for body in bodies]
        )

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """1 - cosine to each word's row, and of what should stay to what it was; the cross-entropy
        of the step's words under the state to those under the row; log(rms)^2, which should be 0."""
        assert isinstance(model, RerankerModel)
        if "ids" not in batch:
            return self._grid_loss(model, batch)
        before, states = self.states(model, batch["ids"])
        found = states[batch["ends"]]
        kept = _apart(states[batch["kept"]], before[batch["kept"]])
        words = _apart(found, batch["targets"])
        likeness = self._likeness(found, batch["targets"])
        figures = {"words": words.item(), "kept": kept.item(), "likeness": likeness.item()}
        loss = words + 0.5 * likeness + 0.5 * kept + 0.1 * _oversize(states)
        return loss, figures

    def states(self, model: RerankerModel, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, tokens) ids -> rows of the embedding matrix and states above the composing layers,
        each (rows * tokens, size)."""
        rows, tokens = ids.shape
        positions = torch.arange(tokens, device=ids.device).repeat(3, rows)
        before = model.model.embed_tokens(ids.flatten())
        return before, self._composed(model, before, positions, [tokens] * rows)

    def _composed(
        self, model: RerankerModel, hidden: Tensor, positions: Tensor, lengths: list[int]
    ) -> Tensor:
        rotary, plan = model.rotary(positions), Packed(lengths, causal=True)
        for index in range(self.config.layers):
            hidden = model.model.layers[index](hidden, rotary, plan.layer(index))
        return hidden

    def _likeness(self, found: Tensor, targets: Tensor) -> Tensor:
        units = F.normalize(targets, dim=-1)
        wanted = (units @ units.T / self.config.temperature).softmax(dim=-1)
        logits = F.normalize(found.float(), dim=-1) @ units.T / self.config.temperature
        return -(wanted * (logits.log_softmax(dim=-1) - wanted.log())).sum(dim=-1).mean()

    def _grid_loss(self, model: RerankerModel, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        cells = embed_slots(model, batch, noise=0.1)
        documents, slots, _ = cells.shape
        before, positions = cells.flatten(0, 1), batch["prefix_positions"].flatten(1)
        states = self._composed(model, before, positions, [slots] * documents)
        present = torch.arange(slots, device=cells.device) < batch["prefix_lengths"][:, None]
        present = present.flatten()
        kept = _apart(states[present], before[present])
        return 0.5 * kept + 0.1 * _oversize(states[present]), {"cells": kept.item()}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Of words shown in training and of words held out: the cosine of state and row, and how
        often the right one of all words of the draw is the nearest; the same without composing."""
        assert isinstance(model, RerankerModel)
        device = next(model.parameters()).device
        figures = {}
        for name, valid in (("shown", False), ("held_out", True)):
            rng = np.random.default_rng(2)
            batch = self.batch([self.row(rng, valid) for _ in range(2 * self.config.rows)])
            moved = {key: value.to(device) for key, value in batch.items()}
            before, states = self.states(model, moved["ids"])
            for prefix, rows in (("", states), ("pieces_", before)):
                cosine, first = _nearest(rows[moved["ends"]].float(), moved["targets"])
                figures[f"{prefix}cosine_{name}"], figures[f"{prefix}first_{name}"] = cosine, first
        return figures


def _apart(found: Tensor, wanted: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(found.float(), wanted.float(), dim=-1)).mean()


def _oversize(states: Tensor) -> Tensor:
    """Mean log(rms)^2 of (tokens, size)."""
    return (states.float().square().mean(dim=-1) + 1e-6).log().div(2).square().mean()


def _nearest(found: Tensor, targets: Tensor) -> tuple[float, float]:
    units, states = F.normalize(targets, dim=-1), F.normalize(found, dim=-1)
    best = units[(states @ units.T).argmax(dim=-1)]
    same = ((best * units).sum(dim=-1) > 0.999).float().mean()
    return float((states * units).sum(dim=-1).mean()), float(same)
