"""Which LLM spans a span lies in: what tells that two spans describe the same call.

A span knows only its parent's id. Frameworks put chains and tools between their own LLM span and the SDK's, so each
span is given, when it starts, the ids of the spans above it that may speak of the same call.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, TraceState, get_current_span

from spanledger.exporter.dialects import dialect_of

ATTRIBUTE: Final = "_spanledger_ancestors"
"""Of a span object: ids in hex, nearest first; not there where there are none."""

_MOST = 8
_MOST_KEPT = 10_000

_of_running: dict[int, tuple[str, ...]] = {}
"""Span id -> its ancestors: what processors get when a span ends is a copy of it, without our attribute."""

_described: dict[str, None] = {}


class Within(TraceState):
    """A trace state that also tells a dropped span's ancestors in this process: no processor sees such a span."""

    def __init__(self, state: TraceState | None, above: tuple[str, ...]) -> None:
        super().__init__(list(state.items()) if state else None)
        self.above = above


def within(parent_context: Context | None) -> tuple[str, ...]:
    """The spans above one that starts now which are of a scope with a dialect, or of another process; nearest first."""
    parent: Any = get_current_span(parent_context)
    if parent is INVALID_SPAN:
        return ()
    context = parent.get_span_context()
    above: tuple[str, ...] = getattr(parent, ATTRIBUTE, ()) or getattr(context.trace_state, "above", ())
    scope = getattr(parent, "instrumentation_scope", None)
    if context.is_remote or (scope is not None and dialect_of(scope.name, parent.attributes) is not None):
        above = (f"{context.span_id:016x}", *above[: _MOST - 1])
    return above


def inherit(span: Any, parent_context: Context | None) -> None:
    """Note at `span` its ancestors."""
    above = within(parent_context)
    if above:
        setattr(span, ATTRIBUTE, above)
        _keep(_of_running, span.get_span_context().span_id, above)


def of(span: Any) -> tuple[str, ...]:
    """The ids noted at `span`, nearest first."""
    found: tuple[str, ...] = getattr(span, ATTRIBUTE, None) or _of_running.get(span.context.span_id, ())
    return found


def ended(span: Any) -> None:
    """Forget a span that has made its rows."""
    _of_running.pop(span.context.span_id, None)


def describe(above: tuple[str, ...]) -> None:
    """Say that a call with known usage lies in these spans: what they say of it needs no bill."""
    for span_id in above:
        _keep(_described, span_id, None)


def described(span_id: str) -> bool:
    """Whether a call inside this span has a row; asked once, when the span ends."""
    return _described.pop(span_id, _described) is None


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    """Bounded: spans may never end."""
    if len(kept) >= _MOST_KEPT:
        try:
            kept.pop(next(iter(kept)), None)
        except (RuntimeError, StopIteration):  # another thread was quicker
            pass
    kept[key] = value
