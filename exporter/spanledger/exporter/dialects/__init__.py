"""Dialects: each emitter of spans has its own way to say what a call was.

A dialect's reader turns a span's attributes into those of `spanledger.attributes`; from there on all are the same.
A dialect is found by instrumentation scope; where that is not known, by an attribute that only such spans have.
`docs/dialects.md` says of each emitter how it counts. Its module is loaded when the first of its spans ends.
"""

from __future__ import annotations

from importlib import import_module
from itertools import takewhile
from typing import Any, Final, NamedTuple

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
        scope: the scope's name, or what stands before a `.` or `/` in it; of several that fit the longest counts.
        module: the dialect's, in this package, and the ledger's `source`.
        rank: how far it is believed.
        reader: the function of the module that reads it.
        before: only of versions before this one; of several that fit the earliest counts.
    """

    scope: str
    module: str
    rank: int
    reader: str = "read"
    before: str = ""


_EMITTERS: Final = (
    _Emitter(names.SCOPE, "ours", OURS),
    # SDKs' own
    _Emitter("com.anthropic.sdk", "genai", AN_SDKS_OWN, "read_anthropics_own"),
    _Emitter("mistralai_sdk_tracer", "genai", AN_SDKS_OWN, "read_mistrals_own"),
    _Emitter("xai_sdk", "genai", AN_SDKS_OWN, "read_xais_own"),
    _Emitter("azure.ai", "genai", AN_SDKS_OWN, "read_without_cache"),
    _Emitter("azure.core.tracing", "genai", AN_SDKS_OWN, "read_without_cache"),
    _Emitter("Azure.AI", "genai", AN_SDKS_OWN, "read_without_cache"),
    _Emitter("@azure", "genai", AN_SDKS_OWN, "read_without_cache"),
    # OpenTelemetry's
    _Emitter(
        "opentelemetry.instrumentation.botocore.bedrock-runtime", "genai", ANOTHER_INSTRUMENTATION, "read_botocore"
    ),
    _Emitter("opentelemetry.instrumentation.genai", "genai", ANOTHER_INSTRUMENTATION),
    _Emitter("opentelemetry.instrumentation.google_genai", "genai", ANOTHER_INSTRUMENTATION, "read_google"),
    _Emitter("opentelemetry.instrumentation.openai_v2", "genai", ANOTHER_INSTRUMENTATION, "read_without_cache"),
    _Emitter("opentelemetry.util.genai", "genai", ANOTHER_INSTRUMENTATION),
    _Emitter("@opentelemetry/instrumentation-openai", "genai", ANOTHER_INSTRUMENTATION, "read_without_cache"),
    # OpenLLMetry
    *(
        _Emitter(f"opentelemetry.instrumentation.{sdk}", "traceloop", ANOTHER_INSTRUMENTATION)
        for sdk in ("openai", "groq", "vertexai")
    ),
    *(
        _Emitter(f"opentelemetry.instrumentation.{sdk}", "traceloop", ANOTHER_INSTRUMENTATION, "read_without_cache")
        for sdk in (
            *("alephalpha", "mistralai", "ollama", "replicate", "sagemaker"),
            *("together", "transformers", "voyageai", "watsonx", "writer"),
        )
    ),
    _Emitter("opentelemetry.instrumentation.anthropic", "traceloop", ANOTHER_INSTRUMENTATION, "read_anthropic"),
    _Emitter("opentelemetry.instrumentation.bedrock", "traceloop", ANOTHER_INSTRUMENTATION, "read_bedrock"),
    _Emitter("opentelemetry.instrumentation.cohere", "traceloop", ANOTHER_INSTRUMENTATION, "read_cohere"),
    _Emitter("opentelemetry.instrumentation.google_generativeai", "traceloop", ANOTHER_INSTRUMENTATION, "read_gemini"),
    *(
        _Emitter(f"opentelemetry.instrumentation.{framework}", "traceloop", A_FRAMEWORK)
        for framework in ("agno", "crewai", "haystack", "langchain", "llamaindex", "mcp", "openai_agents")
    ),
    _Emitter("traceloop", "traceloop", A_FRAMEWORK),
    _Emitter("@traceloop", "traceloop", ANOTHER_INSTRUMENTATION, "read_without_cache"),
    # OpenLIT
    *(
        _Emitter(f"openlit.instrumentation.{sdk}", "openlit", ANOTHER_INSTRUMENTATION)
        for sdk in ("openai", "groq", "azure_ai_inference", "mistral", "together", "ollama")
    ),
    _Emitter("openlit.instrumentation.anthropic", "openlit", ANOTHER_INSTRUMENTATION, "read_anthropic"),
    _Emitter("openlit.instrumentation.bedrock", "openlit", ANOTHER_INSTRUMENTATION, "read_bedrock"),
    _Emitter("openlit.instrumentation.cohere", "openlit", ANOTHER_INSTRUMENTATION, "read_cohere"),
    _Emitter("openlit.instrumentation.google_ai_studio", "openlit", ANOTHER_INSTRUMENTATION, "read_gemini"),
    _Emitter("openlit.instrumentation.litellm", "openlit", A_GATEWAY, "read_unknown"),
    _Emitter("openlit", "openlit", A_FRAMEWORK, "read_unknown"),
    # OpenInference
    _Emitter("openinference.instrumentation", "openinference", A_FRAMEWORK),
    *(
        _Emitter(f"openinference.instrumentation.{sdk}", "openinference", ANOTHER_INSTRUMENTATION)
        for sdk in ("anthropic", "google_genai", "groq", "openai")
    ),
    *(
        _Emitter(f"openinference.instrumentation.{sdk}", "openinference", ANOTHER_INSTRUMENTATION, "read_without_cache")
        for sdk in ("mistralai", "ollama", "together", "vertexai")
    ),
    _Emitter(
        "openinference.instrumentation.anthropic", "openinference", ANOTHER_INSTRUMENTATION, "read_old_anthropic", "1"
    ),
    _Emitter("openinference.instrumentation.bedrock", "openinference", ANOTHER_INSTRUMENTATION, "read_bedrock"),
    _Emitter("openinference.instrumentation.cohere", "openinference", ANOTHER_INSTRUMENTATION, "read_cohere"),
    _Emitter("openinference.instrumentation.openai_agents", "openinference", A_FRAMEWORK, "read_where_told"),
    _Emitter("openinference.instrumentation.llama_index", "openinference", A_FRAMEWORK, "read_where_told"),
    _Emitter("openinference.instrumentation.litellm", "openinference", A_GATEWAY),
    _Emitter("openinference.instrumentation.portkey", "openinference", A_GATEWAY),
    # frameworks and gateways
    _Emitter("logfire", "logfire", ANOTHER_INSTRUMENTATION),
    _Emitter("pydantic-ai", "logfire", A_FRAMEWORK, "read_pydantic_ai"),
    _Emitter("ai", "vercel", A_FRAMEWORK),
    _Emitter("gen_ai", "vercel", A_FRAMEWORK, "read_convention"),
    _Emitter("langsmith", "langsmith", A_FRAMEWORK),
    _Emitter("langfuse-sdk", "langfuse", A_FRAMEWORK),
    _Emitter("litellm", "litellm", A_GATEWAY),
    _Emitter("semantic_kernel", "semantic_kernel", A_FRAMEWORK),
    _Emitter("Microsoft.SemanticKernel", "semantic_kernel", A_FRAMEWORK),
    _Emitter("@arizeai", "openinference", A_FRAMEWORK),
)

_MARKS: Final = (
    ("openinference.span.kind", "openinference", A_FRAMEWORK, "read_unknown"),
    ("ai.operationId", "vercel", A_FRAMEWORK, "read"),
    ("langfuse.observation.type", "langfuse", A_FRAMEWORK, "read"),
    ("langsmith.span.kind", "langsmith", A_FRAMEWORK, "read"),
    ("traceloop.span.kind", "traceloop", A_FRAMEWORK, "read_unknown"),
    ("llm.request.type", "traceloop", ANOTHER_INSTRUMENTATION, "read_unknown"),
    ("gen_ai.operation.name", "genai", ANOTHER_INSTRUMENTATION, "read_unknown"),
    ("gen_ai.provider.name", "genai", ANOTHER_INSTRUMENTATION, "read_unknown"),
    ("gen_ai.system", "genai", ANOTHER_INSTRUMENTATION, "read_unknown"),
    ("gen_ai.request.model", "genai", ANOTHER_INSTRUMENTATION, "read_unknown"),
)
"""An attribute that tells the dialect of a span whose scope is not known, the surest first."""

SCOPES: Final = tuple(sorted({emitter.scope for emitter in _EMITTERS}))
"""Instrumentation scopes that emit LLM spans: these names, and those that go on after them with a `.` or `/`."""

MARKS: Final = tuple(mark for mark, *_ in _MARKS)
"""Attributes by any of which a span of another scope is recognised as an LLM span."""

_PLUMBING: Final = ("opentelemetry.instrumentation.", "@opentelemetry/instrumentation-", "io.opentelemetry.")
"""Where the scopes of OpenTelemetry's own instrumentations begin: those that are no `_Emitter` emit no LLM spans."""

