"""Which addresses a server may open for a caller: those of the public internet, and no others."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sightrank.errors import SightrankError
from sightrank.serve.errors import FetchError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\.?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Not global although Python's tables have grown over time: held here whatever its version says.
_NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
            *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16"),
            *("3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
        ),
    )
)
# Of no use to anybody who names a host on purpose: metadata services, and no host at all.
_NOT_EVEN_ALLOWED = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "100.100.100.200/32"),
            *("::/128", "fe80::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128"),
        ),
    )
)


@dataclass(frozen=True)
class Target:
    """A web address taken apart once, so that what is checked is what is opened."""

    scheme: str
    host: str
    """Lower case, without brackets and the final dot."""
    port: int
    path: str
    """Path and query as they are sent."""

    @property
    def netloc(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == usual else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"


def parse(url: str) -> Target:
    """Take an http(s) address apart. Raises FetchError for any other, and for tricks."""
    if len(url) > 8192 or not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        raise _refused("is too long, or holds blanks, backslashes or other than ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(f"cannot be read ({error})") from error
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https"):
        raise _refused(f"has the scheme {scheme[:20]!r}")
    if "@" in parts.netloc:
        raise _refused("names a user before the host")
    host = (parts.hostname or "").lower().rstrip(".")
    if not _is_host(host, bracketed="[" in parts.netloc):
        raise _refused(f"has the host {host[:80]!r}, which is no name and no usual address")
    port = port if port is not None else {"http": 80, "https": 443}[scheme]
    if port not in (80, 443) and port < 1024:
        raise _refused(f"has the port {port}, and below 1024 only 80 and 443 are web servers'")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme, host, port, path)


def check(address: Address, *, allowed: bool = False) -> None:
    """Raise FetchError unless the address is public.

    `allowed`: the server's operator has named the host. It may then be private, or this machine,
    but still not link-local or a cloud's metadata service.
    """
    for each in meant(address):
        if allowed:
            wrong = any(each in net for net in _NOT_EVEN_ALLOWED)
        else:
            wrong = any(each in net for net in _NEVER) or not each.is_global
        if wrong or each.is_multicast:
            raise _refused("leads to an address that is not public")


def meant(address: Address) -> list[Address]:
    """An address, or the IPv4 address that an IPv6 one carries: mapped, NAT64."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return [address.ipv4_mapped]
        if address in _NAT64:
            return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address]


def _is_host(host: str, *, bracketed: bool) -> bool:
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        # The system reads 2130706433, 0x7f.1 and 0177.0.0.1 as addresses; a name never ends so.
        ends_in_number = _NUMBER.fullmatch(host.rpartition(".")[2]) is not None
        return (
            not bracketed
            and len(host) <= 253
            and not ends_in_number
            and (_HOST.fullmatch(host) is not None)
        )
    return "%" not in host and bracketed == (literal.version == 6)


def _refused(why: str) -> SightrankError:
    return FetchError(
        f"The address {why}.", "Give an http or https address on the public internet, or the bytes."
    )
