"""Routes that let a caller in before they look at the body, and see it out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sightrank.errors import DiskFullError, SightrankError
from sightrank.serve.access import AccountsUnavailableError
from sightrank.serve.asks import Ticket
from sightrank.serve.dialects import error_reply, invalid_reply, plain_reply, request_id
from sightrank.serve.errors import CODES, code_of
from sightrank.serve.places import Gone
from sightrank.serve.service import Service

log = logging.getLogger("sightrank.serve")


class AdmittedRoute(APIRoute):
    """A route for callers with a key, where keys are asked for."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Admit, answer, and give back what was not charged."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            service = service_of(request)
            try:
                ticket = await service.admit(
                    request_id(request), request.headers.get("authorization")
                )
                request.scope["sightrank.ticket"] = ticket
                try:
                    return await answer(request)
                finally:
                    await service.leave(ticket)
            except Exception as error:
                return failed(request, error)

        return handle


def failed(request: Request, error: Exception) -> Response:
    """The answer to a request that came to nothing; what was not foreseen goes to the log."""
    if isinstance(error, SightrankError):
        request.scope["sightrank.error"] = code_of(error)
        if isinstance(error, (AccountsUnavailableError, DiskFullError)):
            # Callers are told only that it failed; whoever runs the server needs to know why.
            facts = {"request_id": request_id(request), "reason": error.message}
            log.error("out of order", extra={"facts": facts})
        return error_reply(request, error)
    if isinstance(error, RequestValidationError):
        request.scope["sightrank.error"] = "INPUT_VALIDATION"
        return invalid_reply(request, error.errors())
    if isinstance(error, HTTPException):
        code = CODES.get(error.status_code, "INPUT_INVALID")
        request.scope["sightrank.error"] = code
        return plain_reply(request, error.status_code, str(error.detail), code, error.headers)
    request.scope["sightrank.error"] = "INTERNAL_ERROR"
    facts = {"request_id": request_id(request)}
    log.error("internal error", exc_info=error, extra={"facts": facts})
    message = (
        f"An unexpected error occurred. Name request {request_id(request)} when you report it."
    )
    return plain_reply(request, 500, message, "INTERNAL_ERROR")


def service_of(request: Request) -> Service:
    """The server's one service."""
    service: Service = request.app.state.service
    return service


def ticket_of(request: Request) -> Ticket:
    """What `AdmittedRoute` made of a request."""
    ticket: Ticket = request.scope["sightrank.ticket"]
    return ticket


def gone(request: Request) -> Gone:
    """Waits until the client leaves; its body has been read by then."""

    async def wait() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return wait
