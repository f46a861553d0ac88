"""What goes wrong: bodies, clients, limits. Every token is charged once, or not at all."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from starlette.types import Message

from sightrank import Reranker
from sightrank.serve.access import AccountsUnavailableError, Caller, InvalidKeyError, TokenRateError
from sightrank.serve.app import create_app
from sightrank.serve.logs import JsonLines
from sightrank.serve.settings import Settings
from tests.serve.conftest import Client, lifespan

Ask = Callable[..., Any]
BODY = {"model": "jina-reranker-m0", "query": "sugar", "documents": ["a", "b"]}


class Ledger:
    """Keeps what was asked of it; each request is settled or released, once."""

    def __init__(self, fail: str = "") -> None:
        self.fail, self.calls = fail, Counter[tuple[str, str]]()
        self.charged: dict[str, int] = {}
        self.open: set[str] = set()

    def _note(self, step: str, request_id: str) -> None:
        self.calls[step, request_id] += 1
        if step == self.fail:
            raise AccountsUnavailableError("away")

    async def admit(self, authorization: str | None) -> Caller:
        if authorization == "Bearer wrong":
            raise InvalidKeyError("The key is not known.")
        return Caller(authorization, "somebody")

    async def reserve(self, caller: Caller, tokens: int, request_id: str) -> None:
        if caller.key_id == "Bearer poor":
            raise TokenRateError("Too many tokens.", retry_after=7)
        self._note("reserve", request_id)
        self.open.add(request_id)

    async def settle(self, caller: Caller, tokens: int, request_id: str) -> None:
        self._note("settle", request_id)
        self.open.remove(request_id)
        self.charged[request_id] = tokens

    async def release(self, caller: Caller, request_id: str) -> None:
        self._note("release", request_id)
        self.open.discard(request_id)

    async def close(self) -> None:
        assert not self.open, "a reservation is left"


def test_a_delivered_result_is_charged_once(ask: Ask) -> None:
    ledger = Ledger()

    async def test(client: Client) -> None:
        answers = [await client.post("/v1/rerank", json=BODY) for _ in range(3)]
        for answer in answers:
            assert (
                ledger.charged[answer.headers["x-request-id"]]
                == answer.json()["usage"]["total_tokens"]
            )
        assert len(ledger.charged) == 3

    ask(test, access=ledger)
    assert set(ledger.calls.values()) == {1}
    assert {step for step, _ in ledger.calls} == {"reserve", "settle"}


@pytest.mark.parametrize(
    "change", [{"documents": [{"image": "AAAA"}]}, {"model": "x"}, {"documents": 3}]
)
def test_a_failed_request_is_not_charged(ask: Ask, change: dict[str, Any]) -> None:
    ledger = Ledger()

    async def test(client: Client) -> None:
        answer = await client.post("/v1/rerank", json={**BODY, **change})
        assert answer.status_code in (400, 422)

    ask(test, access=ledger)
    assert (ledger.charged, ledger.open) == ({}, set())


@pytest.mark.parametrize("step", ["reserve", "settle"])
def test_without_accounts_nothing_is_delivered_and_nothing_charged(ask: Ask, step: str) -> None:
    ledger = Ledger(fail=step)

    async def test(client: Client) -> None:
        answer = await client.post("/v1/rerank", json=BODY)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "results" not in answer.json()

    ask(test, access=ledger)
    assert (ledger.charged, ledger.open) == ({}, set())


def test_keys_are_looked_at_before_bodies(ask: Ask) -> None:
    async def test(client: Client) -> None:
        for path in ("/v1/rerank", "/v2/rerank", "/rerank", "/score", "/v1/score"):
            answer = await client.post(
                path, content=b"{", headers={"Authorization": "Bearer wrong"}
            )
            assert answer.status_code == 401
        answer = await client.get("/v1/models", headers={"Authorization": "Bearer wrong"})
        assert (answer.status_code, answer.json()["code"]) == (401, "AUTH_INVALID_API_KEY")
        answer = await client.post(
            "/v1/rerank", json=BODY, headers={"Authorization": "Bearer poor"}
        )
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")

    ask(test, access=Ledger())


class Slow:
    """A model that takes its time."""

    def __init__(self, reranker: Reranker) -> None:
        self._reranker, self.passes = reranker, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reranker, name)

    def score_prepared(self, slices: Any) -> Any:
        import time

        self.passes += 1
        time.sleep(0.3)
        return self._reranker.score_prepared(slices)


async def call(app: Any, body: bytes, messages: list[Message], **scope: Any) -> list[Message]:
    """One request by hand: `messages` follow its body."""
    sent: list[Message] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}, *messages]

    async def receive() -> Message:
        if not waiting:
            await anyio.sleep_forever()
        message: Message = waiting.pop(0)
        if message["type"] == "sleep":
            await anyio.sleep(message["seconds"])
            return await receive()
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    given = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/rerank",
        "raw_path": b"/v1/rerank",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        **scope,
    }
    await app(given, receive, send)
    return sent


def run_with(reranker: Any, test: Callable[[Any], Any], access: Any, **settings: Any) -> None:
    async def main() -> None:
        app = create_app(reranker, access, Settings(**settings))
        async with lifespan(app):
            await test(app)

    anyio.run(main)


def test_a_client_that_leaves_while_it_waits_is_not_charged(reranker: Reranker) -> None:
    ledger, slow = Ledger(), Slow(reranker)
    bye: list[Message] = [{"type": "sleep", "seconds": 0.1}, {"type": "http.disconnect"}]

    async def test(app: Any) -> None:
        body = json.dumps(BODY).encode()
        async with anyio.create_task_group() as group:
            group.start_soon(call, app, body, [])  # keeps the model busy
            await anyio.sleep(0.05)
            for _ in range(5):
                group.start_soon(call, app, body, bye)

    run_with(slow, test, ledger, passes=1)
    assert len(ledger.charged) == 1
    assert slow.passes == 1, "those who left are not scored"
    assert not ledger.open


class SlowLedger(Ledger):
    """Charging takes a while."""

    async def settle(self, caller: Caller, tokens: int, request_id: str) -> None:
        await anyio.sleep(0.3)
        await super().settle(caller, tokens, request_id)


@pytest.mark.parametrize("how", ["leaves", "cancelled"])
def test_what_ends_while_it_is_charged_is_charged(reranker: Reranker, how: str) -> None:
    """The client leaves, or the server ends its task: the result was computed."""
    ledger, slow = SlowLedger(), Slow(reranker)
    bye: list[Message] = [{"type": "sleep", "seconds": 0.45}, {"type": "http.disconnect"}]

    async def test(app: Any) -> None:
        body = json.dumps(BODY).encode()
        request = asyncio.ensure_future(call(app, body, bye if how == "leaves" else []))
        if how == "cancelled":
            await anyio.sleep(0.45)
            request.cancel()
        with suppress(asyncio.CancelledError):
            await request

    run_with(slow, test, ledger)
    assert (slow.passes, len(ledger.charged), ledger.open) == (1, 1, set())
    assert {step for step, _ in ledger.calls} == {"reserve", "settle"}


def test_a_deadline_is_an_error_that_is_not_charged(reranker: Reranker) -> None:
    ledger = Ledger()

    async def test(app: Any) -> None:
        sent = await call(app, json.dumps(BODY).encode(), [])
        assert sent[0]["status"] == 504

    run_with(Slow(reranker), test, ledger, deadline=0.1)
    assert (ledger.charged, ledger.open) == ({}, set())


def test_more_than_may_wait_is_told_when_to_come_back(reranker: Reranker) -> None:
    statuses = Counter[int]()

    async def test(app: Any) -> None:
        async def one(key: str) -> None:
            headers = [(b"content-type", b"application/json"), (b"authorization", key.encode())]
            sent = await call(app, json.dumps(BODY).encode(), [], headers=headers)
            statuses[sent[0]["status"]] += 1
            if sent[0]["status"] != 200:
                assert int(dict(sent[0]["headers"])[b"retry-after"]) >= 1

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(one, "greedy" if number < 6 else f"key{number}")

    run_with(Slow(reranker), test, Ledger(), queue=8)
    assert statuses == {200: 8, 429: 2, 503: 2}


def test_who_would_wait_too_long_is_told_at_once(reranker: Reranker) -> None:
    """The model takes 0.3 s a pass, and the deadline leaves room for a few: 503 instead of 504."""
    statuses, ledger, slow = Counter[int](), Ledger(), Slow(reranker)

    async def test(app: Any) -> None:
        body = json.dumps({**BODY, "documents": ["word " * 90, "text " * 90]}).encode()

        async def one(key: str) -> None:
            headers = [(b"content-type", b"application/json"), (b"authorization", key.encode())]
            sent = await call(app, body, [], headers=headers)
            statuses[sent[0]["status"]] += 1
            if sent[0]["status"] == 503:
                assert int(dict(sent[0]["headers"])[b"retry-after"]) >= 1

        await one("first")  # by which the speed is known
        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(one, "greedy")
            await anyio.sleep(0.5)
            group.start_soon(one, "modest")

    run_with(slow, test, ledger, deadline=5.0)
    assert statuses.keys() == {200, 503} and statuses[503] > 10 and statuses[200] > 3
    assert len(ledger.charged) == statuses[200] and not ledger.open


def test_stopping_finishes_what_was_accepted(reranker: Reranker) -> None:
    ledger, statuses = Ledger(), list[int]()

    async def main() -> None:
        app = create_app(Slow(reranker), ledger, Settings())  # type: ignore[arg-type]
        async with anyio.create_task_group() as group:

            async def one() -> None:
                statuses.append((await call(app, json.dumps(BODY).encode(), []))[0]["status"])

            async with lifespan(app):
                for _ in range(3):
                    group.start_soon(one)
                await anyio.sleep(0.1)

    anyio.run(main)
    assert statuses == [200, 200, 200]
    assert len(ledger.charged) == 3


class Broken(Slow):
    """A model with a fault whose message quotes a document."""

    def score_prepared(self, slices: Any) -> Any:
        raise ZeroDivisionError("secret words")


def test_faults_are_logged_without_what_was_sent(
    reranker: Reranker, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger()

    async def test(app: Any) -> None:
        body = {**BODY, "query": "secret words", "documents": ["secret words"]}
        sent = await call(app, json.dumps(body).encode(), [])
        assert sent[0]["status"] == 500
        assert json.loads(sent[1]["body"])["code"] == "INTERNAL_ERROR"
        await call(app, json.dumps({**body, "documents": [{"image": "secret"}]}).encode(), [])

    with caplog.at_level(logging.INFO, "sightrank.serve"):
        run_with(Broken(reranker), test, ledger)
    lines = [JsonLines().format(record) for record in caplog.records]
    assert "secret" not in "".join(lines)
    facts = [json.loads(line) for line in lines]
    assert [each.get("status") for each in facts if each["event"] == "request"] == [500, 422]
    assert any(each.get("exception") == "ZeroDivisionError" for each in facts)
    assert all(each["request_id"] for each in facts)
    assert not ledger.open
