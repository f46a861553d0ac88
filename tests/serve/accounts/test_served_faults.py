"""A real server with accounts: killed under load and started again, and without its database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from sightrank.serve.accounts import Accounts
from sightrank.serve.database import open_database
from sightrank.serve.keys import Keys
from sightrank.serve.limits import Limits
from tests.serve.accounts.postgres import Cluster
from tests.serve.accounts.test_exactly_once import found, settled
from tests.serve.process import Server, serving

CLIENTS = 6
BODY = {"model": "jina-reranker-m0", "query": "leaf", "documents": ["a leaf", "a root " * 20]}


async def load(client: httpx.AsyncClient, requests: int) -> list[httpx.Response]:
    """Answers that arrived, of so many requests in each of some rows, until the server breaks off."""
    answers: list[httpx.Response] = []

    async def row() -> None:
        for _ in range(requests):
            try:
                answers.append(await client.post("/v1/rerank", json=BODY))
            except httpx.TransportError:
                return

    await asyncio.gather(*(row() for _ in range(CLIENTS)))
    return answers


async def load_at(url: str, secret: str, requests: int) -> list[httpx.Response]:
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        return await load(client, requests)


def by_request(answers: list[httpx.Response]) -> dict[str, int]:
    """Tokens that each answer reported, by the request's id, which is the ledger's."""
    good = [answer for answer in answers if answer.status_code == 200]
    return {each.headers["x-request-id"]: each.json()["usage"]["total_tokens"] for each in good}


def tokens(answers: list[httpx.Response]) -> int:
    return sum(by_request(answers).values())


def test_a_server_killed_under_load_loses_no_charge_and_doubles_none(
    checkpoint: Path, tmp_path: Path
) -> None:
    """What was answered is charged; beyond it at most what was being answered at that moment."""
    address = str(tmp_path / "accounts.sqlite")
    database = open_database(address)
    key, secret = Keys(database).create("team", 10**9, Limits(0, 0, 0))

    async def run(server: Server) -> list[httpx.Response]:
        loading = asyncio.create_task(load_at(server.url, secret, 1000))
        while found(database, key.id).requests < 20:
            await asyncio.sleep(0.01)
        server.kill()
        return await loading

    with serving(checkpoint, "--database", address) as server:
        answered = asyncio.run(run(server))
    assert {answer.status_code for answer in answered} == {200} and len(answered) >= 19
    lines, charged = settled(database, key.id), found(database, key.id)
    assert by_request(answered).items() <= lines.items(), "no charge is lost"
    assert len(lines) <= len(answered) + CLIENTS, "what was in flight may be charged, no more"
    assert (charged.used, charged.requests) == (sum(lines.values()), len(lines)), "none is doubled"

    with serving(checkpoint, "--database", address) as server:
        again = asyncio.run(load_at(server.url, secret, 3))
    assert [answer.status_code for answer in again] == [200] * 3 * CLIENTS
    assert found(database, key.id).used == charged.used + tokens(again)
    assert settled(database, key.id) == lines | by_request(again)
    database.close()


def test_a_server_without_its_database_answers_503_and_charges_nothing(
    ask: Callable[..., Any], postgres: Cluster
) -> None:
    address = postgres.new_database()
    database = open_database(address)
    key, secret = Keys(database).create("team", 10**9, Limits(0, 0, 0))

    async def run(client: httpx.AsyncClient) -> list[httpx.Response]:
        client.headers["Authorization"] = f"Bearer {secret}"
        answers = await load(client, 2)
        loading = asyncio.create_task(load(client, 10))
        await asyncio.to_thread(postgres.stop, "immediate")
        try:
            while not any(each.status_code == 503 for each in answers):
                answers += await load(client, 1)
            assert (await client.get("/live")).status_code == 200
        finally:
            await asyncio.to_thread(postgres.start)
        answers += await loading
        while (last := await load(client, 1))[-1].status_code != 200:
            answers += last
        return answers + last

    answers = ask(run, access=Accounts(open_database(address), pause=0.05))
    refused = [each for each in answers if each.status_code != 200]
    assert refused and {each.status_code for each in refused} == {503}
    assert all(each.headers["retry-after"] for each in refused)
    total = found(database, key.id)
    assert settled(database, key.id) == by_request(answers)
    assert total.used == tokens(answers)
    assert total.requests == len(answers) - len(refused)
    database.close()
