"""Where ended spans come in: the processor, which the start-up hook installs, and the exporter `spanledger`.

Either is enough; with both, each span still makes its rows once, because both see the very same object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanledger.exporter import ancestors, shipper
from spanledger.exporter.dialects import dialect_of
from spanledger.failures import internal_error
from spanledger.settings import settings, usable

_MARK = "_spanledger_recorded"


def record(span: ReadableSpan) -> None:
    """Put the rows of an ended span into the journal, unless that is done; spans that are no calls are passed over."""
    encode = _encode
    if encode is None:
        scope = span.instrumentation_scope
        if scope is None or dialect_of(scope.name, span.attributes) is None:
            return
        encode = _load_encode()
    if hasattr(span, _MARK):
        return
    rows = encode(span)
    # Claimed only now: a look at `__dict__` slows down every later look at the span.
    if rows and span.__dict__.setdefault(_MARK, mine := object()) is mine:
        shipper.current().append(rows)


_encode: Callable[[ReadableSpan], bytes] | None = None


def _load_encode() -> Callable[[ReadableSpan], bytes]:
    """Rows come with the price book: only where there are calls."""
    global _encode
    from spanledger.exporter.rows import encode

    _encode = encode
    return encode


def prepare(scope: str) -> None:
    """Load what reads the spans of a scope, before the first of them ends: an event loop may wait for its end."""
    if _encode is None:
        _load_encode()
    dialect_of(scope)


class LedgerSpanProcessor(SpanProcessor):
    """Writes a call's rows into the journal before its span's `end` returns, whether the span is sampled or not."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        try:
            ancestors.inherit(span, parent_context)
        except Exception:
            internal_error("looking at a span's parents")

    def on_end(self, span: ReadableSpan) -> None:
        try:
            record(span)
            ancestors.ended(span)
        except Exception:
            internal_error("recording a span")

    def shutdown(self) -> None:
        shipper.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return _force_flush(timeout_millis)


class LedgerSpanExporter(SpanExporter):
    """The exporter `spanledger` of `OTEL_TRACES_EXPORTER`: the rows are in the journal before `export` returns.

    Under a BatchSpanProcessor it sees only sampled spans, later, and not all of them when many end at once; the
    processor has none of these limits.
    """

    def __init__(self) -> None:
        chosen = usable()
        self._enabled = chosen is not None and chosen.enabled

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not self._enabled:
            return SpanExportResult.SUCCESS
        result = SpanExportResult.SUCCESS
        for span in spans:
            try:
                record(span)
            except Exception:
                result = SpanExportResult.FAILURE
                internal_error("recording a span")
        return result

    def shutdown(self) -> None:
        shipper.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return _force_flush(timeout_millis)


def _force_flush(timeout_millis: int) -> bool:
    """Whether the rows are where this process can bring them: in ClickHouse, or sealed for others to load."""
    try:
        if settings().url:
            shipper.flush(timeout_millis / 1000)
        else:
            shipper.seal()
    except shipper.FlushError:
        return False
    except Exception:
        internal_error("flushing the journal")
        return False
    return True
