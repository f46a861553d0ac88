"""From a query and a document to what of the document made the score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sightrank.analysis.attention import attention, gradient
from sightrank.analysis.case import Attribution, Case, Located
from sightrank.analysis.explanation import Explanation, PagePart, QueryToken, TextPart
from sightrank.analysis.occlusion import occlusion
from sightrank.engine.engine import Pair
from sightrank.errors import OptionError
from sightrank.inputs.load import FileLimits
from sightrank.inputs.pdf import PageWords, page_words
from sightrank.inputs.segments import Segment
from sightrank.types import Document, Pdf, Query

if TYPE_CHECKING:
    from sightrank.engine.index import Index
    from sightrank.reranker import Reranker

Method = Callable[[Case], Attribution]


def methods() -> dict[str, Method]:
    """What `method` may be."""
    return {"attention": attention, "gradient": gradient, "occlusion": occlusion}


def explain(
    ranker: Reranker,
    query: Query,
    document: Document,
    method: str = "attention",
    index: Index | None = None,
) -> Explanation:
    """Read the pair, attribute its score to the document's tokens, and say where these stand.

    Raises OptionError for another method, InputError for what cannot be read.
    """
    if method not in methods():
        raise OptionError(f"method is {method!r}.", f"Allowed: {', '.join(methods())}.")
    case = Case.of(ranker, query, document, index)
    attribution = methods()[method](case)
    suffix = case.encoder.suffix(case.segment, case.query)
    logit = score(case, suffix)
    return Explanation(
        query,
        document,
        method,
        ranker.probability(logit),
        logit,
        case.heads,
        case.truncated,
        len(case.segment) - suffix.rewind + len(suffix) - 1,
        query_tokens(case, suffix),
        tuple(
            _part(case, attribution, place, document, ranker.encoder.limits)
            for place in case.located
        ),
    )


def score(case: Case, suffix: Segment) -> float:
    """The pair's logit, as the engine gives it."""
    return float(case.engine.score([case.segment], [case.query], [Pair(0, 0, suffix)])[0])


def query_tokens(case: Case, suffix: Segment) -> tuple[QueryToken, ...]:
    """The suffix's tokens: as many of the query's as fit, then the score token."""
    kept = len(suffix) - 1
    places = case.query_places
    rows = zip(places.part.tolist(), places.start.tolist(), places.end.tolist(), strict=True)
    tokens = []
    for part, start, end in list(rows)[:kept]:
        text = case.query_content[part] if part >= 0 else ""
        if isinstance(text, str):
            tokens.append(QueryToken(text[start:end], start, end))
        else:
            tokens.append(QueryToken("", 0, 0))
    return (*tokens, QueryToken("", 0, 0, is_score=True))


def _part(
    case: Case, attribution: Attribution, place: Located, document: Document, limits: FileLimits
) -> TextPart | PagePart:
    own = case.places.part == place.content
    if isinstance(place.piece.content, str):
        own &= (case.places.start >= place.start) & (case.places.start < place.end)
    tokens = np.flatnonzero(own)
    values = attribution.values[tokens]
    rows = None if attribution.by_query is None else attribution.by_query[:, tokens]
    content = case.content[place.content]
    if isinstance(content, str):
        text = content[place.start : place.end]
        starts = case.places.start[tokens] - place.start
        ends = np.minimum(case.places.end[tokens] - place.start, len(text))
        return TextPart(place.piece.part, text, starts, ends.astype(np.int32), values, rows)
    image = place.piece.content
    assert not isinstance(image, str), "a text became an image"
    grid = content.merged_grid
    matrix = None if rows is None else rows.reshape(-1, *grid)
    words = _words(document, place, limits)
    return PagePart(place.piece.part, place.piece.page, image, values.reshape(grid), matrix, words)


def _words(document: Document, place: Located, limits: FileLimits) -> PageWords | None:
    """The text layer under a page; a picture has none."""
    part, page = document.parts[place.piece.part], place.piece.page
    if not isinstance(part, Pdf) or page is None:
        return None
    source = Path(part.source) if isinstance(part.source, str) else part.source
    return page_words(source, page, limits)
