"""What keys use: a line for each request, and the limits that follow from the lines.

A line is reserved before the work, then settled (charged) or released (given back). Each step is
one transaction that locks the key first, so the steps of one key happen one after another, in all
servers on one database, and each may be repeated without a further effect.
"""

from __future__ import annotations

import hmac
import math
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from sightrank.errors import OptionError
from sightrank.serve.access import (
    AccessError,
    ConcurrencyError,
    InsufficientBalanceError,
    InvalidKeyError,
    RequestRateError,
    TokenRateError,
)
from sightrank.serve.database import Database
from sightrank.serve.keys import Clock, digest, milliseconds
from sightrank.serve.limits import Limits, Policy
from sightrank.serve.statements import (
    change_line,
    charge,
    key_by_hash,
    line_of,
    lock,
    release,
    usage_of,
    write_line,
)
from sightrank.serve.tables import RELEASED, RESERVED, SETTLED, ledger

MINUTE = 60_000
"""Milliseconds."""
NO_HASH = "0" * 64
"""Compared with where no key is found, so that this takes the way of a key that is revoked."""


class AlreadyChargedError(AccessError):
    """A request under an id for which its key was charged before."""

    status = 409
    code = "CONFLICT_RESOURCE_BUSY"


@dataclass(frozen=True)
class Usage:
    """What a key's lines come to at one moment."""

    requests: int
    """Requests that were reserved in the last 60 seconds."""
    tokens: int
    """Tokens of those: charged, or held."""
    under_way: int
    """Requests that are reserved and whose hold has not run out."""
    held: int
    """Tokens of those."""


