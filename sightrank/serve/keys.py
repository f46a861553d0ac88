"""API keys: made, listed, revoked, and given tokens and limits."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from sightrank.errors import OptionError
from sightrank.serve.database import Database
from sightrank.serve.limits import FREE_TOKENS, Limits
from sightrank.serve.tables import keys, ledger

PREFIX = "sr_"
SECRET_BYTES = 32
MOST_TOKENS = 10**15
"""Tokens of a key at most: far beyond use, and far below what the databases' integers hold."""

Clock = Callable[[], float]
"""Seconds since 1970."""


class UnknownKeyError(OptionError):
    """A key's id that the database does not have."""

    status = 404


@dataclass(frozen=True)
class Key:
    """A key as the database knows it, without what a caller sends: that is not kept."""

    id: str
    name: str
    hint: str
    """Its last four characters."""
    created_at: float
    revoked_at: float | None
    last_used_at: float | None
    granted: int
    used: int
    """Tokens charged so far."""
    requests: int
    """Requests charged so far."""
    limits: Limits

    @property
    def balance(self) -> int:
        """Tokens left; below 0 where a request took more than it had reserved."""
        return self.granted - self.used


class Keys:
    """The keys in one database. Every method is one transaction and raises AccountsUnavailableError."""

    def __init__(self, database: Database, clock: Clock = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(
        self, name: str, tokens: int = FREE_TOKENS, limits: Limits | None = None
    ) -> tuple[Key, str]:
        """A new key, and the secret that callers send. It cannot be had again. Raises OptionError."""
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        limits = limits or Limits()
        key_id = "key_" + secrets.token_hex(6)
        row = {
            "id": key_id,
            "name": _checked_name(name),
            "hash": digest(secret),
            "hint": secret[-4:],
            "created_at": milliseconds(self._clock()),
            "granted": _checked_tokens(tokens, 0),
            "used": 0,
            "requests": 0,
            "requests_per_minute": limits.requests_per_minute,
            "tokens_per_minute": limits.tokens_per_minute,
            "concurrency": limits.concurrency,
        }

        def work(connection: Connection) -> Key:
            if _find(connection, key_id) is None:  # else committed before the connection broke
                connection.execute(insert(keys).values(row))
            return _existing(connection, key_id)

        return self._database.write(work), secret

    def listed(self) -> list[Key]:
        """All keys, the oldest first."""
        query = select(keys).order_by(keys.c.created_at, keys.c.id)
        return self._database.read(lambda each: [_key(row) for row in each.execute(query)])

    def revoke(self, reference: str) -> Key:
        """Refuse this key from now on. `reference` is its id or the secret itself."""
        now = milliseconds(self._clock())

        def work(connection: Connection) -> Key:
            key = _existing(connection, reference)
            if key.revoked_at is None:
                connection.execute(update(keys).where(keys.c.id == key.id).values(revoked_at=now))
            return _existing(connection, key.id)

        return self._database.write(work)

    def grant(self, reference: str, tokens: int) -> Key:
        """Add tokens to what a key may use. Raises UnknownKeyError, OptionError."""

        def work(connection: Connection) -> Key:
            key = _existing(connection, reference, lock=True)
            total = key.granted + _checked_tokens(tokens, key.granted)
            connection.execute(update(keys).where(keys.c.id == key.id).values(granted=total))
            return _existing(connection, key.id)

        return self._database.write(work, repeat=False)

    def limit(self, reference: str, limits: Limits) -> Key:
        """Replace a key's limits where `limits` has a number. Raises UnknownKeyError."""
        values = limits.given()

        def work(connection: Connection) -> Key:
            key = _existing(connection, reference)
            if values:
                connection.execute(update(keys).where(keys.c.id == key.id).values(values))
            return _existing(connection, key.id)

        return self._database.write(work)

    def prune(self, days: float) -> int:
        """Remove ledger lines older than `days`; totals stay. How many were removed.

        A request's id is then forgotten too: charged again under the same id, it counts again.
        """
        before = milliseconds(self._clock() - days * 86_400)
        old = delete(ledger).where(ledger.c.at < before)
        return self._database.write(lambda connection: connection.execute(old).rowcount)


def digest(secret: str) -> str:
    """What is stored of a key: its SHA-256 in hexadecimal.

    A slow hash with salt protects passwords, which can be guessed. A key has 256 random bits: nobody
    can try them, and no table of them can be made, so a fast hash loses nothing, and every request
    needs one.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def milliseconds(seconds: float) -> int:
    """As the tables keep times."""
    return round(seconds * 1000)


def _existing(connection: Connection, reference: str, *, lock: bool = False) -> Key:
    key = _find(connection, reference, lock=lock)
    if key is None:
        what = "that secret" if reference.startswith(PREFIX) else f"the id {reference!r}"
        raise UnknownKeyError(f"No key has {what}.", "`sightrank keys list` shows all ids.")
    return key


def _find(connection: Connection, reference: str, *, lock: bool = False) -> Key | None:
    if reference.startswith(PREFIX):
        query = select(keys).where(keys.c.hash == digest(reference))
    elif reference.isascii() and reference.isprintable():
        query = select(keys).where(keys.c.id == reference)
    else:
        return None
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else _key(row)


def _key(row: Row[Any]) -> Key:
    return Key(
        row.id,
        row.name,
        row.hint,
        row.created_at / 1000,
        None if row.revoked_at is None else row.revoked_at / 1000,
        None if row.last_used_at is None else row.last_used_at / 1000,
        row.granted,
        row.used,
        row.requests,
        Limits(row.requests_per_minute, row.tokens_per_minute, row.concurrency),
    )


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > 100 or not name.isprintable():
        raise OptionError(
            f"The key's name is {name[:100]!r}.", "Give 1 to 100 printable characters."
        )
    return name


def _checked_tokens(tokens: int, granted: int) -> int:
    if tokens < 0 or granted + tokens > MOST_TOKENS:
        raise OptionError(
            f"{tokens} tokens cannot be added to {granted}.",
            f"Give 0 or more; a key has at most {MOST_TOKENS} in all.",
        )
    return tokens
