"""Requests that are broken or meant to break: bodies, bombs, paths, headers."""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import PIL.Image
import pytest
from starlette.types import Message

from sightrank import Reranker
from sightrank.inputs.files import FileLimits
from tests.inputs.bombs import drawn_by_itself
from tests.serve.conftest import Client
from tests.serve.test_faults import BODY, Ledger, call, run_with
from tests.serve.test_routes import base64_of, picture

Ask = Callable[..., Any]


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


def test_bombs_are_refused_and_others_are_answered(checkpoint: Path, ask: Ask) -> None:
    """Small bodies that inflate or draw without end: each is its own sender's error."""
    limits = FileLimits(max_image_pixels=4_000_000, max_pdf_seconds=1.0)
    careful = Reranker.from_pretrained(checkpoint, device="cpu", limits=limits)
    zipped = gzip.compress(b"[" * 50_000_000)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    bombs = [{"pdf": base64_of(drawn_by_itself())}, {"image": png_bomb()}]
    bombs += [{"image": base64_of(metadata_bomb())}, {"image": base64_of(animation_bomb())}]
    statuses = Counter[int]()

    async def test(client: Client) -> None:
        answer = await client.post("/v1/rerank", content=zipped, headers=headers)
        assert answer.status_code in (400, 422), "a body is never inflated"

        async def send(document: Any) -> None:
            answer = await client.post("/v1/rerank", json={**BODY, "documents": [document]})
            statuses[answer.status_code] += 1
            assert answer.status_code == 200 or "documents[0]" in answer.json()["detail"]

        async with anyio.create_task_group() as group:
            for document in (*bombs, "a text"):
                group.start_soon(send, document)

    ledger = Ledger()
    ask(test, reranker=careful, access=ledger)
    assert statuses == {413: 3, 422: 1, 200: 1}
    assert (len(ledger.charged), ledger.open) == (1, set())


def metadata_bomb() -> bytes:
    """A picture of one pixel whose comment inflates to a hundred megabytes."""
    comment = b"zTXt" + b"k\0\0" + zlib.compress(bytes(100_000_000), 9)
    whole = picture(size=(1, 1))
    chunk = struct.pack(">I", len(comment) - 4) + comment + struct.pack(">I", zlib.crc32(comment))
    return whole[:33] + chunk + whole[33:]  # behind the signature and the header


def animation_bomb() -> bytes:
    """An animation of a few bytes a frame, each of which would fill a large canvas."""
    out = io.BytesIO()
    frames = [PIL.Image.new("P", (5000, 5000), number) for number in range(3)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def garbled(rng: random.Random) -> bytes:
    """A body with something wrong: cut, spliced, of odd types, deep, or noise."""
    good = json.dumps({**BODY, "index": "kept", "ids": ["a"]}).encode()
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


def test_ten_thousand_malformed_bodies_are_the_clients_fault(
    reranker: Reranker, tmp_path: Path
) -> None:
    rng, ledger, statuses = random.Random(6), Ledger(), Counter[int]()
    paths = ["/v1/rerank", "/v2/rerank", "/rerank", "/score", "/v1/score", "/cohere/v1/rerank"]
    paths += ["/cohere/v2/rerank", "/v1/documents", "/v1/rank"]

    async def test(app: Any) -> None:
        for _ in range(10_000):
            path, kind = rng.choice(paths), rng.choice([b"application/json"] * 9 + [b"text/plain"])
            sent = await call(app, garbled(rng), [], path=path, headers=[(b"content-type", kind)])
            statuses[sent[0]["status"]] += 1
            assert sent[0]["status"] < 500, sent
            json.loads(sent[1]["body"])
        assert (await call(app, json.dumps(BODY).encode(), []))[0]["status"] == 200

    run_with(reranker, test, ledger, data=tmp_path)
    assert statuses.total() == 10_000
    assert statuses[422] > 5000 and statuses[400] > 100
    assert len(ledger.charged) == statuses[200] + 1, "what could be read all the same is charged"
    assert not ledger.open


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
