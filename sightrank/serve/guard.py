"""What stands before all routes: a number for each request, limits on its body, a line in the log."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightrank.errors import SightrankError, TooLargeError
from sightrank.serve.dialects import error_reply
from sightrank.serve.errors import BusyError, ClientGoneError, RequestError
from sightrank.serve.metrics import Metrics
from sightrank.serve.settings import Settings

log = logging.getLogger("sightrank.serve")
BODIES = 16
"""Bodies of the largest size that may lie in memory at once."""


class SlowClientError(RequestError):
    """A body that does not arrive in time."""

    status = 408
    code = "REQUEST_TIMEOUT"


class Guard:
    """Reads bodies within limits, before anything looks into them."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._in_memory = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own = scope["sightrank.id"] = uuid.uuid4().hex
        start, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", own.encode())]
            await send(message)

        held = [0]
        try:
            body = await self._body(scope, receive, held)
            await self._app(scope, _replayed(body, receive), answer)
        except ClientGoneError:
            status = 499
        except SightrankError as error:
            await error_reply(Request(scope), error)(scope, receive, answer)
        finally:
            self._in_memory -= held[0]
            self._note(scope, status, time.perf_counter() - start)

    async def _body(self, scope: Scope, receive: Receive, held: list[int]) -> bytes:
        most = self._settings.max_body
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said[:20]) > most:
            raise _too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError("The client has left.")
                    chunk = message.get("body", b"")
                    held[0] += len(chunk)
                    self._in_memory += len(chunk)
                    body += chunk
                    if len(body) > most:
                        raise _too_large(most)
                    if self._in_memory > BODIES * most:
                        raise BusyError("Too many large requests at once.", "Try again later.", 2)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise SlowClientError(
                f"The request did not arrive within {self._settings.body_seconds:g} s."
            ) from error

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.request(route, status, seconds)
        ticket = scope.get("sightrank.ticket")
        facts = {
            "request_id": scope["sightrank.id"],
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
        }
        if ticket is not None:
            facts |= {
                "key": ticket.caller.key_id,
                "documents": ticket.num_documents,
                "tokens": ticket.num_tokens,
            }
        if "sightrank.error" in scope:
            facts["error"] = scope["sightrank.error"]
        log.info("request", extra={"facts": facts})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, once more; then whatever the connection says."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return waiting.pop() if waiting else await receive()

    return read


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(
        f"The request has more than the {most:,} bytes that are taken.",
        "Send fewer documents, or raise --max-body.",
    )
