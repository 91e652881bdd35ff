"""Processor, exporter and start-up hook: one row a call, in the journal before the call returns, sampled or not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, TraceIdRatioBased

from spanledger import attributes as names
from spanledger import failures
from spanledger.exporter import install as install_module
from spanledger.exporter import shipper, spans
from spanledger.exporter.dialects import MARKS
from spanledger.exporter.install import RecordCalls, install, pre_instrument
from spanledger.exporter.spans import LedgerSpanExporter
from spanledger.settings import settings
from tests.exporter.conftest import CALL, Book


@pytest.fixture(autouse=True)
def _no_catalogue(book: Book) -> None:
    pass


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider
    provider.shutdown()


def journal(home: Path) -> list[dict[str, Any]]:
    """The rows on disk, now."""
    return [
        orjson.loads(line)
        for path in sorted((home / "journal").glob("*"))
        for line in path.read_bytes().split(b"\n")
        if line
    ]


def call(provider: TracerProvider, scope: str = "spanledger.openai", **more: Any) -> None:
    provider.get_tracer(scope).start_span("chat", attributes={**CALL, **more}).end()


def test_the_row_is_on_disk_when_the_span_has_ended(ledger_home: Path, provider: TracerProvider) -> None:
    install(provider)
    call(provider)
    (row,) = journal(ledger_home)
    assert row["response_id"] == CALL[names.RESPONSE_ID]
    assert row["cost"] == "0.002306000000000000"


def test_installing_twice_makes_one_row(ledger_home: Path, provider: TracerProvider) -> None:
    install(provider)
    install(provider)
    call(provider)
    assert len(journal(ledger_home)) == 1


@pytest.mark.parametrize("order", ["processor first", "exporter first"])
@pytest.mark.parametrize("kind", [SimpleSpanProcessor, BatchSpanProcessor])
def test_with_processor_and_exporter_each_call_is_one_row(
    ledger_home: Path, provider: TracerProvider, kind: type[Any], order: str
) -> None:
    if order == "processor first":
        install(provider)
    provider.add_span_processor(kind(LedgerSpanExporter()))
    if order == "exporter first":
        install(provider)
    for number in range(50):
        call(provider, **{names.RESPONSE_ID: f"chatcmpl-{number:020d}"})
        assert len(journal(ledger_home)) == number + 1
    provider.force_flush()
    provider.shutdown()
    assert len(journal(ledger_home)) == 50


def test_the_exporter_alone_has_the_rows_on_disk_when_export_returns(
    ledger_home: Path, provider: TracerProvider
) -> None:
    provider.add_span_processor(SimpleSpanProcessor(LedgerSpanExporter()))
    call(provider)
    assert len(journal(ledger_home)) == 1


def test_the_exporter_under_a_batch_processor_has_them_after_a_flush(
    ledger_home: Path, provider: TracerProvider
) -> None:
    provider.add_span_processor(BatchSpanProcessor(LedgerSpanExporter()))
    for _ in range(5):
        call(provider)
    assert provider.force_flush()
    assert len(journal(ledger_home)) == 5


def test_other_processors_come_after_ours(ledger_home: Path, provider: TracerProvider) -> None:
    """A slow or failing one does not stand between a call and its row."""
    seen: list[int] = []

    class Other(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            seen.append(len(journal(ledger_home)))

    provider.add_span_processor(Other())
    install(provider)
    call(provider)
    assert seen == [1]


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF), TraceIdRatioBased(0.0)])
def test_calls_that_are_not_sampled_are_rows_and_not_exported(ledger_home: Path, sampler: Any) -> None:
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    exported = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    early = provider.get_tracer("spanledger.anthropic")  # made before: it has kept the provider's sampler
    install(provider)
    call(provider)
    span = early.start_span("chat", attributes=CALL)
    assert span.is_recording()
    assert not span.get_span_context().trace_flags.sampled
    span.end()
    assert len(journal(ledger_home)) == 2
    assert exported.get_finished_spans() == ()

    other = provider.get_tracer("app").start_span("work", attributes={"http.method": "GET"})
    assert not other.is_recording()
    provider.shutdown()


THEIRS: Mapping[str, Any] = {
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 5,
}


@pytest.mark.parametrize("mark", MARKS)
def test_a_span_that_starts_with_a_dialects_mark_is_recorded(ledger_home: Path, mark: str) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    install(provider)
    span = provider.get_tracer("an emitter that nobody knows").start_span("x", attributes={"a": 1, mark: "chat"})
    assert span.is_recording()
    assert not span.get_span_context().trace_flags.sampled


@pytest.mark.parametrize("early", [True, False])
def test_a_known_emitters_span_may_say_later_what_it_is(ledger_home: Path, early: bool) -> None:
    """LangChain's and LlamaIndex's get their attributes when they end."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    exported = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    scope = "opentelemetry.instrumentation.openai_v2"
    before = provider.get_tracer(scope)
    install(provider)
    span = (before if early else provider.get_tracer(scope, "2")).start_span("chat")
    span.set_attributes({"gen_ai.operation.name": "chat", **THEIRS})
    span.end()
    (row,) = journal(ledger_home)
    assert (row["input_tokens"], row["output_tokens"]) == (7, 5)
    assert exported.get_finished_spans() == ()


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("parent_based", [False, True])
def test_the_ledger_has_every_call_and_the_exporter_what_the_sampler_says(
    ledger_home: Path, ratio: float, parent_based: bool
) -> None:
    wrapped: Any = TraceIdRatioBased(ratio)
    wrapped = ParentBased(wrapped) if parent_based else wrapped
    provider = TracerProvider(sampler=wrapped, shutdown_on_exit=False)
    exported = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    install(provider)
    web, ours = provider.get_tracer("web"), provider.get_tracer("spanledger.openai")
    expected = set()
    for number in range(40):
        with web.start_as_current_span("GET /") as root:
            response_id = f"chatcmpl-{number:020d}"
            attributes = {**CALL, names.RESPONSE_ID: response_id, names.COST: "0.002306"}
            ours.start_span("chat", attributes=attributes).end()
            if wrapped.should_sample(None, root.get_span_context().trace_id, "GET /").decision is not Decision.DROP:
                expected.add(response_id)
    rows = {row["response_id"]: row for row in journal(ledger_home)}
    assert len(rows) == 40
    calls = [dict(span.attributes or {}) for span in exported.get_finished_spans() if span.name == "chat"]
    assert {span[names.RESPONSE_ID] for span in calls} == expected
    for span in calls:
        assert Decimal(str(span[names.COST])) == Decimal(rows[str(span[names.RESPONSE_ID])]["cost"])


