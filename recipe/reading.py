"""Reading: the vision tower learns to put, under each square of a page, the tokens printed there.

The targets are the decoder's own input embeddings, which stay fixed: once this is learned, a page
reaches the decoder in the language it already knows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from recipe.fonts import Fonts
from recipe.layout import Ints
from recipe.pack import TextPack
from recipe.pictures import PicturePack
from recipe.pictures_sampler import PictureSampler
from recipe.render import (
    BLOCK,
    Page,
    render_crop,
    render_letters,
    render_page,
    token_targets,
)
from recipe.trainer import Batch, device_of, to_device
from sightrank.inputs.images import normalise, patchify
from sightrank.model.multimodal import RerankerModel


@dataclass(frozen=True)
class ReadingConfig:
    """What a step of reading is made of."""

    tokens: int = 400
    """Visual tokens a step, in as many pictures as that takes."""
    widths: tuple[int, ...] = (112, 168, 224, 280)
    heights: tuple[int, ...] = (56, 84, 112)
    single: float = 0.0
    """Share of pictures with one character on each patch, where letters are learned first."""
    away: float = 7.0
    """Pixels that such characters may lie away from the middle of their patch."""
    pages: float = 0.0
    """Share of pictures that are whole pages or large parts of one: what is read on a strip must
    also be read where a thousand other patches compete for attention."""
    rare: float = 0.0
    """Share of strips whose words are drawn one by one, each as often as the square root of its
    frequency: searches are for rare words, which running text shows too seldom to be learned."""
    negatives: int = 2048
    """Random tokens set against those of the step in the softmax."""
    letters: float = 1.0
    """Weight of the loss on the characters in each square, which comes first: a tower that does not
    know letters cannot begin to learn words."""
    langs: tuple[str, ...] = ("en",)
    named: float = 0.0
    """Share of pictures that show a thing: every square of it is read as the thing's name."""
    fonts: str | None = None
    """A folder with fonts at any depth; None: the system's."""


