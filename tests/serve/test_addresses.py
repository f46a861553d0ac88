"""Addresses a caller may not reach, however they are written, redirected to or resolved."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

import anyio
import httpcore
import pytest

from sightrank.errors import SightrankError, TooLargeError
from sightrank.serve.addresses import Address, parse
from sightrank.serve.errors import FetchError
from sightrank.serve.fetch import Fetcher, FetchLimits

PUBLIC = "93.184.216.34"
NAMES = {
    "public.example": [PUBLIC],
    "localhost": ["127.0.0.1"],
    "inside.example": ["10.1.2.3"],
    "both.example": [PUBLIC, "192.168.0.1"],
    "meta.example": ["169.254.169.254"],
    "six.example": ["::1"],
    "mapped.example": ["::ffff:10.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "nowhere.example": [],
    "127.0.0.1.nip.example": ["127.0.0.1"],
}
REFUSED = [
    "http://127.0.0.1/",
    "http://127.0.0.1:8080/x.png",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.0.0.1./",
    "http://0/",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://172.16.5.5/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[2001:0:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://inside.example/",
    "http://both.example/",
    "http://meta.example/",
    "http://six.example/",
    "http://mapped.example/",
    "http://metadata.google.internal/",
    "http://127.0.0.1.nip.example/",
    "http://nowhere.example/",
    "http://unknown.example/",
    "http://public.example@127.0.0.1/",
    "http://127.0.0.1@public.example/",
    "http://user:word@public.example/",
    "http://public.example#@127.0.0.1\\@x/",
    "http://public.example\\@127.0.0.1/",
    "http://public.example /",
    "http://public.example\n.evil/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "http://127。0。0。1/",
    "http://public.example:22/",
    "http://public.example:6379999/",
    "http://public.example:x/",
    "http:///etc/passwd",
    "http://",
    "http://[public.example]/",
    "http://[::1/",
    "http://%31%32%37.0.0.1/",
    "file:///etc/passwd",
    "ftp://public.example/x.png",
    "gopher://127.0.0.1:6379/_x",
    "dict://127.0.0.1:11211/",
    "//127.0.0.1/",
    "http://" + "a" * 300 + ".example/",
]


class Web(httpcore.AsyncNetworkBackend):
    """The internet: what each address answers, and which ones were connected to."""

    def __init__(self, answer: Callable[[str], bytes]) -> None:
        self.answer, self.connected = answer, list[str]()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.connected.append(host)
        return httpcore.AsyncMockStream([self.answer(host)])


def reply(body: bytes = b"bytes", status: int = 200, **headers: str) -> bytes:
    sent = {"Content-Type": "image/png", "Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body


async def resolve(host: str, port: int) -> list[Address]:
    """As the system does, which reads 2130706433, 0x7f.1 and 0177.0.0.1 as addresses."""
    with suppress(OSError):
        return [ipaddress.ip_address(socket.inet_aton(host))]
    if host not in NAMES:
        raise FetchError(f"The host {host} is not known.")
    return [ipaddress.ip_address(address) for address in NAMES[host]]


def fetch(url: str, web: Web, kind: str = "image", **limits: object) -> bytes:
    fetcher = Fetcher(FetchLimits(**limits), resolve, web)  # type: ignore[arg-type]
    return anyio.run(fetcher.fetch, url, kind)


def test_the_table_is_long_enough() -> None:
    assert len(set(REFUSED)) == len(REFUSED) >= 40


@pytest.mark.parametrize("url", REFUSED)
def test_nothing_inside_is_reached(url: str) -> None:
    web = Web(lambda _: reply())
    with pytest.raises(FetchError):
        fetch(url, web)
    assert web.connected == []


@pytest.mark.parametrize("url", REFUSED)
def test_nothing_inside_is_reached_by_a_redirect(url: str) -> None:
    if not url.isascii() or "\n" in url or not url.startswith(("http:", "//")):
        url = "http://127.0.0.1/"
    web = Web(lambda _: reply(b"", 302, Location=url))
    with pytest.raises(FetchError):
        fetch("http://public.example/", web)
    assert set(web.connected) == {PUBLIC}


@pytest.mark.parametrize(
    "host",
    ["127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "1572395042", "0", "a.0"],
)
def test_what_is_a_number_to_the_system_is_no_name(host: str) -> None:
    """Not even where it means a public address: 1572395042 is 93.184.216.34."""
    with pytest.raises(FetchError, match="no name and no usual address"):
        parse(f"http://{host}/")


def test_a_public_address_is_fetched_where_it_was_checked() -> None:
    web = Web(lambda _: reply(b"an image"))
    assert fetch("http://public.example/x.png?y=1", web) == b"an image"
    assert fetch("HTTP://PUBLIC.example:80/x.png#part", web) == b"an image"
    assert web.connected == [PUBLIC, PUBLIC]


def test_a_name_that_changes_its_mind_is_asked_once() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])

    async def rebinding(host: str, port: int) -> list[Address]:
        return [ipaddress.ip_address(address) for address in next(answers)]

    web = Web(lambda _: reply(b"first"))
    fetcher = Fetcher(FetchLimits(), rebinding, web)
    assert anyio.run(fetcher.fetch, "http://public.example/", "image") == b"first"
    with pytest.raises(FetchError, match="not public"):
        anyio.run(fetcher.fetch, "http://public.example/", "image")
    assert web.connected == [PUBLIC]


def test_redirects_are_followed_to_public_places_and_not_for_ever() -> None:
    pages = iter([reply(b"", 301, Location="/next"), reply(b"there")])
    assert fetch("http://public.example/", Web(lambda _: next(pages))) == b"there"
    round_and_round = Web(lambda _: reply(b"", 307, Location="http://public.example/"))
    with pytest.raises(FetchError, match="redirects more than"):
        fetch("http://public.example/", round_and_round)
    assert len(round_and_round.connected) == 4
    with pytest.raises(FetchError):
        fetch(
            "http://public.example/", Web(lambda _: reply(b"", 302, Location="file:///etc/passwd"))
        )


def test_what_is_too_large_is_not_read_to_its_end() -> None:
    for answer in (
        reply(b"x" * 2000),
        reply(b"x", Content_Length="999999999999"),
        b"HTTP/1.1 200 X\r\nContent-Type: image/png\r\n\r\n" + b"x" * 2000,
    ):
        with pytest.raises(TooLargeError):
            fetch("http://public.example/", Web(lambda _, answer=answer: answer), max_bytes=1000)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (reply(Content_Type="text/html"), "text/html"),
        (reply(Content_Encoding="gzip"), "compressed"),
        (reply(status=404), "404"),
        (b"SSH-2.0-OpenSSH\r\n", "could not be read"),
        (b"", "could not be read"),
    ],
)
def test_what_is_no_image_is_refused(answer: bytes, says: str) -> None:
    with pytest.raises(FetchError, match=says):
        fetch("http://public.example/", Web(lambda _: answer))


def test_a_pdf_is_asked_for_by_its_own_type() -> None:
    web = Web(lambda _: reply(b"%PDF", Content_Type="application/pdf; x=y"))
    assert fetch("http://public.example/", web, "PDF") == b"%PDF"
    with pytest.raises(FetchError):
        fetch("http://public.example/", web, "image")


def test_an_address_that_does_not_answer_is_given_up() -> None:
    class Silent(Web):
        async def connect_tcp(self, *given: object, **named: object) -> httpcore.AsyncNetworkStream:
            await anyio.sleep_forever()
            raise AssertionError

    with pytest.raises(FetchError, match="did not answer"):
        fetch("http://public.example/", Silent(lambda _: b""), seconds=0.05)


def test_only_allowed_hosts_are_fetched_and_they_may_be_inside() -> None:
    web = Web(lambda _: reply(b"an image"))
    allow = frozenset({"inside.example", "meta.example", "10.9.9.9"})
    assert fetch("http://inside.example/", web, allow=allow) == b"an image"
    assert fetch("http://10.9.9.9/", web, allow=allow) == b"an image"
    for url in ("http://public.example/", "http://meta.example/", "http://10.9.9.8/"):
        with pytest.raises(FetchError):
            fetch(url, web, allow=allow)
    assert web.connected == ["10.1.2.3", "10.9.9.9"]


def test_nothing_is_fetched_where_it_is_off() -> None:
    web = Web(lambda _: reply())
    with pytest.raises(SightrankError, match="fetches nothing"):
        fetch("http://public.example/", web, enabled=False)
    assert web.connected == []
