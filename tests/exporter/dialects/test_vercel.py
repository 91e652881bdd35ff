"""Vercel's AI SDK 4 to 7: each version's attributes, with the sums."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger import attributes as names
from spanledger.exporter.dialects import A_FRAMEWORK, dialect_of
from tests.exporter.dialects.reading import a_call, parts, read

V6: dict[str, Any] = {
    "operation.name": "ai.generateText.doGenerate",
    "ai.operationId": "ai.generateText.doGenerate",
    "ai.model.provider": "openai.responses",
    "ai.model.id": "gpt-4o",
    "ai.prompt.messages": "[the words of the user]",
    "ai.response.text": "the answer",
    "ai.response.id": "resp_04907f5d3de791830068fbaa19bb908195a91378279dba0f14",
    "ai.response.model": "gpt-4o-2024-08-06",
    "ai.response.finishReason": "stop",
    "ai.telemetry.functionId": "summary",
    "ai.telemetry.metadata.userId": "ann",
    "ai.telemetry.metadata.sessionId": "s1",
    "ai.usage.inputTokens": 2006,
    "ai.usage.inputTokenDetails.noCacheTokens": 86,
    "ai.usage.inputTokenDetails.cacheReadTokens": 1920,
    "ai.usage.outputTokens": 300,
    "ai.usage.outputTokenDetails.textTokens": 200,
    "ai.usage.outputTokenDetails.reasoningTokens": 100,
    "ai.usage.reasoningTokens": 100,
    "ai.usage.cachedInputTokens": 1920,
    "ai.usage.totalTokens": 2306,
    "gen_ai.system": "openai.responses",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.output_tokens": 300,
}
"""ai 6.0.326."""


def test_a_call_of_version_6() -> None:
    found = a_call("ai", V6)
    assert parts("ai", V6) == {"cache_read": 1920, "input": 86, "output_reasoning": 100, "output": 200}
    assert (found[names.PROVIDER], found[names.USAGE_STATUS], found[names.REQUEST_STREAM]) == (
        "openai",
        "reported",
        False,
    )
    assert (found[names.FEATURE], found[names.USER_ID], found[names.SESSION_ID]) == ("summary", "ann", "s1")
    assert "words" not in str(found)
    assert "answer" not in str(found)
    dialect = dialect_of("ai")
    assert dialect is not None
    assert (dialect.source, dialect.rank) == ("vercel", A_FRAMEWORK)


def without(span: dict[str, Any], *what: str) -> dict[str, Any]:
    return {name: value for name, value in span.items() if not any(each in name for each in what)}


def test_version_5_has_the_providers_own_input() -> None:
    """ai 5.0.277: Anthropic's input without cache; what was written is in `providerMetadata`, which is not read."""
    anthropic = {
        **without(V6, "TokenDetails", "easoning"),
        "ai.model.provider": "anthropic.messages",
        "ai.usage.inputTokens": 100,
        "ai.usage.cachedInputTokens": 1000,
        "ai.usage.totalTokens": 400,
    }
    found = a_call("ai", anthropic)
    assert parts("ai", anthropic) == {"cache_read": 1000, "input": 100, "output": 300}
    assert found[names.USAGE_STATUS] == "estimated"
    written = {**anthropic, "ai.usage.cachedInputTokens": 0}
    assert a_call("ai", written)[names.USAGE_STATUS] == "estimated"  # it may have written to the cache
    gemini = {
        **without(V6, "TokenDetails", "cached"),
        "ai.model.provider": "google.generative-ai",
        "ai.usage.inputTokens": 13,
        "ai.usage.outputTokens": 573,
        "ai.usage.reasoningTokens": 554,
        "ai.usage.totalTokens": 1140,
    }
    assert parts("ai", gemini) == {"input": 13, "output": 573, "output_reasoning": 554}
    assert (a_call("ai", gemini)[names.PROVIDER], a_call("ai", gemini)[names.USAGE_STATUS]) == (
        "gcp.gemini",
        "reported",
    )
    openai = without(V6, "TokenDetails")
    assert parts("ai", openai) == {"cache_read": 1920, "input": 86, "output_reasoning": 100, "output": 200}


def test_version_4_does_not_tell_the_cache() -> None:
    """ai 4.3.19."""
    old = {
        "ai.operationId": "ai.streamText.doStream",
        "ai.model.provider": "azure-openai.chat",
        "ai.model.id": "gpt-4o",
        "ai.response.msToFirstChunk": 123.5,
        "ai.usage.promptTokens": 9,
        "ai.usage.completionTokens": 5,
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 5,
    }
    found = a_call("ai", old)
    assert parts("ai", old) == {"input": 9, "output": 5}
    assert (found[names.PROVIDER], found[names.REQUEST_STREAM], found[names.USAGE_STATUS]) == (
        "azure.ai.openai",
        True,
        "estimated",
    )
    assert found[names.TIME_TO_FIRST_TOKEN_NS] == 123_500_000


@pytest.mark.parametrize("outer", ["ai.generateText", "ai.streamText", "ai.generateObject", "ai.embedMany"])
def test_an_outer_span_sums_up_and_is_no_call(outer: str) -> None:
    assert read("ai", {**V6, "ai.operationId": outer}) == {
        names.OPERATION: "invoke_workflow",
        names.FEATURE: "summary",
        names.USER_ID: "ann",
        names.SESSION_ID: "s1",
    }


def test_tools_and_embeddings() -> None:
    tool = {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "search", "ai.toolCall.args": "{}"}
    assert read("ai", tool) == {names.OPERATION: "execute_tool", names.TOOL_NAME: "search"}
    embed = {"ai.operationId": "ai.embed.doEmbed", "ai.model.id": "m", "ai.usage.tokens": 12}
    assert a_call("ai", embed)[names.OPERATION] == "embeddings"
    assert parts("ai", embed) == {"input": 12}


def test_an_id_that_the_sdk_made_up_is_none() -> None:
    span = {
        **V6,
        "ai.response.id": "aitxt-Gq0rXbFxGqZ8bGxkz4a8Zf6y",
        "gen_ai.response.id": "aitxt-Gq0rXbFxGqZ8bGxkz4a8Zf6y",
    }
    assert names.RESPONSE_ID not in a_call("ai", span)


def test_version_7_by_the_conventions() -> None:
    """@ai-sdk/otel 1.0.173: an agent around steps around calls; embeddings around embeddings."""
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.response.id": "msg_01XTvDZL8dUrS8t8SxWTv7f6",
        "gen_ai.usage.input_tokens": 9339,
        "gen_ai.usage.output_tokens": 156,
        "gen_ai.usage.cache_read.input_tokens": 9116,
        "gen_ai.usage.cache_creation.input_tokens": 219,
    }
    assert parts("gen_ai", chat) == {"cache_read": 9116, "cache_write": 219, "input": 4, "output": 156}
    agent = {**chat, "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
    assert read("gen_ai", agent) == {names.OPERATION: "invoke_agent", names.AGENT_NAME: "planner"}
    step = {"gen_ai.operation.name": "agent_step", "gen_ai.request.model": "m"}
    assert read("gen_ai", step) is None
    around = {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "m"}
    assert read("gen_ai", around) is None
    assert parts("gen_ai", {**around, "gen_ai.usage.input_tokens": 12}) == {"input": 12}


def test_the_scope_is_the_whole_name() -> None:
    assert dialect_of("aiohttp", {}) is None
    assert dialect_of("gen_ai_tools", {}) is None