def test_spans_that_are_dropped_do_not_hide_what_a_call_lies_in(ledger_home: Path) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    install(provider)
    web, ours = provider.get_tracer("web"), provider.get_tracer("spanledger.openai")
    remote = trace.SpanContext(0xABC, 0xDEF, is_remote=True, trace_state=trace.TraceState([("a", "b")]))
    context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    with web.start_as_current_span("POST /", context=context) as dropped:
        assert not dropped.is_recording()
        assert dropped.get_span_context().trace_state.to_header() == "a=b"
        with provider.get_tracer("com.anthropic.sdk.python").start_as_current_span("chat") as outer:
            with web.start_as_current_span("a"), web.start_as_current_span("b"):
                ours.start_span("chat", attributes=CALL).end()
    row = next(row for row in journal(ledger_home) if row["scope"] == "spanledger.openai")
    assert row["ancestor_span_ids"] == [f"{outer.get_span_context().span_id:016x}", f"{0xDEF:016x}"]


def test_the_sampler_says_nothing_new_about_other_spans() -> None:
    for wrapped in (ALWAYS_ON, ALWAYS_OFF):
        sampler = RecordCalls(wrapped)
        for attributes in (None, {}, {"a": 1}):
            context: Context | None = None
            ours = sampler.should_sample(context, 1, "x", attributes=attributes)
            theirs = wrapped.should_sample(context, 1, "x", attributes=attributes)
            assert (ours.decision, ours.attributes) == (theirs.decision, theirs.attributes)
    assert RecordCalls(ALWAYS_ON).should_sample(None, 1, "x", attributes=CALL).decision is Decision.RECORD_AND_SAMPLE
    assert "AlwaysOffSampler" in RecordCalls(ALWAYS_OFF).get_description()


