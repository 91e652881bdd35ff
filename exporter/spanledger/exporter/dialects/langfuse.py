"""Langfuse's SDKs: `langfuse.observation.type` says what a span is, its usage is a JSON text.

https://github.com/langfuse/langfuse-python, langfuse-js. The usage has the provider's names where the OpenAI wrapper
wrote it, and disjoint `input`, `input_cache_read`, ... where the LangChain handler did.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from spanledger import attributes as names
from spanledger.exporter.dialects import usage_json
from spanledger.exporter.dialects.call import around, call, words
from spanledger.exporter.dialects.dialect import Attributes
from spanledger.pricing.counts import mapping

_OPERATIONS: Final = {"generation": "chat", "embedding": "embeddings"}
_AROUND: Final = {
    "agent": "invoke_agent",
    "chain": "invoke_workflow",
    "tool": "execute_tool",
    "span": "invoke_workflow",
}

_OBSERVATION: Final = "langfuse.observation."

_WORDS: Final = words(
    {
        names.RESPONSE_MODEL: (_OBSERVATION + "model.name",),
        names.RESPONSE_ID: ("id",),
        names.SERVICE_TIER: ("service_tier",),
        names.PROVIDER: ("gen_ai.provider.name", "gen_ai.system"),
        names.PROMPT_NAME: (_OBSERVATION + "prompt.name",),
    },
    usage_json.COUNTS,
    attribution={
        names.USER_ID: ("langfuse.user.id",),
        names.SESSION_ID: ("langfuse.session.id",),
        names.WORKFLOW_NAME: ("langfuse.trace.name",),
    },
    costs=("cost",),
)


def read(attributes: Attributes) -> Attributes | None:
    kind = attributes.get(_OBSERVATION + "type")
    if kind in _AROUND:
        return around(attributes, _WORDS, _AROUND[kind])
    operation = _OPERATIONS.get(kind) if type(kind) is str else None
    if operation is None:
        return None
    usage = usage_json.flat(attributes.get(_OBSERVATION + "usage_details"))
    response = _text(attributes.get(_OBSERVATION + "metadata.id"))
    more = {
        "id": response if type(response) is str and response.startswith("resp_") else "",
        "service_tier": _text(attributes.get(_OBSERVATION + "metadata.service_tier")),
        "cost": mapping(_text(attributes.get(_OBSERVATION + "cost_details"))).get("total"),
    }
    return call({**attributes, **more}, _WORDS, operation, usage_json.rule_of(usage), counts=usage)


def _text(value: Any) -> Any:
    """Langfuse keeps what is no text, and texts of its metadata, as JSON."""
    if type(value) is not str:
        return None
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
