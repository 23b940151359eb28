"""Which hosts an outgoing request may be made to.

In: a URL, a host's address. Out: whether it may be asked, or `Invalid` for what can be seen at once. An address is
public when it is globally reachable, is no multicast, and hides no address that is not public inside itself.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from wherry.errors import Invalid

Address = IPv4Address | IPv6Address

# Not for the public internet, whatever is_global says: old site-local addresses (RFC 3879), IPv4-compatible ones
# (RFC 4291, 2.5.5.1), local NAT64 (RFC 8215), the discarded 6to4 relay (RFC 7526) and documentation (RFC 9637).
_NEVER = tuple(IPv6Network(text) for text in ("fec0::/10", "::/96", "64:ff9b:1::/48", "3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")
_RELAY_6TO4 = IPv4Address("192.88.99.0")

MAX_URL = 8000
"""Characters; RFC 9110, section 4.1, asks for at least so many to be taken."""

_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, and no other hides in it (RFC 6890 and the above)."""
    if isinstance(address, IPv6Address):
        if any(address in network for network in _NEVER):
            return False
        hidden = _embedded(address)
        if hidden is not None:
            return is_public(hidden)
    elif int(address) >> 8 == int(_RELAY_6TO4) >> 8:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside: mapped, 6to4, Teredo or NAT64."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return IPv4Address(address.packed[-4:]) if address in _NAT64 else None


def judge(url: object, allowed_hosts: Sequence[str]) -> str:
    """The URL, where nothing can be said against it before its host is looked up.

    Args:
        url: as the caller gave it.
        allowed_hosts: names, each with its subdomains; none allows all.

    Raises:
        Invalid: on `url`, with code `URL_NOT_ALLOWED`.
    """
    if not isinstance(url, str) or not url.strip():
        raise _refused("url must be an http or https URL")
    if len(url) > MAX_URL or _BLANK.search(url.strip()):
        raise _refused(f"url must have no blank or control character, and at most {MAX_URL} characters")
    parts = _split(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refused("url must be an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise _refused("url must not hold a user name or password")
    host = parts.hostname.rstrip(".").lower()
    if not is_allowed_host(host, allowed_hosts):
        raise _refused("url must be on one of the allowed hosts")
    address = literal_address(host)
    if (address is not None and not is_public(address)) or host == "localhost" or host.endswith(".localhost"):
        raise _refused("url must be on a public host")
    return url.strip()


def is_allowed_host(host: str, allowed_hosts: Sequence[str]) -> bool:
    """Whether a host is one of these names or below one."""
    names = [name.rstrip(".").lower() for name in allowed_hosts]
    return not names or any(host == name or host.endswith(f".{name}") for name in names)


def literal_address(host: str) -> Address | None:
    """The address that a host spells out: `127.1`, `0x7f000001` and `2130706433` too; None for a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        return None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
    except ValueError as error:
        raise _refused("url must be an http or https URL") from error
    return parts


def _refused(detail: str) -> Invalid:
    return Invalid(detail, field="url", code="URL_NOT_ALLOWED")
