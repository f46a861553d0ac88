"""A token is charged once: at the same time, by several servers, and across a kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from sightrank.serve.access import AccessError, Caller
from sightrank.serve.accounts import Accounts
from sightrank.serve.database import Database, open_database
from sightrank.serve.keys import Key, Keys
from sightrank.serve.ledger import Ledger
from sightrank.serve.limits import Limits, Policy
from sightrank.serve.tables import SETTLED, ledger

FREE = Policy(Limits(0, 0, 0))
ROOT = Path(__file__).parents[3]
SERVER = "tests.serve.accounts.charging_server"


def settled(database: Database, key_id: str) -> dict[str, int]:
    """Tokens by request, as the ledger has them."""

    def work(connection: Connection) -> dict[str, int]:
        query = select(ledger.c.request_id, ledger.c.tokens)
        lines = connection.execute(
            query.where(ledger.c.key_id == key_id, ledger.c.state == SETTLED)
        )
        return {line.request_id: line.tokens for line in lines}

    return database.read(work)


def found(database: Database, key_id: str) -> Key:
    return next(key for key in Keys(database).listed() if key.id == key_id)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "settle", "release"]),
        st.integers(0, 5),  # which request
        st.integers(0, 50),  # tokens
        st.integers(0, 1),  # which server
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=15)
@given(steps=STEPS)
def test_any_steps_at_the_same_time_add_up(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[tuple[str, int, int, int]]
) -> None:
    address = tmp_path_factory.getbasetemp() / "add-up.sqlite"  # one file, a key for each example
    _check_that_steps_add_up(str(address), steps)


@settings(max_examples=10)
@given(steps=STEPS)
def test_any_steps_at_the_same_time_add_up_in_postgresql(
    postgres_database: str, steps: Sequence[tuple[str, int, int, int]]
) -> None:
    _check_that_steps_add_up(postgres_database, steps)


def _check_that_steps_add_up(address: str, steps: Sequence[tuple[str, int, int, int]]) -> None:
    """Two servers take all steps at once: responses, ledger and totals then agree."""
    databases = [open_database(address), open_database(address)]
    key, _ = Keys(databases[0]).create("team", 10**6)
    caller = Caller(key.id, key.name)
    answered: set[str] = set()

    async def run() -> None:
        servers = [Accounts(database, FREE) for database in databases]

        async def take(step: tuple[str, int, int, int]) -> None:
            kind, number, tokens, server = step
            accounts, request = servers[server], f"r{number}"
            with contextlib.suppress(AccessError):
                if kind == "release":
                    await accounts.release(caller, request)
                elif kind == "reserve":
                    await accounts.reserve(caller, tokens, request)
                else:
                    await accounts.settle(caller, tokens, request)
                    answered.add(request)

        await asyncio.gather(*map(take, steps))
        lines, total = settled(databases[0], key.id), found(databases[0], key.id)
        assert lines.keys() == answered
        offered = {(f"r{number}", tokens) for kind, number, tokens, _ in steps if kind == "settle"}
        assert set(lines.items()) <= offered
        assert (total.used, total.requests) == (sum(lines.values()), len(lines))
        for server in servers:
            await server.close()

    asyncio.run(run())


def test_the_last_tokens_go_to_one_request_only(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many reserve at once where the balance covers three of them, and dwell after having looked."""
    real = Ledger._check

    def check(*arguments: Any) -> None:
        real(*arguments)
        time.sleep(0.1)

    monkeypatch.setattr(Ledger, "_check", check)
    databases = [open_database(address), open_database(address)]
    key, _ = Keys(databases[0]).create("team", 350)
    passed, refused = [], []

    def reserve(number: int) -> None:
        try:
            Ledger(databases[number % 2], FREE).reserve(key.id, 100, f"r{number}")
        except AccessError as error:
            refused.append(error)
        else:
            passed.append(number)

    threads = [threading.Thread(target=reserve, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(passed), len(refused)) == (3, 9)
    assert {error.status for error in refused} == {403}
    for database in databases:
        database.close()


def test_a_server_that_is_killed_has_charged_what_it_answered(address: str) -> None:
    """kill -9 in the middle of work: every charge it told of is there, and none is there twice."""
    database = open_database(address)
    key, _ = Keys(database).create("team", 10**9)
    before = _serve(address, key.id, kill_after=40)
    after = _serve(address, key.id, kill_after=None)
    lines, total = settled(database, key.id), found(database, key.id)
    assert before and before.keys() <= lines.keys() and after.keys() == lines.keys()
    assert (total.used, total.requests) == (sum(lines.values()), len(lines))
    database.close()


def _serve(address: str, key_id: str, kill_after: int | None) -> dict[str, int]:
    """Run a server that charges for 120 requests, and kill it after some; what it answered."""
    command = [sys.executable, "-m", SERVER, address, key_id]
    answered: dict[str, int] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        for line in server.stdout:
            request, tokens = line.split()
            answered[request] = int(tokens)
            if len(answered) == kill_after:
                server.send_signal(signal.SIGKILL)
                break
        else:
            assert server.wait() == 0 and len(answered) == 120
    return answered


def test_a_reservation_of_a_cancelled_task_is_given_back(address: str) -> None:
    database = open_database(address)
    key, _ = Keys(database).create("team", 100)

    async def run() -> None:
        accounts = Accounts(database, FREE)
        caller = Caller(key.id, key.name)
        for number in range(20):
            task = asyncio.create_task(accounts.reserve(caller, 100, f"r{number}"))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError, AccessError):
                await task
                await accounts.release(caller, f"r{number}")
        await accounts.close()

    asyncio.run(run())
    reopened = open_database(address)
    assert Ledger(reopened, FREE).usage(key.id).held == 0
    reopened.close()


def test_a_charge_of_a_cancelled_task_is_made(address: str) -> None:
    """The client left while its result was being charged: computed, so charged."""
    database = open_database(address)
    key, _ = Keys(database).create("team", 100)

    async def run() -> None:
        accounts = Accounts(database, FREE)
        task = asyncio.create_task(accounts.settle(Caller(key.id, key.name), 7, "r1"))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await accounts.close()

    asyncio.run(run())
    reopened = open_database(address)
    assert found(reopened, key.id).used == 7
    total = reopened.read(
        lambda each: each.execute(select(func.count()).select_from(ledger)).scalar()
    )
    assert total == 1
    reopened.close()
