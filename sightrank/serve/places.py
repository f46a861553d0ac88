"""How many requests are under way, and what becomes of those whose client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from sightrank.errors import SightrankError
from sightrank.serve.errors import BusyError, ClientGoneError, TooManyWaitingError

_Result = TypeVar("_Result")
Gone = Callable[[], Awaitable[None]]
"""Returns when the client has left."""


@dataclass
class Places:
    """How many requests are in the house, and whose."""

    most: int
    by_key: dict[str | None, int] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """In all."""
        return sum(self.by_key.values())

    @asynccontextmanager
    async def one(self, key: str | None, wait: Callable[[], float]) -> AsyncIterator[None]:
        """A place while a request is under way. Raises BusyError, TooManyWaitingError."""
        held = self.by_key.get(key, 0)
        if self.taken >= self.most:
            raise BusyError(
                f"{self.taken} requests wait, and no more may.", "Try again later.", wait()
            )
        if key is not None and held >= max(1, self.most // 2):
            raise TooManyWaitingError(
                f"{held} requests of this key wait, and no more may.", "Wait for them.", wait()
            )
        self.by_key[key] = held + 1
        try:
            yield
        finally:
            self.by_key[key] -= 1
            if not self.by_key[key]:
                del self.by_key[key]


async def unless_gone(work: Callable[[], Awaitable[_Result]], gone: Gone) -> _Result:
    """What `work` gives; it is cancelled when the client leaves. Raises ClientGoneError then."""
    working = asyncio.ensure_future(work())
    watching = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError("The client has left.")
        return working.result()
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()
        with suppress(asyncio.CancelledError, SightrankError):
            await working
