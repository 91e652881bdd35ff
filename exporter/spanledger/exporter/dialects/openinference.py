"""OpenInference (Arize Phoenix): `openinference.span.kind` says what a span is, `llm.*` what a call used.

https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md: `llm.token_count.prompt` includes the
details. No response id, service tier or host is told, except in what is content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from spanledger import attributes as names
from spanledger.exporter.dialects.call import MAY_CACHE, around, call, first, words
from spanledger.exporter.dialects.counting import BY_TOTAL, INSIDE, NOT_KNOWN, Rule
from spanledger.exporter.dialects.dialect import Attributes
from spanledger.pricing.counts import count, mapping

_KIND: Final = "openinference.span.kind"

_OPERATIONS: Final = {"LLM": "chat", "EMBEDDING": "embeddings", "RERANKER": "rerank", "DECISION": "decision"}

_AROUND: Final = {"AGENT": "invoke_agent", "CHAIN": "invoke_workflow", "TOOL": "execute_tool"}

_WORDS: Final = words(
    {
        names.PROVIDER: ("llm.provider", "llm.system"),
        names.REQUEST_MODEL: (
            "llm.request.model_name",
            "llm.model_name",
            "embedding.model_name",
            "reranker.model_name",
            "decision.request.model_name",
            "decision.model_name",
        ),
        names.RESPONSE_MODEL: ("llm.response.model_name", "decision.response.model_name"),
        names.FINISH_REASONS: ("llm.finish_reason",),
        names.TOOL_NAME: ("tool.name",),
        names.AGENT_NAME: ("agent.name",),
        names.WORKFLOW_NAME: ("graph.node.name",),
        names.PROMPT_NAME: ("prompt.name", "prompt.id"),
    },
    {
        "input": ("llm.token_count.prompt", "decision.token_count.input"),
        "output": ("llm.token_count.completion", "decision.token_count.output"),
        "total": ("llm.token_count.total",),
        "cache_read": ("llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_input"),
        "cache_write": ("llm.token_count.prompt_details.cache_write",),
        "input_audio": ("llm.token_count.prompt_details.audio",),
        "output_audio": ("llm.token_count.completion_details.audio",),
        "output_reasoning": ("llm.token_count.completion_details.reasoning",),
    },
    prefixes=("llm.token_count.",),
    costs=("llm.cost.total",),
)

_JSON: Final = "application/json"

_TOOLS: Final = {"web_search_requests": "web_search", "web_fetch_requests": "web_fetch"}


def read(attributes: Attributes) -> Attributes | None:
    """Most of its packages: cached tokens, audio and reasoning are inside, as the convention says."""
    return _read(attributes, Rule(INSIDE))


def read_old_anthropic(attributes: Attributes) -> Attributes | None:
    """openinference-instrumentation-anthropic before 1.0.0: a stream's input is without cache, and tells none.

    Before 0.1.17 so is that of plain calls.
    """
    return _read(attributes, Rule(INSIDE, tells_cache=False))


def read_bedrock(attributes: Attributes) -> Attributes | None:
    """openinference-instrumentation-bedrock: in Converse the cache is inside, in its stream on top of the input.

    The total is Bedrock's own, and tells the two apart. Of InvokeModel it does not tell what was cached.
    """
    told = "llm.token_count.prompt_details.cache_read" in attributes
    return _read(attributes, Rule(BY_TOTAL, tells_cache=told))


def read_cohere(attributes: Attributes) -> Attributes | None:
    """openinference-instrumentation-cohere: tokens as Cohere counts them, not those that it bills."""
    return _read(attributes, Rule(INSIDE), "the emitter gives the tokens of the call, Cohere bills fewer")


def read_without_cache(attributes: Attributes) -> Attributes | None:
    """Packages that do not tell what was cached."""
    return _read(attributes, Rule(INSIDE, tells_cache=False))


def read_where_told(attributes: Attributes) -> Attributes | None:
    """The packages of LlamaIndex and the OpenAI Agents SDK: what was cached is told of some APIs only."""
    if attributes.get(_KIND) == "LLM" and _prepares(attributes):
        return None
    return _read(attributes, Rule(INSIDE, tells_cache="llm.token_count.prompt_details.cache_read" in attributes))


def _prepares(attributes: Attributes) -> bool:
    """LlamaIndex's `_prepare_chat_with_tools` has a span of a call too: its output is the request, as JSON."""
    used = any(name.startswith("llm.token_count.") for name in attributes)
    return not used and "llm.finish_reason" not in attributes and attributes.get("output.mime_type") == _JSON


def read_unknown(attributes: Attributes) -> Attributes | None:
    """Spans of OpenInference's attributes from a scope that nobody knows."""
    return _read(attributes, Rule(NOT_KNOWN, reasoning=NOT_KNOWN))


def _read(attributes: Attributes, rule: Rule, doubt: str = "") -> Attributes | None:
    kind = str(attributes.get(_KIND, "")).upper()
    agent = _agent(attributes)
    if agent:
        attributes = {**attributes, "agent.name": agent}
    if kind in _AROUND:
        return around(attributes, _WORDS, _AROUND[kind])
    operation = _OPERATIONS.get(kind)
    if operation is None:
        return None
    fees: dict[str, int] = {}
    response = _metadata(attributes)
    if response:
        used = mapping(response.get("server_tool_use"))
        for name, part in _TOOLS.items():
            if number := count(used.get(name)):
                fees[part] = number
        if response.get("usage_iterations") and operation in MAY_CACHE:
            doubt = "compactions and other models' iterations are not in the emitter's count"
    if operation == "embeddings" and first(attributes, ("llm.token_count.prompt",)) is None:
        total = attributes.get("llm.token_count.total")
        counts = {"llm.token_count.prompt": total} if total else None
        return call(attributes, _WORDS, operation, rule, counts=counts, doubt=doubt if total else "")
    if "llm.token_count.prompt" not in attributes:
        doubt = ""
    return call(attributes, _WORDS, operation, rule, fees=fees, doubt=doubt)


def _agent(attributes: Attributes) -> str:
    """LangChain's name of the agent that a span is of, in what its package keeps of a run in `metadata`."""
    text = attributes.get("metadata")
    if type(text) is not str or "lc_agent_name" not in text or "agent.name" in attributes:
        return ""
    try:
        return str(mapping(orjson.loads(text)).get("lc_agent_name") or "")
    except orjson.JSONDecodeError:
        return ""


def _metadata(attributes: Attributes) -> Mapping[str, Any]:
    """What the Anthropic package keeps of a response in `metadata`, beside the user's own."""
    text = attributes.get("metadata")
    if type(text) is not str or not ("server_tool_use" in text or "usage_iterations" in text):
        return {}
    try:
        return mapping(orjson.loads(text))
    except orjson.JSONDecodeError:
        return {}
