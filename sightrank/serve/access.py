"""Who may ask, and what it costs: the seam between the routes and whoever keeps the accounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sightrank.errors import SightrankError


class AccessError(SightrankError):
    """A request that is turned away before any work. `code` is the hosted API's word for it."""

    status = 403
    code = "AUTHZ_FORBIDDEN"

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        """`retry_after`: seconds after which the same request may pass; None: it never will."""
        super().__init__(message, hint)
        self.retry_after = retry_after


class MissingKeyError(AccessError):
    """No key where one is asked for."""

    status = 401
    code = "AUTH_MISSING_API_KEY"


class InvalidFormatError(AccessError):
    """An Authorization header that is no bearer key."""

    status = 401
    code = "AUTH_INVALID_FORMAT"


class InvalidKeyError(AccessError):
    """A key that is unknown or revoked."""

    status = 401
    code = "AUTH_INVALID_API_KEY"


class InsufficientBalanceError(AccessError):
    """A key whose tokens are used up."""

    status = 403
    code = "AUTHZ_INSUFFICIENT_BALANCE"


class RequestRateError(AccessError):
    """More requests a minute than the key may make."""

    status = 429
    code = "RATE_REQUEST_LIMIT_EXCEEDED"


class TokenRateError(AccessError):
    """More tokens a minute than the key may use."""

    status = 429
    code = "RATE_TOKEN_LIMIT_EXCEEDED"


class ConcurrencyError(AccessError):
    """More requests at once than the key may make."""

    status = 429
    code = "RATE_CONCURRENCY_LIMIT_EXCEEDED"


class AccountsUnavailableError(AccessError):
    """The accounts cannot be reached now."""

    status = 503
    code = "SERVICE_UNAVAILABLE"


@dataclass(frozen=True)
class Caller:
    """Who asks. `key_id` is None with --no-auth."""

    key_id: str | None
    name: str


class Access(Protocol):
    """Admits requests and charges for them. All calls may raise AccessError.

    A request is admitted once, reserved once, and then either settled or released.
    """

    async def admit(self, authorization: str | None) -> Caller:
        """Who the Authorization header's value names."""

    async def reserve(self, caller: Caller, tokens: int, request_id: str) -> None:
        """Before work: raise unless balance and rate allow an estimate of `tokens`."""

    async def settle(self, caller: Caller, tokens: int, request_id: str) -> None:
        """Charge once, however often it is called with this id, and drop the reservation."""

    async def release(self, caller: Caller, request_id: str) -> None:
        """Give the reservation back: nothing was delivered or computed.

        Where this raises AccountsUnavailableError it is given back later.
        """

    async def close(self) -> None:
        """Let go of what is held: connections, files."""


class NoAccess:
    """--no-auth: everybody may ask, nothing is charged."""

    async def admit(self, authorization: str | None) -> Caller:
        """Whatever the header says."""
        return Caller(None, "anybody")

    async def reserve(self, caller: Caller, tokens: int, request_id: str) -> None:
        """Nothing to reserve."""

    async def settle(self, caller: Caller, tokens: int, request_id: str) -> None:
        """Nothing to charge."""

    async def release(self, caller: Caller, request_id: str) -> None:
        """Nothing to give back."""

    async def close(self) -> None:
        """Nothing is held."""
