"""Normalises the addresses of clients.

A server that listens on `::` sees IPv4 clients at IPv6 addresses (RFC 4291, section 2.5.5.2): `::ffff:192.0.2.1`.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

HOST_PREFIX = 64
"""Length of the network prefix of which one host can use every address (RFC 4291, section 2.5.4)."""

MAX_CHARACTERS = 45
"""The length of the longest address, without its zone."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str) -> IPAddress | None:
    """Parse an address, without its zone; IPv4 inside IPv6 becomes IPv4. None for a host name or a socket's path."""
    plain = text.partition("%")[0]
    return _parsed(plain) if len(plain) <= MAX_CHARACTERS else None


@lru_cache(maxsize=1024)
def _parsed(text: str) -> IPAddress | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def plain_address(text: str) -> str:
    """The usual spelling of an address; any other text unchanged."""
    address = parse_address(text)
    return text if address is None else str(address)


def network_of(text: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network of an IPv6 address; any other text unchanged."""
    address = parse_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, HOST_PREFIX), strict=False).network_address)
    return text if address is None else str(address)
