"""Which URLs a request may name as `webhookUrl`, and which addresses a webhook may be sent to."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from tests.receivers import WEBHOOK_SECRET
from tests.unit.storage.test_addresses import NOT_PUBLIC
from wherry.errors import Invalid, Misconfigured, UrlNotAllowed
from wherry.jobs.webhook_urls import WebhookUrls
from wherry.settings import load_settings

OPERATORS = "http://10.0.0.5:9000/hook?token=x"
LOOPBACK = ip_address("127.0.0.1")


def urls(**settings: Any) -> WebhookUrls:
    return WebhookUrls(load_settings(webhook_secret=WEBHOOK_SECRET, **settings))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000/", "http://127.1/", "http://0x7f000001/", "http://[::ffff:10.0.0.1]/", "http://localhost/",
        "http://a.localhost/", "https://169.254.169.254/latest", "http://user:pw@hooks.example/", "ftp://hooks.example/",
        "hooks.example", "http://hooks.example/a b", "http://8.8.8.8\\@127.0.0.1/", 5, ["http://hooks.example"],
        "https://hooks.example/" + "x" * 8000, "http://[::1]:80/", "http://hooks.example/\r\nX: y", "http:///", "http://２130706433/",
    ],
)  # fmt: skip
def test_a_url_that_is_not_on_the_public_internet_is_refused(url: object) -> None:
    with pytest.raises(UrlNotAllowed, match=r"^webhookUrl must ") as refused:
        urls().requested(url)
    assert list(refused.value.fields) == ["webhookUrl"]


def test_a_public_url_is_accepted_and_a_missing_one_is_none() -> None:
    assert urls().requested(" https://hooks.example/a?b=c ") == "https://hooks.example/a?b=c"
    assert urls().requested(None) is None
    assert urls().requested("") is None


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_a_webhook_is_not_sent_to_an_address_that_is_not_public(text: str) -> None:
    for allowed in ((), ("other.example",)):
        assert (
            not urls(webhook_allowed_hosts=",".join(allowed)).target("https://hooks.example/").permits(ip_address(text))
        )


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("hooks.example", "http://hooks.example/"),
        ("hooks.example.", "http://a.HOOKS.example:8080/x"),
        ("127.0.0.1", "http://127.0.0.1:9000/"),
        ("localhost", "http://localhost:9000/"),
        ("fd00::7", "http://[fd00::7]/"),
        ("other.example, hooks.example", "https://hooks.example"),
    ],
)
def test_an_allowed_host_may_be_on_a_private_network(allowed: str, url: str) -> None:
    rules = urls(webhook_allowed_hosts=allowed)
    assert rules.requested(url) == url
    assert rules.target(url).permits(LOOPBACK)


@pytest.mark.parametrize("url", ["http://127.1/", "http://10.0.0.5/", "http://evilhooks.example@127.0.0.1/"])
def test_a_private_host_that_is_not_on_the_list_is_refused(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        urls(webhook_allowed_hosts="hooks.example,127.0.0.1").requested(url)


def test_a_host_whose_name_only_ends_like_an_allowed_one_must_be_public() -> None:
    assert not urls(webhook_allowed_hosts="hooks.example").target("http://evilhooks.example/").permits(LOOPBACK)


def test_only_the_operators_url_itself_may_be_private() -> None:
    rules = urls(webhook_url=OPERATORS)
    assert rules.target(OPERATORS).permits(LOOPBACK)
    for other in (OPERATORS + "y", "http://10.0.0.5:9000/", "http://10.0.0.5:9001/hook?token=x"):
        with pytest.raises(UrlNotAllowed):
            rules.target(other)
    with pytest.raises(UrlNotAllowed):
        urls(webhook_url="https://hooks.example/").target(OPERATORS)


def test_the_requested_url_replaces_the_operators() -> None:
    rules = urls(webhook_url=OPERATORS)
    assert rules.of_job("https://hooks.example/") == "https://hooks.example/"
    assert rules.of_job(None) == OPERATORS
    assert urls().of_job(None) is None


def test_a_url_cannot_be_requested_without_a_secret() -> None:
    rules = WebhookUrls(load_settings())
    with pytest.raises(Invalid, match="WEBHOOK_SECRET") as refused:
        rules.requested("https://hooks.example/")
    assert list(refused.value.fields) == ["webhookUrl"]
    assert rules.requested(None) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://hooks.example", "an http or https URL"),
        ("https://user:pw@hooks.example/", "not contain a user name or password"),
        ("https://hooks example/", "without spaces"),
        ("https://[::1/", "an http or https URL"),
        ("http://hooks.example:99999/", "an http or https URL"),
        ("http://.../", "have a host"),
    ],
)
def test_an_operators_url_that_could_not_be_used_stops_the_start(url: str, problem: str) -> None:
    with pytest.raises(Misconfigured, match=f"^WEBHOOK_URL must .*{problem}") as refused:
        urls(webhook_url=url)
    assert "pw" not in str(refused.value)


def test_the_operators_url_needs_a_secret() -> None:
    with pytest.raises(Misconfigured, match=r"^WEBHOOK_SECRET must be set"):
        WebhookUrls(load_settings(webhook_url=OPERATORS))
