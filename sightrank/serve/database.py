"""The accounts' database, SQLite or PostgreSQL: its address, connections and transactions."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sightrank.errors import OptionError
from sightrank.extras import require
from sightrank.serve.access import AccountsUnavailableError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

T = TypeVar("T")

VARIABLE = "SIGHTRANK_DATABASE"
"""The environment variable that names the database where no option does."""
RETRY_AFTER = 1.0
"""Seconds after which a database that did not serve is worth another try."""


class Database:
    """Transactions on one database. Threads may share it, and so may processes one address."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # SQLite lets one write, and the others sleep and ask again: a lock wakes them at once.
        self._turn: AbstractContextManager[object] = (
            threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()
        )
        self.address = engine.url.render_as_string(hide_password=True)

    def read(self, work: Callable[[Connection], T]) -> T:
        """`work` in a transaction that only reads. Raises AccountsUnavailableError."""
        return self._run(work, "read", repeat=True)

    def write(
        self, work: Callable[[Connection], T], *, repeat: bool = True, durable: bool = True
    ) -> T:
        """`work` in a transaction, committed when this returns. Raises AccountsUnavailableError.

        Where the connection is lost, `work` runs once more on a new one. The first transaction may
        have been committed all the same: with `repeat` the second must then change nothing further.
        What is not `durable` may be lost when the power is cut, and need not wait for the disk.
        """
        return self._run(work, "write" if durable else "note", repeat=repeat)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _run(self, work: Callable[[Connection], T], kind: str, *, repeat: bool) -> T:
        from sqlalchemy import exc

        try:
            return self._once(work, kind)
        except (exc.IntegrityError, exc.ProgrammingError, exc.DataError):  # our own mistakes
            raise
        except (exc.DBAPIError, exc.TimeoutError) as error:
            if repeat and isinstance(error, exc.DBAPIError) and error.connection_invalidated:
                return self._run(work, kind, repeat=False)
            raise self._unavailable(error) from error

    def _once(self, work: Callable[[Connection], T], kind: str) -> T:
        turn = nullcontext() if kind == "read" else self._turn
        with turn, self._engine.connect() as connection:
            connection = connection.execution_options(sightrank_kind=kind)
            with connection.begin():
                if kind == "note" and connection.dialect.name == "postgresql":
                    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                return work(connection)

    def _unavailable(self, error: Exception) -> AccountsUnavailableError:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        return AccountsUnavailableError(
            f"The database of accounts, {self.address}, does not serve: {cause}",
            "Nothing was charged. Try again in a moment.",
            RETRY_AFTER,
        )


def open_database(
    address: str | Path | None = None,
    *,
    patience: float = 5.0,
    connections: int = 4,
    environment: Mapping[str, str] | None = None,
) -> Database:
    """The database at `address`, with its tables as this version needs them.

    `address` is a file (SQLite) or a URL, sqlite:///FILE or postgresql://USER@HOST/NAME; None: the
    variable SIGHTRANK_DATABASE, else a file in the user's data folder. `patience` is how many
    seconds a lock, a connection and a statement are waited for. Raises OptionError,
    MissingExtraError, AccountsUnavailableError.
    """
    require_accounts()
    from sightrank.serve.schema import upgrade

    url = database_url(address, os.environ if environment is None else environment)
    database = Database(_engine(url, patience, connections))
    try:
        upgrade(database)
    except BaseException:
        database.close()
        raise
    return database


def require_accounts() -> None:
    """Raise MissingExtraError unless SQLAlchemy and Alembic are installed."""
    require("serve", "Accounts", "sqlalchemy", "alembic")


def database_url(address: str | Path | None, environment: Mapping[str, str]) -> URL:
    """The URL that `address` means, see `open_database`. Raises OptionError, MissingExtraError."""
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    address = address or environment.get(VARIABLE) or None
    if address is None:
        return URL.create("sqlite", database=str(_default_file(environment)))
    if isinstance(address, Path) or "://" not in address:
        return URL.create("sqlite", database=str(address))
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise OptionError("The database's URL cannot be read.", _ADDRESSES) from None
    kind = url.drivername.partition("+")[0]
    if kind in ("postgres", "postgresql"):
        require("postgres", "PostgreSQL accounts", "psycopg")
        return url.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise OptionError(f"The database is of kind {kind}.", _ADDRESSES)
    if url.database in (None, "", ":memory:"):
        raise OptionError("The database's URL names no file.", _ADDRESSES)
    return url.set(drivername="sqlite")


_ADDRESSES = "Give a file, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME."


def _default_file(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    folder = Path(base) / "sightrank"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / "accounts.sqlite"


def _engine(url: URL, patience: float, connections: int) -> Engine:
    from sqlalchemy import create_engine

    pool: dict[str, Any] = {
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": patience,
        "hide_parameters": True,  # errors are logged, and hold no hash or name
    }
    if url.drivername != "sqlite":
        return create_engine(url, connect_args=_postgres_limits(patience), **pool)
    _make_private(Path(url.database or ""))
    engine = create_engine(url, connect_args={"timeout": patience}, **pool)
    _begin_explicitly(engine, patience)
    return engine


def _postgres_limits(patience: float) -> dict[str, Any]:
    """Settings by which a server that is gone or stuck is noticed within `patience` seconds."""
    milliseconds = round(patience * 1000)
    return {
        "connect_timeout": max(2, round(patience)),  # libpq's smallest
        "tcp_user_timeout": milliseconds,
        "application_name": "sightrank",
        "options": f"-c lock_timeout={milliseconds} -c statement_timeout={milliseconds}"
        f" -c idle_in_transaction_session_timeout={4 * milliseconds}",
    }


def _make_private(file: Path) -> None:
    """An empty file that only its owner can read; what is there is left as it is."""
    try:
        file.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OptionError(
            f"The database {file} cannot be made: {reason}.", "Name a file in a folder that exists."
        ) from None


def _begin_explicitly(engine: Engine, patience: float) -> None:
    """Let SQLite take its write lock when a transaction begins, not in the middle of it.

    A transaction that reads and then writes fails where another has written in between, and no
    waiting helps. Python's driver begins late by itself, so that is turned off.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        _write_ahead(connection, patience)
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        kind = connection.get_execution_options().get("sightrank_kind", "write")
        synchronous = "FULL" if kind == "write" else "NORMAL"
        if kind != "read" and connection.info.get("synchronous") != synchronous:
            connection.exec_driver_sql(f"PRAGMA synchronous = {synchronous}")
            connection.info["synchronous"] = synchronous
        connection.exec_driver_sql("BEGIN" if kind == "read" else "BEGIN IMMEDIATE")


def _write_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """Keep a log beside the file, so that readers do not wait for the writer.

    The first to come changes the file. Others that come at that moment are refused at once, however
    long SQLite was told to wait, so the waiting is done here.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorname.startswith("SQLITE_BUSY")
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
