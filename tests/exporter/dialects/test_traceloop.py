"""OpenLLMetry: each package's attributes, with the sums."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger import attributes as names
from spanledger.exporter.dialects import A_FRAMEWORK, ANOTHER_INSTRUMENTATION, dialect_of
from tests.exporter.dialects.reading import a_call, parts, read

OPENAI = "opentelemetry.instrumentation.openai.v1"
ANTHROPIC = "opentelemetry.instrumentation.anthropic"
GEMINI = "opentelemetry.instrumentation.google_generativeai"

CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0",
    "gen_ai.is_streaming": False,
    "openai.response.service_tier": "priority",
    "gen_ai.headers": "{'Authorization': 'secret'}",
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.cache_read.input_tokens": 1920,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.reasoning_tokens": 100,
    "gen_ai.usage.total_tokens": 2306,
    "traceloop.association.properties.user_id": "ann",
    "traceloop.association.properties.session_id": "s1",
    "traceloop.workflow.name": "support",
    "traceloop.prompt.key": "greeting",
}
"""opentelemetry-instrumentation-openai 0.62.4."""


def test_a_call() -> None:
    found = a_call(OPENAI, CALL)
    assert parts(OPENAI, CALL) == {"cache_read": 1920, "input": 86, "output_reasoning": 100, "output": 200}
    assert (found[names.SERVICE_TIER], found[names.USAGE_STATUS]) == ("priority", "reported")
    assert (found[names.USER_ID], found[names.SESSION_ID], found[names.PROMPT_NAME]) == ("ann", "s1", "greeting")
    assert found[names.TAGS] == '{"workflow":"support"}'
    assert "secret" not in str(found)


def test_the_older_names() -> None:
    """opentelemetry-instrumentation-openai 0.30; ollama's package has them still."""
    old = {
        "llm.request.type": "completion",
        "gen_ai.system": "OpenAI",
        "gen_ai.request.model": "gpt-3.5-turbo-instruct",
        "gen_ai.usage.prompt_tokens": 9,
        "gen_ai.usage.completion_tokens": 5,
        "llm.usage.total_tokens": 14,
        "llm.is_streaming": True,
    }
    found = a_call(OPENAI, old)
    assert (found[names.OPERATION], found[names.PROVIDER], found[names.REQUEST_STREAM]) == (
        "text_completion",
        "openai",
        True,
    )
    assert parts(OPENAI, old) == {"input": 9, "output": 5}


def test_anthropic_sums_the_input_and_spoils_streams() -> None:
    """0.62.4: a stream's deltas are added up (1 + 277 for 189), its input is that of the first event."""
    plain = {
        **CALL,
        "gen_ai.provider.name": "anthropic",
        "gen_ai.usage.input_tokens": 9339,
        "gen_ai.usage.cache_read.input_tokens": 9116,
        "gen_ai.usage.cache_creation.input_tokens": 219,
        "gen_ai.usage.total_tokens": 9639,
    }
    assert parts(ANTHROPIC, plain) == {
        "cache_read": 9116,
        "cache_write": 219,
        "input": 4,
        "output_reasoning": 100,
        "output": 200,
    }
    assert a_call(ANTHROPIC, plain)[names.USAGE_STATUS] == "reported"
    found = a_call(ANTHROPIC, {**plain, "gen_ai.is_streaming": True})
    assert (found[names.USAGE_STATUS], found[names.USAGE_REASONS]) == (
        "estimated",
        ("the emitter adds up a stream's cumulative counts",),
    )


def test_bedrocks_cache_is_on_top() -> None:
    bedrock = {
        **CALL,
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.usage.input_tokens": 4299,
        "gen_ai.usage.output_tokens": 631,
        "gen_ai.usage.cache_read.input_tokens": 35_574,
        "gen_ai.usage.cache_creation.input_tokens": 17_787,
        "gen_ai.usage.total_tokens": 4930,
        "gen_ai.usage.reasoning_tokens": 0,
    }
    scope = "opentelemetry.instrumentation.bedrock"
    assert parts(scope, bedrock) == {"cache_read": 35_574, "cache_write": 17_787, "input": 4299, "output": 631}
    invoked = {name: value for name, value in bedrock.items() if "cache" not in name}
    assert a_call(scope, invoked)[names.USAGE_STATUS] == "estimated"


def test_geminis_thoughts_are_in_the_total_alone() -> None:
    gemini = {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "gcp.gen_ai",
        "gen_ai.request.model": "gemini-2.5-flash",
        "gen_ai.usage.input_tokens": 13,
        "gen_ai.usage.output_tokens": 573,
        "gen_ai.usage.total_tokens": 1140,
    }
    assert parts(GEMINI, gemini) == {"input": 13, "output": 573, "output_reasoning": 554}
    found = a_call(GEMINI, gemini)
    assert (found[names.OPERATION], found[names.USAGE_STATUS]) == ("chat", "estimated")


@pytest.mark.parametrize("sdk", ["mistralai", "ollama", "together", "writer"])
def test_packages_that_do_not_tell_what_was_cached(sdk: str) -> None:
    without = {name: value for name, value in CALL.items() if "cache" not in name}
    assert a_call(f"opentelemetry.instrumentation.{sdk}", without)[names.USAGE_STATUS] == "estimated"
    embedding = {**without, "gen_ai.operation.name": "embeddings"}
    assert a_call(f"opentelemetry.instrumentation.{sdk}", embedding)[names.USAGE_STATUS] == "reported"


def test_what_is_around_calls() -> None:
    scope = "opentelemetry.instrumentation.langchain"
    dialect = dialect_of(scope)
    assert dialect is not None
    assert (dialect.source, dialect.rank) == ("traceloop", A_FRAMEWORK)
    assert read(scope, {"traceloop.span.kind": "agent", "traceloop.entity.name": "planner"}) == {
        names.OPERATION: "invoke_agent",
        names.AGENT_NAME: "planner",
    }
    assert read(scope, {"traceloop.span.kind": "tool", "traceloop.entity.name": "search"}) == {
        names.OPERATION: "execute_tool",
        names.TOOL_NAME: "search",
    }
    assert read(scope, {"traceloop.span.kind": "workflow", "traceloop.workflow.name": "support"}) == {
        names.OPERATION: "invoke_workflow",
        names.WORKFLOW_NAME: "support",
    }
    assert read(scope, {"traceloop.span.kind": "task", "gen_ai.usage.input_tokens": 5}) is None


def test_an_unknown_scope_is_recognised_by_its_own_names() -> None:
    span = {"llm.request.type": "chat", "gen_ai.request.model": "m", "gen_ai.usage.prompt_tokens": 3}
    dialect = dialect_of("my.tracer", span)
    assert dialect is not None
    assert (dialect.source, dialect.rank) == ("traceloop", ANOTHER_INSTRUMENTATION)
    assert parts("my.tracer", span) == {"input": 3}
