"""Decides which hosts outgoing requests may be sent to.

The address lists are our own, because `ipaddress.is_global` differs between Python releases.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

from wherry.errors import UrlNotAllowed

Address = IPv4Address | IPv6Address

# Every block of IANA's IPv4 Special-Purpose Address Registry (RFC 6890) that is not globally reachable, including all
# of 192.0.0.0/24 and the deprecated 6to4 relays (RFC 7526); multicast (RFC 5771); and reserved addresses.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip

# The whole public address space (RFC 4291, section 2.4), and the special blocks within it: protocols such as Teredo
# (2001::/23), documentation (2001:db8::/32, 3fff::/20) and 6to4, which embeds an IPv4 address (2002::/16).
_GLOBAL_UNICAST_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64 = IPv6Network("64:ff9b::/96")
_LOOPBACK = IPv4Address("127.0.0.1")

MAX_URL = 8000
"""In characters. RFC 9110, section 4.1, recommends supporting at least this many."""

MAX_PORT = 65535

_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")
_HOST = re.compile(r"[a-z0-9._:-]+", re.IGNORECASE)  # the URL parser accepts colons in IPv6 addresses only


def is_public(address: Address) -> bool:
    """Whether an address, or the IPv4 address embedded in it, is on the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    embedded = IPv4Address(address.packed[-4:]) if address in _NAT64 else address.ipv4_mapped
    if embedded is not None:
        return is_public(embedded)
    return address in _GLOBAL_UNICAST_6 and not any(address in network for network in _NOT_PUBLIC_6)


def judge(
    url: object, allowed_hosts: Sequence[str], permits: Callable[[Address], bool] = is_public, *, field: str = "url"
) -> str:
    """The URL, trimmed, if it passes every check that needs no DNS lookup.

    Args:
        url: as the caller sent it.
        allowed_hosts: see `is_allowed_host`.
        permits: whether requests may be sent to an address.
        field: the request field that the URL is from.

    Raises:
        UrlNotAllowed: on `field`.
    """
    if not isinstance(url, str) or not url.strip():
        raise _refused(field, "must be an http or https URL")
    url = url.strip()
    if len(url) > MAX_URL or _BLANK.search(url):
        raise _refused(field, f"must be at most {MAX_URL} characters, without spaces or control characters")
    parts = _parsed(url, field)
    if parts.scheme not in ("http", "https") or not 0 <= (parts.port or 0) <= MAX_PORT:
        raise _refused(field, "must be an http or https URL")
    if parts.userinfo:
        raise _refused(field, "must not contain a user name or password")
    host = host_of(parts)
    if not is_allowed_host(host, allowed_hosts):
        raise _refused(field, "must be on an allowed host")
    address = _LOOPBACK if host == "localhost" or host.endswith(".localhost") else literal_address(host)
    if address is not None and not permits(address):
        raise _refused(field, "must be on a public host")
    return url


def host_of(url: httpx.URL) -> str:
    """The host of a URL: an international name in ASCII, without a trailing dot."""
    return url.raw_host.decode("ascii").rstrip(".")


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, without path and query, which may contain secrets."""
    parts = httpx.URL(url)
    return f"{parts.scheme}://{parts.netloc.decode('ascii')}"


def is_allowed_host(host: str, allowed_hosts: Sequence[str]) -> bool:
    """Whether a host is one of these names or a subdomain of one. An empty list allows all."""
    names = [name.rstrip(".").lower() for name in allowed_hosts]
    return not names or any(host == name or host.endswith(f".{name}") for name in names)


def literal_address(host: str) -> Address | None:
    """The address if the host is one, including forms such as `127.1`, `0x7f000001` and `2130706433`; else None."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _parsed(url: str, field: str) -> httpx.URL:
    """Parse a URL with the library that sends the request: another parser could see another host in it."""
    try:
        parts = httpx.URL(url)
        _ = parts.host  # raises if an international name is invalid
    except (httpx.InvalidURL, UnicodeError) as error:
        raise _refused(field, "must be an http or https URL") from error
    if not _HOST.fullmatch(host_of(parts)):
        raise _refused(field, "must have a host of letters, digits, dots and hyphens")
    return parts


def _refused(field: str, problem: str) -> UrlNotAllowed:
    return UrlNotAllowed(f"{field} {problem}", field=field)
