"""One model for everybody: a thread that reads requests ahead, and one that scores them together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sightrank.serve.errors import BusyError
from sightrank.serve.fair import FairQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sightrank.engine.batch import Prepared

_Result = TypeVar("_Result")

PASS_SECONDS = 0.5
"""What a pass should take: with more in it nobody is served faster once the processor is full, and
whoever comes next waits longer."""
LEAST_TOKENS = 256
"""In a pass, however slow the machine is."""


class Watch(Protocol):
    """Who is told what ran."""

    def batch(self, num_requests: int, num_documents: int, num_tokens: int, seconds: float) -> None:
        """One pass of the model."""


@dataclass(eq=False)
class _Scoring:
    """A request on its way through the model, some documents at a time."""

    request: Prepared
    costs: list[int]
    future: Future[list[float]]
    logits: list[float] = field(default_factory=list)

    def take(self, room: int) -> tuple[int, int]:
        """The next documents that fit into `room` tokens, one at least."""
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
class _Call:
    """Work that runs alone."""

    call: Callable[[], Any]
    future: Future[Any]
    left: int = 0
    """Tokens: how many it takes is not known before it has run."""


class Worker:
    """Reads and scores in two threads, in turns between keys.

    What waits for the model is scored together up to `batch_tokens`, whoever asked; a large request
    goes through in pieces, so that small ones need not wait for all of it. Reading stops while
    requests that wait for the model hold more than `waiting_bytes`.
    """

    def __init__(
        self,
        score: Callable[[Sequence[tuple[Prepared, int, int]]], list[list[float]]],
        batch_tokens: Callable[[], int],
        waiting_bytes: int,
        watch: Watch,
    ) -> None:
        self._score, self._batch_tokens = score, batch_tokens
        self._waiting_bytes, self._watch = waiting_bytes, watch
        self._changed = threading.Condition()
        self._reading: FairQueue[_Call] = FairQueue()
        self._scoring: FairQueue[_Scoring | _Call] = FairQueue()
        self._held: dict[int, int] = {}
        self._tokens_a_second = float("inf")
        self._stopping = False
        self._threads = [
            threading.Thread(target=target, name=f"sightrank-{name}", daemon=True)
            for name, target in (("reading", self._read_on), ("scoring", self._score_on))
        ]

    @property
    def stopping(self) -> bool:
        """Whether nothing new is taken any more."""
        return self._stopping

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Finish all that was accepted, then end the threads. Takes nothing new from now on."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def read(
        self, key: str | None, call: Callable[[], Sequence[Prepared]]
    ) -> Future[Sequence[Prepared]]:
        """What `call` reads. The caller lets go of it with `drop`, whatever comes of it."""
        future: Future[Sequence[Prepared]] = Future()
        self._accept(self._reading, key, _Call(call, future))
        return future

    def score(self, key: str | None, request: Prepared) -> Future[list[float]]:
        """Logits of a request's documents; NaN for those whose entry in an index is lost."""
        future: Future[list[float]] = Future()
        self._accept(self._scoring, key, _Scoring(request, request.costs, future))
        return future

    def seconds_before(self, key: str | None, tokens: int) -> float:
        """How long a request of so many tokens will wait for others, at the speed of the last passes.

        Keys take turns: another key's tokens come first only as far as this key's own would reach.
        """
        with self._changed:
            waiting = self._scoring.totals(lambda item: item.left)
        own = waiting.pop(key, 0)
        return (own + sum(min(each, own + tokens) for each in waiting.values())) / (
            self._tokens_a_second
        )

    def run(self, key: str | None, call: Callable[[], _Result]) -> Future[_Result]:
        """What `call` gives, run where the model is, alone."""
        future: Future[_Result] = Future()
        self._accept(self._scoring, key, _Call(call, future))
        return future

    def drop(self, requests: Sequence[Prepared]) -> None:
        """Count what was read as free memory."""
        with self._changed:
            self._held.pop(id(requests), None)
            self._changed.notify_all()

    def _accept(self, queue: FairQueue[Any], key: str | None, item: Any) -> None:
        with self._changed:
            if self._stopping:
                raise BusyError("The server is stopping.", "Ask another one, or again later.")
            queue.put(key, item)
            self._changed.notify_all()

    def _read_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._may_read)
                if not len(self._reading):
                    return
                _, item = self._reading.take()
            _settle(item.future, item.call, self._hold)

    def _may_read(self) -> bool:
        if not len(self._reading):
            return self._stopping
        return sum(self._held.values()) < max(1, self._waiting_bytes)

    def _hold(self, requests: Sequence[Prepared]) -> None:
        with self._changed:
            self._held[id(requests)] = sum(request.num_bytes for request in requests)

    def _score_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._scoring) or self._stopping)
                if not len(self._scoring):
                    return
                batch = self._next_batch()
            if isinstance(batch, _Call):
                _settle(batch.future, batch.call)
            elif batch:  # those who left may have been all
                self._run(batch)

    def _next_batch(self) -> _Call | list[tuple[str | None, _Scoring, int]]:
        """A call that runs alone, or (key, request, up to which document) within the budget."""
        budget = self._budget()
        share = max(1, budget // max(1, self._scoring.num_keys))
        batch: list[tuple[str | None, _Scoring, int]] = []
        while len(self._scoring) and budget > 0:
            key, item = self._scoring.take()
            if item.future.cancelled():
                continue
            if isinstance(item, _Call):
                if not batch:
                    return item
                self._scoring.put_back(key, item, first=True)
                break
            stop, used = item.take(min(share, budget))
            if batch and used > budget:
                self._scoring.put_back(key, item, first=True)
                break
            batch.append((key, item, stop))
            budget -= used
        return batch

    def _budget(self) -> int:
        """Tokens of the next pass, judged by how fast the last ones were."""
        most = self._batch_tokens()
        return int(min(most, max(LEAST_TOKENS, self._tokens_a_second * PASS_SECONDS)))

    def _run(self, batch: list[tuple[str | None, _Scoring, int]]) -> None:
        start = time.perf_counter()
        slices = [(item.request, len(item.logits), stop) for _, item, stop in batch]
        results = self._scored(slices)
        tokens = sum(
            sum(item.costs[start:stop])
            for (_, start, stop), (_, item, _) in zip(slices, batch, strict=True)
        )
        documents = sum(stop - start for _, start, stop in slices)
        seconds = time.perf_counter() - start
        speed = tokens / max(seconds, 1e-6)
        known = self._tokens_a_second != float("inf")
        self._tokens_a_second = (self._tokens_a_second + speed) / 2 if known else speed
        self._watch.batch(len(batch), documents, tokens, seconds)  # before anybody is answered
        self._take_results(batch, results)

    def _take_results(
        self,
        batch: list[tuple[str | None, _Scoring, int]],
        results: list[list[float] | BaseException],
    ) -> None:
        for (key, item, _), result in zip(batch, results, strict=True):
            with suppress(InvalidStateError):  # its caller has left
                if isinstance(result, BaseException):
                    item.future.set_exception(result)
                    continue
                item.logits += result
                if len(item.logits) == len(item.costs):
                    item.future.set_result(item.logits)
                    continue
            if not item.future.done():
                with self._changed:
                    self._scoring.put_back(key, item)

    def _scored(self, slices: list[tuple[Prepared, int, int]]) -> list[list[float] | BaseException]:
        """Of all together; if that fails, of each alone, so that one cannot fail the others."""
        try:
            return list(self._score(slices))
        except BaseException as error:
            if len(slices) == 1:
                return [error]
        return [result for each in slices for result in self._scored([each])]


def _settle(
    future: Future[_Result],
    call: Callable[[], _Result],
    done: Callable[[_Result], None] | None = None,
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
        if done is not None:
            done(result)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
