"""The way of a request, whatever its shape: admit, fetch, read, reserve, score, charge."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sightrank.serve.access import Access, AccountsUnavailableError, Caller
from sightrank.serve.errors import (
    BusyError,
    ClientGoneError,
    DeadlineError,
    StaleIndexError,
    TokenLimitError,
    UnknownModelError,
)
from sightrank.serve.fetch import Fetcher
from sightrank.serve.items import Pieces, items
from sightrank.serve.metrics import Metrics
from sightrank.serve.places import Gone, Places, unless_gone
from sightrank.serve.schemas import is_cohere
from sightrank.serve.settings import Settings
from sightrank.serve.shelf import Opened
from sightrank.serve.worker import Worker

if TYPE_CHECKING:
    from sightrank.engine.batch import Prepared
    from sightrank.reranker import Reranker

_Result = TypeVar("_Result")

PATIENCE = 0.4
"""Share of the deadline that a request may be expected to wait: the speed may fall meanwhile, and
keys that wait for less come first."""


@dataclass(frozen=True)
class Scored:
    """What came of a request."""

    logits: list[float]
    """One a document, in the order given."""
    num_tokens: int
    names: tuple[str | None, ...]

    def best(self, top_n: int | None) -> list[int]:
        """Places of the best documents; ties keep the order given."""
        order = sorted(range(len(self.logits)), key=lambda place: (-self.logits[place], place))
        return order[:top_n]


@dataclass
class Ticket:
    """A request under way: who asks, and what the log will say of it."""

    id: str
    caller: Caller
    num_documents: int = 0
    num_tokens: int = 0
    due: int | None = None
    """Tokens of what was computed."""
    reserved: bool = False
    settled: bool = False


@dataclass(frozen=True)
class Ask:
    """A ranking as every dialect means it."""

    query: Pieces
    documents: list[Pieces]
    model: str | None = None
    truncation: bool = True
    max_doc_length: int | None = None


class Service:
    """One model and its worker, whoever is asking."""

    def __init__(
        self,
        reranker: Reranker,
        access: Access,
        settings: Settings,
        fetcher: Fetcher,
        metrics: Metrics,
    ) -> None:
        self.reranker, self.access, self.settings = reranker, access, settings
        self.fetcher, self.metrics = fetcher, metrics
        limits = reranker.engine.limits
        self.worker = Worker(
            reranker.score_prepared,
            lambda: reranker.engine.limits.batch_tokens,
            limits.waiting_bytes,
            metrics,
            settings.passes or reranker.threads.passes,
            reranker.threads.share,
        )
        self.places = Places(settings.queue)
        self.drawing = asyncio.Lock()  # large images: one at a time is taken apart for answers
        self.stopping = False
        self._inside = 0
        self.opened: Opened = {}
        metrics.watch_waiting(lambda: self.places.taken)

    async def close(self) -> None:
        """Take nothing new, finish what was accepted, then let go of model and accounts."""
        self.stopping = True
        while self._inside:  # none is there for longer than the deadline
            await asyncio.sleep(0.02)
        await asyncio.to_thread(self.worker.close)
        await self.access.close()

    async def rank(self, ticket: Ticket, ask: Ask, gone: Gone) -> Scored:
        """Score the documents of a request and charge for it. Raises SightrankError."""
        return (await self.rank_all(ticket, [ask], gone))[0]

    async def rank_all(self, ticket: Ticket, asks: Sequence[Ask], gone: Gone) -> list[Scored]:
        """The same for several rankings that are one request."""
        ticket.num_documents = sum(len(ask.documents) for ask in asks)
        for ask in asks:
            self.check_model(ask.model)
        limits = self.reranker.encoder.limits

        async def work() -> list[Scored]:
            given = [await items(ask.query, ask.documents, self.fetcher, limits) for ask in asks]

            def read() -> list[Prepared]:
                return [
                    self.reranker.prepare(query, documents, max_doc_length=ask.max_doc_length)
                    for (query, documents), ask in zip(given, asks, strict=True)
                ]

            return await self.scored(ticket, read, truncation=all(ask.truncation for ask in asks))

        return await self.within(ticket, work, gone)

    async def within(
        self, ticket: Ticket, work: Callable[[], Awaitable[_Result]], gone: Gone
    ) -> _Result:
        """`work` in a place of its own, until the deadline or until the client leaves.

        What it computed is charged before it is delivered, and what ran out of time is not.
        """
        key = ticket.caller.key_id
        if self.stopping:
            raise BusyError("The server is stopping.", "Ask another one, or again later.")
        async with self.places.one(key, self.metrics.seconds_of_waiting):
            try:
                async with asyncio.timeout(self.settings.deadline):
                    result = await unless_gone(work, gone)
            except TimeoutError as error:
                raise DeadlineError(
                    f"The request took more than {self.settings.deadline:g} s.",
                    "Send fewer documents, or try again later.",
                ) from error
            except ClientGoneError:
                if ticket.due is not None:  # computed for a client that left
                    await self._settle(ticket, ticket.due)
                raise
            if ticket.due is not None:
                await self._settle(ticket, ticket.due)
            return result

    async def scored(
        self, ticket: Ticket, read: Callable[[], Sequence[Prepared]], *, truncation: bool = True
    ) -> list[Scored]:
        """Read, reserve, score."""
        key = ticket.caller.key_id
        async with self._prepared(key, read) as requests:
            if not truncation:
                _check_whole(requests)
            self._check_wait(key, sum(sum(request.costs) for request in requests))
            counts = [request.num_tokens for request in requests]
            ticket.reserved = True  # also if it fails half-way
            await self.access.reserve(ticket.caller, sum(counts), ticket.id)
            logits = await self._logits(ticket, requests, sum(counts))
            return [
                Scored(own, count, request.names)
                for own, count, request in zip(logits, counts, requests, strict=True)
            ]

    async def computed(
        self, ticket: Ticket, call: Callable[[], _Result], tokens: Callable[[_Result], int]
    ) -> _Result:
        """Run `call` where the model is; what it says it took is charged, reserved as it ends.

        What it will take is not known before the documents are read, so here the reservation only
        asks whether there is any balance.
        """
        ticket.reserved = True
        await self.access.reserve(ticket.caller, 1, ticket.id)
        future = self.worker.run(ticket.caller.key_id, call)
        try:
            result = await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            if not future.cancel():  # it runs, and what it does will stay: that has its price
                ticket.due = tokens(await asyncio.wrap_future(future)) or None
            raise
        ticket.due = tokens(result) or None
        return result

    async def admit(self, ticket_id: str, authorization: str | None) -> Ticket:
        """Let a caller in. Raises AccessError."""
        ticket = Ticket(ticket_id, await self.access.admit(authorization))
        self._inside += 1
        return ticket

    async def leave(self, ticket: Ticket) -> None:
        """At the end of an admitted request: give back what was not charged.

        Without their database the accounts do it later, and the answer is what it was.
        """
        try:
            if ticket.reserved and not ticket.settled:
                with suppress(AccountsUnavailableError):
                    await asyncio.shield(self.access.release(ticket.caller, ticket.id))
        finally:
            self._inside -= 1

    def _check_wait(self, key: str | None, tokens: int) -> None:
        """Refuse at once what would wait until its time is over. Raises BusyError."""
        wait, most = self.worker.seconds_before(key, tokens), self.settings.deadline * PATIENCE
        if wait > most:
            raise BusyError(
                f"The request would wait {wait:.0f} s, and must be answered within"
                f" {self.settings.deadline:g} s.",
                "Try again later.",
                max(1.0, wait - most),
            )

    async def _settle(self, ticket: Ticket, tokens: int) -> None:
        """Charge for what is done; it runs to its end even if this is cancelled."""
        charging = asyncio.ensure_future(self.access.settle(ticket.caller, tokens, ticket.id))
        try:
            await asyncio.shield(charging)
        except asyncio.CancelledError:
            await charging
            ticket.settled = True
            raise
        ticket.settled, ticket.num_tokens = True, tokens
        self.metrics.tokens.inc(tokens)

    async def _logits(
        self, ticket: Ticket, requests: Sequence[Prepared], tokens: int
    ) -> list[list[float]]:
        futures = [self.worker.score(ticket.caller.key_id, request) for request in requests]
        try:
            found = await asyncio.gather(*map(asyncio.wrap_future, futures))
        except asyncio.CancelledError:
            if all(map(_is_computed, futures)):
                ticket.due = tokens
            raise
        finally:
            for future in futures:
                future.cancel()
        for request, logits in zip(requests, found, strict=True):
            _check_found(request, logits)
        ticket.due = tokens
        return found

    @asynccontextmanager
    async def _prepared(
        self, key: str | None, read: Callable[[], Sequence[Prepared]]
    ) -> AsyncIterator[Sequence[Prepared]]:
        future = self.worker.read(key, read)
        try:
            yield await asyncio.wrap_future(future)
        finally:
            # Reading may only end after its caller has: then it is let go of there.
            future.add_done_callback(self._let_go)

    def _let_go(self, future: Future[Sequence[Prepared]]) -> None:
        if not future.cancelled() and future.exception() is None:
            self.worker.drop(future.result())

    def check_model(self, name: str | None) -> None:
        """Raise UnknownModelError unless this server answers to a name."""
        if name is None or name in self.model_names or name.startswith("jina-reranker-"):
            return
        if not is_cohere(name):
            raise UnknownModelError(
                f"Model {name[:100]!r} not found. Available models: {', '.join(self.model_names)}.",
                "Every name that begins with jina-reranker- or rerank- stands for the first.",
            )

    @property
    def model_names(self) -> list[str]:
        """What the model is called here, its own name first."""
        return list(dict.fromkeys((self.own_name, "sightrank", "jina-reranker-m0")))

    @property
    def own_name(self) -> str:
        """The last part of its folder or hub id: the rest may be a path of this machine."""
        return self.reranker.name.replace("\\", "/").rstrip("/").rpartition("/")[2] or "sightrank"


def _check_whole(requests: Sequence[Prepared]) -> None:
    for request in requests:
        if request.truncated:
            raise TokenLimitError(
                f"documents[{request.truncated[0]}] and the query are longer than the model"
                " reads, and truncation is false.",
                "Shorten it, or allow truncation.",
            )


def _check_found(request: Prepared, logits: Sequence[float]) -> None:
    lost = [place for place, logit in enumerate(logits) if math.isnan(logit)]
    if lost:
        raise StaleIndexError(
            f"{request.names[lost[0]]} is damaged in its index.", "Index it again."
        )


def _is_computed(future: Future[list[float]]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
