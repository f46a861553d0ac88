"""No room for accounts, documents and logs: said clearly, nothing charged wrongly, and it passes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, event

from sightrank.serve.accounts import Accounts
from sightrank.serve.database import Database, open_database
from sightrank.serve.keys import Keys
from sightrank.serve.ledger import Ledger
from sightrank.serve.limits import Limits, Policy
from tests.disk import small_disk
from tests.serve.accounts.test_exactly_once import FREE, found, settled
from tests.serve.accounts.test_served_faults import by_request, load
from tests.serve.conftest import Client
from tests.serve.process import serving

NO_LIMITS = Limits(0, 0, 0)


class Room:
    """Whether a database may take another page: SQLite's own error of a full disk where not."""

    def __init__(self, database: Database) -> None:
        self.full = False
        event.listen(database._engine, "begin", self._limit)

    def _limit(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {1 if self.full else 2**31}")


def test_accounts_without_room_charge_what_is_answered_and_nothing_else(
    ask: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = open_database(tmp_path / "accounts.sqlite")
    key, secret = Keys(database).create("team", 10**9, NO_LIMITS)
    room = Room(database)

    async def test(client: Client) -> list[httpx.Response]:
        client.headers["Authorization"] = f"Bearer {secret}"
        answers = await load(client, 3)
        room.full = True
        while not any(each.status_code == 503 for each in answers):
            answers += await load(client, 3)
        answers += await load(client, 5)
        assert (await client.get("/live")).status_code == 200
        room.full = False
        while (last := await load(client, 1))[-1].status_code != 200:
            answers += last
        return answers + last + await load(client, 3)

    with caplog.at_level(logging.ERROR, "sightrank.serve"):
        answers = ask(test, access=Accounts(database, Policy(NO_LIMITS), pause=0.02))
    check(answers, Path(database.address.removeprefix("sqlite:///")), key.id)
    refused = [each for each in answers if each.status_code == 503]
    assert all(str(tmp_path) not in each.text and each.headers["retry-after"] for each in refused)
    reasons = {record.facts["reason"] for record in caplog.records}  # type: ignore[attr-defined]
    assert any("database or disk is full" in reason for reason in reasons)


def check(answers: list[httpx.Response], file: Path, key_id: str) -> None:
    """Answered, charged, or refused; nothing held, nothing else."""
    assert Counter(each.status_code for each in answers).keys() == {200, 503}
    database = open_database(file)
    lines, total = settled(database, key_id), found(database, key_id)
    assert lines == by_request(answers)
    assert (total.used, total.requests) == (sum(lines.values()), len(lines))
    assert Ledger(database, FREE).usage(key_id).held == 0
    database.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 2) as folder:
        yield folder


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    ballast = disk / "ballast"
    with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    return ballast


def documents(number: int) -> dict[str, Any]:
    given = [{"id": f"{number}-{n}", "text": f"{number} {n} " * 40} for n in range(4)]
    return {"index": "kept", "documents": given}


def test_a_server_whose_disk_is_full_goes_on_when_there_is_room(
    checkpoint: Path, disk: Path
) -> None:
    """Accounts, documents and the log on one small file system, and no room left on it."""
    file, log = disk / "accounts.sqlite", disk / "log"
    database = open_database(file)
    key, secret = Keys(database).create("team", 10**9, NO_LIMITS)
    database.close()

    async def run(url: str) -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            answers = [await client.post("/v1/documents", json=documents(0))]
            answers += await load(client, 2)
            assert {each.status_code for each in answers} == {200}
            ballast = fill(disk)
            while not any(each.status_code == 503 for each in answers):
                answers += await load(client, 2)
            assert (await client.get("/live")).status_code == 200
            ballast.unlink()
            while (
                last := await client.post("/v1/documents", json=documents(1))
            ).status_code != 200:
                answers.append(last)
                await asyncio.sleep(0.1)
            answers.append(last)
            ranked = await client.post("/v1/rank", json={"index": "kept", "query": "a"})
            assert len(ranked.json()["results"]) == 8
            return [*answers, ranked, *await load(client, 2)]

    with (
        log.open("wb") as lines,
        serving(
            checkpoint, "--database", str(file), "--data", str(disk / "kept"), log=lines
        ) as server,
    ):
        answers = asyncio.run(run(server.url))
    check(answers, file, key.id)
    last = [json.loads(line) for line in log.read_text().splitlines()[-12:]]
    assert any(line.get("status") == 200 for line in last), "the log goes on as well"


def test_documents_that_find_no_room_cost_nothing(
    ask: Callable[..., Any], disk: Path, tmp_path: Path
) -> None:
    database = open_database(tmp_path / "accounts.sqlite")
    key, secret = Keys(database).create("team", 10**9, NO_LIMITS)

    async def test(client: Client) -> list[httpx.Response]:
        client.headers["Authorization"] = f"Bearer {secret}"
        answers = [await client.post("/v1/documents", json=documents(0))]
        ballast = fill(disk)
        full = await client.post("/v1/documents", json=documents(1))
        assert (full.status_code, full.json()["code"]) == (507, "SERVICE_UNAVAILABLE")
        assert str(disk) not in full.text
        rank = {"index": "kept", "query": "a"}
        answers.append(await client.post("/v1/rank", json=rank))
        assert len(answers[-1].json()["results"]) == 4, "what was there is ranked all the same"
        ballast.unlink()
        answers.append(await client.post("/v1/documents", json=documents(1)))
        answers.append(await client.post("/v1/rank", json=rank))
        assert len(answers[-1].json()["results"]) == 8
        assert {each.status_code for each in answers} == {200}
        return answers

    from sightrank.serve.settings import Settings

    answers = ask(test, access=Accounts(database), settings=Settings(data=disk))
    reopened = open_database(tmp_path / "accounts.sqlite")
    assert settled(reopened, key.id) == by_request(answers)
    reopened.close()
