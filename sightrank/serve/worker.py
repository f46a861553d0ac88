"""One model for everybody: a thread that reads requests ahead, and others that score them together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sightrank.serve.errors import BusyError
from sightrank.serve.fair import FairQueue
from sightrank.serve.line import Call, Line, Part, Pass, Scoring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sightrank.engine.batch import Prepared

_Result = TypeVar("_Result")


class Watch(Protocol):
    """Who is told what ran."""

    def batch(self, num_requests: int, num_documents: int, num_tokens: int, seconds: float) -> None:
        """One pass of the model; `seconds` in which no pass that ended before ran."""


class Worker:
    """Reads in one thread and scores in others, in turns between keys.

    What waits for the model is scored together up to `batch_tokens`, whoever asked; a large request
    goes through in pieces, so that small ones need not wait for all of it. Up to `passes` of the
    model run at once, each in a thread of its own; before one starts `share` hears there how many
    share the processor. Reading stops while requests that wait hold more than `waiting_bytes`.
    """

    def __init__(
        self,
        score: Callable[[Sequence[tuple[Prepared, int, int]]], list[list[float]]],
        batch_tokens: Callable[[], int],
        waiting_bytes: int,
        watch: Watch,
        passes: int = 1,
        share: Callable[[int], None] = lambda passes: None,
    ) -> None:
        self._score, self._share = score, share
        self._waiting_bytes, self._watch = waiting_bytes, watch
        self._changed = threading.Condition()
        self._reading: FairQueue[Call] = FairQueue()
        self._line = Line(batch_tokens, passes)
        self._held: dict[int, int] = {}
        self._stopping = False
        scoring = [(f"scoring-{number}", self._score_on) for number in range(1, passes + 1)]
        self._threads = [
            threading.Thread(target=target, name=f"sightrank-{name}", daemon=True)
            for name, target in (("reading", self._read_on), *scoring)
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
        self._accept(self._reading, key, Call(call, future))
        return future

    def score(self, key: str | None, request: Prepared) -> Future[list[float]]:
        """Logits of a request's documents; NaN for those whose entry in an index is lost."""
        future: Future[list[float]] = Future()
        self._accept(self._line.waiting, key, Scoring(request, request.costs, future))
        return future

    def seconds_before(self, key: str | None, tokens: int) -> float:
        """How long a request of so many tokens will wait for others, at the speed of the last passes.

        Keys take turns: another key's tokens come first only as far as this key's own would reach.
        """
        with self._changed:
            waiting = self._line.waiting.totals(lambda item: item.left)
            speed = self._line.tokens_a_second
        own = waiting.pop(key, 0)
        return (own + sum(min(each, own + tokens) for each in waiting.values())) / speed

    def run(self, key: str | None, call: Callable[[], _Result]) -> Future[_Result]:
        """What `call` gives, run where the model is, alone."""
        future: Future[_Result] = Future()
        self._accept(self._line.waiting, key, Call(call, future))
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
        while (work := self._next()) is not None:
            if isinstance(work, Call):
                self._share(1)
                _settle(work.future, work.call)
                self._ended(work, 0.0)
            else:
                self._run(work)
        self._share(1)  # what starts later is not to find a part

    def _next(self) -> Pass | Call | None:
        """What this thread is to run, as soon as there is something; None: nothing any more.

        At the end a pass may still bring work back: whoever runs it will find that.
        """
        with self._changed:
            while (work := self._line.start()) is None:
                if self._stopping and not len(self._line.waiting):
                    return None
                self._changed.wait()
            return work

    def _run(self, work: Pass) -> None:
        self._share(work.beside)
        start = time.perf_counter()
        results = self._scored([(item.request, start, stop) for _, item, start, stop in work.parts])
        counted = self._ended(work, time.perf_counter() - start)
        documents = sum(part.stop - part.start for part in work.parts)
        # Before anybody is answered.
        self._watch.batch(len(work.parts), documents, work.tokens, counted)
        self._take_results(work.parts, results)

    def _ended(self, work: Pass | Call, seconds: float) -> float:
        with self._changed:
            counted = self._line.end(work, seconds)
            self._changed.notify_all()
        return counted

    def _take_results(self, parts: list[Part], results: list[list[float] | BaseException]) -> None:
        for (key, item, _, _), result in zip(parts, results, strict=True):
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
                    self._line.waiting.put_back(key, item)
                    self._changed.notify_all()

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
