"""Spans of one call without a parent that links them, as frameworks make them whose spans are no context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanledger import attributes as names
from spanledger.exporter.client import Client
from spanledger.exporter.install import install
from tests.exporter.conftest import CALL, START_NS, Book
from tests.exporter.test_ancestors import bills, journaled

LANGCHAIN = "openinference.instrumentation.langchain"
THEIRS: Mapping[str, Any] = {
    "openinference.span.kind": "LLM",
    "llm.provider": "openai",
    "llm.model_name": "gpt-4o-2024-08-06",
    "llm.token_count.prompt": 2006,
    "llm.token_count.prompt_details.cache_read": 1920,
    "llm.token_count.completion": 300,
}


@pytest.fixture
def provider(ledger_home: Path, book: Book) -> Iterator[TracerProvider]:
    made = TracerProvider(shutdown_on_exit=False)
    install(made)
    yield made
    made.shutdown()


def start(provider: TracerProvider, scope: str, attributes: Mapping[str, Any], at: int, **more: Any) -> Any:
    return provider.get_tracer(scope).start_span("x", attributes={**attributes, **more}, start_time=START_NS + at)


def test_a_frameworks_span_in_a_trace_of_its_own_is_no_bill(
    provider: TracerProvider, ledger_home: Path, ledger: Client
) -> None:
    theirs = start(provider, LANGCHAIN, THEIRS, 100, **{"tenant.id": "acme"})
    ours = start(provider, "spanledger.openai", CALL, 110)
    ours.end(START_NS + 120)
    theirs.end(START_NS + 130)
    (bill,) = bills(ledger_home, ledger)
    assert (bill["source"], bill["tenant"]) == ("spanledger", "acme")
    assert bill["trace_id"] == f"{ours.get_span_context().trace_id:032x}"


def test_the_tool_around_it_is_told_to_the_call(provider: TracerProvider, ledger_home: Path, ledger: Client) -> None:
    tracer = provider.get_tracer(LANGCHAIN)
    tool = {"openinference.span.kind": "TOOL", "tool.name": "weather"}
    with tracer.start_as_current_span("tools", attributes=tool, start_time=START_NS + 90):
        theirs = start(provider, LANGCHAIN, THEIRS, 100)
    start(provider, "spanledger.openai", CALL, 110).end(START_NS + 120)
    theirs.end(START_NS + 130)
    (bill,) = bills(ledger_home, ledger)
    assert (bill["source"], bill["tags"]) == ("spanledger", {"tool": "weather"})
    assert bills(ledger_home, ledger) == [bill]


def test_a_call_that_ends_after_the_frameworks_span(
    provider: TracerProvider, ledger_home: Path, ledger: Client
) -> None:
    """A stream is closed when the framework has had its last chunk."""
    theirs = start(provider, LANGCHAIN, THEIRS, 100)
    ours = start(provider, "spanledger.openai", CALL, 110)
    theirs.end(START_NS + 130)
    ours.end(START_NS + 140)
    assert [row.get("is_deleted", 0) for row in journaled(ledger_home)] == [0, 0, 1]
    (bill,) = bills(ledger_home, ledger)
    assert bill["source"] == "spanledger"


def test_a_lazy_streams_span_may_end_before_the_call_begins(
    provider: TracerProvider, ledger_home: Path, ledger: Client
) -> None:
    theirs = start(provider, LANGCHAIN, THEIRS, 100)
    start(provider, "spanledger.openai", CALL, 140).end(START_NS + 150)
    theirs.end(START_NS + 130)
    (bill,) = bills(ledger_home, ledger)
    assert bill["source"] == "spanledger"


def test_three_who_describe_one_call(provider: TracerProvider, ledger_home: Path, ledger: Client) -> None:
    openai = "openinference.instrumentation.openai"
    outer = start(provider, LANGCHAIN, THEIRS, 100)
    inner = start(provider, openai, THEIRS, 105, **{"llm.model_name": "gpt-4o"})
    start(provider, "spanledger.openai", CALL, 110).end(START_NS + 120)
    inner.end(START_NS + 125)
    outer.end(START_NS + 130)
    (bill,) = bills(ledger_home, ledger)
    assert bill["source"] == "spanledger"


def test_of_two_calls_with_the_same_tokens_each_has_its_own(
    provider: TracerProvider, ledger_home: Path, ledger: Client
) -> None:
    outer = [start(provider, LANGCHAIN, THEIRS, 100 + number) for number in range(2)]
    for number in range(2):
        start(provider, "spanledger.openai", CALL, 110, **{names.RESPONSE_ID: f"chatcmpl-{number:020d}"}).end(
            START_NS + 120
        )
    for span in outer:
        span.end(START_NS + 130)
    assert [bill["source"] for bill in bills(ledger_home, ledger)] == ["spanledger"] * 2


@pytest.mark.parametrize(
    ("started", "more"),
    [
        (125, {}),
        (100, {"llm.token_count.completion": 301}),
        (100, {"llm.model_name": "claude-sonnet-4-5"}),
    ],
    ids=["begun after it", "other tokens", "another model"],
)
def test_another_call_is_a_bill_of_its_own(
    provider: TracerProvider, ledger_home: Path, ledger: Client, started: int, more: dict[str, Any]
) -> None:
    theirs = start(provider, LANGCHAIN, THEIRS, started, **more)
    start(provider, "spanledger.openai", CALL, 110).end(START_NS + 120)
    theirs.end(START_NS + 130)
    assert len(bills(ledger_home, ledger)) == 2


def test_a_second_call_that_ours_did_not_see_stays(provider: TracerProvider, ledger_home: Path, ledger: Client) -> None:
    outer = [start(provider, LANGCHAIN, THEIRS, 100) for _ in range(2)]
    start(provider, "spanledger.openai", CALL, 110).end(START_NS + 120)
    for span in outer:
        span.end(START_NS + 130)
    assert sorted(str(bill["source"]) for bill in bills(ledger_home, ledger)) == ["openinference", "spanledger"]


def test_the_same_call_again_later_is_another(provider: TracerProvider, ledger_home: Path, ledger: Client) -> None:
    start(provider, LANGCHAIN, THEIRS, 100).end(START_NS + 130)
    start(provider, "spanledger.openai", CALL, 140).end(START_NS + 150)
    assert len(bills(ledger_home, ledger)) == 2
