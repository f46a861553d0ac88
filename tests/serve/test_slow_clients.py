"""Clients that do not go on: with a head, a body, or with reading what they asked for."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightrank.serve.listen import Patient
from tests.serve.live import live

SIZE = 30_000_000
ASK = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


class Impatient(Patient):
    head_seconds = 0.5
    answer_seconds = 1.0


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    async def small(_: Request) -> Response:
        return Response(b"small")

    async def large(_: Request) -> Response:
        return Response(bytes(SIZE))

    app = Starlette(routes=[Route("/small", small), Route("/large", large)])
    with live(app, protocol=Impatient) as url:
        host, port = url.removeprefix("http://").split(":")
        yield host, int(port)


def connected(address: tuple[str, int], room: int = 0) -> socket.socket:
    connection = socket.socket()
    if room:  # before connecting, or the system gives it megabytes
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    connection.settimeout(30)
    connection.connect(address)
    return connection


def read_all(connection: socket.socket) -> int:
    """Bytes that come until the server ends the connection."""
    count = 0
    try:
        while chunk := connection.recv(2**20):
            count += len(chunk)
    except ConnectionError:
        pass
    return count


@pytest.mark.parametrize("sent", [b"", b"GET /small HT", b"GET /small HTTP/1.1\r\nHost: x\r\nX: "])
def test_a_head_that_does_not_arrive_is_given_up(address: tuple[str, int], sent: bytes) -> None:
    with connected(address) as connection:
        connection.sendall(sent)
        assert read_all(connection) == 0


def test_a_head_that_comes_byte_by_byte_is_given_up(address: tuple[str, int]) -> None:
    """Each byte is progress, and still the head does not arrive."""
    with connected(address) as connection:
        with pytest.raises(ConnectionError):
            for _ in range(600):
                connection.sendall(b"G")
                time.sleep(0.05)
        assert read_all(connection) == 0


def test_the_next_head_on_a_connection_is_not_waited_for_either(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        for _ in range(2):
            connection.sendall(ASK % b"small")
            answer = b""
            while not answer.endswith(b"small"):
                answer += connection.recv(65536)
        connection.sendall((ASK % b"small")[:-4])
        assert read_all(connection) == 0


def test_an_answer_that_nobody_takes_is_dropped(address: tuple[str, int]) -> None:
    with connected(address, room=16_384) as connection:
        connection.sendall(ASK % b"large")
        time.sleep(4)
        assert read_all(connection) < SIZE


def test_an_answer_that_is_taken_slowly_arrives(address: tuple[str, int]) -> None:
    with connected(address, room=65_536) as connection:
        connection.sendall((ASK % b"large").replace(b"Host", b"Connection: close\r\nHost"))
        head = connection.recv(32)
        count, started = len(head), time.monotonic()
        while time.monotonic() < started + 3:  # three times as long as one that takes nothing has
            count += len(connection.recv(262_144))
            time.sleep(0.02)
        assert count + read_all(connection) > SIZE
