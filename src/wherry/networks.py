"""Addresses of clients, in one spelling.

A server that listens on `::` sees IPv4 clients at IPv6 addresses (RFC 4291, section 2.5.5.2): `::ffff:192.0.2.1`.
"""

from __future__ import annotations

import ipaddress

HOST_PREFIX = 64
"""One host can have every address of such a network (RFC 4291, section 2.5.4)."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str) -> IPAddress | None:
    """An address, without its zone; IPv4 if it is IPv4 inside IPv6. None for a name or a socket's path."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def plain_address(text: str) -> str:
    """The usual spelling of an address; anything else as it is."""
    address = parse_address(text)
    return text if address is None else str(address)


def network_of(text: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network of an IPv6 one; anything else as it is."""
    address = parse_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, HOST_PREFIX), strict=False).network_address)
    return text if address is None else str(address)
