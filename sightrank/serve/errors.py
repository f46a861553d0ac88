"""What a server answers with when it does not answer: errors with a code and a time to retry."""

from __future__ import annotations

from sightrank.errors import SightrankError
from sightrank.serve.access import AccessError

CODES = {
    400: "INPUT_INVALID",
    401: "AUTH_INVALID_API_KEY",
    403: "AUTHZ_FORBIDDEN",
    404: "RESOURCE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    409: "CONFLICT_RESOURCE_BUSY",
    413: "INPUT_TOO_LARGE",
    415: "INPUT_MEDIA_TYPE",
    422: "INPUT_VALIDATION",
    429: "RATE_REQUEST_LIMIT_EXCEEDED",
    499: "CLIENT_CLOSED_REQUEST",
    503: "SERVICE_UNAVAILABLE",
    504: "SERVICE_TIMEOUT",
    507: "SERVICE_UNAVAILABLE",
}
"""Status -> the hosted API's word for it, where it has one."""


class RequestError(SightrankError):
    """A request that is well formed and still cannot be answered."""

    status = 400
    code = "INPUT_INVALID"


class UnknownModelError(RequestError):
    """A model that is not served here."""

    code = "INPUT_MODEL_NOT_FOUND"


class TokenLimitError(RequestError):
    """A document that would have to be cut where the caller forbids it."""

    code = "INPUT_TOKEN_LIMIT_EXCEEDED"


class UnknownIndexError(RequestError):
    """An index or document that this caller has not made."""

    status = 404
    code = "RESOURCE_NOT_FOUND"


class StaleIndexError(RequestError):
    """An index, or a document in it, that cannot be ranked as it is."""

    status = 409
    code = "RESOURCE_STALE"


class FetchError(RequestError):
    """An address that is not fetched, or that did not give what was asked for."""

    status = 422
    code = "INPUT_URL"


class BusyError(SightrankError):
    """More waits than may wait. `retry_after` is in seconds."""

    status = 503
    code = "SERVICE_UNAVAILABLE"

    def __init__(self, message: str, hint: str = "", retry_after: float = 1) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class TooManyWaitingError(BusyError):
    """One key's requests fill the places it may have."""

    status = 429
    code = "RATE_CONCURRENCY_LIMIT_EXCEEDED"


class DeadlineError(SightrankError):
    """A request that was not answered in time."""

    status = 504
    code = "SERVICE_TIMEOUT"


class ClientGoneError(SightrankError):
    """Nobody is there to answer."""

    status = 499
    code = "CLIENT_CLOSED_REQUEST"


def code_of(error: SightrankError) -> str:
    """A word for programs."""
    own = getattr(error, "code", None)
    return own if isinstance(own, str) else CODES.get(error.status, "INTERNAL_ERROR")


def retry_after(error: SightrankError) -> float | None:
    """Seconds after which to try again, where that helps."""
    wait = error.retry_after if isinstance(error, (AccessError, BusyError)) else None
    return 1.0 if wait is None and error.status == 503 else wait
