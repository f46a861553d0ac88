"""Errors as each service words them."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse
from starlette.requests import Request

from sightrank.errors import SightrankError
from sightrank.serve.access import AccountsUnavailableError
from sightrank.serve.errors import code_of, retry_after

_UNTOLD = {
    500: "An unexpected error occurred.",
    503: "The service is not available now. Try again later.",
    507: "Memory or disk do not suffice for this. Send less, or delete documents.",
}


class Ascii(JSONResponse):
    """JSON in ASCII: what a client sent comes back whatever it holds, lone surrogates too."""

    def render(self, content: Any) -> bytes:
        """Escape all that is not ASCII."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def dialect_of(path: str) -> str:
    """Whose errors a path answers with: "jina", "cohere" or "vllm"."""
    if path.startswith(("/cohere/", "/v2/")):
        return "cohere"
    return "vllm" if path in ("/score", "/v1/score", "/rerank") else "jina"


def request_id(request: Request) -> str:
    """What the log calls a request; made here, since charges hang on it."""
    return str(request.scope.get("sightrank.id") or uuid.uuid4().hex)


def error_reply(request: Request, error: SightrankError) -> Ascii:
    """An error in the words of the path's service."""
    message = str(error) if is_told(error) else _UNTOLD.get(error.status, _UNTOLD[500])
    wait = retry_after(error)
    headers = {} if wait is None else {"Retry-After": str(max(1, math.ceil(wait)))}
    return _reply(request, error.status, message, code_of(error), headers)


def is_told(error: SightrankError) -> bool:
    """Whether a caller reads the error's own words.

    Errors of the engine, the disk and the accounts' database may name folders and machines of the
    operator's; the server's other errors do not.
    """
    own = hasattr(error, "code") and not isinstance(error, AccountsUnavailableError)
    return error.status < 500 or own


def plain_reply(
    request: Request, status: int, message: str, code: str, headers: Mapping[str, str] | None = None
) -> Ascii:
    """The same for what no exception of ours stands for."""
    return _reply(request, status, message, code, dict(headers or {}))


def invalid_reply(request: Request, problems: Sequence[Mapping[str, Any]]) -> Ascii:
    """422 for a body that does not match, field by field."""
    errors = [_problem(each) for each in problems[:20]]
    first = errors[0] if errors else {"field": "body", "message": "invalid"}
    message = f"{first['field']}: {first['message']}"
    if dialect_of(request.url.path) != "jina":
        return _reply(request, 422, message, "INPUT_VALIDATION", {})
    body = {"detail": message, "request_id": request_id(request), "errors": errors}
    return Ascii(body, 422)


def _reply(
    request: Request, status: int, message: str, code: str, headers: dict[str, str]
) -> Ascii:
    own = request_id(request)
    body: dict[str, Any]
    match dialect_of(request.url.path):
        case "cohere":
            body = {"id": own, "message": message}
        case "vllm":
            body = {"error": {"message": message, "type": code, "param": None, "code": status}}
        case _:
            body = {"detail": message, "code": code, "request_id": own}
    return Ascii(body, status, headers)


def _problem(found: Mapping[str, Any]) -> dict[str, Any]:
    place = [str(step) for step in found.get("loc", ()) if step != "body"]
    value = found.get("input")
    # Only what is short and plain is shown again: the rest may be an image, or not be JSON at all.
    shown = value if value is None or isinstance(value, (bool, int)) else type(value).__name__
    if isinstance(value, str) and len(value) <= 80:
        shown = value
    return {
        "field": ".".join(place)[:200] or "body",
        "message": str(found.get("msg", ""))[:400],
        "type": str(found.get("type", "")),
        "input": shown,
    }
