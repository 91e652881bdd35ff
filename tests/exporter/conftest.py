"""Helpers of the exporter's tests: spans of ours, a pricing function that needs no catalogue, a breakable network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import StatusCode

from spanledger import attributes as names
from spanledger.exporter import arrival
from spanledger.pricing import handoff
from spanledger.pricing.call import Call, Charge
from spanledger.pricing.handoff import Priced
from spanledger.pricing.usage import MISSING

START_NS = 1_795_366_399_721_062_809  # 2026-11-22T16:53:19.721062809Z
END_NS = START_NS + 1_500_000_001

CALL: Mapping[str, Any] = {
    names.OPERATION: "chat",
    names.PROVIDER: "openai",
    names.REQUEST_MODEL: "gpt-4o",
    names.REQUEST_STREAM: False,
    names.RESPONSE_MODEL: "gpt-4o-2024-08-06",
    names.RESPONSE_ID: "chatcmpl-CfJZ0123456789abcdef",
    names.USAGE_STATUS: "reported",
    names.USAGE_PARTS: '{"input":86,"cache_read":1920,"output":300}',
}


class Book:
    """Prices every token at one millionth, in the same way for every model; nothing is known of `unknown`."""

    def price(self, call: Call) -> Charge:
        if call.failed:
            return Charge("not_billed", 0, cost_base_e18=0)
        if call.usage_status == MISSING and not call.parts:
            return Charge("usage_missing", reasons=("no usage",))
        if call.model == "unknown":
            return Charge("unpriced", reasons=("unknown model",))
        parts = {part: int(quantity) * 10**12 for part, quantity in call.parts.items()}
        total = sum(parts.values())
        return Charge("priced", total, parts, "USD", total, "USD", (), call.model, '{"rates":{}}')


class _Capture(SpanProcessor):
    def __init__(self) -> None:
        self.span: ReadableSpan | None = None

    def on_end(self, span: ReadableSpan) -> None:
        self.span = span


Ended = Callable[..., ReadableSpan]


@pytest.fixture
def ended() -> Iterator[Ended]:
    """`ended(attributes, ...)`: a span of ours that has ended, as processors see it."""
    capture = _Capture()
    resource = Resource({"service.name": "shop", "deployment.environment.name": "test"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(capture)
    handed: list[int] = []

    def make(
        attributes: Mapping[str, Any] = CALL,
        *,
        scope: str = "spanledger.openai",
        start: int = START_NS,
        end: int = END_NS,
        priced: list[Priced] | None = None,
        failed: bool = False,
    ) -> ReadableSpan:
        span = provider.get_tracer(scope, "0.1.0").start_span("chat", attributes=attributes, start_time=start)
        if failed:
            span.set_status(StatusCode.ERROR, "it failed")
        span.end(end)
        assert capture.span is not None
        if priced is not None:
            span_id = span.get_span_context().span_id
            handoff.ending[span_id] = priced
            handed.append(span_id)
        return capture.span

    yield make
    for span_id in handed:
        handoff.ending.pop(span_id, None)


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Book:
    """Spans without a charge are priced by `Book`."""
    book = Book()
    monkeypatch.setattr(arrival, "default_book", lambda: book)
    return book


def row(number: int, **columns: str) -> bytes:
    """A row that ClickHouse takes, as the journal has it."""
    more = "".join(f',"{name}":{value}' for name, value in columns.items())
    return f'{{"event_date":"2026-11-22","entry_id":"entry-{number:06d}","line":0,"version":1{more}}}\n'.encode()


def wait(done: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
