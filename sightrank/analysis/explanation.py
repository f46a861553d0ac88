"""What an explanation says: spans of texts, boxes on pages, and which query words looked where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightrank.analysis import regions
from sightrank.analysis.case import Heads
from sightrank.analysis.regions import Span
from sightrank.errors import OptionError
from sightrank.inputs.pdf import PageWords
from sightrank.types import Document, Query

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Corners = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Box:
    """A hot region of a page or picture."""

    pixels: Corners
    """In `PagePart.image`, from its top left."""
    cells: tuple[int, int, int, int]
    """In the grid of visual tokens: left, top, and one past right and bottom."""
    score: float
    """Share, in [0, 1], of all that speaks for the document."""
    points: Corners | None = None
    """In points (1/72 inch) from the top left of the PDF page as it is shown; None for a picture."""
    words: str | None = None
    """What the PDF's text layer has under it, in its order; None for a picture."""


@dataclass(frozen=True)
class QueryToken:
    """A token of the query, [start, end) of its text; "" and 0, 0 for a picture's tokens."""

    text: str
    start: int
    end: int
    is_score: bool = False
    """The token off which the score is read; it stands behind the query."""


@dataclass(frozen=True, eq=False)
class TextPart:
    """One text of the document."""

    part: int
    """Which part of the document it is, counted from 0."""
    text: str
    """As the model saw it: cut to its limits."""
    starts: NDArray[np.int32]
    """(tokens,): the first character of each token."""
    ends: NDArray[np.int32]
    scores: NDArray[np.float64]
    """(tokens,) in the method's unit."""
    by_query: NDArray[np.float64] | None
    """(query tokens, tokens), where the method tells query tokens apart."""

    @property
    def peak(self) -> float:
        """The largest score of a word, smoothed as spans are."""
        first = regions.word_starts(self.text, self.starts, self.ends)
        smoothed = regions.smoothed_words(first, self.scores)
        return float(smoothed.max()) if len(smoothed) else 0.0


@dataclass(frozen=True, eq=False)
class PagePart:
    """One picture or PDF page of the document."""

    part: int
    """Which part of the document it is, counted from 0."""
    page: int | None
    """Of a PDF, counted from 1."""
    image: PILImage
    """RGB, upright, before it was resized for the model."""
    scores: NDArray[np.float64]
    """(rows, columns) of visual tokens, in the method's unit."""
    by_query: NDArray[np.float64] | None
    """(query tokens, rows, columns), where the method tells query tokens apart."""
    words: PageWords | None
    """A PDF page's text layer."""

    @property
    def peak(self) -> float:
        """The largest score of a visual token, smoothed as boxes are."""
        return float(regions.smoothed_grid(self.scores).max())

    def box(self, cells: regions.Cells) -> Box:
        """Cells of the grid as a box on the page."""
        rows, columns = self.scores.shape
        across, down = self.image.width / columns, self.image.height / rows
        corners = (cells.left, cells.top, cells.right, cells.bottom)
        pixels = tuple(n * side for n, side in zip(corners, (across, down) * 2, strict=True))
        left, top, right, bottom = pixels
        if self.words is None:
            return Box((left, top, right, bottom), corners, cells.score)
        wide, high = self.words.width / self.image.width, self.words.height / self.image.height
        points = (left * wide, top * high, right * wide, bottom * high)
        under = [word.text for word in self.words.words if _inside(word.box, points)]
        return Box((left, top, right, bottom), corners, cells.score, points, " ".join(under))


