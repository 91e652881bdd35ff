"""What the front and a worker process say to each other over a socket pair: a request, and its outcome."""

from __future__ import annotations

import struct
from typing import NamedTuple

from spanledger.service.collector.request import ENCODINGS

REQUEST = struct.Struct("!BBI")
"""Form, encoding, length of the body that follows."""

ANSWER = struct.Struct("!II")
"""Lengths of the outcome in JSON and of the request that is to be sent on, which follow."""

OK = "ok"
BAD = "bad"
TOO_LARGE = "too_large"
RETRY = "retry"


class Outcome(NamedTuple):
    """What became of a request.

    Attributes:
        status: `OK` (journaled), `BAD` (no OTLP), `TOO_LARGE`, or `RETRY` (not journaled, and may be sent again).
        message: why not all is well.
        calls: spans that made rows.
        ignored: spans that are no LLM calls.
        rejected: spans that could not be read.
        rows: that were journaled.
    """

    status: str
    message: str = ""
    calls: int = 0
    ignored: int = 0
    rejected: int = 0
    rows: int = 0

    @property
    def spans(self) -> int:
        return self.calls + self.ignored + self.rejected


def request_head(form: int, encoding: str, body: bytes) -> bytes:
    return REQUEST.pack(form, ENCODINGS.index(encoding), len(body))
