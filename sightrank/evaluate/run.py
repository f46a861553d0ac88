"""Rerank a first stage's candidates and measure what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sightrank.errors import InputError, MissingExtraError
from sightrank.evaluate.datasets import Dataset, Grades, Run, best_first
from sightrank.types import Document, Query

METRICS = {"ndcg@10": "nDCG@10", "ndcg@5": "nDCG@5", "mrr@10": "RR@10", "recall@10": "R@10"}
Progress = Callable[[int, int], None]


class Scorer(Protocol):
    """What evaluation needs of a reranker."""

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Progress | None = None,
    ) -> Any:
        """Logits of (query index, document index) pairs."""
        ...


@dataclass(frozen=True)
class Result:
    """A reranked run beside the first stage it came from."""

    dataset: str
    first_stage: Run
    run: Run
    grades: Grades
    seconds: float

    def as_object(self, model: str) -> dict[str, Any]:
        """The JSON that scripts read."""
        return {
            "dataset": self.dataset,
            "model": model,
            "queries": len(self.first_stage),
            "documents": len({key for scores in self.first_stage.values() for key in scores}),
            "depth": max((len(scores) for scores in self.first_stage.values()), default=0),
            "metrics": mean(measure(self.grades, self.run)),
            "first_stage": mean(measure(self.grades, self.first_stage)),
            "seconds": round(self.seconds, 3),
        }


def rerank(
    scorer: Scorer, dataset: Dataset, candidates: Run, progress: Progress | None = None
) -> Result:
    """Score every candidate of every graded query; each document is encoded once for all."""
    candidates = {key: scores for key, scores in candidates.items() if key in dataset.grades}
    _check(dataset, candidates)
    queries = list(candidates)
    documents = sorted({key for scores in candidates.values() for key in scores})
    place = {key: index for index, key in enumerate(documents)}
    # Best first, so that equal scores keep the first stage's order.
    ordered = [(q, key) for q in queries for key, _ in best_first(candidates[q])]
    pairs = [(queries.index(query), place[key]) for query, key in ordered]
    started = time.perf_counter()
    logits = scorer.score_matrix(
        [dataset.queries[key] for key in queries],
        [dataset.documents[key] for key in documents],
        pairs,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    run: Run = {query: {} for query in queries}
    for (query, key), logit in zip(ordered, logits, strict=True):
        run[query][key] = float(logit)
    return Result(dataset.name, _ranks(candidates), _ranks(run), dataset.grades, seconds)


def _check(dataset: Dataset, candidates: Run) -> None:
    if not candidates:
        raise InputError(f"{dataset.name}: the run has no graded query.", "Check the query ids.")
    for query, scores in candidates.items():
        lost = [key for key in scores if key not in dataset.documents]
        if query not in dataset.queries or lost:
            missing = query if query not in dataset.queries else lost[0]
            raise InputError(
                f"{dataset.name}: the run names {missing}, which the set does not hold.",
                "Check that run and set belong together.",
            )


def _ranks(run: Run) -> Run:
    """Scores replaced by falling ranks, so that ties are broken here and nowhere else."""
    return {
        query: {key: float(-rank) for rank, (key, _) in enumerate(best_first(scores))}
        for query, scores in run.items()
    }


def measure(grades: Grades, run: Run) -> dict[str, dict[str, float]]:
    """Metric -> graded query -> value, by ir-measures; a query the run lacks counts as 0."""
    try:
        import ir_measures
    except ImportError:
        raise MissingExtraError(
            "Metrics need ir-measures.", "pip install 'sightrank[evaluate]'"
        ) from None
    parsed = {ir_measures.parse_measure(text): name for name, text in METRICS.items()}
    values = {name: dict.fromkeys(grades, 0.0) for name in METRICS}
    for value in ir_measures.iter_calc(list(parsed), grades, run):
        values[parsed[value.measure]][value.query_id] = value.value
    return values


def mean(values: dict[str, dict[str, float]]) -> dict[str, float]:
    """Metric -> mean over queries."""
    return {name: sum(row.values()) / max(1, len(row)) for name, row in values.items()}
