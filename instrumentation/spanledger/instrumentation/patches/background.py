"""Responses made in the background: their usage comes later, when they are retrieved, and is billed once."""

from __future__ import annotations

from collections import OrderedDict

from opentelemetry import trace

from spanledger.attribution import Attribution
from spanledger.instrumentation.span import CallSpan
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.usage import INCOMPLETE, MISSING

_MAX_PENDING = 10_000


class Pending:
    """The call that created a response whose usage comes later."""

    __slots__ = ("attribution", "context", "request_model", "start_ns")

    def __init__(self, call: CallSpan) -> None:
        self.start_ns = call.start_ns
        self.attribution = call.attribution or Attribution()
        self.context = trace.set_span_in_context(call.span)
        self.request_model = call.request_model


_pending: OrderedDict[str, Pending] = OrderedDict()
_delivered: OrderedDict[str, None] = OrderedDict()


def pending_of(url: str) -> Pending | None:
    """The call that created the response at `.../{id}`; None if it is not known to be pending."""
    return _pending.get(url.partition("?")[0].rstrip("/").rpartition("/")[2])


def settle(call: CallSpan, reading: Reading, *, poll: bool) -> None:
    """End the call; a retrieved response is a call only where it first delivers a background response's usage."""
    if poll:
        name = reading.response_id
        if reading.usage.status in (INCOMPLETE, MISSING) or not reading.background or name in _delivered:
            call.discard()
            return
        _delivered[name] = None
        _pending.pop(name, None)
        if len(_delivered) > _MAX_PENDING:
            _delivered.popitem(last=False)
    elif reading.pending and reading.response_id:
        _pending[reading.response_id] = Pending(call)
        if len(_pending) > _MAX_PENDING:
            _pending.popitem(last=False)
    call.end(reading)
