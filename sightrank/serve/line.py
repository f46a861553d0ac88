"""What waits for the model, and which of it may run now beside what runs already."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sightrank.serve.fair import FairQueue

if TYPE_CHECKING:
    from sightrank.engine.batch import Prepared

PASS_SECONDS = 0.5
"""What a pass should take: with more in it nobody is served faster once the processor is full, and
whoever comes next waits longer."""
LEAST_TOKENS = 256
"""In a pass, however slow the machine is."""
WHOLE = 8
"""A request of this part of a pass or less is not cut: in pieces it would wait for several passes, and
passes of single documents are slow."""


@dataclass(eq=False)
class Scoring:
    """A request on its way through the model, some documents at a time."""

    request: Prepared
    costs: list[int]
    future: Future[list[float]]
    logits: list[float] = field(default_factory=list)

    def take(self, room: int) -> tuple[int, int]:
        """The next documents that fit into `room` tokens, one at least: (before which, tokens)."""
        start = stop = len(self.logits)
        used = 0
        while stop < len(self.costs) and (stop == start or used + self.costs[stop] <= room):
            used += self.costs[stop]
            stop += 1
        return stop, used

    @property
    def left(self) -> int:
        """Tokens that are still to run; none where the caller has left."""
        return 0 if self.future.cancelled() else sum(self.costs[len(self.logits) :])


@dataclass(eq=False)
class Call:
    """Work that runs alone."""

    call: Callable[[], Any]
    future: Future[Any]
    left: int = 0
    """Tokens: how many it takes is not known before it has run."""


class Part(NamedTuple):
    """Documents `start` to before `stop` of a request, whose turn it is."""

    key: str | None
    item: Scoring
    start: int
    stop: int


@dataclass(eq=False)
class Pass:
    """What goes through the model together."""

    parts: list[Part]
    tokens: int
    beside: int
    """Passes that share the processor, this one among them, as far as is known when it starts."""


class Line:
    """Requests in turns between keys, each in one pass at a time. Not for several threads at once.

    All passes together hold `batch_tokens` at most, so that several take no more memory than one.
    """

    def __init__(self, batch_tokens: Callable[[], int], most: int) -> None:
        """`most`: passes at once."""
        self._batch_tokens, self._most = batch_tokens, most
        self.waiting: FairQueue[Scoring | Call] = FairQueue()
        self.tokens_a_second = float("inf")
        """Of all passes together, judged by the last ones."""
        self._running: list[Pass | Call] = []
        self._counted = 0.0

    def start(self) -> Pass | Call | None:
        """What is to run now; None: nothing, until something changes. Whoever ran it `end`s it."""
        work = None if any(isinstance(each, Call) for each in self._running) else self._next()
        if work is not None:
            if not self._running:
                self._counted = time.perf_counter()
            self._running.append(work)
        return work

    def end(self, work: Pass | Call, seconds: float) -> float:
        """It took so long; returns for how much of it no pass that ended before was counted."""
        self._running.remove(work)
        if isinstance(work, Pass):
            speed = work.tokens / max(seconds, 1e-6) * work.beside
            known = self.tokens_a_second != float("inf")
            self.tokens_a_second = (self.tokens_a_second + speed) / 2 if known else speed
        before, self._counted = self._counted, time.perf_counter()
        return self._counted - before

    def _next(self) -> Pass | Call | None:
        """A call that runs alone, or parts within the budget: no more than leave work for others."""
        free = self._most - len(self._running)
        if not free or not len(self.waiting):
            return None
        room = self._batch_tokens() - sum(
            each.tokens for each in self._running if isinstance(each, Pass)
        )
        budget = whole = min(room, self._budget())
        fair = min(whole, max(budget * free // self.waiting.num_keys, budget // WHOLE, 1))
        most_parts = -(-len(self.waiting) // free)
        parts: list[Part] = []
        while len(self.waiting) and budget > 0 and len(parts) < most_parts:
            key, item = self.waiting.take()
            if item.future.cancelled():
                continue
            if isinstance(item, Call):
                if not parts and not self._running:
                    return item
                self.waiting.put_back(key, item, first=True)
                break
            stop, used = item.take(fair)
            # One document that is larger than the budget runs all the same, and where it is larger
            # than the room, it waits until nothing else runs. What the end of this pass would cut
            # begins the next.
            if used > (budget if parts else room) and (parts or self._running):
                self.waiting.put_back(key, item, first=True)
                break
            parts.append(Part(key, item, len(item.logits), stop))
            budget -= used
        if not parts:
            return None
        return Pass(parts, whole - budget, self._beside(1))

    def _budget(self) -> int:
        """Tokens of the next pass, judged by how fast the last ones were."""
        beside = self._beside(0)
        timed = max(LEAST_TOKENS, self.tokens_a_second * PASS_SECONDS / beside)
        return int(min(max(1, self._batch_tokens() // beside), timed))

    def _beside(self, starting: int) -> int:
        """How many passes there is work for: a request is in one of them."""
        return min(self._most, len(self._running) + starting + len(self.waiting))
