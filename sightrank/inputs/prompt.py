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
from typing import TYPE_CHECKING

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
