"""Documents in which it is known what answers: passages in one text, and paragraphs on one page.

They are made from the validation part of nano's own sources, which no model was trained on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import machine  # noqa: F401  makes the recipe importable
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recipe.fonts import Fonts
from recipe.pack import TextPack
from recipe.render import Page, render_page
from sightrank import Document
from sightrank.inputs.tokenizer import Tokenizer

PASSAGES = 5
TEXT_TOKENS = (20, 96)
PARAGRAPHS = 3
PAGE_TOKENS = (16, 56)
PAGE_SIZE = (392, 504)
LATIN = ("ca", "cs", "da", "de", "en", "es", "fr", "hr", "it", "nl", "pl", "pt", "pt-br", "sv")


@dataclass(frozen=True, eq=False)
class Known:
    """A query, a document, and where in the document its answer stands."""

    query: str
    document: Document
    answer: tuple[int, int] | tuple[float, float, float, float]
    """Characters [start, end) of the text, or left, top, right, bottom in pixels of the page."""


class Maker:
    """Draws cases from the data pack."""

    def __init__(self, data: Path, tokenizer: Tokenizer, seed: int) -> None:
        self.pack = TextPack.load(data / "pack" / "text.npz")
        self.tokenizer = tokenizer
        self.fonts = Fonts.discover(data / "packages")
        self.rng = random.Random(seed)
        self.queries: dict[int, list[int]] = {}
        for row, group in enumerate(self.pack.query_group.tolist()):
            self.queries.setdefault(group, []).append(row)

    def texts(self, count: int) -> Iterator[Known]:
        """Passages of one language one after another, one of which answers, at any place."""
        for query, answer, others in self._draw(count, PASSAGES, TEXT_TOKENS, self.pack.langs):
            place = self.rng.randrange(PASSAGES)
            passages = [*others[:place], answer, *others[place:]]
            start = sum(len(passage) + 1 for passage in passages[:place])
            text = "\n".join(passages)
            yield Known(query, Document.text(text), (start, start + len(answer)))

    def pages(self, count: int) -> Iterator[Known]:
        """Pages with paragraphs of one language, one of which answers."""
        made = 0
        for query, answer, others in self._draw(10 * count, PARAGRAPHS, PAGE_TOKENS, LATIN):
            place = self.rng.randrange(PARAGRAPHS)
            paragraphs = [*others[:place], answer, *others[place:]]
            page = render_page(None, paragraphs, self.rng, self.fonts, *PAGE_SIZE)
            box = printed(page, answer)
            if box is None:  # cut off at the page's end
                continue
            yield Known(query, Document.image(Image.fromarray(page.pixels)), box)
            made += 1
            if made == count:
                return

    def _draw(
        self, count: int, size: int, tokens: tuple[int, int], langs: tuple[str, ...]
    ) -> Iterator[tuple[str, str, list[str]]]:
        """(query, the passage that answers it, others of its language about other things)."""
        pack = self.pack
        lengths = np.diff(pack.documents.offsets)
        fits = (lengths >= tokens[0]) & (lengths <= tokens[1])
        allowed = np.isin(pack.document_lang, [pack.langs.index(lang) for lang in langs])
        prose = pack.document_source != pack.sources.index("cldr")  # which has lists of words
        rows = np.flatnonzero(pack.document_valid & fits & allowed & prose)
        by_lang: dict[int, NDArray[np.intp]] = {
            lang: rows[pack.document_lang[rows] == lang]
            for lang in set(pack.document_lang[rows].tolist())
        }
        asked = [row for row in rows.tolist() if int(pack.document_group[row]) in self.queries]
        for row in self.rng.sample(asked, min(count, len(asked))):
            group = int(pack.document_group[row])
            near = by_lang[int(pack.document_lang[row])]
            others = near[pack.document_group[near] != group].tolist()
            if len(others) < size - 1:
                continue
            chosen = self.rng.sample(others, size - 1)
            query = self._text(pack.queries[self.rng.choice(self.queries[group])])
            yield (
                query,
                self._text(pack.documents[row]),
                [self._text(pack.documents[other]) for other in chosen],
            )

    def _text(self, ids: NDArray[np.int64]) -> str:
        text = self.tokenizer.decode(ids.tolist()).replace("\ufffd", "")
        return " ".join(text.split())


def printed(page: Page, paragraph: str) -> tuple[float, float, float, float] | None:
    """The box around a paragraph's characters; None unless all of them are on the page."""
    places = np.array([index for index, char in enumerate(page.text) if not char.isspace()])
    letters = "".join(page.text.split())
    wanted = "".join(paragraph.split())
    start = letters.find(wanted)
    if start < 0:
        return None
    centres = page.places[places[start : start + len(wanted)]]
    (left, top), (right, bottom) = centres.min(axis=0), centres.max(axis=0)
    half = 6.0  # about half a character
    return float(left - half), float(top - half), float(right + half), float(bottom + half)
