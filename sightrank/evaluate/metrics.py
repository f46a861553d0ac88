"""Metrics of a run against grades, by ir-measures."""

from __future__ import annotations

from collections.abc import Mapping

from sightrank.evaluate.datasets import Grades
from sightrank.evaluate.trec import Run, best_first
from sightrank.extras import require

METRICS = {"ndcg@10": "nDCG@10", "ndcg@5": "nDCG@5", "mrr@10": "RR@10", "recall@10": "R@10"}
"""Our names, and what ir-measures calls them."""

PerQuery = dict[str, dict[str, float]]
"""Query id -> metric -> value."""


def require_metrics() -> None:
    """Raise MissingExtraError unless ir-measures is installed: better before the work than after."""
    require("evaluate", "Metrics", "ir_measures")


def measure(grades: Grades, run: Run) -> PerQuery:
    """Metrics of every graded query; a query that the run lacks counts as 0.

    A grade of 1 or more is relevant; nDCG's gain is the grade. Equal scores keep the run's order.
    """
    require_metrics()
    import ir_measures

    names = {ir_measures.parse_measure(theirs): ours for ours, theirs in METRICS.items()}
    values = {query: dict.fromkeys(METRICS, 0.0) for query in grades}
    if not run:
        return values
    for value in ir_measures.iter_calc(list(names), grades, _ranks(run)):
        if value.query_id in values:
            values[value.query_id][names[value.measure]] = float(value.value)
    return values


def average(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Metric -> mean over the queries."""
    count = max(1, len(values))
    return {name: sum(row[name] for row in values.values()) / count for name in METRICS}


def _ranks(run: Run) -> Run:
    """Scores replaced by falling ranks: tools break ties by document id, here none are left."""
    return {
        query: {key: float(-rank) for rank, key in enumerate(best_first(scores))}
        for query, scores in run.items()
    }
