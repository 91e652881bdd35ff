"""A collector that writes to a ClickHouse server settles what it has shipped, whichever collector took the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanledger import attributes as names
from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.settle import settle
from spanledger.exporter.shipper import load_journal
from spanledger.service.collector import settling
from tests.service.collecting import CALL, collector, request

LANGCHAIN = "openinference.instrumentation.langchain"
THEIRS: dict[str, Any] = {
    "openinference.span.kind": "LLM",
    "llm.provider": "openai",
    "llm.model_name": "gpt-4o",
    "llm.token_count.prompt": 2006,
    "llm.token_count.prompt_details.cache_read": 1920,
    "llm.token_count.completion": 300,
}
OURS: dict[str, Any] = {**CALL, names.RESPONSE_ID: "chatcmpl-Zz0123456789abcdef"}


def traced(tell: Callable[[TracerProvider], None]) -> tuple[ReadableSpan, ...]:
    """The spans of a program, in the order in which they end."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tell(provider)
    return memory.get_finished_spans()


def call_in_a_tool(provider: TracerProvider) -> None:
    """LangChain's spans, the call's in a trace of its own, as with its callbacks."""
    theirs, ours = provider.get_tracer(LANGCHAIN), provider.get_tracer("spanledger.openai")
    with theirs.start_as_current_span("tools", attributes={"openinference.span.kind": "TOOL", "tool.name": "weather"}):
        outer = theirs.start_span("ChatOpenAI", attributes=THEIRS)
    ours.start_span("chat gpt-4o", attributes=OURS).end()
    outer.end()


def nested(provider: TracerProvider) -> None:
    theirs, ours = provider.get_tracer(LANGCHAIN), provider.get_tracer("spanledger.openai")
    with theirs.start_as_current_span("ChatOpenAI", attributes={**THEIRS, "user.id": "ann"}):
        ours.start_span("chat gpt-4o", attributes=OURS).end()


def bills(ledger: Client) -> list[tuple[object, ...]]:
    found = ledger.query("SELECT source, user_id, tags['tool'] FROM llm_calls FINAL WHERE line = 0")
    return [tuple(row) for row in found.rows]


def test_a_request_tells_which_spans_are_of_one_call(ledger: Client, tmp_path: Path) -> None:
    with collector(tmp_path / "home") as running:
        running.export(request(traced(call_in_a_tool)))
    load_journal(tmp_path / "home", ledger)
    settle(ledger)
    assert bills(ledger) == [("spanledger", "", "weather")]


@pytest.mark.parametrize("first", [0, 1])
def test_two_collectors_in_either_order_and_settling_in_between(
    ledger: Client, clickhouse: EmbeddedClickHouse, tmp_path: Path, first: int
) -> None:
    """A framework's spans go to one collector, ours to the other."""
    inner, outer = traced(nested)
    endpoint = clickhouse.endpoint()
    assert endpoint is not None
    for number, span in enumerate((inner, outer) if first == 0 else (outer, inner)):
        home = tmp_path / f"home{number}"
        with collector(home) as running:
            running.export(request([span]))
        load_journal(home, ledger)
        settling._settle(endpoint)
    assert bills(ledger) == [("spanledger", "ann", "")]


def test_it_settles_while_rows_come_and_once_after(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    rows = 0

    def settle_it(url: str) -> None:
        if len(done) == 1:
            done.append(0)
            raise RuntimeError("not reached")
        done.append(rows)

    monkeypatch.setattr(settling, "_settle", settle_it)

    async def main() -> None:
        nonlocal rows
        running = asyncio.create_task(settling.keep_settled("http://x", lambda: rows, 0.001))
        rows = 7
        while len(done) < 1:
            await asyncio.sleep(0.001)
        rows = 9
        while len(done) < 3:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        running.cancel()

    asyncio.run(main())
    assert done == [7, 0, 9]
