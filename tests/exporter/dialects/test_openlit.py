"""OpenLIT 1.45.0: each package's attributes, with the sums."""

from __future__ import annotations

import json
from typing import Any

from spanledger import attributes as names
from spanledger.exporter.dialects import A_FRAMEWORK, ANOTHER_INSTRUMENTATION, dialect_of
from tests.exporter.dialects.reading import a_call, parts, read

OPENAI = "openlit.instrumentation.openai"

CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.request.stream": False,
    "gen_ai.response.id": "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.server.time_to_first_token": 0.024,
    "gen_ai.tool.args": '{"city":"Paris"}',
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.cache_read.input_tokens": 1920,
    "gen_ai.usage.cache_creation.input_tokens": 0,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.client.token.usage": 2306,
    "gen_ai.usage.cost": 0.005615,
    "openai.response.service_tier": "default",
    "server.address": "api.openai.com",
}


def test_a_call() -> None:
    found = a_call(OPENAI, CALL)
    assert parts(OPENAI, CALL) == {"cache_read": 1920, "input": 86, "output": 300}
    assert (found[names.USAGE_STATUS], found[names.REPORTED_COST]) == ("reported", "0.005615")
    assert found[names.TIME_TO_FIRST_TOKEN_NS] == 24_000_000
    assert "Paris" not in str(found)


def test_a_streams_tokens_may_be_a_guess() -> None:
    found = a_call(OPENAI, {**CALL, "gen_ai.request.stream": True})
    assert found[names.USAGE_STATUS] == "estimated"
    assert found[names.USAGE_REASONS] == (
        "the emitter guesses the tokens of a stream that has no usage, and does not say so",
    )


def test_anthropic_and_bedrock_count_the_cache_on_top() -> None:
    counts = {
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 9116,
        "gen_ai.usage.cache_creation.input_tokens": 219,
        "gen_ai.usage.output_tokens": 156,
    }
    for sdk, total in (("anthropic", 160), ("bedrock", 9495)):
        span = {**CALL, **counts, "gen_ai.client.token.usage": total}
        scope = f"openlit.instrumentation.{sdk}"
        assert parts(scope, span) == {"cache_read": 9116, "cache_write": 219, "input": 4, "output": 156}
        assert a_call(scope, span)[names.USAGE_STATUS] == "reported"
    stream = {**CALL, "gen_ai.request.stream": True, "gen_ai.usage.cache_read.input_tokens": 0}
    assert a_call("openlit.instrumentation.anthropic", stream)[names.USAGE_STATUS] == "estimated"


def test_geminis_thoughts_are_on_top() -> None:
    gemini = {
        **CALL,
        "gen_ai.provider.name": "gemini",
        "server.address": "generativelanguage.googleapis.com",
        "gen_ai.usage.input_tokens": 13,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": 573,
        "gen_ai.usage.reasoning_tokens": 554,
        "gen_ai.client.token.usage": 586,
    }
    scope = "openlit.instrumentation.google_ai_studio"
    assert parts(scope, gemini) == {"input": 13, "output": 573, "output_reasoning": 554}
    assert a_call(scope, gemini)[names.PROVIDER] == "gcp.gemini"


def test_its_own_operations() -> None:
    assert a_call(OPENAI, {**CALL, "gen_ai.operation.name": "speech_to_text"})[names.OPERATION] == "transcription"
    assert a_call(OPENAI, {**CALL, "gen_ai.operation.name": "image"})[names.OPERATION] == "image_generation"
    assert read(OPENAI, {"gen_ai.operation.name": "vectordb", "gen_ai.request.model": "m"}) is None
    workflow = {**CALL, "gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "support"}
    assert read("openlit.instrumentation.langchain", workflow) == {
        names.OPERATION: "invoke_workflow",
        names.WORKFLOW_NAME: "support",
    }


def test_how_far_each_is_believed() -> None:
    ranks = {scope: getattr(dialect_of(scope), "rank", None) for scope in (OPENAI, "openlit.instrumentation.crewai")}
    assert ranks == {OPENAI: ANOTHER_INSTRUMENTATION, "openlit.instrumentation.crewai": A_FRAMEWORK}


def test_coheres_billed_units_hold_no_cache() -> None:
    cohere = {
        **CALL,
        "gen_ai.provider.name": "cohere",
        "gen_ai.usage.input_tokens": 377.0,
        "gen_ai.usage.cache_read.input_tokens": 576.0,
        "gen_ai.usage.output_tokens": 90.0,
    }
    scope = "openlit.instrumentation.cohere"
    assert parts(scope, cohere) == {"input": 377, "output": 90}
    found = a_call(scope, cohere)
    assert json.loads(found[names.USAGE_UNMAPPED]) == {"gen_ai.usage.cache_read.input_tokens": 576}
    assert found[names.USAGE_STATUS] == "reported"
