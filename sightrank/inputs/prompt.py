"""The one template: document first, query last, so that a document's tokens serve every query.

    **Document**:
    {document}
    **Query**:
    {query}

The score token follows. All fixed text belongs to the document's half, the prefix. Several parts
of one item are joined by one newline (our extension: the released prompt knows one part).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sightrank.config import ModelConfig
    from sightrank.inputs.tokenizer import Tokenizer

DOCUMENT = "**Document**:\n"
QUERY = "\n**Query**:\n"
JOINT = "\n"


@dataclass(frozen=True)
class SpecialIds:
    """Token ids that never come out of text."""

    image: int
    vision_start: int
    vision_end: int
    score: int

    @classmethod
    def of(cls, config: ModelConfig) -> SpecialIds:
        """The ids a checkpoint's configuration names."""
        return cls(
            image=config.image_token_id,
            vision_start=config.vision_start_token_id,
            vision_end=config.vision_end_token_id,
            score=config.score_token_id,
        )


def prefix_ids(parts: Sequence[str | int], tokenizer: Tokenizer, special: SpecialIds) -> list[int]:
    """Ids of everything before the query. A part is text or an image's number of visual tokens."""
    return _ids([DOCUMENT, *_joined(parts), QUERY], tokenizer, special)


def query_ids(
    parts: Sequence[str | int], tokenizer: Tokenizer, special: SpecialIds
) -> tuple[list[int], int]:
    """Ids of the query without the score token, and how many prefix tokens they replace.

    A query that starts with a line break merges with the line break that ends the prefix. The
    pre-tokenizer always splits before the word `Query`, so comparing the fixed text alone with
    fixed text plus query shows the merge whatever the document is: the last `rewind` tokens of any
    prefix give way to these ids. It is 0 for every other query.
    """
    runs = _runs([QUERY, *_joined(parts)])
    fixed = tokenizer.encode(QUERY)
    whole = _ids(runs, tokenizer, special)
    common = 0
    while common < len(fixed) and fixed[common] == whole[common]:
        common += 1
    return whole[common:], len(fixed) - common


def prompt_ids(
    document: Sequence[str | int],
    query: Sequence[str | int],
    tokenizer: Tokenizer,
    special: SpecialIds,
) -> list[int]:
    """Ids of a whole prompt without the score token: what prefix and suffix must add up to."""
    return _ids([DOCUMENT, *_joined(document), QUERY, *_joined(query)], tokenizer, special)


@dataclass(frozen=True)
class Places:
    """What each token of a prompt, or of half of one, stands for; all arrays are (tokens,)."""

    part: NDArray[np.int32]
    """Which of the parts; -1 for fixed text, line breaks that join parts, and image marks."""
    start: NDArray[np.int32]
    """In a text part the first character; in an image the number of the visual token."""
    end: NDArray[np.int32]
    """One past the last."""


def prefix_places(
    parts: Sequence[str | int], tokenizer: Tokenizer, special: SpecialIds
) -> tuple[list[int], Places]:
    """`prefix_ids`, and where in the document each token comes from."""
    return _placed([(DOCUMENT, -1), *_numbered(parts), (QUERY, -1)], tokenizer, special)


def query_places(parts: Sequence[str | int], tokenizer: Tokenizer, special: SpecialIds) -> Places:
    """Where in the query each of `query_ids` comes from."""
    ids, _ = query_ids(parts, tokenizer, special)
    whole, places = _placed([(QUERY, -1), *_numbered(parts)], tokenizer, special)
    first = len(whole) - len(ids)
    return Places(places.part[first:], places.start[first:], places.end[first:])


def _numbered(parts: Sequence[str | int]) -> list[tuple[str | int, int]]:
    numbered: list[tuple[str | int, int]] = []
    for number, part in enumerate(parts):
        numbered += [(JOINT, -1), (part, number)] if numbered else [(part, number)]
    return numbered


def _placed(
    pieces: Sequence[tuple[str | int, int]], tokenizer: Tokenizer, special: SpecialIds
) -> tuple[list[int], Places]:
    ids: list[int] = []
    rows: list[tuple[int, int, int]] = []
    for is_text, members in groupby(pieces, key=lambda piece: isinstance(piece[0], str)):
        if is_text:
            texts = [(str(text), number) for text, number in members]
            run, spans = tokenizer.encode_spans("".join(text for text, _ in texts))
            ids += run
            rows += _in_texts(spans, texts)
            continue
        for count, number in members:
            ids += [special.vision_start, *[special.image] * int(count), special.vision_end]
            rows += [(-1, 0, 0), *((number, at, at + 1) for at in range(int(count))), (-1, 0, 0)]
    part, start, end = np.array(rows, np.int32).reshape(-1, 3).T
    return ids, Places(part, start, end)


def _in_texts(
    spans: Sequence[tuple[int, int]], texts: Sequence[tuple[str, int]]
) -> list[tuple[int, int, int]]:
    """Spans in joined texts as (part, start, end) in the part that holds most of each."""
    edges = np.cumsum([0, *(len(text) for text, _ in texts)])
    rows: list[tuple[int, int, int]] = []
    at = 0
    for start, end in spans:
        while at + 1 < len(texts) and edges[at + 1] <= start:
            at += 1
        within = at
        # A token across a seam counts for the part that is somebody's text, not for fixed text.
        if texts[at][1] < 0 and at + 1 < len(texts) and end > edges[at + 1]:
            within = at + 1
        low, high = edges[within], edges[within + 1]
        number = texts[within][1]
        first, last = max(start, low) - low, min(end, high) - low
        rows.append((number, first, last) if number >= 0 and last > first else (-1, 0, 0))
    return rows


def _joined(parts: Sequence[str | int]) -> list[str | int]:
    joined: list[str | int] = []
    for part in parts:
        joined += [JOINT, part] if joined else [part]
    return joined


def _runs(pieces: Sequence[str | int]) -> list[str | int]:
    """Adjacent texts become one, because BPE merges across their seams as the reference does."""
    runs: list[str | int] = []
    for piece in pieces:
        if isinstance(piece, str) and runs and isinstance(runs[-1], str):
            runs[-1] += piece
        else:
            runs.append(piece)
    return runs


def _ids(pieces: Sequence[str | int], tokenizer: Tokenizer, special: SpecialIds) -> list[int]:
    ids: list[int] = []
    for run in _runs(pieces):
        if isinstance(run, str):
            ids += tokenizer.encode(run)
        else:
            ids += [special.vision_start, *[special.image] * run, special.vision_end]
    return ids
