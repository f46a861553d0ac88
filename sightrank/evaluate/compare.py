"""Systems side by side: every one on every set at every depth, then what the numbers say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sightrank._version import VERSION
from sightrank.evaluate.datasets import text_of
from sightrank.evaluate.metrics import average
from sightrank.evaluate.peers import Open
from sightrank.evaluate.run import Progress, Result, Task, rerank
from sightrank.evaluate.significance import EQUAL, compare

Watch = Callable[[str], AbstractContextManager[Progress | None]]
"""Shows the progress of work with a label."""
SHOWN = 5
"""Queries listed of those won, and of those lost, most clearly."""
SNIPPET = 200
"""Characters of a query that are shown."""


@dataclass(frozen=True)
class Entrant:
    """A system under one choice of settings."""

    label: str
    settings: Mapping[str, int | str]
    """What was chosen for it beside its name: max_pixels, dtype."""
    load: Callable[[], Open]
    """Called when its turn comes, so that one model at a time is in memory."""


@dataclass(frozen=True)
class Measured:
    """One entrant on one set at one depth."""

    entrant: Entrant
    depth: int
    result: Result


@dataclass(frozen=True)
class Judge:
    """How differences are judged."""

    metric: str = "ndcg@10"
    permutations: int = 10_000
    seed: int = 0


def measure_all(
    entrants: Sequence[Entrant], tasks: Sequence[Task], depths: Sequence[int], watch: Watch
) -> Iterator[Measured]:
    """Rerank every set at every depth with every entrant; each run starts with nothing remembered.

    `tasks` hold candidates to the largest depth. Raises SightrankError.
    """
    for entrant in entrants:
        open_for = entrant.load()
        for task in tasks:
            for depth in depths:
                cut = task.cut(depth)
                label = f"{entrant.label}: {task.dataset.name}, depth {depth}"
                with watch(label) as progress:
                    yield Measured(entrant, depth, rerank(open_for(cut), cut, progress))


def summary(measured: Sequence[Measured], test: Judge) -> dict[str, Any]:
    """Everything the report says, as JSON: by set, then by entrant and depth.

    The first entrant is the baseline of the others, at the same depth of the same set.
    """
    sets: dict[int, list[Measured]] = {}
    for each in measured:
        sets.setdefault(id(each.result.task.dataset), []).append(each)
    return {
        "sightrank": VERSION,
        "baseline": measured[0].entrant.label,
        "metric": test.metric,
        "test": {
            "name": "paired randomisation test, two-sided",
            "permutations": test.permutations,
            "seed": test.seed,
        },
        "sets": [_set(members, test) for members in sets.values()],
    }


def means(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mean of each metric over the sets, by entrant, at the largest depth."""
    by_label: dict[str, list[Mapping[str, float]]] = {}
    for each in report["sets"]:
        for run in deepest(each):
            by_label.setdefault(run["model"], []).append(run["metrics"])
    return [
        {"model": label, "metrics": average({str(at): row for at, row in enumerate(rows)})}
        for label, rows in by_label.items()
    ]


def deepest(each: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs of a set at its largest depth."""
    most = max(run["depth"] for run in each["runs"])
    return [run for run in each["runs"] if run["depth"] == most]


def _set(members: Sequence[Measured], test: Judge) -> dict[str, Any]:
    task = members[0].result.task
    baselines = {each.depth: each.result for each in members if each.entrant == members[0].entrant}
    return {
        "dataset": task.dataset.name,
        "queries": len(task.dataset.grades),
        "documents": len(task.dataset.documents),
        "runs": [_run(each, baselines[each.depth], test) for each in members],
    }


def _run(measured: Measured, baseline: Result, test: Judge) -> dict[str, Any]:
    result = measured.result
    asked = sum(bool(found) for found in result.task.candidates.values())
    pairs = result.task.num_pairs
    run: dict[str, Any] = {
        "model": measured.entrant.label,
        **measured.entrant.settings,
        "depth": measured.depth,
        "candidates": pairs,
        "metrics": average(result.per_query),
        "first_stage": average(result.first_stage),
        "seconds": result.seconds,
        "seconds_per_query": result.seconds / max(asked, 1),
        "seconds_per_document": result.seconds / max(pairs, 1),
    }
    if result is not baseline:
        run |= _against(result, baseline, test)
    return run


def _against(result: Result, baseline: Result, test: Judge) -> dict[str, Any]:
    queries = list(result.per_query)
    ours, theirs = (
        [side.per_query[query][test.metric] for query in queries] for side in (result, baseline)
    )
    compared = compare(ours, theirs, test.permutations, test.seed)
    gains = sorted(
        zip(queries, ours, theirs, strict=True), key=lambda row: row[1] - row[2], reverse=True
    )
    dataset = result.task.dataset

    def shown(rows: Sequence[tuple[str, float, float]]) -> list[dict[str, Any]]:
        return [
            {
                "query": query,
                "text": text_of(dataset.queries[query])[:SNIPPET],
                "value": value,
                "baseline": before,
            }
            for query, value, before in rows[:SHOWN]
            if abs(value - before) >= EQUAL
        ]

    won = [row for row in gains if row[1] > row[2]]
    lost = [row for row in reversed(gains) if row[1] < row[2]]
    return {"against": compared.to_dict(), "won": shown(won), "lost": shown(lost)}
