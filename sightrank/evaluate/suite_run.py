"""A suite from beginning to end: data, candidates, scores by mteb's own tasks, the mean."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightrank.evaluate.mteb import MtebReranker, Shown, require_mteb
from sightrank.evaluate.run import Progress, Scorer
from sightrank.evaluate.suite_candidates import find
from sightrank.evaluate.suite_data import get_tasks, load_task
from sightrank.evaluate.suites import Suite
from sightrank.evaluate.winoground import winoground

WINOGROUND = "Winoground"


@dataclass(frozen=True)
class Choice:
    """What of a suite is run, and from what."""

    suite: Suite
    data: Path | None = None
    run: Path | None = None
    tasks: tuple[str, ...] | None = None
    subsets: tuple[str, ...] | None = None
    depth: int | None = None
    """None: the suite's own."""
    show: Shown = "image"

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks that are run."""
        return self.suite.tasks if self.tasks is None else self.tasks


def run_suite(
    scorer: Scorer, choice: Choice, progress: Progress | None = None
) -> Iterator[dict[str, Any]]:
    """A report a task, as JSON, as each is done. Raises SightrankError."""
    require_mteb()
    for name in choice.names:
        started = time.perf_counter()
        if name == WINOGROUND:
            report = _winoground(scorer, choice, progress)
        else:
            report = _reranking(
                MtebReranker(scorer, show=choice.show, progress=progress), name, choice
            )
        yield {"task": name, **report, "seconds": round(time.perf_counter() - started, 3)}


def total(choice: Choice, model: str, reports: list[dict[str, Any]]) -> dict[str, Any]:
    """The suite's means beside what was published; `complete` if nothing was left out."""
    suite = choice.suite
    first = [each["first_stage"] for each in reports if each["first_stage"] is not None]
    return {
        "suite": suite.name,
        "model": model,
        "metric": suite.metric,
        "score": float(np.mean([each["score"] for each in reports])) if reports else None,
        "first_stage": float(np.mean(first)) if first else None,
        "complete": choice.names == suite.tasks and choice.subsets is None,
        "published": [asdict(figure) for figure in suite.published],
        "unknown": suite.unknown,
        "tasks": reports,
    }


class _AsTheyCame:
    """A cross-encoder of mteb that keeps the order of the candidates: for the first stage's score."""

    def __init__(self, model: MtebReranker) -> None:
        self.mteb_model_meta = model.mteb_model_meta

    def predict(self, inputs1: Any, inputs2: Any, **_: Any) -> Any:
        """Falling numbers: pairs come grouped by query, best candidate first."""
        return -np.arange(len(inputs1.dataset), dtype=np.float64)


def _reranking(model: MtebReranker, name: str, choice: Choice) -> dict[str, Any]:
    """Scores of a task: the mean over its parts, as mteb takes it, of the mean over their subsets."""
    depth = choice.depth or choice.suite.depth
    parts = []
    for task in get_tasks(name, choice.data, choice.subsets):
        load_task(task)
        parts += [_subset(model, task, subset, choice, depth) for subset in task.hf_subsets]
        task.unload_data()
    scores = [part["metrics"][choice.suite.metric] for part in parts]
    before = [part["first_stage"][choice.suite.metric] for part in parts]
    return {
        "score": float(np.mean(scores)),
        "first_stage": float(np.mean(before)),
        "subsets": parts,
    }


def _subset(
    model: MtebReranker, task: Any, subset: str, choice: Choice, depth: int | None
) -> dict[str, Any]:
    split = task.eval_splits[-1]  # where a task has dev and test, figures are those of test
    found = find(task, subset, split, choice.run, depth)
    data = task.dataset[subset][split]
    data["top_ranked"] = found.candidates
    ours, before = (
        task.evaluate(each, split, [subset], encode_kwargs={})[subset]
        for each in (model, _AsTheyCame(model))
    )
    return {
        "name": task.metadata.name,
        "subset": subset,
        "split": split,
        "queries": len(data["queries"]),
        "documents": len(data["corpus"]),
        "pairs": sum(len(keys) for keys in found.candidates.values()),
        "candidates": found.source,
        "metrics": _metrics(ours),
        "first_stage": _metrics(before),
    }


def _metrics(scores: Mapping[str, Any]) -> dict[str, float]:
    names = ("ndcg_at_5", "ndcg_at_10", "mrr_at_10", "recall_at_10")
    return {name: float(scores[name]) for name in names}


def _winoground(scorer: Scorer, choice: Choice, progress: Progress | None) -> dict[str, Any]:
    (task,) = get_tasks(WINOGROUND, choice.data)
    load_task(task)
    result = winoground(scorer, task.dataset[task.eval_splits[0]], progress)
    return {"score": result.group, "first_stage": None, "metrics": asdict(result), "subsets": []}
