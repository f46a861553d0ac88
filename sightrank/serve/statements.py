"""The statements that every request runs on keys and their lines in the ledger.

Each is made once: SQLAlchemy takes longer to make one than a database to run it, and holds Python's
lock meanwhile, which the model's threads wait for.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, case, func, insert, select, update

from sightrank.serve.tables import RELEASED, RESERVED, keys, ledger

_THIS_KEY = keys.c.id == bindparam("of_key")
_THIS_LINE = (ledger.c.key_id == bindparam("of_key")) & (
    ledger.c.request_id == bindparam("of_request")
)
_BY_HASH = select(keys).where(keys.c.hash == bindparam("of_hash"))
_LOCK = select(keys).where(_THIS_KEY).with_for_update()
_LINE = select(ledger).where(_THIS_LINE)
_NEW_LINE = insert(ledger)
_CHANGE_LINE = update(ledger).where(_THIS_LINE)
_RELEASE = (
    update(ledger).where(_THIS_LINE & (ledger.c.state == RESERVED)).values(state=RELEASED, tokens=0)
)
_CHARGE = (
    update(keys)
    .where(_THIS_KEY)
    .values(
        used=keys.c.used + bindparam("more_tokens"),
        requests=keys.c.requests + bindparam("more_requests"),
    )
)


def key_by_hash(connection: Connection, hashed: str) -> Row[Any] | None:
    """The key whose secret has this SHA-256, revoked or not."""
    return connection.execute(_BY_HASH, {"of_hash": hashed}).one_or_none()


def lock(connection: Connection, key_id: str) -> Row[Any] | None:
    """The key, held until the transaction ends. SQLite holds the whole database already."""
    return connection.execute(_LOCK, {"of_key": key_id}).one_or_none()


def line_of(connection: Connection, key_id: str, request_id: str) -> Row[Any] | None:
    """The request's line, to be read while its key is held."""
    return connection.execute(_LINE, _place(key_id, request_id)).one_or_none()


def write_line(
    connection: Connection, line: Row[Any] | None, key_id: str, request_id: str, **values: Any
) -> None:
    """Change the line that there is, or else write one."""
    if line is None:
        row = {"key_id": key_id, "request_id": request_id, **values}
        connection.execute(_NEW_LINE, row)
    else:
        change_line(connection, key_id, request_id, **values)


def change_line(connection: Connection, key_id: str, request_id: str, **values: Any) -> None:
    """Set columns of a line that there is."""
    connection.execute(_CHANGE_LINE, {**_place(key_id, request_id), **values})


def release(connection: Connection, key_id: str, request_id: str) -> None:
    """Give a reservation back, where there is one."""
    connection.execute(_RELEASE, _place(key_id, request_id))


def charge(connection: Connection, key_id: str, tokens: int, requests: int, **values: int) -> None:
    """Add to what a key has used, and set columns of it."""
    more = {"more_tokens": tokens, "more_requests": requests}
    connection.execute(_CHARGE, {"of_key": key_id, **more, **values})


def usage_of(connection: Connection, key_id: str, request_id: str, **times: int) -> Row[Any]:
    """The numbers of a `Usage` of a key, its line for `request_id` left out: of lines since the
    times "minute" and "hold", of none before "oldest"."""
    return connection.execute(_USAGE, {**_place(key_id, request_id), **times}).one()


def _place(key_id: str, request_id: str) -> dict[str, str]:
    return {"of_key": key_id, "of_request": request_id}


def _usage_query() -> Select[Any]:
    """All sums over the lines in one query."""
    recent = ledger.c.at > bindparam("minute")
    under_way = (ledger.c.state == RESERVED) & (ledger.c.at > bindparam("hold"))
    sums = [
        func.coalesce(func.sum(case((condition, value), else_=0)), 0)
        for condition in (recent, under_way)
        for value in (1, ledger.c.tokens)
    ]
    return select(*sums).where(
        ledger.c.key_id == bindparam("of_key"),
        ledger.c.at > bindparam("oldest"),
        ledger.c.request_id != bindparam("of_request"),
    )


_USAGE = _usage_query()
