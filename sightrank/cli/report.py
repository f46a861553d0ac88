"""`sightrank rank --html`: a ranking written as one page, with heat maps of the best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sightrank.cli.output import snippet, typed
from sightrank.errors import OptionError, SightrankError
from sightrank.types import Document, Query, RankedDocument, Ranking, Text

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from sightrank.analysis.explanation import Explanation
    from sightrank.analysis.report import Entry

THUMBNAIL = 256
"""Longer side in pixels; shown at half of it, for sharp screens."""


class Explainer(Protocol):
    """What the report needs of a loaded model."""

    name: str

    def explain(
        self, query: Query, document: Document, method: str, *, index: Path | None = None
    ) -> Explanation:
        """As `sightrank.Reranker.explain`."""


def check_writable(target: Path) -> None:
    """Raise OptionError before the work rather than after it."""
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise OptionError(f"{target} cannot be written.", "Give a file in a folder that is there.")


def write(
    target: Path,
    ranker: Explainer,
    ranking: Ranking,
    explained: int,
    index: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the report; the best `explained` documents come with what made their score.

    A document that cannot be read any more is listed with the reason. Raises OptionError.
    """
    from sightrank.analysis.report import report

    entries = []
    for hit in ranking:
        entries.append(_entry(ranker, ranking.query, hit, hit.rank <= explained, index))
        if progress:
            progress(len(entries), len(ranking))
    picture = (
        None
        if any(isinstance(part, Text) for part in ranking.query.parts)
        else (thumbnail(ranking.query))
    )
    page = report(ranker.name, typed(ranking.query), picture, entries)
    try:
        target.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OptionError(
            f"{target} cannot be written: {error}.", "Give a file in a folder that is there."
        ) from error


def _entry(
    ranker: Explainer, query: Query, hit: RankedDocument, wanted: bool, index: Path | None
) -> Entry:
    from sightrank.analysis.report import Entry

    document = hit.document
    name, words = document.name or "", snippet(document)
    try:
        small = thumbnail(document)
        why = ranker.explain(query, document, "attention", index=index) if wanted else None
    except SightrankError as error:
        return Entry(hit, name, words, problem=str(error))
    return Entry(hit, name, words, small, why)


def thumbnail(item: Query | Document) -> PILImage | None:
    """The first picture or page, small; None for texts. Raises InputError."""
    from PIL import Image as Pillow

    from sightrank.analysis.heatmap import shrunk
    from sightrank.inputs.load import FileLimits, iter_load

    for loaded in iter_load(item, FileLimits(), max_pixels=THUMBNAIL**2):
        if isinstance(loaded, Pillow.Image):
            return shrunk(loaded, THUMBNAIL)
    return None
