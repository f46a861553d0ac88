"""The way of a request, whatever its shape: admit, fetch, read, reserve, score, charge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from sightrank.serve.access import Access, AccountsUnavailableError
from sightrank.serve.asks import Ask, Scored, Ticket, check_found, check_whole
from sightrank.serve.errors import BusyError, ClientGoneError, DeadlineError
from sightrank.serve.fetch import Fetcher
from sightrank.serve.held import Held, Models
from sightrank.serve.items import items
from sightrank.serve.metrics import Metrics
from sightrank.serve.places import Gone, Places, unless_gone
from sightrank.serve.settings import Settings
from sightrank.serve.shelf import Opened

if TYPE_CHECKING:
    from sightrank.engine.batch import Prepared
    from sightrank.reranker import Reranker

_Result = TypeVar("_Result")

PATIENCE = 0.4
"""Share of the deadline that a request may be expected to wait: the speed may fall meanwhile, and
keys that wait for less come first."""


class Service:
    """Models and their workers, whoever is asking."""

    def __init__(
        self,
        rerankers: Sequence[Reranker],
        access: Access,
        settings: Settings,
        fetcher: Fetcher,
        metrics: Metrics,
    ) -> None:
        self.access, self.settings = access, settings
        self.fetcher, self.metrics = fetcher, metrics
        self.models = Models(rerankers, settings.passes, metrics)
        self.places = Places(settings.queue)
        self.drawing = asyncio.Lock()  # large images: one at a time is taken apart for answers
        self.stopping = False
        self._inside = 0
        self.opened: Opened = {}
        metrics.watch_waiting(lambda: self.places.taken)

    async def close(self) -> None:
        """Take nothing new, finish what was accepted, then let go of models and accounts."""
        self.stopping = True
        while self._inside:  # none is there for longer than the deadline
            await asyncio.sleep(0.02)
        await self.models.close()
        await self.access.close()

    async def rank(self, ticket: Ticket, ask: Ask, gone: Gone) -> Scored:
        """Score the documents of a request and charge for it. Raises SightrankError."""
        return (await self.rank_all(ticket, [ask], gone))[0]

    async def rank_all(self, ticket: Ticket, asks: Sequence[Ask], gone: Gone) -> list[Scored]:
        """The same for several rankings that are one request, of the first one's model."""
        ticket.num_documents = sum(len(ask.documents) for ask in asks)
        held = self.models.named(asks[0].model)
        reranker = held.reranker
        limits = reranker.encoder.limits

        async def work() -> list[Scored]:
            given = [await items(ask.query, ask.documents, self.fetcher, limits) for ask in asks]

            def read() -> list[Prepared]:
                return [
                    reranker.prepare(query, documents, max_doc_length=ask.max_doc_length)
                    for (query, documents), ask in zip(given, asks, strict=True)
                ]

            whole = not all(ask.truncation for ask in asks)
            return await self.scored(ticket, held, read, whole=whole)

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
        self,
        ticket: Ticket,
        held: Held,
        read: Callable[[], Sequence[Prepared]],
        *,
        whole: bool = False,
    ) -> list[Scored]:
        """Read, reserve, score. `whole`: raise TokenLimitError instead of cutting documents."""
        key = ticket.caller.key_id
        async with _prepared(held, key, read) as requests:
            if whole:
                check_whole(requests)
            self._check_wait(held, key, sum(sum(request.costs) for request in requests))
            counts = [request.num_tokens for request in requests]
            ticket.reserved = True  # also if it fails half-way
            await self.access.reserve(ticket.caller, sum(counts), ticket.id)
            logits = await self._logits(ticket, held, requests, sum(counts))
            return [
                Scored(held, own, count, request.names)
                for own, count, request in zip(logits, counts, requests, strict=True)
            ]

    async def computed(
        self,
        ticket: Ticket,
        held: Held,
        call: Callable[[], _Result],
        tokens: Callable[[_Result], int],
    ) -> _Result:
        """Run `call` where the model is; what it says it took is charged, reserved as it ends.

        What it will take is not known before the documents are read, so here the reservation only
        asks whether there is any balance.
        """
        ticket.reserved = True
        await self.access.reserve(ticket.caller, 1, ticket.id)
        future = held.worker.run(ticket.caller.key_id, call)
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

    def _check_wait(self, held: Held, key: str | None, tokens: int) -> None:
        """Refuse at once what would wait until its time is over. Raises BusyError."""
        wait, most = held.worker.seconds_before(key, tokens), self.settings.deadline * PATIENCE
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
        self, ticket: Ticket, held: Held, requests: Sequence[Prepared], tokens: int
    ) -> list[list[float]]:
        futures = [held.worker.score(ticket.caller.key_id, request) for request in requests]
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
            check_found(request, logits)
        ticket.due = tokens
        return found


@asynccontextmanager
async def _prepared(
    held: Held, key: str | None, read: Callable[[], Sequence[Prepared]]
) -> AsyncIterator[Sequence[Prepared]]:
    def let_go(future: Future[Sequence[Prepared]]) -> None:
        if not future.cancelled() and future.exception() is None:
            held.worker.drop(future.result())

    future = held.worker.read(key, read)
    try:
        yield await asyncio.wrap_future(future)
    finally:
        # Reading may only end after its caller has: then it is let go of there.
        future.add_done_callback(let_go)


def _is_computed(future: Future[list[float]]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
