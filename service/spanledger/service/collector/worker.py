"""A worker process: requests to rows in the journal, one after the other, until its socket is closed.

It holds no request but the one it reads, and opens no port: the front does.
"""

from __future__ import annotations

import gc
import json
import signal
import socket
import sys
from typing import Any

import orjson

from spanledger.exporter import rows as reader
from spanledger.exporter import unlinked
from spanledger.exporter.shipper import Shipper
from spanledger.failures import internal_error
from spanledger.pricing.book import default_book
from spanledger.service.collector import costs, spans
from spanledger.service.collector.frames import ANSWER, BAD, OK, REQUEST, RETRY, TOO_LARGE, Outcome
from spanledger.service.collector.request import ENCODINGS, BadRequest, TooLarge, parse, unpack
from spanledger.settings import settings

Limits = dict[str, int]

SEGMENT_BYTES = 16 * 2**20
"""Some 8 000 rows: an insert of so many costs ClickHouse half as much a row as one of 2 000."""


def main(descriptor: int, limits: Limits, forwarding: bool) -> None:
    """Serve the front at the other end of the socket.

    Parameters:
        limits: `max_decompressed_bytes`, `max_attributes`, `max_attribute_length`.
        forwarding: hand each request back with costs, to be sent on.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # the front says when it is over
        signal.signal(number, signal.SIG_IGN)
    now = settings()
    shipper = Shipper(
        now.home,
        now.url,
        now.ship_interval,
        SEGMENT_BYTES,
        sync=now.sync,
        max_bytes=now.journal_max_bytes,
        max_age_s=now.journal_max_days * 86_400,
    )
    default_book()
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=descriptor) as front:
        front.sendall(b"+")  # ready
        while head := _receive(front, REQUEST.size):
            form, encoding, length = REQUEST.unpack(head)
            body = _receive(front, length) if length else b""
            if length and not body:
                break
            outcome, onward = take(bytes(body), form, ENCODINGS[encoding], limits, forwarding, shipper)
            text = orjson.dumps(list(outcome))
            front.sendall(b"".join((ANSWER.pack(len(text), len(onward)), text, onward)))
    shipper.close()


def take(
    body: bytes, form: int, encoding: str, limits: Limits, forwarding: bool, shipper: Shipper
) -> tuple[Outcome, bytes]:
    """Journal the calls of a request; what became of it, and what is to be sent on."""
    try:
        unpacked = unpack(body, encoding, limits["max_decompressed_bytes"])
        request = parse(unpacked, form)
    except TooLarge as error:
        return Outcome(TOO_LARGE, str(error)), b""
    except BadRequest as error:
        return Outcome(BAD, str(error)), b""
    outcome, lines = _read(request, limits, forwarding)
    if lines:
        try:
            shipper.put(lines)
        except OSError as error:
            return Outcome(RETRY, f"the journal takes nothing: {error}"), b""
    return outcome, request.SerializeToString() if forwarding else b""


def _read(request: Any, limits: Limits, forwarding: bool) -> tuple[Outcome, bytes]:
    most, longest = limits["max_attributes"], limits["max_attribute_length"]
    lines: list[bytes] = []
    calls = rejected = 0
    reason = ""
    candidates, family, ignored = spans.told(request)
    resource = None
    for one in candidates:
        message = one.message
        if one.resource is not resource:
            resource = one.resource
            unlinked.of_another_process()
        try:
            span = spans.span(one, family, most, longest)
            if forwarding:
                made = reader.read(span)  # type: ignore[arg-type]
                line = reader.lines(made)
                costs.put(message, made)
            else:
                line = reader.encode(span)  # type: ignore[arg-type]
        except spans.Unreadable as error:
            rejected += 1
            reason = reason or f"span {message.span_id.hex() or 'without id'} of {one.scope.name}: {error}"[:500]
            continue
        except Exception:
            internal_error("reading a span that came in")
            rejected += 1
            reason = reason or f"span {message.span_id.hex()} of {one.scope.name} could not be read"[:500]
            continue
        if line:
            calls += 1
            lines.append(line)
        else:
            ignored += 1
    unlinked.of_another_process()
    block = b"".join(lines)
    return Outcome(OK, reason, calls, ignored, rejected, block.count(b"\n")), block


def _receive(front: socket.socket, length: int) -> bytes | bytearray:
    """So many bytes; none where the front has gone."""
    whole = bytearray(length)
    view = memoryview(whole)
    done = 0
    while done < length:
        count = front.recv_into(view[done:])
        if not count:
            return b""
        done += count
    return whole


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3] == "forward")