_ANY_MARK: Final = frozenset(MARKS)

_NEW: Final = object()
_NOT_KNOWN: Final = object()
_BY_VERSION: Final = object()

_by_scope: dict[str, Any] = {}
"""Scope -> its dialect, None where it emits no LLM spans, or one of the objects above."""

_by_version: dict[tuple[str, str], Dialect | None] = {}
_loaded: dict[tuple[str, int, str], Dialect] = {}


def dialect_of(scope: str, attributes: Attributes | None = None, version: str | None = None) -> Dialect | None:
    """The dialect of a span, or None where it is no LLM span that anybody knows.

    Parameters:
        scope: the name of its instrumentation scope.
        attributes: the span's, looked at only where the scope is not known.
        version: that of the scope; without one the emitter's newest is taken.
    """
    found: Any = _by_scope.get(scope, _NEW)
    if found is _NEW:
        found = _learn(scope)
    if found is _NOT_KNOWN:
        if not attributes or _ANY_MARK.isdisjoint(attributes):
            return None
        return next(_load(module, rank, reader) for mark, module, rank, reader in _MARKS if mark in attributes)
    if found is _BY_VERSION:
        key = (scope, version or "")
        found = _by_version.get(key, _NEW)
        if found is _NEW:
            if len(_by_version) >= 1000:
                _by_version.clear()
            found = _by_version.setdefault(key, _load_emitter(_emitter_of(scope, version or "")))
    dialect: Dialect | None = found
    return dialect


