"""Accounts for the server: the ledger behind the seam `Access`, without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from sightrank.serve.access import (
    AccountsUnavailableError,
    Caller,
    InvalidFormatError,
    MissingKeyError,
)
from sightrank.serve.database import Database, open_database
from sightrank.serve.ledger import Ledger
from sightrank.serve.limits import Policy

T = TypeVar("T")

CONNECTIONS = 4
"""Threads and connections of a server. A transaction takes about a millisecond, so few do much."""


class Accounts:
    """`Access` by keys in a database. Several servers may share the database, not this object.

    A step that has begun is finished even where the task that waits for it is cancelled. A step
    that raises AccountsUnavailableError counts as not done: what it may have written before the
    connection broke is taken back as soon as the database serves again. For `pause` seconds after
    such an error all steps raise it at once, so that requests do not queue for a dead database.
    """

    def __init__(
        self,
        database: Database,
        policy: Policy | None = None,
        clock: Callable[[], float] = time.time,
        pause: float = 1.0,
    ) -> None:
        self._database = database
        self._ledger = Ledger(database, policy or Policy(), clock)
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="accounts")
        self._pause = pause
        self._down_until, self._why = 0.0, ""
        self._doubtful: dict[_Request, bool] = {}  # -> whether its charge is taken back as well
        self._lock = threading.Lock()

    @classmethod
    def open(cls, address: str | Path | None = None, policy: Policy | None = None) -> Accounts:
        """Accounts in the database at `address`; see `open_database` for that and what it raises."""
        return cls(open_database(address, connections=CONNECTIONS), policy)

    async def admit(self, authorization: str | None) -> Caller:
        """Who the Authorization header's value names."""
        secret = _secret(authorization)
        return Caller(*await self._run(partial(self._ledger.identify, secret)))

    async def reserve(self, caller: Caller, tokens: int, request_id: str) -> None:
        """Hold `tokens` of the caller's balance and one of its places."""
        request = _Request(_key_of(caller), request_id)
        work = partial(self._ledger.reserve, request.key_id, tokens, request_id)
        under_way = self._submit(work, request)
        try:
            await asyncio.shield(asyncio.wrap_future(under_way))
        except asyncio.CancelledError:  # nobody will release what nobody knows of
            self._submit(partial(self._release_after, under_way, request), request)
            raise

    async def settle(self, caller: Caller, tokens: int, request_id: str) -> None:
        """Charge `tokens` once for this id. Where it raises, nothing is charged: deliver nothing."""
        request = _Request(_key_of(caller), request_id)
        work = partial(self._ledger.settle, request.key_id, tokens, request_id)
        await self._run(work, request, charges=True)

    async def release(self, caller: Caller, request_id: str) -> None:
        """Give the reservation back; what is charged stays charged."""
        request = _Request(_key_of(caller), request_id)
        await self._run(partial(self._ledger.release, *request), request)

    async def close(self) -> None:
        """Finish what has begun, take back what is in doubt, and close all connections."""
        await asyncio.to_thread(self._threads.shutdown)
        with contextlib.suppress(AccountsUnavailableError):
            await asyncio.to_thread(self._repair)
        await asyncio.to_thread(self._database.close)

    async def _run(
        self, work: Callable[[], T], request: _Request | None = None, charges: bool = False
    ) -> T:
        """`work` in a thread; once begun it goes on, whatever becomes of this task."""
        return await asyncio.shield(asyncio.wrap_future(self._submit(work, request, charges)))

    def _submit(
        self, work: Callable[[], T], request: _Request | None = None, charges: bool = False
    ) -> Future[T]:
        try:
            return self._threads.submit(self._in_thread, work, request, charges)
        except RuntimeError:
            raise AccountsUnavailableError("The accounts are closed.", _LATER, 1.0) from None

    def _in_thread(self, work: Callable[[], T], request: _Request | None, charges: bool) -> T:
        """`work`, after what is in doubt; where it fails, its own `request` is in doubt as well."""
        try:
            return self._while_up(work)
        except AccountsUnavailableError:
            if request is not None:
                with self._lock:
                    self._doubtful[request] = charges or self._doubtful.get(request, False)
            raise

    def _while_up(self, work: Callable[[], T]) -> T:
        if time.monotonic() < self._down_until:
            raise AccountsUnavailableError(self._why, _LATER, 1.0)
        try:
            self._repair()
            return work()
        except AccountsUnavailableError as error:
            self._down_until, self._why = time.monotonic() + self._pause, error.message
            raise

    def _repair(self) -> None:
        """Take back what may have been written by steps that failed, one thread at a time.

        A step waits for this, so that nothing is taken back after it was done again.
        """
        if not self._doubtful:
            return
        with self._lock:
            for request, charges in list(self._doubtful.items()):
                (self._ledger.undo if charges else self._ledger.release)(*request)
                del self._doubtful[request]

    def _release_after(self, reserving: Future[None], request: _Request) -> None:
        """Release once the reservation has ended. It began first, so some thread has it in hand."""
        wait([reserving])
        self._ledger.release(*request)


class _Request(NamedTuple):
    """What a ledger line is found by."""

    key_id: str
    request_id: str


_LATER = "Try again in a moment."


def _secret(authorization: str | None) -> str:
    if not authorization:
        raise MissingKeyError(
            "The request has no API key.", "Send the header Authorization: Bearer sr_..."
        )
    scheme, _, secret = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise InvalidFormatError(
            "The Authorization header is no bearer key.", "Send Authorization: Bearer sr_..."
        )
    return secret.strip()


def _key_of(caller: Caller) -> str:
    if caller.key_id is None:
        raise MissingKeyError("The caller has no key.", "Admit it by these accounts first.")
    return caller.key_id
