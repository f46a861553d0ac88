"""Runs: which documents were found for which query, in TREC's format of six columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from sightrank.errors import InputError
from sightrank.evaluate.datasets import Dataset
from sightrank.evaluate.lines import read_lines

Run = dict[str, dict[str, float]]
"""Query id -> document id -> score, best first, where equal scores keep the order given."""

LINE = "A line of a TREC run is: query id, Q0, document id, rank, score, name."
LOWEST = np.float32(-1e30)


def read_run(path: Path, dataset: Dataset) -> Run:
    """Read a run. As in trec_eval the score alone decides the order; ties keep the file's order.

    Queries of the set that it has no grades for are left out. Raises InputError naming file and
    line for what is malformed and for queries and documents that the set does not hold.
    """
    run: Run = {query: {} for query in dataset.grades}
    seen: set[tuple[str, str]] = set()

    def parse(_: int, line: str) -> tuple[str, str, float]:
        fields = line.split()
        if len(fields) != 6:
            raise ValueError(f"{len(fields)} fields instead of 6")
        query, _q0, document, _rank, number, _tag = fields
        score = float(number)
        if not math.isfinite(score):
            raise ValueError(f"score is {number}")
        for kind, key, known in (
            ("query", query, dataset.queries),
            ("document", document, dataset.documents),
        ):
            if key not in known:
                raise ValueError(f"{dataset.name} has no {kind} {key!r}")
        if (query, document) in seen:
            raise ValueError(f"document {document!r} was there for query {query!r} before")
        seen.add((query, document))
        return query, document, score

    for query, document, score in read_lines(path, parse, LINE):
        if query in run:
            run[query][document] = score
    if not any(run.values()):
        raise InputError(f"{path} has candidates for no graded query of {dataset.name}.", LINE)
    return {query: best_first(scores) for query, scores in run.items() if scores}


def write_run(path: Path, run: Run, tag: str = "sightrank") -> None:
    """Write a run, best first.

    Evaluation tools order by score in single precision and break ties in ways of their own, so
    each score is written at least one step below the one before it.
    """
    with path.open("w", encoding="utf-8") as file:
        for query, scores in run.items():
            for rank, (document, score) in enumerate(_falling(scores), start=1):
                file.write(f"{query} Q0 {document} {rank} {score:.9g} {tag}\n")


def best_first(scores: Mapping[str, float], depth: int | None = None) -> dict[str, float]:
    """The `depth` highest scores in falling order; equal scores keep the order given."""
    return dict(sorted(scores.items(), key=lambda item: -item[1])[:depth])


def _falling(scores: Mapping[str, float]) -> Iterable[tuple[str, np.float32]]:
    last = np.float32(np.inf)
    for document, score in best_first(scores).items():
        below = np.nextafter(last, np.float32(-np.inf))
        last = min(max(np.float32(score), LOWEST), below)
        yield document, last
