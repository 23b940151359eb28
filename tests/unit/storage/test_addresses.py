"""URLs of hosts that are not on the public internet are refused, in every spelling."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from wherry.errors import Invalid
from wherry.storage.addresses import is_public, judge

NOT_PUBLIC = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "192.88.99.1", "::", "::1", "::7f00:1", "fe80::1",
    "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2001:0:7f00:1::", "2001:db8::1", "3fff::1", "100::1",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_a_special_address_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


# The first and last address of each block. They are listed here because `ipaddress` differs between Python releases.
EDGES_4 = [
    ("0.0.0.0", "0.255.255.255"), ("10.0.0.0", "10.255.255.255"), ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"), ("169.254.0.0", "169.254.255.255"), ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"), ("192.0.2.0", "192.0.2.255"), ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"), ("198.18.0.0", "198.19.255.255"), ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"), ("224.0.0.0", "255.255.255.255"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "last"), EDGES_4)
def test_every_address_of_a_special_ipv4_block_is_not_public_and_its_neighbours_are(first: str, last: str) -> None:
    low, high = IPv4Address(first), IPv4Address(last)
    for inside in (low, high, *(IPv4Address(int(low) + n) for n in (8, 9, 10, 170))):
        assert not is_public(inside), inside
        assert not is_public(IPv6Address(f"::ffff:{inside}"))
    outside = [n for n in (int(low) - 1, int(high) + 1) if 0 <= n < 1 << 32]
    assert all(is_public(IPv4Address(number)) for number in outside)


@pytest.mark.parametrize(
    "text",
    [
        "2001::1", "2001:1::1", "2001:2::1", "2001:20::1", "2001:1ff:ffff::1", "2002:808:808::1", "3fff:fff::1",
        "5f00::1", "4000::1", "100:0:0:1::1", "1fff::1", "::ffff:0:808:808", "64:ff9a::1", "fdff::1", "febf::1",
    ],
)  # fmt: skip
def test_an_ipv6_address_outside_the_public_blocks_is_not_public(text: str) -> None:
    assert not is_public(IPv6Address(text))


def test_ipv6_addresses_next_to_special_blocks_are_public() -> None:
    for text in ("2000::1", "2001:200::1", "2001:db7::1", "2001:db9::1", "2003::1", "3ffe::1", "2a00:1450:4001::1"):
        assert is_public(IPv6Address(text)), text


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
        "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://localhost/", "http://LOCALHOST./", "http://a.localhost/",
        "http://169.254.169.254/latest", "http://[fe80::1%25eth0]/", "ftp://example.com/x", "file:///etc/passwd",
        "http:///x", "http://user@example.com/", "http://user:pw@example.com/", "http://:@example.com/",
        "//example.com/", "http://example.com:99999/", "http://[::1/", "example.com", "", None, 5, ["http://example.com/"],
        "http://exa mple.com/", "http://example.com/a\rb", "http://example.com/" + "x" * 8000,
        "http://xn--/", "http://xn--a/", "http://xn--/x.example/", "http://%31%32%37.0.0.1/", "http://127。0。0。1/",
        "http://example.com:-1/", "http://example.com%2f@127.0.0.1/", "http://8.8.8.8\\@127.0.0.1/",
        "http://bad\u00ad.example/", "http://１２７.0.0.1/", "http://[fe80::1%eth0]/", "http://./", "http://[v1.fe80::a]/",
    ],
)  # fmt: skip
def test_a_bad_url_is_refused_without_a_dns_lookup(url: Any) -> None:
    with pytest.raises(Invalid) as refused:
        judge(url, ())
    assert refused.value.code == "URL_NOT_ALLOWED"
    assert list(refused.value.fields) == ["url"]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.json", "http://8.8.8.8:8080/x", "HTTPS://Example.COM./x?y#z", "http://a_b.example/",
        "http://bücher.example/", "http://xn--bcher-kva.example/", "http://[2606:4700::1111]:8080/", "http://example.com/ü",
    ],
)  # fmt: skip
def test_a_url_of_a_public_host_is_allowed(url: str) -> None:
    assert judge(f" {url} ", ()) == url


def test_only_allowed_hosts_and_their_subdomains_are_allowed() -> None:
    allowed = ("Example.com", "data.example.org")
    for host in ("example.com", "a.b.EXAMPLE.com", "example.com.", "data.example.org"):
        assert judge(f"https://{host}/", allowed)
    for host in (
        "example.org", "badexample.com", "example.com.evil.net", "xdata.example.org", "evil.net%2f.example.com",
        "evil.net\\.example.com", "evil.net;.example.com", "evil.net%00.example.com", "evil.net,.example.com",
        "evil.net&.example.com", "evil.net／.example.com", "example.com:80%40evil.net", "evil.net#.example.com",
        "evil.net?.example.com", "evil.net].example.com", "[evil.net].example.com",
    ):  # fmt: skip
        with pytest.raises(Invalid):
            judge(f"https://{host}/", allowed)
