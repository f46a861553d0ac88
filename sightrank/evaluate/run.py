"""Rerank a first stage's candidates and measure what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import SightrankError
from sightrank.evaluate.datasets import Dataset, load, text_of
from sightrank.evaluate.first_stage import search
from sightrank.evaluate.metrics import PerQuery, average, measure
from sightrank.evaluate.trec import Run, best_first, read_run
from sightrank.types import Document, Query, Text

Progress = Callable[[int, int], None]


class Scorer(Protocol):
    """What evaluation needs of a model."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Progress | None = None,
    ) -> NDArray[np.float64]:
        """Logits (pairs,) of (query index, document index) pairs; each document is run once."""
        ...


@dataclass(frozen=True)
class Task:
    """A set and the candidates of its graded queries, best first."""

    dataset: Dataset
    candidates: Run

    @property
    def documents(self) -> list[Document]:
        """What is scored, each once."""
        keys = dict.fromkeys(key for scores in self.candidates.values() for key in scores)
        return [self.dataset.documents[key] for key in keys]

    @property
    def depth(self) -> int:
        """Most candidates that a query has."""
        return max((len(scores) for scores in self.candidates.values()), default=0)

    @property
    def num_pairs(self) -> int:
        """Candidates of all queries together."""
        return sum(len(scores) for scores in self.candidates.values())

    def cut(self, depth: int) -> Task:
        """The same set with only the `depth` best candidates of each query."""
        kept = {query: best_first(found, depth) for query, found in self.candidates.items()}
        return replace(self, candidates=kept)


@dataclass(frozen=True)
class Result:
    """A reranked run and its metrics, beside those of the order it came in."""

    task: Task
    model: str
    run: Run
    per_query: PerQuery
    first_stage: PerQuery
    seconds: float
    """Time in the model, reading and drawing the documents included."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON that scripts read."""
        return {
            "dataset": self.task.dataset.name,
            "model": self.model,
            "queries": len(self.task.dataset.grades),
            "documents": len(self.task.dataset.documents),
            "depth": self.task.depth,
            "metrics": average(self.per_query),
            "first_stage": average(self.first_stage),
            "seconds": round(self.seconds, 3),
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One object a query."""
        for query, metrics in self.per_query.items():
            yield {
                "dataset": self.task.dataset.name,
                "model": self.model,
                "query": query,
                "metrics": metrics,
                "first_stage": self.first_stage[query],
            }


def prepare(
    folder: Path,
    run: str | None = None,
    files: Path | None = None,
    depth: int = 100,
    max_queries: int | None = None,
) -> Task:
    """Read a set and take the `depth` best candidates a query from a TREC run, or by BM25 (None).

    `run` is a name in the folder or a path. Raises InputError.
    """
    dataset = load(folder, files)
    if run is None:
        chosen = dataset.first(max_queries)
        return Task(chosen, search(chosen, depth))
    # The whole set, so that a line about a query not chosen is no error.
    found = read_run(folder / run if (folder / run).exists() else Path(run), dataset)
    chosen = dataset.first(max_queries)
    return Task(chosen, {key: found[key] for key in chosen.grades if key in found}).cut(depth)


def rerank(scorer: Scorer, task: Task, progress: Progress | None = None) -> Result:
    """Score every candidate, each document once for all of its queries, and measure.

    Equal scores keep the first stage's order. A document of blank text is not scored and comes
    last. Raises SightrankError, also where the model gives a score that is not a number.
    """
    started = time.perf_counter()
    logits = _score(scorer, task, progress)
    seconds = time.perf_counter() - started
    run = {
        query: best_first({key: logits.get((query, key), -math.inf) for key in scores})
        for query, scores in task.candidates.items()
    }
    grades = task.dataset.grades
    first_stage = measure(grades, task.candidates)
    return Result(task, scorer.name, run, measure(grades, run), first_stage, seconds)


def _score(scorer: Scorer, task: Task, progress: Progress | None) -> dict[tuple[str, str], float]:
    """Logits by (query id, document id)."""
    askers: dict[str, list[str]] = {}
    for query, scores in task.candidates.items():
        for key in scores:
            askers.setdefault(key, []).append(query)
    scored = [key for key in askers if not is_blank(task.dataset.documents[key])]
    names = [(query, key) for key in scored for query in askers[key]]
    queries = list(dict.fromkeys(query for query, _ in names))
    place = {query: index for index, query in enumerate(queries)}
    dataset = task.dataset
    # The scorer reads the documents piece by piece, as its memory allows.
    values = scorer.score_matrix(
        [dataset.queries[query] for query in queries],
        [dataset.documents[key] for key in scored],
        [(place[query], at) for at, key in enumerate(scored) for query in askers[key]],
        progress=progress,
    )
    if (broken := np.flatnonzero(~np.isfinite(values))).size:
        query, key = names[broken[0]]
        raise SightrankError(
            f"{dataset.name}: {scorer.name} scores document {key!r} for query {query!r}"
            f" as {values[broken[0]]}.",
            "Try --dtype float32.",
        )
    return dict(zip(names, values.tolist(), strict=True))


def is_blank(document: Document) -> bool:
    """Whether it is text without content, which no model scores."""
    only_text = all(isinstance(part, Text) for part in document.parts)
    return only_text and not text_of(document).strip()
