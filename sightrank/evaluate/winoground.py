"""Winoground: two captions of the same words, two pictures; which belongs to which?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from sightrank.evaluate.run import Progress, Scorer
from sightrank.types import Document, Query

AT_ONCE = 32
"""Examples whose pictures are held at once."""


@dataclass(frozen=True)
class Winoground:
    """Shares of examples (Thrush et al., CVPR 2022, equations 1 to 3); a tie is no success."""

    text: float
    """The right caption scores higher for both pictures. Chance: 1/4."""
    image: float
    """The right picture scores higher for both captions. Chance: 1/4."""
    group: float
    """Both. Chance: 1/6."""
    examples: int


def winoground(
    scorer: Scorer, rows: Iterable[Mapping[str, Any]], progress: Progress | None = None
) -> Winoground:
    """Rows have image_0, image_1 (PIL images), caption_0 and caption_1; a picture is read once.

    A caption is the query and a picture the document.
    """
    right: list[tuple[bool, bool]] = []
    for some in _groups(rows):
        queries = [Query.text(row[f"caption_{at}"]) for row in some for at in (0, 1)]
        pictures = [Document.image(row[f"image_{at}"]) for row in some for at in (0, 1)]
        pairs = [
            (2 * number + caption, 2 * number + picture)
            for number in range(len(some))
            for caption in (0, 1)
            for picture in (0, 1)
        ]
        scores = scorer.score_matrix(queries, pictures, pairs)
        right += [_judge(each) for each in np.reshape(scores, (-1, 2, 2)).tolist()]
        if progress:
            progress(len(right), len(right))
    text, image = (sum(each[at] for each in right) for at in (0, 1))
    count = max(len(right), 1)
    return Winoground(text / count, image / count, sum(map(all, right)) / count, len(right))


def _judge(scores: list[list[float]]) -> tuple[bool, bool]:
    """(text, image) of one example's scores[caption][picture]."""
    (s00, s01), (s10, s11) = scores
    return s00 > s10 and s11 > s01, s00 > s01 and s11 > s10


def _groups(rows: Iterable[Mapping[str, Any]]) -> Iterable[list[Mapping[str, Any]]]:
    waiting = iter(rows)
    while some := list(islice(waiting, AT_ONCE)):
        yield some
