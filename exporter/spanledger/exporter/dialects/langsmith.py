"""LangSmith's SDK with OpenTelemetry: `langsmith.span.kind` says what a run is.

https://github.com/langchain-ai/langsmith-sdk, `_internal/otel/_otel_exporter.py`: the provider is guessed from the
model's name; details of usage are Python's text of a dict, their names with the tier before them.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from spanledger import attributes as names
from spanledger.exporter.dialects import genai
from spanledger.exporter.dialects.call import OPERATIONS, around, call, words
from spanledger.exporter.dialects.counting import INSIDE, Rule
from spanledger.exporter.dialects.dialect import Attributes

_AROUND: Final = {"chain": "invoke_workflow", "tool": "execute_tool"}

_DETAILS: Final = {
    "gen_ai.usage.input_token_details": {
        "cache_read": "cache_read",
        "cache_creation": "cache_write",
        "ephemeral_5m_input_tokens": "cache_write_5m",
        "ephemeral_1h_input_tokens": "cache_write_1h",
        "audio": "input_audio",
        "image": "input_image",
    },
    "gen_ai.usage.output_token_details": {
        "reasoning": "output_reasoning",
        "audio": "output_audio",
        "image": "output_image",
    },
}
"""Attribute -> LangChain's name of a detail -> part."""

_TIERS: Final = ("priority_", "flex_")

_WORDS: Final = words(
    {
        **genai.TEXTS,
        names.REQUEST_STREAM: ("langsmith.request.streaming",),
        names.WORKFLOW_NAME: ("langsmith.trace.name",),
        names.TOOL_NAME: ("gen_ai.tool.name",),
    },
    {
        **genai.COUNTS,
        **{
            part: (*genai.COUNTS.get(part, ()), f"detail:{part}")
            for details in _DETAILS.values()
            for part in details.values()
        },
    },
    attribution={
        names.SESSION_ID: ("langsmith.metadata.session_id", "langsmith.metadata.thread_id"),
        names.USER_ID: ("langsmith.metadata.user_id",),
        names.AGENT_NAME: ("langsmith.metadata.lc_agent_name",),
    },
    costs=genai.COSTS,
)


def read(attributes: Attributes) -> Attributes | None:
    """Cached tokens are inside the input, as LangChain's `usage_metadata` has it."""
    kind = attributes.get("langsmith.span.kind")
    if kind in _AROUND:
        return around(attributes, _WORDS, _AROUND[kind])
    said = attributes.get(names.OPERATION)
    operation = OPERATIONS.get(said) if type(said) is str else None
    if kind == "embedding":
        operation = "embeddings"
    if operation is None or kind not in (None, "llm", "embedding"):
        return None
    told = _dict(attributes.get("langsmith.metadata.usage_metadata"))  # of LangChain's models
    details = {
        f"detail:{part}": value
        for name, parts in _DETAILS.items()
        for detail, value in (_dict(attributes.get(name)) or told.get(name.removeprefix("gen_ai.usage.")) or {}).items()
        if (part := parts.get(_without_tier(detail))) is not None
    }
    response = attributes.get(names.RESPONSE_ID)
    if type(response) is str and response.startswith(("run-", "run--", "lc_run-")):
        attributes = {name: value for name, value in attributes.items() if name != names.RESPONSE_ID}
    if attributes.get("gen_ai.system") == "langchain":  # it says so where it does not know
        attributes = {name: value for name, value in attributes.items() if name != "gen_ai.system"}
    return call(attributes, _WORDS, operation, Rule(INSIDE), counts=details)


def _without_tier(detail: str) -> str:
    for tier in _TIERS:
        detail = detail.removeprefix(tier)
    return detail


def _dict(text: Any) -> dict[str, Any]:
    """`{'audio': 0, 'cache_read': 1920}`: names and whole numbers, so that JSON reads it."""
    if type(text) is not str:
        return {}
    try:
        found = orjson.loads(text.replace("'", '"'))
    except orjson.JSONDecodeError:
        return {}
    return found if type(found) is dict else {}
