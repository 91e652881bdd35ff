"""`SPANLEDGER_URL`: what it may be, and that its password never shows."""

from __future__ import annotations

import pytest

from spanledger.exporter.client import ClickHouseError, Endpoint, UrlError, connect, parse_url
from tests.conftest import free_port


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://ann:s3cret@ch.example:8443/costs", Endpoint("ch.example", 8443, "ann", "s3cret", "costs", True)),
        ("https://ann:s3cret@ch.example/costs", Endpoint("ch.example", 8443, "ann", "s3cret", "costs", True)),
        ("http://ch.example", Endpoint("ch.example", 8123)),
        ("http://ch.example:9999/", Endpoint("ch.example", 9999)),
        ("http://a%40b:p%3A%2F%3F%23%40@ch.example/d", Endpoint("ch.example", 8123, "a@b", "p:/?#@", "d")),
        (
            "https://ch.example/d?cluster=all%20of",
            Endpoint("ch.example", 8443, database="d", secure=True, cluster="all of"),
        ),
        (" http://[::1]:8123/d ", Endpoint("::1", 8123, database="d")),
    ],
)
def test_urls(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == endpoint


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "begins with 'no scheme'"),
        ("ch.example:8123", "not http or https"),
        ("clickhouse://ann:s3cret@ch.example", "begins with 'clickhouse'"),
        ("https://ann:s3cret@/costs", "names no host"),
        ("https://ann:s3cret@ch.example:port/costs", "port is not a number"),
        ("https://ann:s3cr#et@ch.example/costs", "port is not a number|after . or #"),
        ("https://ann:s3cret@ch.example/costs?verify=false", "after . or #"),
        ("https://ann:s3cret@ch.example/costs?cluster=a&verify=false", "after . or #"),
        ("https://ann:s3cret@ch.example/costs?cluster=", "after . or #"),
        ("https://ann:s3cret@ch.example/costs/more", "'costs/more' is not the name of a database"),
        ("http://ann:s3cret@ch.example:9000/costs", "native port; use the HTTP port"),
        ("http://ann:s3cret@[::1/costs", "malformed"),
    ],
)
def test_wrong_urls_are_refused_without_showing_the_password(url: str, what: str) -> None:
    with pytest.raises(UrlError, match=what) as caught:
        parse_url(url)
    assert str(caught.value).startswith("SPANLEDGER_URL: ")
    assert "s3cr" not in str(caught.value)


def test_an_endpoint_shows_itself_without_its_password() -> None:
    endpoint = parse_url("https://ann:s3cret@ch.example:8443/costs")
    assert str(endpoint) == "https://ann@ch.example:8443/costs"
    assert "s3cret" not in repr(endpoint)


def test_no_answer_is_an_error_that_names_the_place() -> None:
    port = free_port()
    with pytest.raises(ClickHouseError, match=f"no answer.*ann@127.0.0.1:{port}/costs: Connection refused") as caught:
        connect(f"http://ann:s3cret@127.0.0.1:{port}/costs")
    assert caught.value.unreachable
    assert "s3cret" not in str(caught.value)


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(ClickHouseError, match=r"nowhere\.invalid"):
        connect("http://nowhere.invalid:8123/costs")


def test_a_proxy_of_the_environment_is_not_asked_about_loopback(
    ledger: object, clickhouse: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    endpoint = clickhouse.endpoint()  # type: ignore[attr-defined]
    client = connect(endpoint)
    assert client.query("SELECT 1").rows == [(1,)]
    client.close()
