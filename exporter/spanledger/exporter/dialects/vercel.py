"""Vercel's AI SDK: `ai.operationId` says what a span is, an outer span sums up its `.do...` spans.

https://ai-sdk.dev/docs/ai-sdk-core/telemetry. Up to version 5 the counts were the provider's own (for Anthropic and
Bedrock the input without cache, for Gemini the output without thoughts); from 6 on they are sums, and
`inputTokenDetails` splits them. Version 7 can emit the GenAI conventions instead (`@ai-sdk/otel`, scope `gen_ai`).
"""

from __future__ import annotations

from typing import Final

from spanledger import attributes as names
from spanledger.exporter.dialects import genai
from spanledger.exporter.dialects.call import around, call, words
from spanledger.exporter.dialects.counting import INSIDE, NOT_KNOWN, ON_TOP, Rule
from spanledger.exporter.dialects.dialect import Attributes

_OPERATIONS: Final = {
    "doGenerate": "chat",
    "doStream": "chat",
    "doEmbed": "embeddings",
    "doRerank": "rerank",
    "doDecide": "decision",
}

_CONVENTION: Final = {
    "ai.generateSpeech": "speech",
    "ai.transcribe": "transcription",
    "ai.streamTranscribe": "transcription",
}

_INPUT: Final = "ai.usage.inputTokenDetails."
_OUTPUT: Final = "ai.usage.outputTokenDetails."
_ASKED_FOR: Final = "ai.telemetry.metadata."

_WORDS: Final = words(
    {
        **genai.TEXTS,
        names.PROVIDER: ("ai.model.provider", "gen_ai.provider.name", "gen_ai.system"),
        names.REQUEST_MODEL: ("gen_ai.request.model", "ai.model.id"),
        names.RESPONSE_MODEL: ("gen_ai.response.model", "ai.response.model"),
        names.RESPONSE_ID: ("gen_ai.response.id", "ai.response.id"),
        names.FINISH_REASONS: ("gen_ai.response.finish_reasons", "ai.response.finishReason"),
        names.TOOL_NAME: ("ai.toolCall.name",),
    },
    {
        **genai.COUNTS,
        "input": ("ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens", *genai.COUNTS["input"]),
        "output": ("ai.usage.outputTokens", "ai.usage.completionTokens", *genai.COUNTS["output"]),
        "total": ("ai.usage.totalTokens",),
        "cache_read": (_INPUT + "cacheReadTokens", "ai.usage.cachedInputTokens", *genai.COUNTS["cache_read"]),
        "cache_write": (_INPUT + "cacheWriteTokens", *genai.COUNTS["cache_write"]),
        "output_reasoning": (_OUTPUT + "reasoningTokens", "ai.usage.reasoningTokens"),
        "text": (_INPUT + "noCacheTokens", _OUTPUT + "textTokens"),
    },
    attribution={
        names.FEATURE: ("ai.telemetry.functionId",),
        names.USER_ID: (_ASKED_FOR + "userId", _ASKED_FOR + "user_id"),
        names.SESSION_ID: (_ASKED_FOR + "sessionId", _ASKED_FOR + "session_id", _ASKED_FOR + "threadId"),
        names.TENANT: (_ASKED_FOR + "tenantId", _ASKED_FOR + "tenant"),
    },
    prefixes=("ai.usage.",),
)

_COUNT_WITHOUT_CACHE: Final = ("anthropic", "amazon-bedrock", "bedrock", "google-vertex-anthropic", "vertex.anthropic")

_MADE_UP: Final = ("aitxt-", "aiobj-")
"""Ids that the AI SDK makes where the provider gives none."""


def read(attributes: Attributes) -> Attributes | None:
    """The SDK's own attributes, versions 3 to 7."""
    operation_id = attributes.get("ai.operationId")
    if type(operation_id) is not str:
        return genai.read_by(attributes, _WORDS, Rule(INSIDE))
    if operation_id == "ai.toolCall":
        return around(attributes, _WORDS, "execute_tool")
    operation = _OPERATIONS.get(operation_id.rpartition(".")[2])
    if operation is None:
        return around(attributes, _WORDS, "invoke_workflow")
    said = str(attributes.get("ai.model.provider", ""))
    found = {
        **attributes,
        "ai.model.provider": _provider(said),
        names.REQUEST_STREAM: operation_id.endswith(".doStream"),
    }
    for name in ("gen_ai.response.id", "ai.response.id"):
        if str(found.get(name, "")).startswith(_MADE_UP):
            del found[name]
    if any(name.startswith(_INPUT) for name in attributes):
        return call(found, _WORDS, operation, Rule(INSIDE))
    if said.startswith(_COUNT_WITHOUT_CACHE):
        told = "ai.usage.cachedInputTokens" in attributes
        doubt = "the emitter does not tell how many tokens were written to the cache" if told else ""
        return call(found, _WORDS, operation, Rule(ON_TOP, tells_cache=told), doubt=doubt)
    told = "ai.usage.inputTokens" in attributes
    return call(found, _WORDS, operation, Rule(INSIDE, tells_cache=told, reasoning=NOT_KNOWN))


def read_convention(attributes: Attributes) -> Attributes | None:
    """`@ai-sdk/otel`: the GenAI conventions; the span around embeddings has no usage, their own has."""
    said = attributes.get(names.OPERATION)
    if said == "embeddings" and "gen_ai.usage.input_tokens" not in attributes and "error.type" not in attributes:
        return None
    if said == "decide":
        usage = "gen_ai.usage.input_tokens" in attributes
        return call(attributes, _WORDS, "decision", Rule(INSIDE)) if usage else None
    if type(said) is str and said in _CONVENTION:
        return call(attributes, _WORDS, _CONVENTION[said], Rule(INSIDE))
    return genai.read_by(attributes, _WORDS, Rule(INSIDE))


def _provider(said: str) -> str:
    """`openai.responses` as `openai`, `azure-openai.chat` as `azure-openai`, `google.generative-ai` as Gemini."""
    if said.startswith("google.vertex"):
        return "vertex_ai"
    if said.startswith("google"):
        return "gemini"
    return said.partition(".")[0]
