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
        ("Incorrect API key provided: key-0123456789", "key-0123456789"),
        ("gsk_abcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("xai-abcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("hf_abcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("r8_abcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("pa-abcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("csk-abcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("tgp_v1_abcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("AIzaSyabcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("ya29.abcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("ABSKabcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("ghp_abcdefghijklmnop is invalid", "abcdefghijklmnop"),
        ("a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5 is unknown", "c2D3e4"),
        ("for url https://example.com/v1?key=abcdefgh&alt=sse", "abcdefgh"),
        ("see https://token-alone@example.com/", "token-alone"),
        ("Set-Cookie: session=abcdefgh", "abcdefgh"),
        ("Invalid prompt: zebras in pyjamas", "zebras"),
        ("you said 'zebras in pyjamas' twice", "zebras"),
        ("input_value=zebras in pyjamas, input_type=str", "zebras"),
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


def test_what_a_message_echoes_of_the_request_is_masked() -> None:
    request = {
        "model": "gpt-4o",
        "user": "u-jane-17",
        "messages": [{"role": "user", "content": "zebras in pyjamas sing"}],
    }
    message = "gpt-4o will not answer zebras in pyjamas for u-jane-17"
    assert masked(message, request) == "gpt-4o will not answer *** for ***"


@pytest.mark.parametrize(
    "message", ["Invalid prompt: 'a b'", 'said "one two" and `x`', "key sk-abcdefghijk", "x" * 900]
)
def test_masking_what_is_masked_changes_nothing(message: str) -> None:
    assert masked(masked(message)) == masked(message)
