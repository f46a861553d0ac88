"""Small labelled sets on disk, and a model whose score is how many words are shared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.evaluate.datasets import text_of
from sightrank.types import Document, Query

Rows = Sequence[Mapping[str, object]]

CORPUS: Rows = [
    {"_id": "d1", "text": "the cat sat on the mat"},
    {"_id": "d2", "text": "a dog and a cat"},
    {"_id": "d3", "text": "birds of the sea"},
]
QUERIES: Rows = [
    {"_id": "q1", "text": "cat and dog"},
    {"_id": "q2", "text": "sea birds"},
    {"_id": "q3", "text": "nothing alike"},
]
QRELS = "q1\td2\t2\nq1\td1\t1\nq2\td3\t1\nq3\td1\t1\n"
RUN = "q1 Q0 d1 1 2.5 x\nq1 Q0 d2 2 1.5 x\nq1 Q0 d3 3 1.5 x\nq2 Q0 d1 1 3 x\nq2 Q0 d3 2 2 x\n"

MakeSet = Callable[..., Path]


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Write a set; every part can be replaced by other rows or by text as it is."""

    def make(
        name: str = "animals",
        *,
        corpus: Rows | str = CORPUS,
        queries: Rows | str = QUERIES,
        qrels: str | None = QRELS,
        qrels_name: str = "qrels.tsv",
        run: str = RUN,
    ) -> Path:
        folder = tmp_path / name
        (folder / "qrels").mkdir(parents=True)
        for file, content in (("corpus.jsonl", corpus), ("queries.jsonl", queries)):
            lines = content if isinstance(content, str) else "\n".join(map(json.dumps, content))
            (folder / file).write_text(lines, encoding="utf-8")
        if qrels is not None:
            (folder / qrels_name).write_text(qrels, encoding="utf-8")
        (folder / "run.trec").write_text(run, encoding="utf-8")
        return folder

    return make


@dataclass
class WordOverlap:
    """Scores a pair by the number of words its two sides share; remembers what it was asked."""

    name: str = "overlap"
    documents: list[Document] = field(default_factory=list)
    pairs: int = 0

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float64]:
        self.documents += documents
        self.pairs += len(pairs)
        words = [set(text_of(query).split()) for query in queries]
        others = [set(text_of(document).split()) for document in documents]
        if progress:
            progress(len(pairs), len(pairs))
        return np.array([len(words[q] & others[d]) for q, d in pairs], np.float64)


@pytest.fixture
def scorer() -> WordOverlap:
    return WordOverlap()
