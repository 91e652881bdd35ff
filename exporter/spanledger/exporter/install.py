"""Puts the ledger into a tracer provider: what `opentelemetry-instrument` does before any instrumentation starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from spanledger import failures
from spanledger.exporter import ancestors
from spanledger.exporter.dialects import MARKS, within_known
from spanledger.exporter.spans import LedgerSpanProcessor, prepare
from spanledger.settings import SettingsError, usable

logger = logging.getLogger("spanledger")

_MARKS = frozenset(MARKS)


class RecordCalls(Sampler):
    """A sampler that records every LLM call, and leaves the choice of what is exported to the one it wraps.

    A call that is dropped becomes recorded but not sampled: the ledger has its row, the tracing backend does not
    get its span. Everything else is as the wrapped sampler says. A span that is dropped hands on what it lies in.

    Parameters:
        every: every span is recorded, for a tracer whose spans say only later that they are calls.
    """

    def __init__(self, wrapped: Sampler, *, every: bool = False) -> None:
        self.wrapped = wrapped
        self._every = every

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        result = self.wrapped.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if result.decision is not Decision.DROP:
            return result
        if self._every or (attributes and not _MARKS.isdisjoint(attributes)):
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        above = ancestors.within(parent_context)
        if above and getattr(result.trace_state, "above", None) != above:
            return SamplingResult(Decision.DROP, attributes, ancestors.Within(result.trace_state, above))
        return result

    def get_description(self) -> str:
        return f"RecordCalls({self.wrapped.get_description()})"


def pre_instrument() -> None:
    """The `opentelemetry_pre_instrument` hook: install the ledger into the global tracer provider.

    Raises:
        SystemExit: a setting is wrong, and `LLM_USAGE_FAIL_OPEN` is false: OpenTelemetry would only log any other
            error, and run the program unlogged.
    """
    try:
        chosen = usable()
    except SettingsError as error:
        raise SystemExit(f"spanledger: {error}") from None
    if chosen is None or not chosen.enabled:
        return
    failures.fail_open = chosen.fail_open
    try:
        provider = trace.get_tracer_provider()
        if isinstance(provider, TracerProvider):
            install(provider)
        else:
            logger.warning(
                "spanledger: %s is not the OpenTelemetry SDK's tracer provider; no rows are written",
                type(provider).__name__,
            )
    except Exception:
        failures.internal_error("installing the ledger")


def install(provider: TracerProvider) -> None:
    """Write a ledger row for every LLM call whose span `provider` makes; again for the same provider does nothing.

    Tracers keep the sampler that the provider has when they are made; those that are there already are given the
    new one too.
    """
    state: dict[str, Any] = provider.__dict__
    processor = LedgerSpanProcessor()
    if state.setdefault("_spanledger_processor", processor) is not processor:
        return
    samplers = RecordCalls(provider.sampler), RecordCalls(provider.sampler, every=True)
    provider.sampler = samplers[0]
    for tracer in state.get("_tracers", {}).values():
        _sample_by(tracer, *samplers)
    get_tracer = provider.get_tracer

    def get_sampled_tracer(*args: Any, **kwargs: Any) -> trace.Tracer:
        tracer = get_tracer(*args, **kwargs)
        _sample_by(tracer, *samplers)
        return tracer

    provider.get_tracer = get_sampled_tracer  # type: ignore[method-assign]
    provider.add_span_processor(processor)
    _make_first(provider, processor)


def _sample_by(tracer: Any, some: Sampler, every: Sampler) -> None:
    """Frameworks start their spans without a word of what they are: then the tracer's scope tells."""
    scope = getattr(tracer, "_instrumentation_scope", None)
    if scope is None:
        return
    known = within_known(scope.name)
    tracer.sampler = every if known else some
    if known:
        try:
            prepare(scope.name)
        except Exception:
            failures.internal_error("loading what reads spans")


def _make_first(provider: TracerProvider, processor: LedgerSpanProcessor) -> None:
    """Let ours be the first processor to see a span's end: no other then delays its row, or records it in a thread."""
    chain = provider._active_span_processor
    if hasattr(chain, "_lock") and hasattr(chain, "_span_processors"):
        with chain._lock:
            others = tuple(each for each in chain._span_processors if each is not processor)
            chain._span_processors = (processor, *others)
