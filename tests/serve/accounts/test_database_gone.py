"""The database goes and comes back: a typed 503 meanwhile, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sightrank.serve.access import AccountsUnavailableError, Caller
from sightrank.serve.accounts import Accounts
from sightrank.serve.database import Database, open_database
from sightrank.serve.keys import Keys
from sightrank.serve.ledger import Ledger, Usage
from sightrank.serve.limits import Limits, Policy
from tests.serve.accounts.postgres import Cluster
from tests.serve.accounts.test_exactly_once import found, settled

FREE = Policy(Limits(0, 0, 0))
PAUSE = 0.05


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "accounts.sqlite"


def caller_of(database: Database) -> tuple[Caller, str]:
    key, secret = Keys(database).create("team")
    return Caller(key.id, key.name), f"Bearer {secret}"


async def refused(*steps: Callable[[], object]) -> None:
    for step in steps:
        with pytest.raises(AccountsUnavailableError) as caught:
            await step()  # type: ignore[misc]
        assert caught.value.status == 503 and caught.value.retry_after


async def until_it_serves(accounts: Accounts, header: str) -> None:
    for _ in range(400):
        try:
            await accounts.admit(header)
        except AccountsUnavailableError:
            await asyncio.sleep(PAUSE / 2)
        else:
            return
    raise AssertionError("it did not come back")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_stops_and_starts(postgres: Cluster, mode: str) -> None:
    database = open_database(postgres.new_database())
    caller, header = caller_of(database)

    async def run() -> None:
        accounts = Accounts(database, FREE, pause=PAUSE)
        for request in ("settled", "under way", "released"):
            await accounts.reserve(caller, 10, request)
        await accounts.settle(caller, 10, "settled")
        await asyncio.to_thread(postgres.stop, mode)
        try:
            await refused(
                lambda: accounts.admit(header),
                lambda: accounts.reserve(caller, 10, "new"),
                lambda: accounts.settle(caller, 10, "under way"),
                lambda: accounts.release(caller, "released"),
            )
        finally:
            await asyncio.to_thread(postgres.start)
        await until_it_serves(accounts, header)
        await accounts.settle(caller, 10, "settled")  # as a server might that saw no answer
        await accounts.reserve(caller, 20, "next")
        await accounts.settle(caller, 20, "next")
        assert settled(database, caller.key_id or "") == {"settled": 10, "next": 20}
        assert found(database, caller.key_id or "").used == 30
        assert Ledger(database, FREE).usage(caller.key_id or "") == Usage(4, 30, 0, 0)
        await accounts.close()

    asyncio.run(run())


def test_connections_that_break_are_made_again_without_an_error(postgres: Cluster) -> None:
    database = open_database(postgres.new_database())
    caller, _ = caller_of(database)
    ledger = Ledger(database, FREE)
    for number in range(3):
        ledger.reserve(caller.key_id or "", 10, f"r{number}")
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'sightrank'"
        )
        ledger.settle(caller.key_id or "", 10, f"r{number}")
    assert found(database, caller.key_id or "").used == 30
    database.close()


def test_a_locked_file_is_gone_for_as_long_as_it_is_locked(file: Path) -> None:
    database = open_database(file, patience=0.05)
    caller, header = caller_of(database)
    other = sqlite3.connect(file, isolation_level=None)

    async def run() -> None:
        accounts = Accounts(database, FREE, pause=PAUSE)
        await accounts.reserve(caller, 10, "under way")
        other.execute("BEGIN EXCLUSIVE")
        await refused(
            lambda: accounts.reserve(caller, 10, "new"),
            lambda: accounts.settle(caller, 10, "under way"),
        )
        other.execute("ROLLBACK")
        await until_it_serves(accounts, header)
        assert settled(database, caller.key_id or "") == {}
        assert Ledger(database, FREE).usage(caller.key_id or "").held == 0
        await accounts.close()

    asyncio.run(run())
    other.close()


def test_the_event_loop_runs_while_the_database_is_waited_for(file: Path) -> None:
    """The loop itself lifts the lock: if it waited, the step would fail instead."""
    database = open_database(file, patience=30)
    caller, _ = caller_of(database)
    other = sqlite3.connect(file, isolation_level=None)

    async def run() -> None:
        accounts = Accounts(database, FREE)
        other.execute("BEGIN IMMEDIATE")
        waiting = [
            asyncio.create_task(accounts.settle(caller, 1, f"r{number}")) for number in range(8)
        ]
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not any(task.done() for task in waiting)
        other.execute("ROLLBACK")
        await asyncio.gather(*waiting)
        await accounts.close()

    asyncio.run(run())
    other.close()


def breaking_after(
    database: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> threading.Event:
    """Let a step of the ledger be committed, then fail as if the answer had been lost."""
    lost = threading.Event()
    real = getattr(Ledger, name)

    def step(ledger: Ledger, *arguments: object) -> None:
        real(ledger, *arguments)
        if lost.is_set():
            raise AccountsUnavailableError("The connection broke.", "", 1.0)

    monkeypatch.setattr(Ledger, name, step)
    return lost


def test_a_charge_whose_answer_was_lost_is_taken_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers 503 and delivers nothing, so the charge that was committed must go."""
    caller, header = caller_of(database)
    key_id = caller.key_id or ""
    lost = breaking_after(database, monkeypatch, "settle")

    async def run() -> None:
        accounts = Accounts(database, FREE, pause=PAUSE)
        await accounts.reserve(caller, 10, "r1")
        lost.set()
        await refused(lambda: accounts.settle(caller, 10, "r1"))
        assert settled(database, key_id) == {"r1": 10}
        lost.clear()
        await until_it_serves(accounts, header)
        assert settled(database, key_id) == {}
        assert (found(database, key_id).used, found(database, key_id).requests) == (0, 0)
        await accounts.settle(caller, 10, "r1")  # and it can be charged once more
        await accounts.release(caller, "r1")
        assert settled(database, key_id) == {"r1": 10}
        await accounts.close()

    asyncio.run(run())


def test_a_reservation_whose_answer_was_lost_is_given_back_on_closing(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(address)
    caller, _ = caller_of(database)
    lost = breaking_after(database, monkeypatch, "reserve")

    async def run() -> None:
        accounts = Accounts(database, FREE)
        lost.set()
        await refused(lambda: accounts.reserve(caller, 10, "r1"))
        await accounts.close()

    asyncio.run(run())
    reopened = open_database(address)
    assert Ledger(reopened, FREE).usage(caller.key_id or "") == Usage(1, 0, 0, 0)
    reopened.close()


def test_a_release_that_failed_never_takes_a_charge_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, header = caller_of(database)
    lost = breaking_after(database, monkeypatch, "release")

    async def run() -> None:
        accounts = Accounts(database, FREE, pause=PAUSE)
        await accounts.settle(caller, 10, "r1")
        lost.set()
        await refused(lambda: accounts.release(caller, "r1"))
        lost.clear()
        await until_it_serves(accounts, header)
        assert found(database, caller.key_id or "").used == 10
        await accounts.close()

    asyncio.run(run())


def test_requests_do_not_queue_for_a_dead_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one failure the others are refused at once, without a try of their own."""
    _, header = caller_of(database)
    tries = []

    def identify(_: Ledger, secret: str) -> None:
        tries.append(secret)
        raise AccountsUnavailableError("It does not answer.", "", 1.0)

    monkeypatch.setattr(Ledger, "identify", identify)

    async def run() -> None:
        accounts = Accounts(database, FREE, pause=3600)
        await refused(*[lambda: accounts.admit(header)] * 20)
        assert len(tries) == 1
        await accounts.close()

    asyncio.run(run())
