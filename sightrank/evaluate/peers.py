"""Systems to compare with, by name: what they are called, and how each is made ready for a set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import OptionError, UnsupportedInputError
from sightrank.evaluate.cross_encoder import CrossEncoderPeer
from sightrank.evaluate.datasets import text_of
from sightrank.evaluate.first_stage import Bm25
from sightrank.evaluate.http_peer import HttpPeer
from sightrank.evaluate.run import Progress, Scorer, Task
from sightrank.types import Document, Query, Text

BM25, FIRST_STAGE = "bm25", "first-stage"
CROSS_ENCODER, HTTP = "cross-encoder:", "http+"

Open = Callable[[Task], Scorer]
"""Makes a system ready for a set, with nothing left in memory of what it did before."""


def is_peer(name: str) -> bool:
    """Whether `name` is one of a peer and not of a model of ours."""
    return name in (BM25, FIRST_STAGE) or name.startswith((CROSS_ENCODER, HTTP))


def check(name: str, task: Task) -> None:
    """Raise unless the peer `name` can read the set: better before the work than after.

    Raises UnsupportedInputError for images and PDFs where only texts are read, and OptionError
    for a name that is malformed.
    """
    if name.startswith(HTTP):
        HttpPeer.of(name).check(task)
    elif name == BM25 or name.startswith(CROSS_ENCODER):
        check_texts(name, task)


def open_peer(name: str, timeout: float = 60) -> Open:
    """How the peer `name` is made ready. Raises OptionError, MissingExtraError, CheckpointError."""
    if name == FIRST_STAGE:
        return FirstStageOrder
    if name == BM25:
        return lambda task: Bm25Scorer(list(task.dataset.documents.values()))
    if name.startswith(HTTP):
        service = HttpPeer.of(name, timeout)
        return lambda _: service
    if name.startswith(CROSS_ENCODER):
        encoder = CrossEncoderPeer(name.removeprefix(CROSS_ENCODER))
        return lambda _: encoder
    raise OptionError(
        f"{name!r} names no peer.",
        "Peers are bm25, first-stage, cross-encoder:NAME, http+jina:URL#MODEL, http+cohere:URL#MODEL.",
    )


def check_texts(name: str, task: Task) -> None:
    """Raise UnsupportedInputError unless all queries and candidates of the set are texts."""
    asked = [task.dataset.queries[query] for query in task.candidates]
    for item in (*asked, *task.documents):
        if not all(isinstance(part, Text) for part in item.parts):
            raise UnsupportedInputError(
                f"{name} reads texts alone, and {task.dataset.name} has {item.name or 'an image'}.",
                f"Leave out {name}, or this set.",
            )


class FirstStageOrder:
    """The order that the candidates came in: what any reranker has to be better than."""

    name = FIRST_STAGE

    def __init__(self, task: Task) -> None:
        # By identity: two documents of a set may be equal, as when both are the same picture.
        self._documents = {id(item): key for key, item in task.dataset.documents.items()}
        self._queries = {id(item): key for key, item in task.dataset.queries.items()}
        self._candidates = task.candidates

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Progress | None = None,
    ) -> NDArray[np.float64]:
        """The run's own scores."""
        asked = [self._queries[id(query)] for query in queries]
        ranked = [self._documents[id(document)] for document in documents]
        return np.array([self._candidates[asked[q]][ranked[d]] for q, d in pairs], np.float64)


class Bm25Scorer:
    """BM25 as a ranker of the documents that the statistics are of."""

    name = BM25

    def __init__(self, documents: Sequence[Document], index: Bm25 | None = None) -> None:
        """`index`: that of these documents, where it is there already."""
        self._index = index or Bm25([text_of(document) for document in documents])
        # By identity: equal documents may be there twice.
        self._place = {id(document): place for place, document in enumerate(documents)}

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Progress | None = None,
    ) -> NDArray[np.float64]:
        """Scores of pairs (pairs,); 0 where no term is shared."""
        values = np.empty(len(pairs))
        by_query: dict[int, list[int]] = {}
        for at, (query, _) in enumerate(pairs):
            by_query.setdefault(query, []).append(at)
        for query, rows in by_query.items():
            scores = self._index.scores(text_of(queries[query]))
            values[rows] = scores[[self._place[id(documents[pairs[at][1]])] for at in rows]]
        return values
