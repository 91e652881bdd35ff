"""OpenLLMetry (Traceloop): the GenAI conventions with names of its own, current and older.

https://github.com/traceloop/openllmetry. `traceloop.span.kind` marks what is around calls; `llm.request.type` said
what a call was before `gen_ai.operation.name` did.
"""

from __future__ import annotations

from typing import Final

from spanledger import attributes as names
from spanledger.exporter.dialects import genai
from spanledger.exporter.dialects.call import OPERATIONS, around, call, first, words
from spanledger.exporter.dialects.counting import INSIDE, NOT_KNOWN, ON_TOP, Rule
from spanledger.exporter.dialects.dialect import Attributes

_AROUND: Final = {
    "agent": "invoke_agent",
    "workflow": "invoke_workflow",
    "task": "invoke_workflow",
    "tool": "execute_tool",
}

_PROPERTIES: Final = "traceloop.association.properties."

_WORDS: Final = words(
    {
        **genai.TEXTS,
        names.REQUEST_STREAM: ("gen_ai.is_streaming", "gen_ai.request.stream", "llm.is_streaming"),
        names.TOOL_NAME: (),
        names.WORKFLOW_NAME: ("traceloop.workflow.name",),
        names.PROMPT_NAME: ("traceloop.prompt.key",),
    },
    {
        **genai.COUNTS,
        "output_reasoning": (*genai.COUNTS["output_reasoning"], "llm.usage.reasoning_tokens"),
        "cache_read": (*genai.COUNTS["cache_read"], "llm.usage.cache_read_input_tokens"),
        "cache_write": (*genai.COUNTS["cache_write"], "llm.usage.cache_creation_input_tokens"),
    },
    attribution={
        names.USER_ID: (_PROPERTIES + "user_id", _PROPERTIES + "user.id", "gen_ai.user"),
        names.SESSION_ID: (_PROPERTIES + "session_id", _PROPERTIES + "session.id", _PROPERTIES + "chat_id"),
        names.TENANT: (_PROPERTIES + "tenant_id", _PROPERTIES + "tenant"),
    },
    prefixes=("gen_ai.usage.", "llm.usage."),
    costs=genai.COSTS,
)


def read(attributes: Attributes) -> Attributes | None:
    """Most of its packages: cached tokens are inside the input, reasoning inside the output."""
    return _read(attributes, Rule(INSIDE))


def read_anthropic(attributes: Attributes) -> Attributes | None:
    """opentelemetry-instrumentation-anthropic: it adds up a stream's cumulative counts, and keeps its first input."""
    streamed = attributes.get("gen_ai.is_streaming") is True
    return _read(attributes, Rule(INSIDE), "the emitter adds up a stream's cumulative counts" if streamed else "")


def read_bedrock(attributes: Attributes) -> Attributes | None:
    """Bedrock's own counts: cached tokens on top of the input; of InvokeModel it does not tell them."""
    return _read(attributes, Rule(ON_TOP, tells_cache="gen_ai.usage.cache_read.input_tokens" in attributes))


def read_gemini(attributes: Attributes) -> Attributes | None:
    """Gemini's candidates as output: thoughts, and what tools added, are in the total alone."""
    return _read(attributes, Rule(INSIDE, rest="output_reasoning"))


def read_without_cache(attributes: Attributes) -> Attributes | None:
    """Packages that do not tell what was cached."""
    return _read(attributes, Rule(INSIDE, tells_cache=False))


def read_cohere(attributes: Attributes) -> Attributes | None:
    """Cohere's tokens, which are more than those that it bills."""
    return _read(attributes, Rule(INSIDE), "the emitter gives the tokens of the call, Cohere bills fewer")


def read_unknown(attributes: Attributes) -> Attributes | None:
    """Spans of OpenLLMetry's attributes from a scope that nobody knows."""
    return _read(attributes, Rule(NOT_KNOWN, reasoning=NOT_KNOWN))


def _read(attributes: Attributes, rule: Rule, doubt: str = "") -> Attributes | None:
    said = first(attributes, (names.OPERATION, "llm.request.type"))
    operation = OPERATIONS.get(said) if type(said) is str else None
    if operation is not None:
        if doubt and first(attributes, genai.COUNTS["input"]) is None:
            doubt = ""
        return call(attributes, _WORDS, operation, rule, doubt=doubt)
    kind = attributes.get("traceloop.span.kind")
    if type(kind) is str and kind in _AROUND:
        operation = _AROUND[kind]
        name = "agent" if kind == "agent" else "tool" if kind == "tool" else ""
        entity = attributes.get("traceloop.entity.name")
        if name and entity:
            attributes = {f"gen_ai.{name}.name": entity, **attributes}
        return around(attributes, _WORDS, operation)
    return genai.read_by(attributes, _WORDS, rule)
