"""What goes wrong: bodies, clients, limits. Every token is charged once, or not at all."""

from __future__ import annotations

import base64
import json
import logging
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import httpx
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

    run_with(slow, test, ledger)
    assert len(ledger.charged) == 1
    assert slow.passes == 1, "those who left are not scored"
    assert not ledger.open


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


def test_a_hundred_megabytes_are_refused_before_they_are_read(reranker: Reranker) -> None:
    read = 0

    async def test(app: Any) -> None:
        nonlocal read
        size = [(b"content-type", b"application/json"), (b"content-length", b"104857600")]
        sent = await call(app, b"", [], headers=size)
        assert sent[0]["status"] == 413

        async def receive() -> Message:
            nonlocal read
            read += 1
            return {"type": "http.request", "body": b"A" * 2**20, "more_body": True}

        answers: list[Message] = []

        async def send(message: Message) -> None:
            answers.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/rerank", "headers": []}
        await app(scope, receive, send)
        assert answers[0]["status"] == 413

    run_with(reranker, test, Ledger(), max_body=4 * 2**20)
    assert read == 5, "no more is read than shows that it is too much"


def test_a_client_that_dribbles_is_given_up(reranker: Reranker) -> None:
    async def test(app: Any) -> None:
        async def receive() -> Message:
            await anyio.sleep(0.02)
            return {"type": "http.request", "body": b" ", "more_body": True}

        answers: list[Message] = []

        async def send(message: Message) -> None:
            answers.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/rerank", "headers": []}
        await app(scope, receive, send)
        assert answers[0]["status"] == 408

    run_with(reranker, test, Ledger(), body_seconds=0.2)


def png_bomb(side: int = 60_000) -> str:
    """A few bytes that say they are billions of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000))
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + parts).decode()


def test_image_bombs_are_refused_on_their_header(ask: Ask) -> None:
    async def test(client: Client) -> None:
        for document in ({"image": png_bomb()}, {"image": "data:image/png;base64," + png_bomb()}):
            answer = await client.post("/v1/rerank", json={**BODY, "documents": [document]})
            assert (answer.status_code, answer.json()["code"]) == (413, "INPUT_TOO_LARGE")

    ask(test)


def garbled(rng: random.Random) -> bytes:
    """A body with something wrong: cut, spliced, of odd types, deep, or noise."""
    good = json.dumps(BODY).encode()
    odd: list[Any] = [
        *(None, True, 1e999, -1, "", "\ud800", [], {}, [[]], {"text": None}, {"image": 3}),
        *("\0", "a" * 5000, {"content": []}, {"content": [{}]}, 10**400, {"text": "a", "x": [1]}),
        *([None], ["a", 1], {"content": [{"type": "text"}]}, {"pdf": "x"}, {"image": "http://"}),
    ]
    match rng.randrange(6):
        case 0:
            return good[: rng.randrange(len(good))]
        case 1:
            at = rng.randrange(len(good))
            return good[:at] + rng.randbytes(rng.randrange(1, 9)) + good[at:]
        case 2:
            return rng.randbytes(rng.randrange(200))
        case 3:
            return rng.choice([b"[", b'{"documents":', b'{"query":[']) * rng.randrange(1, 3000)
        case 4:
            fields = ("model", "query", "documents", "top_n", "return_documents", "truncation")
            chosen = {name: rng.choice(odd) for name in rng.sample(fields, rng.randrange(1, 4))}
            return json.dumps({**BODY, **chosen}).encode()
        case _:
            other = ("queries", "text_1", "documents", "rank_fields", "max_tokens_per_doc", "pages")
            return json.dumps({name: rng.choice(odd) for name in other}).encode()


def test_malformed_bodies_are_the_clients_fault(ask: Ask) -> None:
    rng = random.Random(6)
    statuses = Counter[int]()

    async def test(client: Client) -> None:
        paths = ("/v1/rerank", "/v2/rerank", "/rerank", "/score", "/cohere/v1/rerank")
        for _ in range(3000):
            answer = await client.post(
                rng.choice(paths),
                content=garbled(rng),
                headers={"content-type": rng.choice(["application/json"] * 9 + ["text/plain"])},
            )
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, answer.text
            json.loads(answer.content)

    ask(test, access=Ledger())
    assert statuses[422] > 1000
    assert statuses[400] > 100


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/rerank", 405),
        ("POST", "/v1/rerank/", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/v1/models/..%2f..%2fetc", 404),
        ("GET", "/%00", 404),
        ("GET", "//v1/models", 404),
        ("PUT", "/health", 405),
        ("TRACE", "/health", 405),
        ("POST", "/v1/rerank;x=1", 404),
    ],
)
def test_odd_paths_and_methods(ask: Ask, method: str, path: str, status: int) -> None:
    async def test(client: Client) -> None:
        raw = httpx.URL("http://test").copy_with(raw_path=path.encode())
        answer = await client.request(method, raw)
        assert answer.status_code == status
        assert "root:" not in answer.text

    ask(test)


def test_odd_headers_change_nothing(ask: Ask) -> None:
    odd = {
        "X-Request-ID": "chosen-by-the-client",
        "X-Forwarded-For": "127.0.0.1",
        "X-HTTP-Method-Override": "DELETE",
        "Content-Encoding": "gzip",
        "Accept": "text/html",
        "X-Long": "a" * 20_000,
    }

    async def test(client: Client) -> None:
        answer = await client.post("/v1/rerank", json=BODY, headers=odd)
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] != "chosen-by-the-client"

    ask(test)


def test_lone_surrogates_come_back_as_they_were(ask: Ask) -> None:
    async def test(client: Client) -> None:
        content = json.dumps({**BODY, "documents": ["\ud83d alone", "b"]}).encode()
        answer = await client.post(
            "/v1/rerank", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code in (200, 422)
        answer.content.decode("ascii")

    ask(test)


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
