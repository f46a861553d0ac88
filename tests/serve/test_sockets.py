"""A real server and clients that do not behave."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator

import pytest

from sightrank import Reranker
from sightrank.serve.app import create_app
from sightrank.serve.settings import Settings
from tests.serve.live import live
from tests.serve.test_faults import BODY, Ledger, Slow


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def address(reranker: Reranker, ledger: Ledger) -> Iterator[tuple[str, int]]:
    app = create_app(Slow(reranker), ledger, Settings(body_seconds=1.0))  # type: ignore[arg-type]
    with live(app) as url:
        host, port = url.removeprefix("http://").split(":")
        yield host, int(port)


def request(body: bytes, extra: bytes = b"", path: bytes = b"/v1/rerank") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % path
    return head + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def answer(address: tuple[str, int], sent: bytes) -> bytes:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(sent)
        return connection.recv(65536)


def test_a_client_that_hangs_up_is_not_charged(address: tuple[str, int], ledger: Ledger) -> None:
    busy = socket.create_connection(address, timeout=10)
    busy.sendall(request(json.dumps(BODY).encode()))
    time.sleep(0.1)
    for _ in range(4):
        with socket.create_connection(address) as connection:
            connection.sendall(request(json.dumps(BODY).encode()))
            time.sleep(0.02)
    with busy:
        assert busy.recv(65536).startswith(b"HTTP/1.1 200")
    assert answer(address, request(json.dumps(BODY).encode())).startswith(b"HTTP/1.1 200")
    assert len(ledger.charged) == 2
    assert not ledger.open


def test_half_a_body_is_given_up(address: tuple[str, int], ledger: Ledger) -> None:
    whole = request(json.dumps(BODY).encode())
    assert answer(address, whole[:-5]).startswith(b"HTTP/1.1 408")
    with socket.create_connection(address) as connection:
        connection.sendall(whole[:-5])  # and gone
    assert answer(address, whole).startswith(b"HTTP/1.1 200")
    assert len(ledger.charged) == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/one\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
        request(b"{}", b"X: " + b"a" * 200_000 + b"\r\n"),
        request(b"{}", b"Content-Length: 7\r\n"),
        request(b"{}", b"Content-Length: -1\r\n"),
        request(b"{}", b"Transfer-Encoding: chunked\r\n"),
        request(b"{}", b"Bad Header\r\n"),
        request(b"{}", b"X: a\x00b\r\n"),
        request(b"{}", path=b"/../../etc/passwd"),
        request(b"{}", path=b"/v1/rerank\x00"),
        request(b"{}", path=b"http://127.0.0.1/etc/passwd"),
        request(b"{}", path=b"/" + b"a" * 100_000),
    ],
)
def test_broken_requests_are_refused_and_the_next_is_answered(
    address: tuple[str, int], sent: bytes
) -> None:
    try:
        found = answer(address, sent)
        assert found == b"" or found.startswith(b"HTTP/1.1 4"), found[:200]
    except ConnectionError:  # hung up on, which is an answer too
        pass
    assert answer(address, request(json.dumps(BODY).encode())).startswith(b"HTTP/1.1 200")


def test_no_address_in_a_request_reaches_this_machine(address: tuple[str, int]) -> None:
    """The real resolver and the real network, and something that listens."""
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.setblocking(False)
        port = inside.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"):
            url = f"http://{host}:{port}/x.png"
            parts = {"content": [{"type": "image_url", "image_url": {"url": url}}]}
            for path, more in (
                ("/v1/rerank", {"documents": [{"image": url}]}),
                ("/v1/rerank", {"documents": [{"pdf": url}]}),
                ("/v1/rerank", {"query": {"image": url}}),
                ("/v2/rerank", {"documents": [{"image": url}]}),
                ("/rerank", {"documents": [parts]}),
                ("/score", {"queries": "a", "documents": [parts]}),
            ):
                found = answer(
                    address, request(json.dumps({**BODY, **more}).encode(), path=path.encode())
                )
                assert found.startswith(b"HTTP/1.1 422"), (url, path, found)
        with pytest.raises(BlockingIOError):
            inside.accept()


def test_a_hundred_megabytes_of_base64_are_answered_on_their_first(
    address: tuple[str, int], ledger: Ledger
) -> None:
    head = request(b"").replace(b"Content-Length: 0", b"Content-Length: 100000100")
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(head + b'{"query": "a", "documents": [{"image": "' + b"A" * 1000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    chunk = b"100000\r\n" + b"A" * 2**20 + b"\r\n"
    head = head.replace(b"Content-Length: 100000100", b"Transfer-Encoding: chunked")
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(head)
        waiting, found = 100, b""
        while waiting and not found:
            connection.sendall(chunk)
            waiting -= 1
            readable, _, _ = select.select([connection], [], [], 0)
            found = connection.recv(65536) if readable else b""
    assert found.startswith(b"HTTP/1.1 413") and waiting > 50
    assert answer(address, request(json.dumps(BODY).encode())).startswith(b"HTTP/1.1 200")
    assert len(ledger.charged) == 1
