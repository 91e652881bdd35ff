"""Dialects: each emitter of spans has its own way to say what a call was.

A dialect's reader turns a span's attributes into those of `spanledger.attributes`; from there on all are the same.
A dialect is found by instrumentation scope; where that is not known, by an attribute that only such spans have.
`docs/dialects.md` says of each emitter how it counts. Its module is loaded when the first of its spans ends.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final, NamedTuple

from spanledger import attributes as names
from spanledger.exporter.dialects.dialect import (
    A_FRAMEWORK,
    A_GATEWAY,
    AN_SDKS_OWN,
    ANOTHER_INSTRUMENTATION,
    OURS,
    SURROUNDINGS,
    Attributes,
    Dialect,
)


class _Emitter(NamedTuple):
    """Who emits spans of a scope.

    Attributes:
        scope: what the scope's name begins with; of several that fit the longest counts.
        module: the dialect's, in this package, and the ledger's `source`.
        rank: how far it is believed.
        reader: the function of the module that reads it.
    """

    scope: str
    module: str
    rank: int
    reader: str = "read"


_EMITTERS: Final = (
    _Emitter(names.SCOPE + ".", "ours", OURS),
    # SDKs' own
    _Emitter("com.anthropic.sdk.", "genai", AN_SDKS_OWN, "read_anthropics_own"),
    _Emitter("mistralai_sdk_tracer", "genai", AN_SDKS_OWN, "read_mistrals_own"),
    _Emitter("xai_sdk.", "genai", AN_SDKS_OWN, "read_xais_own"),
    # OpenTelemetry's
    _Emitter(
        "opentelemetry.instrumentation.botocore.bedrock-runtime", "genai", ANOTHER_INSTRUMENTATION, "read_botocore"
    ),
    _Emitter("opentelemetry.instrumentation.genai.", "genai", ANOTHER_INSTRUMENTATION),
    _Emitter("opentelemetry.instrumentation.google_genai", "genai", ANOTHER_INSTRUMENTATION),
    _Emitter("opentelemetry.instrumentation.openai_v2", "genai", ANOTHER_INSTRUMENTATION, "read_without_cache"),
    _Emitter("opentelemetry.util.genai.", "genai", ANOTHER_INSTRUMENTATION),
    _Emitter("@opentelemetry/instrumentation-openai", "genai", ANOTHER_INSTRUMENTATION, "read_without_cache"),
)

_MARKS: Final = (
    ("gen_ai.operation.name", "genai", ANOTHER_INSTRUMENTATION, "read_unknown"),
    ("gen_ai.provider.name", "genai", ANOTHER_INSTRUMENTATION, "read_unknown"),
    ("gen_ai.system", "genai", ANOTHER_INSTRUMENTATION, "read_unknown"),
    ("gen_ai.request.model", "genai", ANOTHER_INSTRUMENTATION, "read_unknown"),
)
"""An attribute that tells the dialect of a span whose scope is not known, the surest first."""

SCOPES: Final = tuple(sorted({emitter.scope for emitter in _EMITTERS}))
"""What the names of instrumentation scopes begin with that emit LLM spans."""

MARKS: Final = tuple(mark for mark, *_ in _MARKS)
"""Attributes by any of which a span of another scope is recognised as an LLM span."""

_PLUMBING: Final = ("opentelemetry.instrumentation.", "@opentelemetry/instrumentation-", "io.opentelemetry.")
"""Where the scopes of OpenTelemetry's own instrumentations begin: those that are no `_Emitter` emit no LLM spans."""

_ANY_MARK: Final = frozenset(MARKS)
_NOTHING: Final[Attributes] = {}

_by_scope: dict[str, Dialect | None] = {}
_not_known: dict[str, None] = {}
_loaded: dict[tuple[str, int, str], Dialect] = {}


def dialect_of(scope: str, attributes: Attributes | None = _NOTHING) -> Dialect | None:
    """The dialect of a span, or None where it is no LLM span that anybody knows.

    Parameters:
        scope: the name of its instrumentation scope.
        attributes: the span's, looked at only where the scope is not known.
    """
    try:
        return _by_scope[scope]
    except KeyError:
        pass
    if scope not in _not_known:
        if len(_by_scope) + len(_not_known) >= 1000:
            _by_scope.clear()
            _not_known.clear()
        emitter = max(
            (each for each in _EMITTERS if scope.startswith(each.scope)), key=lambda each: len(each.scope), default=None
        )
        if emitter is not None:
            return _by_scope.setdefault(scope, _load(emitter.module, emitter.rank, emitter.reader))
        if scope.startswith(_PLUMBING):
            return _by_scope.setdefault(scope, None)
        _not_known[scope] = None
    if not attributes or _ANY_MARK.isdisjoint(attributes):
        return None
    return next(_load(module, rank, reader) for mark, module, rank, reader in _MARKS if mark in attributes)


def _load(module: str, rank: int, reader: str) -> Dialect:
    key = (module, rank, reader)
    try:
        return _loaded[key]
    except KeyError:
        source = "spanledger" if module == "ours" else module
        dialect = Dialect(source, rank, getattr(import_module(f"{__name__}.{module}"), reader))
        return _loaded.setdefault(key, dialect)


__all__ = [
    "ANOTHER_INSTRUMENTATION",
    "AN_SDKS_OWN",
    "A_FRAMEWORK",
    "A_GATEWAY",
    "MARKS",
    "OURS",
    "SCOPES",
    "SURROUNDINGS",
    "Attributes",
    "Dialect",
    "dialect_of",
]