def test_an_error_of_ours_never_reaches_the_program(
    ledger_home: Path, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(span: ReadableSpan) -> Sequence[Any]:
        raise RuntimeError("a defect")

    monkeypatch.setattr(spans, "_encode", broken)
    monkeypatch.setattr(failures, "_last", {})
    install(provider)
    call(provider)
    assert "recording a span failed" in caplog.text
    exporter = LedgerSpanExporter()
    exported = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    call(provider)
    (span,) = exported.get_finished_spans()
    assert exporter.export([span]) is SpanExportResult.FAILURE

    monkeypatch.setattr(failures, "fail_open", False)
    with pytest.raises(RuntimeError, match="a defect"):
        call(provider)


def test_a_processor_that_is_shut_down_still_takes_rows(ledger_home: Path, provider: TracerProvider) -> None:
    """Streams that end at exit come after the provider's shutdown."""
    install(provider)
    tracer = provider.get_tracer("spanledger.openai")
    late = tracer.start_span("chat", attributes=CALL)
    call(provider)
    provider.shutdown()
    late.end()
    shipper.close()
    assert len(journal(ledger_home)) == 2
    assert [path.suffix for path in (ledger_home / "journal").iterdir()] == [".block", ".block"]


# ---- the start-up hook


def test_the_hook_installs_into_the_global_provider(
    ledger_home: Path, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    pre_instrument()
    pre_instrument()
    call(provider)
    assert len(journal(ledger_home)) == 1


def test_switched_off_it_does_nothing(
    ledger_home: Path, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_USAGE_LOGGING_ENABLED", "false")
    settings.cache_clear()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    sampler = provider.sampler
    pre_instrument()
    provider.add_span_processor(SimpleSpanProcessor(LedgerSpanExporter()))
    call(provider)
    provider.force_flush()
    assert provider.sampler is sampler
    assert not ledger_home.exists()


def test_a_provider_that_is_not_the_sdks_is_said(
    ledger_home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
    pre_instrument()
    assert "NoOpTracerProvider is not the OpenTelemetry SDK's" in caplog.text


def test_a_wrong_setting_stops_nobody_unless_asked_to(
    ledger_home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SPANLEDGER_SHIP_INTERVAL", "soon")
    settings.cache_clear()
    pre_instrument()
    assert "SPANLEDGER_SHIP_INTERVAL='soon'" in caplog.text
    assert LedgerSpanExporter().export([]) is SpanExportResult.SUCCESS
    monkeypatch.setenv("LLM_USAGE_FAIL_OPEN", "false")
    settings.cache_clear()
    with pytest.raises(SystemExit, match="SPANLEDGER_SHIP_INTERVAL='soon'"):
        pre_instrument()


def test_fail_open_is_taken_from_the_settings(
    ledger_home: Path, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "fail_open", True)
    monkeypatch.setenv("LLM_USAGE_FAIL_OPEN", "false")
    settings.cache_clear()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    pre_instrument()
    assert failures.fail_open is False
    monkeypatch.setattr(install_module, "install", lambda provider: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pre_instrument()


def test_the_hook_imports_nothing_heavy() -> None:
    code = """
        import sys
        from opentelemetry.sdk._configuration import _OTelSDKConfigurator
        import opentelemetry.trace
        before = set(sys.modules)
        from spanledger.exporter.install import pre_instrument
        pre_instrument()
        heavy = {"yaml", "hashlib", "clickhouse_connect", "chdb", "orjson", "numpy", "asyncio", "sqlite3"}
        print(sorted((set(sys.modules) - before) & heavy))
        print(sorted(name for name in set(sys.modules) - before if name.startswith("spanledger.pricing")))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SPANLEDGER_HOME": "/nonexistent"},
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_what_reads_spans_is_loaded_before_the_first_of_them_ends() -> None:
    """With the tracer that an SDK's patch takes: the end of a call may be on an event loop."""
    code = """
        import sys
        from opentelemetry.sdk.trace import TracerProvider
        from spanledger.exporter.install import install
        provider = TracerProvider()
        install(provider)
        for scope in ("app", "opentelemetry.instrumentation.httpx", "spanledger.openai"):
            provider.get_tracer(scope)
            print([f"spanledger.exporter.{name}" in sys.modules for name in ("rows", "dialects.ours")])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines() == ["[False, False]", "[False, False]", "[True, True]"]


def test_bare_opentelemetry_instrument_writes_rows(ledger_home: Path) -> None:
    """Whatever the exporters are: here none, and every span dropped."""
    program = """
        from opentelemetry import trace
        from tests.exporter.conftest import CALL
        trace.get_tracer("spanledger.openai").start_span("chat", attributes=CALL).end()
    """
    subprocess.run(
        [
            str(Path(sys.executable).with_name("opentelemetry-instrument")),
            *("--traces_exporter", "none", "--metrics_exporter", "none", "--logs_exporter", "none"),
            sys.executable,
            *("-c", textwrap.dedent(program)),
        ],
        check=True,
        env={**os.environ, "OTEL_TRACES_SAMPLER": "always_off", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert len(journal(ledger_home)) == 1
    assert [path.suffix for path in (ledger_home / "journal").iterdir()] == [".block"]
