"""What an error of an SDK with an HTTP client of its own says about the bill."""

from __future__ import annotations

import httpx
import pytest

from spanledger.instrumentation.patches.http_call import may_be_billed
from spanledger.instrumentation.stream import BodyReader
from spanledger.instrumentation.wire.reading import Reading


class Refused(Exception):
    status_code = 429


class Wrapped(Exception):
    """What an SDK makes of its HTTP client's errors."""


def raised(error: BaseException, cause: BaseException | None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "cause", "billed"),
    [
        (Refused(), None, False),
        (Wrapped(), Refused(), False),
        (Wrapped(), httpx.ConnectError("refused"), False),
        (Wrapped(), httpx.ReadTimeout("timed out"), True),
        (httpx.ReadTimeout("timed out"), None, True),
        (ValueError("raised before anything was sent"), None, False),
        (KeyboardInterrupt(), None, True),
    ],
)
def test_what_may_be_billed(error: BaseException, cause: BaseException | None, billed: bool) -> None:
    assert may_be_billed(raised(error, cause)) is billed


def test_an_earlier_error_of_the_program_says_nothing() -> None:
    try:
        raise Refused()
    except Refused:
        later = raised(httpx.ReadTimeout("timed out"), None)
    later.__suppress_context__ = False
    assert isinstance(later.__context__, Refused)
    assert may_be_billed(later)


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        ([b" ", b'{"a"', b":1}"], b' {"a":1}'),
        ([b"[1", b"]"], b"[1]"),
        ([b"\xff\xf3\x44", b'{"sound"'], b""),
        ([b"RIFF"], b""),
    ],
)
def test_of_bodies_that_a_program_reads_only_json_is_kept(pieces: list[bytes], kept: bytes) -> None:
    read: list[bytes] = []
    reader = BodyReader(lambda body: read.append(body) or Reading())  # type: ignore[func-returns-value]
    for piece in pieces:
        reader.feed(piece)
    reader.reading()
    assert read == [kept]