@dataclass(frozen=True)
class Sheet:
    """Pixels (height, width, 3) and what is to be read: token what[i] in square where[i], and the
    character of each of `letters` (square, character)."""

    pixels: NDArray[np.uint8]
    where: NDArray[np.int64]
    what: NDArray[np.int64]
    letters: NDArray[np.int64]

    @property
    def num_squares(self) -> int:
        """Visual tokens."""
        height, width = self.pixels.shape[:2]
        return int(height * width // BLOCK**2)


COMMON = 1000
"""The most frequent tokens, which validation leaves out of one of its figures."""
LONGEST = 24
"""Characters of a word that is drawn alone."""
ALPHABET = "".join(map(chr, [*range(33, 127), *range(0xC0, 0x180)]))


class LetterHead(nn.Module):
    """Which characters are printed in a square; only training uses it, it is not exported.

    Each patch speaks for itself, and the square has what any of its four has: so it does not matter
    which of two patches claims a character that lies on both.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim)
        self.linear = nn.Linear(embed_dim, len(ALPHABET))
        nn.init.constant_(self.linear.bias, -4.0)  # most characters are on no patch

    def forward(self, hidden: Tensor) -> Tensor:
        """(patches, embed_dim) -> logits (squares, characters)."""
        logits: Tensor = self.linear(self.norm(hidden))
        return logits.view(-1, 4, logits.shape[-1]).logsumexp(dim=1)


class Reader(nn.Module):
    """A reranker's vision tower with a letter head beside its merger."""

    def __init__(self, model: RerankerModel) -> None:
        super().__init__()
        self.visual = model.visual
        self.letters = LetterHead(model.config.vision.embed_dim)

    def forward(self, patches: Tensor, grids: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Visual tokens (tokens, size) and letter logits (tokens, characters)."""
        hidden = self.visual.encode(patches, grids)
        return self.visual.merger(hidden).float(), self.letters(hidden).float()


class Reading:
    """The task: a softmax over tokens under each visual token, and the distance to their mean."""

    def __init__(
        self,
        pack: TextPack,
        tokenizer: Tokenizer,
        config: ReadingConfig,
        blank: int,
        pictures: PicturePack | None = None,
    ) -> None:
        self.pack, self.tokenizer, self.config, self.blank = pack, tokenizer, config, blank
        self.samplers = {
            valid: PictureSampler(pictures, valid) if pictures else None for valid in (False, True)
        }
        self.vectors = torch.from_numpy(pack.vectors)
        self.alphabet = {char: index for index, char in enumerate(ALPHABET)}
        frequency = np.bincount(pack.documents.flat, minlength=len(pack.vectors))
        self.is_common = torch.zeros(len(pack.vectors), dtype=torch.bool)
        self.is_common[torch.from_numpy(np.argsort(-frequency)[:COMMON].copy())] = True
        langs = [pack.langs.index(lang) for lang in config.langs if lang in pack.langs]
        self.pools = {
            valid: [
                np.flatnonzero((pack.document_lang == lang) & (pack.document_valid == valid))
                for lang in langs
            ]
            for valid in (False, True)
        }

    def batches(self, seed: int) -> Iterator[Batch]:
        """Endless steps of print and pictures."""
        rng, fonts = random.Random(seed), self._fonts()
        if self.config.rare:
            self.words = [self._words(pool, rng) for pool in self.pools[False] if len(pool)]
        while True:
            sheets: list[Sheet] = []
            left = self.config.tokens
            while left > 0:
                sheets.append(self._sheet(rng, fonts))
                left -= sheets[-1].num_squares
            yield self.batch(sheets)

    def _sheet(self, rng: random.Random, fonts: Fonts) -> Sheet:
        kind = rng.random() - self.config.named
        if kind < 0:
            return self.thing(rng, valid=False)
        page = self._page(rng, fonts) if kind < self.config.pages else self._crop(rng, fonts, False)
        return self.print(page)

    def thing(self, rng: random.Random, valid: bool) -> Sheet:
        """A picture of something; its name lies under every square."""
        sampler = self.samplers[valid]
        if sampler is None:
            raise SystemExit("named > 0 needs the picture pack: python -m recipe.pictures")
        pixels, name = sampler.picture(rng)
        squares = pixels.shape[0] * pixels.shape[1] // BLOCK**2
        where = np.repeat(np.arange(squares), len(name))
        return Sheet(pixels, where, np.tile(name, squares), np.empty((0, 2), np.int64))

    def print(self, page: Page) -> Sheet:
        """A page of print; squares on which no token has its middle are blank."""
        where, what = token_targets(page, self.tokenizer)
        height, width = page.pixels.shape[:2]
        blank = np.setdiff1d(np.arange(height * width // BLOCK**2), where)
        return Sheet(
            page.pixels,
            np.concatenate((where, blank)).astype(np.int64),
            np.concatenate((what, np.full(len(blank), self.blank))).astype(np.int64),
            self._letters(page),
        )

    def _fonts(self) -> Fonts:
        return Fonts.discover(Path(self.config.fonts) if self.config.fonts else None)

    def _crop(self, rng: random.Random, fonts: Fonts, valid: bool) -> Page:
        if not valid and rng.random() < self.config.rare:
            words, chances = rng.choice(self.words)
            text = " ".join(rng.choices(words, cum_weights=chances, k=60))
        else:
            text = self._text(self._choose(rng, valid))
            start = rng.randrange(max(1, len(text) * 2 // 3))
            text = text[start : start + 500].strip() or text
        width, height = rng.choice(self.config.widths), rng.choice(self.config.heights)
        if not valid and rng.random() < self.config.single:
            return render_letters(text, rng, fonts, self.config.away, width=width, height=height)
        return render_crop(text, rng, fonts, width=width, height=height)

    def _words(self, pool: Ints, rng: random.Random) -> tuple[list[str], list[float]]:
        """Words of a language, and running sums of the square roots of their counts."""
        sample = rng.sample(pool.tolist(), min(len(pool), 6000))
        counts = Counter(word for index in sample for word in self._text(index).split())
        words = [word for word in counts if len(word) <= LONGEST]
        return words, list(accumulate(counts[word] ** 0.5 for word in words))

    def _page(self, rng: random.Random, fonts: Fonts) -> Page:
        """Neighbouring passages, which come from one page of a manual, set as a page."""
        first = self._choose(rng, valid=False)
        last = min(first + rng.randrange(1, 12), len(self.pack.documents))
        same = self.pack.document_lang[first:last] == self.pack.document_lang[first]
        kept = same & ~self.pack.document_valid[first:last]
        paragraphs = [self._text(first + step) for step in np.flatnonzero(kept).tolist()]
        title = paragraphs.pop(0)[:40] if len(paragraphs) > 1 and rng.random() < 0.5 else None
        width, height = 28 * rng.randrange(10, 22), 28 * rng.randrange(8, 31)
        return render_page(title, paragraphs, rng, fonts, width=width, height=height)

    def _choose(self, rng: random.Random, valid: bool) -> int:
        pool = rng.choice([pool for pool in self.pools[valid] if len(pool)])
        return int(pool[rng.randrange(len(pool))])

    def _text(self, index: int) -> str:
        return str(self.tokenizer.decode(self.pack.documents[index].tolist()))

    def batch(self, sheets: Sequence[Sheet]) -> Batch:
        """Patches of all sheets, packed, and (visual token, token) pairs of what is to be read."""
        patches, grids, places, tokens, letters, first = [], [], [], [], [], 0
        for sheet in sheets:
            height, width = sheet.pixels.shape[:2]
            image = patchify(Image.fromarray(sheet.pixels), 56 * 56, height * width)
            places.append(sheet.where + first)
            tokens.append(sheet.what)
            patches.append(normalise(image))
            grids.append(image.grid)
            letters.append(sheet.letters + np.array([first, 0]))
            first += sheet.num_squares
        return {
            "patches": torch.from_numpy(np.concatenate(patches)),
            "grids": grids,
            "places": torch.from_numpy(np.concatenate(places)),
            "tokens": torch.from_numpy(np.concatenate(tokens)),
            "letters": torch.from_numpy(np.concatenate(letters)),
        }

    def _letters(self, page: Page) -> NDArray[np.int64]:
        """(square, character) pairs of what is printed."""
        shown = [
            (index, self.alphabet[char])
            for index, char in enumerate(page.text)
            if char in self.alphabet and not np.isnan(page.places[index, 0])
        ]
        which = np.array(shown, np.int64).reshape(-1, 2)
        squares = page.squares(page.places[which[:, 0]])
        inside = squares >= 0
        return np.stack((squares[inside], which[inside, 1]), axis=1)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy against the tokens under each visual token (equal shares), plus the mean
        squared distance to their mean embedding, scaled to root mean square 1."""
        visual, letters = model(batch["patches"], batch["grids"])
        printed = torch.zeros_like(letters)
        printed[batch["letters"][:, 0], batch["letters"][:, 1]] = 1
        spelling = F.binary_cross_entropy_with_logits(letters, printed, reduction="sum")
        spelling = spelling / max(len(batch["letters"]), 1)
        vectors = self.vectors.to(visual.device)
        places, tokens = batch["places"], batch["tokens"]
        counts = torch.bincount(places, minlength=len(visual))
        means = F.embedding_bag(
            tokens[places.argsort(stable=True)], vectors, counts.cumsum(0) - counts, mode="mean"
        )
        means = means * torch.rsqrt(means.square().mean(dim=-1, keepdim=True) + 1e-6)
        distance = (visual - means).square().mean()
        candidates, at = self._candidates(tokens)
        logits = (visual @ vectors[candidates].T).float()
        scores = (logits * visual.shape[-1] ** -0.5).log_softmax(dim=-1)
        share = 1.0 / counts[places]
        entropy = -(scores[places, at] * share).sum() / len(visual)
        figures = {
            "entropy": entropy.item(),
            "distance": distance.item(),
            "spelling": spelling.item(),
        }
        return entropy + distance + self.config.letters * spelling, figures

    def _candidates(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids of the softmax, each once, and where in them each of `tokens` stands."""
        size = len(self.pack.vectors)
        others = torch.randint(size, (self.config.negatives,), device=tokens.device)
        candidates, where = torch.unique(torch.cat((tokens, others)), return_inverse=True)
        return candidates, where[: len(tokens)]

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Recall of the tokens under each visual token among the best k of the whole vocabulary,
        k being how many lie there; blank squares left out; and that of the rarer tokens alone."""
        rng, fonts = random.Random(1), self._fonts()
        device = device_of(model)
        hits, rare = [], []
        losses = []
        for _ in range(2):
            batch = self.batch([self.print(self._crop(rng, fonts, True)) for _ in range(16)])
            moved = to_device(batch, device)
            losses.append(self.loss(model, moved)[0].item())
            visual, _ = model(moved["patches"], batch["grids"])
            found, tokens = read(visual, self.vectors.to(device), moved, self.blank)
            hits.append(found)
            rare.append(found[~self.is_common[tokens]])
        figures = {
            "recall": torch.cat(hits).float().mean().item(),
            "loss": float(np.mean(losses)),
        }
        if len(rarer := torch.cat(rare)):
            figures["rare"] = rarer.float().mean().item()
        if self.config.named:
            figures["named"] = self._name_things(model, rng, device)
        return figures

    def _name_things(self, model: nn.Module, rng: random.Random, device: torch.device) -> float:
        """How often a held-out picture is nearest to its own name among 20 names: chance is 0.05."""
        sampler = self.samplers[True]
        assert sampler is not None
        empty = np.empty(0, np.int64)
        sheets, names = [], []
        for family in rng.sample(sampler.families, 20):
            row = int(family[0])
            sheets.append(Sheet(sampler.pixels(row, rng), empty, empty, np.empty((0, 2), np.int64)))
            name = torch.from_numpy(sampler.pack.names[sampler.name(row, rng)])
            names.append(self.vectors[name].mean(dim=0))
        batch = self.batch(sheets)
        visual, _ = model(batch["patches"].to(device), batch["grids"])
        seen = torch.split(visual.cpu(), [sheet.num_squares for sheet in sheets])
        means = torch.stack([part.mean(dim=0) for part in seen])
        nearest = (F.normalize(torch.stack(names), dim=-1) @ means.T).argmax(dim=0)
        return float((nearest == torch.arange(20)).float().mean())


def read(visual: Tensor, vectors: Tensor, batch: Batch, blank: int) -> tuple[Tensor, Tensor]:
    """Of each printed token whether it is among its square's k best, and which it is, on the CPU."""
    places, tokens = batch["places"], batch["tokens"]
    ranked = (visual @ vectors.T).topk(16, dim=-1).indices
    counts = torch.bincount(places, minlength=len(visual))
    keep = tokens != blank
    places, tokens = places[keep], tokens[keep]
    within = torch.arange(16, device=visual.device) < counts[places][:, None]
    hit = ((ranked[places] == tokens[:, None]) & within).any(dim=-1)
    return hit.cpu(), tokens.cpu()
