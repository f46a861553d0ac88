"""Sockets: how an application is served, and how long a slow client is waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sightrank.serve.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class Patient(H11Protocol):
    """A connection that ends when its client neither asks nor reads in time.

    uvicorn waits for ever for a request's head and for an answer to be taken, and each connection
    is one that nobody else may have. The body between the two is `Guard`'s affair.
    """

    head_seconds = 10.0
    """In which the head of a request must have arrived, the first one's from the connection on."""
    answer_seconds = 60.0
    """In which a client must have taken some of what waits for it."""
    answer_bytes = 64 * 1024
    """How much that is: whoever takes less than this each time does not read."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._head: asyncio.TimerHandle | None = None
        self._answer: asyncio.TimerHandle | None = None
        self._waiting = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._head = self.loop.call_later(self.head_seconds, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Once a request is under way its head is there; a piece of the next one starts the time."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._head = _without(self._head)
        elif self._head is None:
            self._head = self.loop.call_later(self.head_seconds, self._give_up)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """It has taken nearly all."""
        super().resume_writing()
        self._answer = _without(self._answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._head, self._answer = _without(self._head), _without(self._answer)
        super().connection_lost(exc)

    def _watch_reading(self) -> None:
        self._waiting = self.transport.get_write_buffer_size()
        self._answer = self.loop.call_later(self.answer_seconds, self._look_whether_it_reads)

    def _look_whether_it_reads(self) -> None:
        if self.transport.get_write_buffer_size() > self._waiting - self.answer_bytes:
            self._give_up()
        else:
            self._watch_reading()

    def _give_up(self) -> None:
        self.transport.abort()  # not close, which waits until the client has read all


def config(
    app: ASGIApp,
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    protocol: type[Patient] = Patient,
) -> uvicorn.Config:
    """How the server runs, for `uvicorn.Server`; port 0 is any that is free."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        # Longer than clients and load balancers keep theirs: who closes first must not be the side
        # that does not know whether a request is on its way.
        timeout_keep_alive=75,
        # Beyond the queue's own answer with Retry-After this only guards the sockets.
        limit_concurrency=4 * settings.queue + 64,
        timeout_graceful_shutdown=int(settings.deadline) + 5,
    )


def _without(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """No timer: the one that ran is stopped."""
    if timer is not None:
        timer.cancel()
    return None
