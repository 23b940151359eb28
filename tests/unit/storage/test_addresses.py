"""No URL that can be seen to lead into a private network is taken, however it is spelt."""

from __future__ import annotations

from ipaddress import ip_address
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
def test_an_address_that_is_not_of_the_public_internet_is_known(text: str) -> None:
    assert not is_public(ip_address(text))


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
    ],
)  # fmt: skip
def test_a_url_that_can_be_judged_at_once_is_refused(url: Any) -> None:
    with pytest.raises(Invalid) as refused:
        judge(url, ())
    assert refused.value.code == "URL_NOT_ALLOWED"
    assert list(refused.value.fields) == ["url"]


@pytest.mark.parametrize("url", ["https://example.com/a.json", "http://8.8.8.8:8080/x", "HTTPS://Example.COM./x?y#z"])
def test_a_url_of_a_public_host_may_be_tried(url: str) -> None:
    assert judge(f" {url} ", ()) == url


def test_only_allowed_hosts_and_those_below_them_may_be_tried() -> None:
    allowed = ("Example.com", "data.example.org")
    for host in ("example.com", "a.b.EXAMPLE.com", "example.com.", "data.example.org"):
        assert judge(f"https://{host}/", allowed)
    for host in ("example.org", "badexample.com", "example.com.evil.net", "xdata.example.org"):
        with pytest.raises(Invalid):
            judge(f"https://{host}/", allowed)