def _learn(scope: str) -> Any:
    if len(_by_scope) >= 1000:
        _by_scope.clear()
    emitter = _emitter_of(scope, "")
    if emitter is None:
        return _by_scope.setdefault(scope, None if scope.startswith(_PLUMBING) else _NOT_KNOWN)
    if any(each.before for each in _EMITTERS if each.scope == emitter.scope):
        return _by_scope.setdefault(scope, _BY_VERSION)
    return _by_scope.setdefault(scope, _load_emitter(emitter))


def _load_emitter(emitter: _Emitter | None) -> Dialect | None:
    return None if emitter is None else _load(emitter.module, emitter.rank, emitter.reader)


def within_known(scope: str) -> bool:
    """Whether a scope is of an emitter of LLM spans; its dialect is not loaded for the answer."""
    return any(_within(scope, known) for known in SCOPES)


def _emitter_of(scope: str, version: str) -> _Emitter | None:
    """The one with the longest name that fits, and of its versions the one that holds."""
    fitting = [
        each
        for each in _EMITTERS
        if _within(scope, each.scope) and (not each.before or (version and _ordered(version) < _ordered(each.before)))
    ]
    newest = (1 << 31,)
    return max(
        fitting,
        key=lambda each: (len(each.scope), tuple(-part for part in (_ordered(each.before) if each.before else newest))),
        default=None,
    )


def _within(scope: str, whole: str) -> bool:
    return scope.startswith(whole) and scope[len(whole) : len(whole) + 1] in ("", ".", "/")


def _ordered(version: str) -> tuple[int, ...]:
    """`0.1.17` as (0, 1, 17); a part that is no number counts by the digits that it begins with."""
    return tuple(int("".join(takewhile(str.isdecimal, part)) or 0) for part in version.removeprefix("v").split(".")[:4])


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
    "within_known",
]
