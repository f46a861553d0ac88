"""Composing: the lowest layers learn what each token means where it stands.

A token is a word, a piece of one or a sign, and its row of the embedding matrix the same in every text.
The teacher's states tell words from their context and lie beside those of their translations
(`recipe/context.py`). They are learned into the quarter of the state that rows use least; in the other
three the row stays, so that rare words are still told apart by their pieces. All of it is dense: every
token has a target, no ranking is needed. A token amid a word has that of the word: it is guessed, and
what the guess leaves open makes it short.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from recipe.context import ContextPack
from recipe.fonts import Fonts
from recipe.grid import RowsPlan
from recipe.layout import Ints, Prefix, Special, as_grid, as_text
from recipe.matching import Matching
from recipe.pack import TextPack
from recipe.render import render_passage
from recipe.showing import Shown, embed, join
from recipe.trainer import Batch, device_of, to_device
from recipe.wiring import MEANING, MEANING_SIZE, written_basis
from recipe.words import Words
from sightrank.model.multimodal import RerankerModel

Floats = NDArray[np.float32]
Kind = Literal["row", "grid", "picture", "words"]
HELD_OUT = 40
"""One text in so many is never shown in training."""


@dataclass(frozen=True)
class ComposingConfig:
    """What a step of composing is made of."""

    rows: int = 32
    tokens: tuple[int, int] = (30, 160)
    """Tokens of a document, at least and at most: texts one after another."""
    query_tokens: tuple[int, int] = (4, 32)
    grid_share: float = 0.25
    """How often documents are grids of cells instead, where the state of a cell is taught the mean of
    what the tokens in it mean."""
    picture_share: float = 0.0
    """How often documents are printed and seen through the vision tower: what it has misread can be
    told from what stands around."""
    word_share: float = 0.0
    """How often documents and queries are words alone (`Words.listed`), three times as many of half the
    size: of words that texts seldom have, and told apart best."""
    blind_share: float = 0.0
    """How often all rows of a prompt lack what their words mean, as cells of grids always do."""
    pictures: int = 14
    largest: int = 180
    """Visual tokens of a picture, at most."""
    fonts: str | None = None
    """A folder with fonts at any depth; None: the system's."""
    noise: float = 0.1
    layers: int = 2
    """Layers that compose, from the lowest."""
    temperature: float = 0.1
    """Of the softmax over the targets of a step, for the state and for what it should be."""
    compared: int = 1024
    """Targets in that softmax, at most."""


