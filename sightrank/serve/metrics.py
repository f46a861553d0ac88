"""What a server counts, for Prometheus."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_REMEMBERED = 32


class Metrics:
    """Counters of one server: several in a process do not mix."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter(
            "sightrank_requests", "Answered requests", ("route", "status"), registry=own
        )
        self.seconds = Histogram(
            "sightrank_request_seconds",
            "Time to answer",
            ("route",),
            registry=own,
            buckets=_SECONDS,
        )
        self.tokens = Counter("sightrank_tokens", "Tokens charged", registry=own)
        self.waiting = Gauge("sightrank_requests_waiting", "Requests under way", registry=own)
        self.batches = Counter("sightrank_batches", "Passes of the model", registry=own)
        self.documents = Counter("sightrank_documents", "Documents scored", registry=own)
        self.together = Histogram(
            "sightrank_batch_requests",
            "Requests in a pass",
            registry=own,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
        )
        self.computing = Counter(
            "sightrank_model_seconds", "Time in which the model ran", registry=own
        )
        self._finished: deque[float] = deque(maxlen=_REMEMBERED)
        self._taken: Callable[[], int] = lambda: 0

    def batch(self, num_requests: int, num_documents: int, num_tokens: int, seconds: float) -> None:
        """One pass of the model."""
        self.batches.inc()
        self.documents.inc(num_documents)
        self.together.observe(num_requests)
        self.computing.inc(seconds)

    def request(self, route: str, status: int, seconds: float) -> None:
        """One answer."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if status == 200:
            self._finished.append(time.monotonic())

    def watch_waiting(self, taken: Callable[[], int]) -> None:
        """Ask `taken` how many requests are under way."""
        self._taken = taken
        self.waiting.set_function(taken)

    def seconds_of_waiting(self) -> float:
        """How long what waits will take, judged by the last answers: 1 to 60."""
        if len(self._finished) < 2:
            return 1.0
        each = (self._finished[-1] - self._finished[0]) / (len(self._finished) - 1)
        return min(60.0, max(1.0, each * self._taken() / 2))

    def page(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
