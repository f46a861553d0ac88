"""The server with accounts: who has no key is turned away, and what was answered is charged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sightrank.serve.accounts import Accounts
from sightrank.serve.database import Database, open_database
from sightrank.serve.keys import Key, Keys
from sightrank.serve.limits import Limits, Policy
from sightrank.serve.marketplaces import platform_of
from sightrank.serve.mounting import mounted

Ask = Callable[..., Any]
Client = httpx.AsyncClient
BODY = {
    "model": "jina-reranker-m0",
    "query": "plants",
    "documents": ["a leaf", "a stock", "a root"],
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "accounts.sqlite")
    yield opened
    opened.close()


def found(database: Database) -> Key:
    (key,) = Keys(database).listed()
    return key


def rerank(client: Client, secret: str, body: Any = BODY) -> Any:
    return client.post("/v1/rerank", json=body, headers={"Authorization": f"Bearer {secret}"})


def access(database: Database, **limits: int) -> Accounts:
    return Accounts(database, Policy(Limits(**{"concurrency": 0, **limits})))


def test_a_request_without_a_key_is_turned_away(ask: Ask, database: Database) -> None:
    async def test(client: Client) -> None:
        for headers, code in (
            ({}, "AUTH_MISSING_API_KEY"),
            ({"Authorization": "Basic eDp5"}, "AUTH_INVALID_FORMAT"),
            ({"Authorization": "Bearer sr_wrong"}, "AUTH_INVALID_API_KEY"),
        ):
            answer = await client.post("/v1/rerank", json=BODY, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, code)

    ask(test, access=access(database))


def test_what_is_answered_is_charged_to_the_token(ask: Ask, database: Database) -> None:
    """Many requests at once, some of them refused: the responses' usage is the database's."""
    _, secret = Keys(database).create("team")

    async def test(client: Client) -> int:
        bodies: list[Any] = [{**BODY, "documents": ["word " * n, "x"]} for n in range(1, 25)]
        bodies += [{**BODY, "documents": []}, {**BODY, "query": 5}, {**BODY, "model": "unknown"}]
        answers = await asyncio.gather(*(rerank(client, secret, body) for body in bodies))
        good = [answer.json() for answer in answers if answer.status_code == 200]
        assert len(good) == 24 and {answer.status_code for answer in answers} == {200, 400, 422}
        return sum(body["usage"]["total_tokens"] for body in good)

    total = ask(test, access=access(database))
    assert total > 0
    reopened = open_database(database.address.removeprefix("sqlite:///"))
    assert (found(reopened).used, found(reopened).requests) == (total, 24)
    reopened.close()


def test_an_empty_balance_and_a_full_minute(ask: Ask, database: Database) -> None:
    key, secret = Keys(database).create("team", tokens=5)

    async def test(client: Client) -> None:
        poor = await rerank(client, secret)
        assert (poor.status_code, poor.json()["code"]) == (403, "AUTHZ_INSUFFICIENT_BALANCE")
        Keys(database).grant(key.id, 10_000)
        assert (await rerank(client, secret)).status_code == 200
        late = await rerank(client, secret)
        assert (late.status_code, late.json()["code"]) == (429, "RATE_REQUEST_LIMIT_EXCEEDED")
        assert 1 <= int(late.headers["retry-after"]) <= 60

    ask(test, access=access(database, requests_per_minute=1))


@pytest.mark.parametrize("name", ["sagemaker", "azureml", "vertex"])
def test_each_platform_ranks_with_the_real_worker(ask: Ask, name: str) -> None:
    platform = platform_of({"SIGHTRANK_PLATFORM": name})
    assert platform is not None
    plain = {"query": BODY["query"], "documents": BODY["documents"]}
    bodies = {
        "sagemaker": {"data": [plain]},
        "azureml": plain,
        "vertex": {"instances": [plain]},
    }

    async def test(client: Client) -> tuple[Any, Any]:
        assert (await client.get(platform.ready)).status_code == 200
        wanted = await client.post("/v1/rerank", json=BODY)
        got = await client.post(platform.rank, json=bodies[name])
        assert got.status_code == 200, got.text
        bad = await client.post(
            platform.rank, json=json.loads(json.dumps(bodies[name]).replace('"a leaf"', "5"))
        )
        assert bad.status_code == 422 and "documents" in bad.text
        return wanted.json(), got.json()

    wanted, got = ask(test, routers=[mounted(platform)])
    answer = got if name == "azureml" else next(iter(got.values()))[0]
    ranked = [(result["index"], result["relevance_score"]) for result in answer["results"]]
    assert ranked == [(each["index"], each["relevance_score"]) for each in wanted["results"]]


def test_a_batch_larger_than_the_queue_is_answered(ask: Ask) -> None:
    """As many at a time as the platform's routes allow themselves, not all at once."""
    platform = platform_of({"SIGHTRANK_PLATFORM": "sagemaker"})
    assert platform is not None
    content = "\n".join(f'id{n},plants,"[""leaf {n}"", ""x""]",1' for n in range(40))

    async def test(client: Client) -> Any:
        headers = {"content-type": "text/csv"}
        return (await client.post("/invocations", content=content, headers=headers)).json()

    from sightrank.serve.settings import Settings

    answer = ask(test, routers=[mounted(platform)], settings=Settings(queue=16))
    assert len(answer["data"]) == 40 and answer["errors"] == []