def _inside(word: Corners, box: Corners) -> bool:
    across, down = (word[0] + word[2]) / 2, (word[1] + word[3]) / 2
    return box[0] <= across < box[2] and box[1] <= down < box[3]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a document has its score. Made by `Reranker.explain`."""

    query: Query
    document: Document
    method: str
    score: float
    """sigmoid(logit - bias), as `Reranker.score` gives."""
    logit: float
    heads: Heads
    """Those whose attention counts. Of no meaning to other methods."""
    truncated: bool
    """Some of the document was cut off and is not explained."""
    num_tokens: int
    """Prompt tokens of the pair, without the score token."""
    query_tokens: tuple[QueryToken, ...]
    """Rows of every `by_query`; the last is the score token."""
    parts: tuple[TextPart | PagePart, ...]

    @property
    def total(self) -> float:
        """What all positive scores sum to."""
        return float(sum(np.maximum(part.scores, 0).sum() for part in self.parts))

    @property
    def pages(self) -> tuple[PagePart, ...]:
        """Pictures and pages among the parts."""
        return tuple(part for part in self.parts if isinstance(part, PagePart))

    def spans(self, part: TextPart) -> list[Span]:
        """Hot spans [start, end) of one of `parts`, the hottest first."""
        top = max(text.peak for text in self.parts if isinstance(text, TextPart))
        return regions.spans(part.text, part.starts, part.ends, part.scores, self.total, top)

    def boxes(self, page: PagePart) -> list[Box]:
        """Hot boxes on one of `pages`, the hottest first."""
        top = max(each.peak for each in self.pages)
        return [page.box(cells) for cells in regions.boxes(page.scores, self.total, top)]

    def heat_map(self, page: int | None = None, longest: int | None = None) -> PILImage:
        """The page with its hot patches coloured; `page` counts `pages` from 0, None: the hottest.

        `longest`: draw it smaller where its longer side has more pixels.
        Raises OptionError for a document without pictures, or a number outside.
        """
        from sightrank.analysis.heatmap import overlay, shrunk

        pages = self.pages
        if not pages:
            raise OptionError("The document has no picture to draw on.", "Use spans().")
        chosen = int(np.argmax([each.peak for each in pages])) if page is None else page
        if not 0 <= chosen < len(pages):
            raise OptionError(f"page is {page}.", f"Allowed: 0 to {len(pages) - 1}, or None.")
        hot = pages[chosen]
        smoothed = regions.smoothed_grid(hot.scores)
        image = hot.image if longest is None else shrunk(hot.image, longest)
        return overlay(image, smoothed, max(each.peak for each in pages))

    def looks(self, part: TextPart | PagePart, row: int) -> list[Span] | list[Box]:
        """Where in one of `parts` one of `query_tokens` looked; nothing if the method cannot tell."""
        if part.by_query is None:
            return []
        scores = part.by_query[row]
        total = float(np.maximum(scores, 0).sum())
        if isinstance(part, PagePart):
            peak = float(regions.smoothed_grid(scores).max())
            return [part.box(cells) for cells in regions.boxes(scores, total, peak)]
        first = regions.word_starts(part.text, part.starts, part.ends)
        smoothed = regions.smoothed_words(first, scores)
        top = float(smoothed.max()) if len(smoothed) else 0.0
        return regions.spans(part.text, part.starts, part.ends, scores, total, top)

    def to_dict(self, top: int | None = None, matrix: bool = False) -> dict[str, Any]:
        """For JSON. `top`: spans and boxes a part at most; `matrix`: all scores by query token."""
        return {
            "method": self.method,
            "score": self.score,
            "logit": self.logit,
            "heads": self.heads.to_dict(),
            "truncated": self.truncated,
            "parts": [self._part(part, top, matrix) for part in self.parts],
            "query_tokens": [
                {
                    **asdict(token),
                    "looks": [
                        {"part": number, **asdict(region)}
                        for number, part in enumerate(self.parts)
                        for region in self.looks(part, row)[: top or 1]
                    ],
                }
                for row, token in enumerate(self.query_tokens)
            ],
        }

    def _part(self, part: TextPart | PagePart, top: int | None, matrix: bool) -> dict[str, Any]:
        scores: dict[str, Any] = {}
        if matrix and part.by_query is not None:
            scores = {"by_query": part.by_query.tolist()}
        if isinstance(part, PagePart):
            return {
                "part": part.part,
                "page": part.page,
                "width": part.image.width,
                "height": part.image.height,
                "grid": part.scores.tolist(),
                "boxes": [asdict(box) for box in self.boxes(part)[:top]],
                **scores,
            }
        tokens = zip(part.starts.tolist(), part.ends.tolist(), part.scores.tolist(), strict=True)
        return {
            "part": part.part,
            "relevant_spans": [asdict(span) for span in self.spans(part)[:top]],
            **({"tokens": [list(token) for token in tokens], **scores} if matrix else {}),
        }