class Ledger:
    """The lines in one database, under one policy. All methods may raise AccountsUnavailableError."""

    def __init__(self, database: Database, policy: Policy, clock: Clock = time.time) -> None:
        self._database = database
        self._policy = policy
        self._clock = clock

    def identify(self, secret: str) -> tuple[str, str]:
        """Id and name of the key that `secret` is, if it could reserve now. Raises AccessError."""
        expected = digest(secret)

        def work(connection: Connection) -> tuple[str, str]:
            key = key_by_hash(connection, expected)
            matches = hmac.compare_digest(key.hash if key else NO_HASH, expected)
            if key is None or not (matches & (key.revoked_at is None)):
                raise _unknown_key()
            self._check(connection, key, 0, "")
            return key.id, key.name

        return self._database.read(work)

    def reserve(self, key_id: str, tokens: int, request_id: str) -> None:
        """Hold `tokens` and a place for a request. Once more: hold so many instead.

        Raises AccessError: no such key, limits, balance, or an id that was charged before.
        """
        _check_arguments(tokens, request_id)
        now = self._now()

        def work(connection: Connection) -> None:
            key = lock(connection, key_id)
            if key is None or key.revoked_at is not None:
                raise _unknown_key()
            line = line_of(connection, key_id, request_id)
            if line is not None and line.state == SETTLED:
                raise AlreadyChargedError(
                    f"The request {request_id} was charged before.", "Give each request its own id."
                )
            self._check(connection, key, tokens, request_id)
            write_line(connection, line, key_id, request_id, at=now, state=RESERVED, tokens=tokens)

        self._database.write(work, durable=False)

    def settle(self, key_id: str, tokens: int, request_id: str) -> None:
        """Charge `tokens` for a request, once: a second time changes nothing.

        Work that was done is charged whatever became of its reservation or of the key.
        """
        _check_arguments(tokens, request_id)
        now = self._now()

        def work(connection: Connection) -> None:
            key = lock(connection, key_id)
            if key is None:
                raise _unknown_key()
            line = line_of(connection, key_id, request_id)
            if line is not None and line.state == SETTLED:
                return
            at = now if line is None else line.at
            write_line(connection, line, key_id, request_id, at=at, state=SETTLED, tokens=tokens)
            charge(connection, key_id, tokens, 1, last_used_at=now)

        self._database.write(work)

    def release(self, key_id: str, request_id: str) -> None:
        """Give a reservation back; what is charged stays charged. No reservation: nothing to do."""
        self._database.write(lambda each: release(each, key_id, request_id), durable=False)

    def undo(self, key_id: str, request_id: str) -> None:
        """Give back all of a request, its charge too: its result was not delivered."""

        def work(connection: Connection) -> None:
            if lock(connection, key_id) is None:
                return
            line = line_of(connection, key_id, request_id)
            if line is not None and line.state == SETTLED:
                charge(connection, key_id, -line.tokens, -1)
                change_line(connection, key_id, request_id, state=RELEASED, tokens=0)
            else:
                release(connection, key_id, request_id)

        self._database.write(work)

    def usage(self, key_id: str) -> Usage:
        """What the key's lines come to now."""
        return self._database.read(lambda connection: self._usage(connection, key_id, ""))

    def _check(self, connection: Connection, key: Row[Any], tokens: int, request_id: str) -> None:
        """Raise AccessError if the key may not reserve `tokens` now, beside its other requests."""
        own = Limits(key.requests_per_minute, key.tokens_per_minute, key.concurrency)
        limits = own.over(self._policy.limits)
        usage = self._usage(connection, key.id, request_id)
        left = key.granted - key.used - usage.held
        if left < max(tokens, 1):
            raise InsufficientBalanceError(
                f"The key has {max(left, 0)} tokens left and this takes {max(tokens, 1)}.",
                "`sightrank keys grant` adds tokens.",
            )
        if limits.concurrency and usage.under_way >= limits.concurrency:
            what = f"The key has {usage.under_way} requests under way, as many as it may."
            raise ConcurrencyError(what, "Wait for one of them.", 1.0)
        most = limits.requests_per_minute
        if most and usage.requests >= most:
            wait = self._wait(connection, key.id, usage.requests - most + 1)
            raise RequestRateError(
                f"The key may make {most} requests a minute.", _later(wait), wait
            )
        over = usage.tokens + tokens - (limits.tokens_per_minute or math.inf)
        if (
            over > 0 and usage.tokens
        ):  # a single request may exceed the limit, or it could never run
            wait = self._wait_for_tokens(connection, key.id, over)
            what = f"The key may use {limits.tokens_per_minute} tokens a minute."
            raise TokenRateError(what, _later(wait), wait)

    def _usage(self, connection: Connection, key_id: str, request_id: str) -> Usage:
        """All of the key's lines that still count, without that of `request_id`, in one query."""
        now = self._now()
        hold = milliseconds(self._policy.hold_seconds)
        times = {"minute": now - MINUTE, "hold": now - hold, "oldest": now - max(MINUTE, hold)}
        return Usage(*map(int, usage_of(connection, key_id, request_id, **times)))

    def _wait(self, connection: Connection, key_id: str, leaving: int) -> float:
        """Seconds until the `leaving` oldest lines of the last minute have left it."""
        query = self._last_minute(key_id).offset(leaving - 1).limit(1)
        line = connection.execute(query).first()
        return self._until_it_leaves(line)

    def _wait_for_tokens(self, connection: Connection, key_id: str, tokens: float) -> float:
        """Seconds until lines of `tokens` tokens have left the last minute."""
        line = None
        for line in connection.execute(self._last_minute(key_id)):
            tokens -= line.tokens
            if tokens <= 0:
                break
        return self._until_it_leaves(line)

    def _last_minute(self, key_id: str) -> Select[Any]:
        lines = select(ledger.c.at, ledger.c.tokens).where(ledger.c.key_id == key_id)
        return lines.where(ledger.c.at > self._now() - MINUTE).order_by(ledger.c.at)

    def _until_it_leaves(self, line: Row[Any] | None) -> float:
        return 1.0 if line is None else max(1.0, (line.at + MINUTE - self._now()) / 1000)

    def _now(self) -> int:
        return milliseconds(self._clock())


def _unknown_key() -> InvalidKeyError:
    """One error for all keys that are refused: it does not tell a revoked one from a wrong one."""
    return InvalidKeyError("The API key is not valid.", "Send a key of this server.")


def _later(seconds: float) -> str:
    return f"Try again in {math.ceil(seconds)} s."


def _check_arguments(tokens: int, request_id: str) -> None:
    if not 0 <= tokens < 2**31:
        raise OptionError(f"A request of {tokens} tokens.", "Give a number from 0.")
    if not 0 < len(request_id) <= 200 or not request_id.isprintable():
        raise OptionError(
            f"The request's id is {request_id[:50]!r}.", "Give 1 to 200 printable characters."
        )
