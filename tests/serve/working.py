"""A worker around a model that is not one: it waits for a sign, and says what it was given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sightrank.serve.worker import Worker


@dataclass(eq=False)
class Job:
    """What the worker needs of a request."""

    name: str
    costs: list[int]
    num_bytes: int = 1


@dataclass
class Model:
    """Scores a document with its place, and waits for a sign before each pass."""

    passes: list[list[tuple[str, int, int]]] = field(default_factory=list)
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, slices: Sequence[tuple[Any, int, int]]) -> list[list[float]]:
        self.started.release()
        self.go.acquire()
        self.passes.append([(job.name, start, stop) for job, start, stop in slices])
        if any(job.name == "bad" for job, _, _ in slices):
            raise ValueError("bad")
        return [[float(place) for place in range(start, stop)] for _, start, stop in slices]


@dataclass
class Watch:
    """What was counted of each pass: requests, documents, tokens, seconds."""

    passes: list[tuple[float, ...]] = field(default_factory=list)

    def batch(self, *numbers: float) -> None:
        self.passes.append(numbers)


@contextmanager
def working(
    model: Any,
    budget: int = 10,
    waiting_bytes: int = 100,
    *,
    passes: int = 1,
    share: Callable[[int], None] = lambda passes: None,
    watch: Watch | None = None,
) -> Iterator[Worker]:
    """A worker around `model`, closed at the end."""
    worker = Worker(model, lambda: budget, waiting_bytes, watch or Watch(), passes, share)
    worker.start()
    try:
        yield worker
    finally:
        if isinstance(model, Model):
            model.go.release(1000)
        worker.close()


def hold(worker: Worker, model: Model) -> Any:
    """Keep the model busy, so that what comes next waits together."""
    future = worker.score("holder", Job("holder", [1]))  # type: ignore[arg-type]
    model.started.acquire()
    return future


def score(worker: Worker, key: str, name: str, *costs: int) -> Any:
    """Ask for the scores of documents of such costs."""
    return worker.score(key, Job(name, list(costs)))  # type: ignore[arg-type]
