"""Images and PDFs by web address, fetched so that a caller can reach nothing but the public web."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

import httpcore

from sightrank.errors import SightrankError, TooLargeError
from sightrank.serve.addresses import Address, Target, check, parse
from sightrank.serve.errors import FetchError

Resolver = Callable[[str, int], Awaitable[list[Address]]]
"""Host and port -> its addresses."""

REDIRECTS = (301, 302, 303, 307, 308)
KINDS: Mapping[str, tuple[str, ...]] = {
    "image": ("image/",),
    "PDF": ("application/pdf", "application/x-pdf"),
}
# Many a file store names nothing better; what the bytes are is seen when they are decoded.
_ANY_BYTES = ("application/octet-stream", "binary/octet-stream", "")


@dataclass(frozen=True)
class FetchLimits:
    """What is fetched at most."""

    enabled: bool = True
    allow: frozenset[str] = frozenset()
    """Hosts that may be fetched from; none: every public one."""
    max_bytes: int = 20 * 1024 * 1024
    seconds: float = 10.0
    """For one address with its redirects."""
    max_redirects: int = 3
    max_at_once: int = 8
    """Of one request."""


async def resolve(host: str, port: int) -> list[Address]:
    """Addresses of a host, as the system knows them."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(f"The host {host} is not known.", "Check the address.") from error
    return [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]


class Pinned(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, never to a name that could now mean another."""

    def __init__(self, network: httpcore.AsyncNetworkBackend, address: Address) -> None:
        self._network, self._address = network, address

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """To the checked address, whatever `host` says; its certificate still has to be the host's."""
        return await self._network.connect_tcp(
            str(self._address), port, timeout, local_address, socket_options
        )

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise FetchError("Sockets of this machine are not fetched from.")

    async def sleep(self, seconds: float) -> None:
        """As the network does."""
        await self._network.sleep(seconds)


class Fetcher:
    """Fetches within limits. `resolver` and `network` stand for the internet in tests."""

    def __init__(
        self,
        limits: FetchLimits,
        resolver: Resolver = resolve,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self.limits, self._resolver = limits, resolver
        self._network = network or httpcore.AnyIOBackend()
        self._context: ssl.SSLContext | None = None

    async def fetch(self, url: str, kind: str) -> bytes:
        """The bytes at an address; `kind` is "image" or "PDF". Raises FetchError, TooLargeError."""
        if not self.limits.enabled:
            raise FetchError("This server fetches nothing.", "Give the bytes as base64.")
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await self._follow(parse(url), kind)
        except TimeoutError as error:
            raise FetchError(
                f"The address did not answer within {self.limits.seconds:g} s.", "Give the bytes."
            ) from error
        except SightrankError:
            raise
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
            OSError,
            ValueError,
            RuntimeError,
        ) as error:
            raise FetchError(
                "The address could not be read.", "Check it, or give bytes."
            ) from error

    async def _follow(self, target: Target, kind: str) -> bytes:
        for _ in range(self.limits.max_redirects + 1):
            found = await self._once(target, kind)
            if isinstance(found, bytes):
                return found
            target = found
        raise FetchError(
            f"The address redirects more than {self.limits.max_redirects} times.", "Give the last."
        )

    async def _once(self, target: Target, kind: str) -> bytes | Target:
        """What is there, or where it says to look."""
        address = await self._checked(target)
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._ssl() if target.scheme == "https" else None,
                network_backend=Pinned(self._network, address),
                max_connections=1,
            ) as pool,
            pool.stream(
                "GET",
                httpcore.URL(
                    scheme=target.scheme.encode(),
                    host=target.host.encode(),
                    port=target.port,
                    target=target.path.encode(),
                ),
                headers={
                    "Host": target.netloc,
                    "User-Agent": "sightrank",
                    "Accept": "image/*, application/pdf",
                    "Accept-Encoding": "identity",
                },
            ) as response,
        ):
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            if response.status in REDIRECTS:
                return parse(urljoin(str(target), headers.get("location", "")))
            if response.status != 200:
                raise FetchError(f"The address answered {response.status}.", "Check it.")
            self._check_headers(headers, kind)
            return await self._body(response)

    async def _checked(self, target: Target) -> Address:
        """The one address that is opened, all of the host's having been looked at."""
        named = target.host in self.limits.allow
        if self.limits.allow and not named:
            raise FetchError(
                f"The host {target.host} is not among those fetched from here.", "Give the bytes."
            )
        try:
            addresses: list[Address] = [ipaddress.ip_address(target.host)]
        except ValueError:
            addresses = await self._resolver(target.host, target.port)
        for address in addresses:
            check(address, allowed=named)
        if not addresses:
            raise FetchError(f"The host {target.host} has no address.", "Check it.")
        return addresses[0]

    def _check_headers(self, headers: Mapping[str, str], kind: str) -> None:
        said = headers.get("content-type", "").partition(";")[0].strip().lower()
        if not said.startswith(KINDS[kind]) and said not in _ANY_BYTES:
            raise FetchError(
                f"The address holds {said[:60]!r}, expected is of the kind {kind}.", "Check it."
            )
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise FetchError("The address answers compressed, which was not asked for.")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self.limits.max_bytes:
            raise self._too_large()

    async def _body(self, response: httpcore.Response) -> bytes:
        content = bytearray()
        async for chunk in response.aiter_stream():
            content += chunk
            if len(content) > self.limits.max_bytes:
                raise self._too_large()
        return bytes(content)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"The address holds more than the {self.limits.max_bytes:,} bytes that are fetched.",
            "Make it smaller.",
        )

    def _ssl(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context
