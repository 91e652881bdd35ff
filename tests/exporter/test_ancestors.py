"""Which spans a call lies in, as the processor sees it in a real program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from spanledger import attributes as names
from spanledger.exporter import shipper
from spanledger.exporter.client import Client
from spanledger.exporter.install import install
from spanledger.exporter.settle import settle
from tests.exporter.conftest import CALL, Book

FRAMEWORK = "com.anthropic.sdk.python"
NO_ID = {**CALL, names.RESPONSE_ID: ""}


@pytest.fixture
def provider(ledger_home: Path, book: Book) -> Iterator[TracerProvider]:
    made = TracerProvider(shutdown_on_exit=False)
    install(made)
    yield made
    made.shutdown()


def bills(home: Path, ledger: Client) -> list[dict[str, object]]:
    shipper.seal()
    shipper.load_journal(home, ledger)
    settle(ledger)
    found = ledger.query("SELECT * FROM llm_calls FINAL ORDER BY start_time")
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def journaled(home: Path) -> list[dict[str, object]]:
    shipper.seal()
    return [
        orjson.loads(line) for path in (home / "journal").glob("*.block") for line in path.read_bytes().splitlines()
    ]


def test_a_describer_without_an_id_around_a_call_is_no_bill_from_the_start(
    provider: TracerProvider, ledger_home: Path, ledger: Client
) -> None:
    theirs, chain, ours = (provider.get_tracer(name) for name in (FRAMEWORK, "a chain", "spanledger.openai"))
    with theirs.start_as_current_span("chat", attributes={**NO_ID, names.TENANT: "acme"}) as outer:
        with chain.start_as_current_span("chain"):
            with ours.start_as_current_span("chat", attributes=CALL) as inner:
                pass
    rows = {row["span_id"]: row for row in journaled(ledger_home)}
    outer_id, inner_id = (f"{span.get_span_context().span_id:016x}" for span in (outer, inner))
    assert rows[inner_id]["ancestor_span_ids"] == [outer_id]
    assert rows[outer_id]["is_deleted"] == 1
    assert "is_deleted" not in rows[inner_id]
    (bill,) = bills(ledger_home, ledger)
    assert (bill["span_id"], bill["tenant"]) == (inner_id, "acme")


def test_a_describer_inside_our_call_is_no_bill(provider: TracerProvider, ledger_home: Path, ledger: Client) -> None:
    theirs, ours = provider.get_tracer(FRAMEWORK), provider.get_tracer("spanledger.openai")
    with ours.start_as_current_span("chat", attributes=CALL) as outer:
        with theirs.start_as_current_span("chat", attributes=NO_ID):
            pass
    (bill,) = bills(ledger_home, ledger)
    assert bill["span_id"] == f"{outer.get_span_context().span_id:016x}"


def test_a_call_without_usage_leaves_the_bill_to_the_span_around_it(
    provider: TracerProvider, ledger_home: Path, ledger: Client
) -> None:
    theirs, ours = provider.get_tracer(FRAMEWORK), provider.get_tracer("spanledger.openai")
    nothing = {**CALL, names.USAGE_PARTS: "{}", names.USAGE_STATUS: "missing"}
    usage = {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 7}
    with theirs.start_as_current_span("chat", attributes={**NO_ID, **usage}) as outer:
        with ours.start_as_current_span("chat", attributes=nothing):
            pass
    (bill,) = bills(ledger_home, ledger)
    assert bill["span_id"] == f"{outer.get_span_context().span_id:016x}"
    assert bill["usage_status"] != "missing"


def test_a_parent_in_another_process_is_an_ancestor_of_all_below(provider: TracerProvider, ledger_home: Path) -> None:
    remote = trace.SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=trace.TraceFlags(1))
    context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    web, ours = provider.get_tracer("a web framework"), provider.get_tracer("spanledger.openai")
    with web.start_as_current_span("POST /ask", context=context):
        with ours.start_as_current_span("chat", attributes=CALL):
            pass
    (row,) = journaled(ledger_home)
    assert row["ancestor_span_ids"] == [f"{0xDEF:016x}"]
    assert row["trace_id"] == f"{0xABC:032x}"


def test_a_call_on_its_own_has_no_ancestors(provider: TracerProvider, ledger_home: Path) -> None:
    web, ours = provider.get_tracer("a web framework"), provider.get_tracer("spanledger.openai")
    with web.start_as_current_span("GET /"), ours.start_as_current_span("chat", attributes=CALL):
        pass
    (row,) = journaled(ledger_home)
    assert "ancestor_span_ids" not in row


def test_a_dropped_span_around_a_call_does_no_harm(ledger_home: Path, book: Book) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    install(provider)
    web, ours = provider.get_tracer("a web framework"), provider.get_tracer("spanledger.openai")
    with web.start_as_current_span("GET /"), ours.start_as_current_span("chat", attributes=CALL):
        pass
    assert len(journaled(ledger_home)) == 1
    provider.shutdown()
