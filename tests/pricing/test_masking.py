"""Error messages are kept without what looks like a secret."""

from __future__ import annotations

import pytest

from spanledger.masking import MAX_MESSAGE, masked


@pytest.mark.parametrize(
    ("message", "secret"),
    [
        ("Incorrect API key provided: sk-proj-abc123DEF456ghi789", "abc123"),
        ("invalid x-api-key: sk-ant-api03-abcdefghijk", "abcdefghijk"),
        ("header Authorization: Bearer abcdefghijklmnop", "abcdefghijklmnop"),
        ("api_key=verysecretvalue was refused", "verysecretvalue"),
        ('{"password": "hunter2hunter2"}', "hunter2"),
        ("cannot reach https://jane:hunter2@proxy:3128/", "hunter2"),
        ("mail jane.doe@example.com for access", "jane"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl expired", "eyJhbGci"),
        ("key AKIAIOSFODNN7EXAMPLE is unknown", "IOSFODNN7"),
        ("digest 0123456789abcdef0123456789abcdef", "0123456789abcdef"),
    ],
)
def test_a_secret_is_masked(message: str, secret: str) -> None:
    assert secret not in masked(message)


def test_an_ordinary_message_stays() -> None:
    message = "This model's maximum context length is 128000 tokens, you asked for 130000."
    assert masked(message) == message


def test_a_long_message_is_cut() -> None:
    assert len(masked("word " * 1000)) == MAX_MESSAGE


def test_lone_surrogates_do_not_survive() -> None:
    masked("bad \ud800 text").encode()
