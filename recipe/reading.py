"""Reading: the vision tower learns to put, under each square of a page, the tokens printed there.

The targets are the decoder's own input embeddings, which stay fixed: once this is learned, a page
reaches the decoder in the language it already knows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from recipe.fonts import Fonts
from recipe.pack import TextPack
from recipe.render import (
    BLOCK,
    PATCH,
    Page,
    render_crop,
    render_letters,
    render_page,
    token_targets,
)
from recipe.trainer import Batch
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
    pages: float = 0.0
    """Share of pictures that are whole pages or large parts of one: what is read on a strip must
    also be read where a thousand other patches compete for attention."""
    negatives: int = 2048
    """Random tokens set against those of the step in the softmax."""
    letters: float = 1.0
    """Weight of the loss on the characters under each patch, which comes first: a tower that does
    not know letters cannot begin to learn words."""
    langs: tuple[str, ...] = ("en",)
    fonts: str | None = None
    """A folder with fonts at any depth; None: the system's."""


ALPHABET = "".join(map(chr, [*range(33, 127), *range(0xC0, 0x180)]))


class LetterHead(nn.Module):
    """Which characters are printed on a patch; only training uses it, it is not exported."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(embed_dim)
        self.linear = nn.Linear(embed_dim, len(ALPHABET))
        nn.init.constant_(self.linear.bias, -4.0)  # most characters are on no patch

    def forward(self, hidden: Tensor) -> Tensor:
        """(patches, embed_dim) -> logits (patches, characters)."""
        logits: Tensor = self.linear(self.norm(hidden))
        return logits


class Reader(nn.Module):
    """A reranker's vision tower with a letter head beside its merger."""

    def __init__(self, model: RerankerModel) -> None:
        super().__init__()
        self.visual = model.visual
        self.letters = LetterHead(model.config.vision.embed_dim)

    def forward(self, patches: Tensor, grids: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Visual tokens (tokens, size) and letter logits (patches, characters)."""
        hidden = self.visual.encode(patches, grids)
        return self.visual.merger(hidden).float(), self.letters(hidden).float()


class Reading:
    """The task: a softmax over tokens under each visual token, and the distance to their mean."""

    def __init__(
        self, pack: TextPack, tokenizer: Tokenizer, config: ReadingConfig, blank: int
    ) -> None:
        self.pack, self.tokenizer, self.config, self.blank = pack, tokenizer, config, blank
        self.vectors = torch.from_numpy(pack.vectors)
        self.alphabet = {char: index for index, char in enumerate(ALPHABET)}
        langs = [pack.langs.index(lang) for lang in config.langs if lang in pack.langs]
        self.pools = {
            valid: [
                np.flatnonzero((pack.document_lang == lang) & (pack.document_valid == valid))
                for lang in langs
            ]
            for valid in (False, True)
        }

    def batches(self, seed: int) -> Iterator[Batch]:
        """Endless steps of rendered crops."""
        rng, fonts = (
            random.Random(seed),
            Fonts.discover(Path(self.config.fonts) if self.config.fonts else None),
        )
        while True:
            pages: list[Page] = []
            left = self.config.tokens
            while left > 0:
                whole = rng.random() < self.config.pages
                pages.append(self._page(rng, fonts) if whole else self._crop(rng, fonts, False))
                left -= num_squares(pages[-1])
            yield self.batch(pages)

    def _fonts(self) -> Fonts:
        return Fonts.discover(Path(self.config.fonts) if self.config.fonts else None)

    def _crop(self, rng: random.Random, fonts: Fonts, valid: bool) -> Page:
        text = self._text(self._choose(rng, valid))
        start = rng.randrange(max(1, len(text) * 2 // 3))
        text = text[start : start + 500].strip() or text
        width, height = rng.choice(self.config.widths), rng.choice(self.config.heights)
        if not valid and rng.random() < self.config.single:
            return render_letters(text, rng, fonts, width=width, height=height)
        return render_crop(text, rng, fonts, width=width, height=height)

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

    def batch(self, pages: Sequence[Page]) -> Batch:
        """Patches of all pages, packed, and (visual token, token) pairs of what is printed."""
        patches, grids, places, tokens, letters, first = [], [], [], [], [], 0
        for page in pages:
            height, width = page.pixels.shape[:2]
            image = patchify(Image.fromarray(page.pixels), 56 * 56, height * width)
            rows, columns = image.grid
            where, what = token_targets(page, self.tokenizer)
            blank = np.setdiff1d(np.arange(rows * columns // 4), where)
            places.append(np.concatenate((where, blank)).astype(np.int64) + first)
            tokens.append(np.concatenate((what, np.full(len(blank), self.blank))).astype(np.int64))
            patches.append(normalise(image))
            grids.append(image.grid)
            letters.append(self._letters(page) + np.array([4 * first, 0]))
            first += rows * columns // 4
        return {
            "patches": torch.from_numpy(np.concatenate(patches)),
            "grids": grids,
            "places": torch.from_numpy(np.concatenate(places)),
            "tokens": torch.from_numpy(np.concatenate(tokens)),
            "letters": torch.from_numpy(np.concatenate(letters)),
        }

    def _letters(self, page: Page) -> NDArray[np.int64]:
        """(patch, character) pairs of what is printed, patches in the tower's own order."""
        shown = [
            (index, self.alphabet[char])
            for index, char in enumerate(page.text)
            if char in self.alphabet and not np.isnan(page.places[index, 0])
        ]
        rows, columns = (side // PATCH for side in page.pixels.shape[:2])
        which = np.array(shown, np.int64).reshape(-1, 2)
        x, y = (page.places[which[:, 0]] // PATCH).astype(np.int64).T
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        x, y, chars = x[inside], y[inside], which[inside, 1]
        patch = ((y // 2 * (columns // 2) + x // 2) * 2 + y % 2) * 2 + x % 2
        return np.stack((patch, chars), axis=1)

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
        k being how many lie there; blank squares left out."""
        rng, fonts = (
            random.Random(1),
            Fonts.discover(Path(self.config.fonts) if self.config.fonts else None),
        )
        device = next(model.parameters()).device
        found = wanted = 0
        losses = []
        for _ in range(2):
            batch = self.batch([self._crop(rng, fonts, True) for _ in range(16)])
            moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            losses.append(self.loss(model, moved)[0].item())
            visual, _ = model(moved["patches"], batch["grids"])
            hits, total = recall(visual, self.vectors.to(device), moved, self.blank)
            found, wanted = found + hits, wanted + total
        return {"recall": found / max(wanted, 1), "loss": float(np.mean(losses))}


def num_squares(page: Page) -> int:
    """Visual tokens of a page."""
    height, width = page.pixels.shape[:2]
    return int(height * width // BLOCK**2)


def recall(visual: Tensor, vectors: Tensor, batch: Batch, blank: int) -> tuple[int, int]:
    """How many printed tokens are among their square's k best, and how many were printed."""
    places, tokens = batch["places"], batch["tokens"]
    ranked = (visual @ vectors.T).topk(16, dim=-1).indices
    counts = torch.bincount(places, minlength=len(visual))
    keep = tokens != blank
    places, tokens = places[keep], tokens[keep]
    within = torch.arange(16, device=visual.device) < counts[places][:, None]
    hit = ((ranked[places] == tokens[:, None]) & within).any(dim=-1)
    return int(hit.sum()), len(tokens)