class Composing:
    """The task."""

    def __init__(
        self,
        pack: TextPack,
        contexts: ContextPack,
        tokenizer: Tokenizer,
        config: ComposingConfig,
        special: Special,
        words: Words | None = None,
        matching: Matching | None = None,
    ) -> None:
        self.pack, self.contexts, self.config, self.special = pack, contexts, config, special
        self.words, self.matching = words, matching
        self.tokenizer = tokenizer
        self.fonts = Fonts.discover(Path(config.fonts) if config.fonts else None)
        self.basis = written_basis()
        every = np.arange(len(contexts.texts))
        self.shown = every[every % HELD_OUT != 0]
        self.held_out = every[every % HELD_OUT == 0]

    def batches(self, seed: int) -> Iterator[Batch]:
        """Endless steps: prompts whose documents are rows of tokens, grids, pictures or words."""
        rng = np.random.default_rng(seed)
        while True:
            yield self.batch(self.shown, rng, self._kind(rng.random()), self.config.blind_share)

    def _kind(self, chance: float) -> Kind:
        shares: dict[Kind, float] = {
            "grid": self.config.grid_share,
            "picture": self.config.picture_share,
            "words": self.config.word_share,
        }
        for kind, share in shares.items():
            chance -= share
            if chance < 0:
                return kind
        return "row"

    def batch(self, texts: Ints, rng: np.random.Generator, kind: Kind, blind: float = 0.0) -> Batch:
        """Prompts padded at the right, so many of them blind; `taught` counts slots through all."""
        config = self.config
        count = {"picture": config.pictures, "words": 3 * config.rows}.get(kind, config.rows)
        # Of one size all, as padding takes time too.
        sizes = int(rng.integers(*config.tokens)), int(rng.integers(*config.query_tokens))
        if kind == "words":  # they need little context, and attention takes time
            sizes = sizes[0] // 2, sizes[1]
        prompts = [self.prompt(texts, rng, kind, sizes, rng.random() < blind) for _ in range(count)]
        batch = join([document for document, _, _ in prompts])
        slots = batch["prefix_positions"].shape[-1]
        places = [where + number * slots for number, (_, where, _) in enumerate(prompts)]
        batch["taught"] = torch.from_numpy(np.concatenate(places))
        batch["targets"] = torch.from_numpy(np.concatenate([means for _, _, means in prompts]))
        return batch

    def prompt(
        self,
        texts: Ints,
        rng: np.random.Generator,
        kind: Kind,
        sizes: tuple[int, int],
        blind: bool = False,
    ) -> tuple[Prefix | Shown, Ints, Floats]:
        """A prompt with a document and a query of so many tokens, the slots that have a target, and
        the targets (slots, MEANING_SIZE)."""
        pack = self.pack
        drawn = [self._drawn(texts, rng, kind, size) for size in sizes]
        (body, places, means), (query, query_places, query_means) = drawn
        tail = np.concatenate((pack.tail, query))
        document, where = self._show(body, places, tail, rng, kind)
        prefix = document.prefix if isinstance(document, Shown) else document
        prefix.blind[:] |= blind
        seen, after = where >= 0, len(prefix) - len(tail) + len(pack.tail)
        slots = np.concatenate((prefix.slots[where[seen]], after + query_places))
        slots, of_slot = np.unique(slots, return_inverse=True)
        sums = np.zeros((len(slots), MEANING_SIZE), np.float32)
        np.add.at(sums, of_slot, np.concatenate((means[seen], query_means)))
        return document, slots, sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-6)

    def _show(
        self, body: Ints, places: Ints, tail: Ints, rng: np.random.Generator, kind: Kind
    ) -> tuple[Prefix | Shown, Ints]:
        """The body in its prompt, and which of `Prefix.slots` each of the tokens at `places` has: -1
        for one that is cut off. What cannot be printed is a row."""
        head = self.pack.head
        if kind == "picture" and (printed := self._print(body, places, rng)):
            image, squares = printed
            return Shown.of(image, head, tail, self.special), squares
        if kind == "grid":
            return as_grid(head, body, tail, self.pack.widths, self.special, rng), places
        return as_text(head, body, tail), places

    def _print(
        self, body: Ints, places: Ints, rng: np.random.Generator
    ) -> tuple[Image.Image, Ints] | None:
        """The body as a picture, and the square that each of the tokens at `places` ends in: -1 where
        it is cut off. None where its characters cannot be told apart."""
        text = str(self.tokenizer.decode(body.tolist()))
        encoding = self.tokenizer.encode(text)
        if encoding.ids != body.tolist():
            return None  # it begins or ends amid a character
        chance = random.Random(int(rng.integers(2**31)))
        page = render_passage(text, chance, self.fonts, self.config.largest)
        mine, theirs = (np.array([not c.isspace() for c in each]) for each in (text, page.text))
        shown = "".join(page.text.split())
        if not shown or not "".join(text.split()).startswith(shown):
            return None
        char = mine.cumsum()[[encoding.offsets[token][1] - 1 for token in places]] - 1
        on_page = np.flatnonzero(theirs)
        squares = page.squares(page.places[on_page[char.clip(0, len(on_page) - 1)]])
        printed = (char >= 0) & (char < len(on_page))
        return Image.fromarray(page.pixels), np.where(printed, squares, -1)

    def _drawn(
        self, texts: Ints, rng: np.random.Generator, kind: Kind, size: int
    ) -> tuple[Ints, Ints, Floats]:
        """At most `size` tokens, the places of those that have a target, and the targets."""
        if kind == "words" and self.words:
            tokens, _, means = self.words.listed(rng, size)
            return tokens, np.arange(len(tokens)), means
        return self._join(texts, rng, size)

    def _join(self, texts: Ints, rng: np.random.Generator, size: int) -> tuple[Ints, Ints, Floats]:
        """Texts on lines of their own, at most `size` tokens, the last of which is an end: tokens,
        the places of those that have a target, and the targets."""
        bodies: list[Ints] = []
        places: list[Ints] = []
        means: list[Floats] = []
        ends: list[Ints] = []
        used = 0
        while used < size:
            text = int(rng.choice(texts))
            taught, meant = self.contexts.taught(text)
            bodies += [self.contexts.texts[text], np.array([self.special.blank])]
            places.append(taught + used)
            means.append(meant)
            ends.append(self.contexts.ends[text] + used)
            used += len(bodies[-2]) + 1
        end = np.concatenate(ends)
        last = int(end[max(0, int(np.searchsorted(end, size)) - 1)])
        kept = np.concatenate(places)
        kept = kept[kept <= last]
        return np.concatenate(bodies)[: last + 1], kept, np.concatenate(means)[: len(kept)]

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Squared distance to what tokens mean and, in the other directions, to their rows; and the
        cross-entropy of the step's targets under the state to those under the target."""
        assert isinstance(model, RerankerModel)
        before, states = self.states(model, batch, self.config.noise if model.training else 0.0)
        slots = batch["prefix_positions"].shape[-1]
        present = torch.arange(slots, device=states.device) < batch["prefix_lengths"][:, None]
        basis = self.basis.to(states.device)
        size = states.shape[1] ** 0.5  # the length of a row
        said = states @ basis.T / (MEANING * size)  # (slots, MEANING_SIZE), as targets are
        changed = (states - before)[present.flatten()] / size
        found, targets = said[batch["taught"]], batch["targets"]
        meaning = (found - targets).square().sum(dim=-1).mean()
        # In the other directions: all of the square less that along the basis, which is orthonormal.
        kept = changed.square().sum(dim=-1) - (changed @ basis.T).square().sum(dim=-1)
        kept = kept.mean()
        some = torch.randperm(len(found), device=found.device)[: self.config.compared]
        likeness = self._likeness(found[some], targets[some])
        figures = {"meaning": meaning.item(), "kept": kept.item(), "likeness": likeness.item()}
        return meaning + kept + 0.3 * likeness, figures

    def states(
        self, model: RerankerModel, batch: Batch, noise: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """What enters the lowest layer and what leaves the last that composes, (all slots, size)."""
        cells = embed(model, batch, noise)
        documents = len(cells)
        before = hidden = cells.flatten(0, 1)
        rotary = model.rotary(batch["prefix_positions"].flatten(1))
        plan = RowsPlan(documents)
        for index in range(self.config.layers):
            hidden = model.model.layers[index](hidden, rotary, plan.layer(index))
        return before, hidden.float()

    def _likeness(self, found: Tensor, targets: Tensor) -> Tensor:
        wanted = (targets @ targets.T / self.config.temperature).softmax(dim=-1)
        logits = F.normalize(found, dim=-1) @ targets.T / self.config.temperature
        return -(wanted * (logits.log_softmax(dim=-1) - wanted.log())).sum(dim=-1).mean()

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Of texts held out, as rows, grids and pictures, and of words, of rows and words blind too: the
        cosine of what is said and what is meant, how often the right target of all those of the step is
        the nearest; and what `Matching` tells."""
        assert isinstance(model, RerankerModel)
        device = device_of(model)
        figures = {}
        kinds: list[tuple[Kind, float]] = [("row", 0), ("row", 1), ("grid", 0), ("picture", 0)]
        if self.words:
            kinds += [("words", 0), ("words", 1)]
        for kind, blind in kinds:
            name = f"{kind}_blind" if blind else kind
            batch = self.batch(self.held_out, np.random.default_rng(2), kind, blind)
            batch = to_device(batch, device)
            _, states = self.states(model, batch)
            said = F.normalize(states[batch["taught"]] @ self.basis.to(device).T, dim=-1)
            cosines = said @ batch["targets"].T
            right = cosines.diagonal()
            figures[f"cosine_{name}"] = float(right.mean())
            figures[f"first_{name}"] = float((cosines.amax(dim=-1) <= right).float().mean())

        def said_of(batch: Batch) -> Tensor:
            _, states = self.states(model, to_device(batch, device))
            prompts = len(batch["prefix_lengths"])
            return (states @ self.basis.to(device).T).view(prompts, -1, MEANING_SIZE).float().cpu()

        return figures | (self.matching.figures(said_of) if self.matching else {})
