"""Responses and videos made in the background: their usage comes later, when they are retrieved, and is billed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace

from spanledger.attribution import Attribution
from spanledger.instrumentation.span import CallSpan
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.usage import INCOMPLETE, MISSING

_MAX_PENDING = 10_000
_LONGEST_OPTION = 256
_CONTENT = frozenset({"input", "instructions", "negative_prompt", "negativePrompt", "prompt"})


class Pending:
    """The call that created a response whose usage comes later.

    Attributes:
        request: the short options of its request, which tell the length and size of a video, without its prompt.
    """

    __slots__ = ("attribution", "context", "request", "request_model", "start_ns")

    def __init__(self, call: CallSpan, request: Mapping[str, Any]) -> None:
        self.start_ns = call.start_ns
        self.attribution = call.attribution or Attribution()
        self.context = trace.set_span_in_context(call.span)
        self.request_model = call.request_model
        self.request = {name: value for name, value in short_options(request).items() if name not in _CONTENT}


_pending: OrderedDict[str, Pending] = OrderedDict()
_delivered: OrderedDict[str, None] = OrderedDict()


def pending_of(url: str) -> Pending | None:
    """The call that created the response at `.../{id}`; None if it is not known to be pending."""
    return pending_named(url.partition("?")[0].rstrip("/").rpartition("/")[2])


def pending_named(response_id: str) -> Pending | None:
    """The call that created a response; None if it is not known to be pending."""
    return _pending.get(response_id)


def short_options(request: Mapping[str, Any]) -> dict[str, Any]:
    """The short options of a request: nothing of its content is kept for as long as its answer takes."""
    return {
        name: value
        for name, value in request.items()
        if isinstance(value, (int, float)) or (isinstance(value, str) and len(value) <= _LONGEST_OPTION)
    }


def settle(call: CallSpan, reading: Reading, *, poll: bool, request: Mapping[str, Any]) -> None:
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
        _pending[reading.response_id] = Pending(call, request)
        if len(_pending) > _MAX_PENDING:
            _pending.popitem(last=False)
    call.end(reading, not_billed=reading.not_billed)
