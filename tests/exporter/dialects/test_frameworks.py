"""LangSmith, LiteLLM, Langfuse and Semantic Kernel: their attributes, with the sums."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger import attributes as names
from spanledger.exporter.dialects import A_FRAMEWORK, A_GATEWAY, AN_SDKS_OWN, dialect_of
from tests.exporter.dialects.reading import a_call, parts, read

LANGSMITH: dict[str, Any] = {
    "langsmith.span.kind": "llm",
    "langsmith.trace.name": "ChatOpenAI",
    "langsmith.request.streaming": False,
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.id": "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0",
    "gen_ai.response.service_tier": "flex",
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.total_tokens": 2306,
    "gen_ai.usage.input_token_details": "{'audio': 0, 'flex_cache_read': 1920, 'flex': 86}",
    "gen_ai.usage.output_token_details": "{'flex_reasoning': 100, 'flex': 200}",
    "gen_ai.prompt": "the words of the user",
}
"""langsmith 0.14.17."""


def test_langsmiths_details_are_pythons_text_with_the_tier_in_the_names() -> None:
    found = a_call("langsmith", LANGSMITH)
    assert parts("langsmith", LANGSMITH) == {"cache_read": 1920, "input": 86, "output_reasoning": 100, "output": 200}
    assert (found[names.SERVICE_TIER], found[names.USAGE_STATUS]) == ("flex", "reported")
    assert found[names.RESPONSE_ID] == "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0"
    assert "words" not in str(found)


def test_langsmiths_runs() -> None:
    assert read("langsmith", {**LANGSMITH, "langsmith.span.kind": "chain"}) == {
        names.OPERATION: "invoke_workflow",
        names.WORKFLOW_NAME: "ChatOpenAI",
    }
    for kind in ("retriever", "prompt", "parser"):
        assert read("langsmith", {**LANGSMITH, "langsmith.span.kind": kind}) is None
    run = a_call("langsmith", {**LANGSMITH, "gen_ai.response.id": "run--01968d4c", "gen_ai.system": "langchain"})
    assert names.RESPONSE_ID not in run  # a run's id is no response's
    assert run[names.PROVIDER] == ""  # "langchain" is what it says where it does not know


LITELLM: dict[str, Any] = {
    "llm.request.type": "acompletion",
    "llm.is_streaming": "True",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0",
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.total_tokens": 2306,
    "gen_ai.cost.input_cost": 0.005015,
    "gen_ai.cost.total_cost": 0.008015,
    "metadata.user_api_key_team_alias": "red",
    "metadata.user_api_key_alias": "ci",
    "metadata.user_api_key_end_user_id": "ann",
}


def test_litellm_does_not_tell_what_was_cached() -> None:
    found = a_call("litellm", LITELLM)
    assert parts("litellm", LITELLM) == {"input": 2006, "output": 300}
    assert found[names.USAGE_STATUS] == "estimated"
    assert (found[names.OPERATION], found[names.REQUEST_STREAM], found[names.REPORTED_COST]) == (
        "chat",
        True,
        "0.008015",
    )
    assert (found[names.TENANT], found[names.USER_ID], found[names.API_KEY_ALIAS]) == ("red", "ann", "ci")
    dialect = dialect_of("litellm")
    assert dialect is not None
    assert (dialect.source, dialect.rank) == ("litellm", A_GATEWAY)


def test_litellms_newer_spans_tell_the_cache() -> None:
    """`litellm/integrations/otel/`: the GenAI conventions, and `litellm.*`."""
    newer = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "our-best",
        "gen_ai.usage.input_tokens": 9339,
        "gen_ai.usage.cache_read.input_tokens": 9116,
        "gen_ai.usage.cache_creation.input_tokens": 219,
        "gen_ai.usage.output_tokens": 156,
        "litellm.call_type": "acompletion",
        "litellm.provider.model": "claude-sonnet-4-5",
        "litellm.request.streaming": True,
        "litellm.cost.total": 0.0059,
        "litellm.team.alias": "red",
        "litellm.end_user.id": "ann",
    }
    found = a_call("litellm", newer)
    assert parts("litellm", newer) == {"cache_read": 9116, "cache_write": 219, "input": 4, "output": 156}
    assert (found[names.USAGE_STATUS], found[names.REPORTED_COST], found[names.REQUEST_STREAM]) == (
        "reported",
        "0.0059",
        True,
    )
    assert (found[names.RESPONSE_MODEL], found[names.TENANT], found[names.USER_ID]) == (
        "claude-sonnet-4-5",
        "red",
        "ann",
    )
    image = {**newer, "gen_ai.operation.name": "generate_content", "litellm.call_type": "aimage_generation"}
    assert a_call("litellm", image)[names.OPERATION] == "image_generation"
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    assert read("litellm", tool) == {names.OPERATION: "execute_tool", names.TOOL_NAME: "search"}


def test_litellms_own_ids_are_no_response_ids() -> None:
    assert a_call("litellm", LITELLM)[names.RESPONSE_ID] == "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0"
    translated = {
        **LITELLM,
        "gen_ai.system": "bedrock",
        "gen_ai.response.id": "chatcmpl-0b1f6a0e-9e5c-4f0e-8a51-2b0e3a5d6c7f",
    }
    assert names.RESPONSE_ID not in a_call("litellm", translated)
    embedding = {
        **LITELLM,
        "llm.request.type": "embedding",
        "gen_ai.response.id": "0b1f6a0e-9e5c-4f0e-8a51-2b0e3a5d6c7f",
    }
    assert names.RESPONSE_ID not in a_call("litellm", embedding)


def test_litellms_other_spans_are_no_calls() -> None:
    assert read("litellm", {"llm.openai.messages": "[]", "llm.openai.model": "gpt-4o"}) is None  # raw_gen_ai_request
    assert read("litellm", {"service": "redis", "call_type": "async_get_cache"}) is None


LANGFUSE: dict[str, Any] = {
    "langfuse.observation.type": "generation",
    "langfuse.observation.model.name": "gpt-4o-2024-08-06",
    "langfuse.observation.input": "the words of the user",
    "langfuse.observation.usage_details": '{"completion_tokens": 300, "prompt_tokens": 2006, "total_tokens": 2306,'
    ' "prompt_tokens_details": {"cached_tokens": 1920}, "completion_tokens_details": {"reasoning_tokens": 100}}',
    "langfuse.observation.cost_details": '{"total": 0.0056}',
    "langfuse.observation.metadata.id": '"resp_689f74edf26c8196b5a4b46f729a73cc05e045a92c8fd6eb"',
    "langfuse.observation.metadata.service_tier": '"default"',
    "langfuse.observation.prompt.name": "greeting",
    "user.id": "ann",
    "session.id": "s1",
}
"""langfuse 5.0.4."""


def test_langfuses_usage_in_the_providers_words() -> None:
    found = a_call("langfuse-sdk", LANGFUSE)
    assert parts("langfuse-sdk", LANGFUSE) == {
        "cache_read": 1920,
        "input": 86,
        "output_reasoning": 100,
        "output": 200,
    }
    assert (found[names.RESPONSE_ID], found[names.SERVICE_TIER], found[names.REPORTED_COST]) == (
        "resp_689f74edf26c8196b5a4b46f729a73cc05e045a92c8fd6eb",
        "default",
        "0.0056",
    )
    assert (found[names.PROMPT_NAME], found[names.USER_ID], found[names.SESSION_ID]) == ("greeting", "ann", "s1")
    assert "words" not in str(found)


def test_langfuses_usage_in_its_own_words_is_disjoint() -> None:
    own = {**LANGFUSE, "langfuse.observation.usage_details": '{"input": 86, "input_cache_read": 1920, "output": 300}'}
    assert parts("langfuse-sdk", own) == {"cache_read": 1920, "input": 86, "output": 300}


def test_langfuses_other_observations() -> None:
    assert read("langfuse-sdk", {**LANGFUSE, "langfuse.observation.type": "agent"}) == {
        names.OPERATION: "invoke_agent",
        names.USER_ID: "ann",
        names.SESSION_ID: "s1",
        names.PROMPT_NAME: "greeting",
    }
    for kind in ("retriever", "evaluator", "guardrail", "event"):
        assert read("langfuse-sdk", {**LANGFUSE, "langfuse.observation.type": kind}) is None


@pytest.mark.parametrize(
    ("scope", "operation", "stream"),
    [
        ("semantic_kernel.utils.telemetry.model_diagnostics.decorators", "chat", None),
        ("semantic_kernel.utils.telemetry.model_diagnostics.decorators", "chat.streaming_completions", True),
        ("Microsoft.SemanticKernel.Diagnostics", "chat.completions", None),
    ],
)
def test_semantic_kernel(scope: str, operation: str, stream: bool | None) -> None:
    span = {
        "gen_ai.operation.name": operation,
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.id": "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0",
        "gen_ai.response.finish_reason": "FinishReason.STOP",
        "gen_ai.usage.input_tokens": 2006,
        "gen_ai.usage.output_tokens": 300,
    }
    found = a_call(scope, span)
    assert parts(scope, span) == {"input": 2006, "output": 300}
    assert (found[names.OPERATION], found.get(names.REQUEST_STREAM), found[names.USAGE_STATUS]) == (
        "chat",
        stream,
        "estimated",
    )
    dialect = dialect_of(scope)
    assert dialect is not None
    assert (dialect.source, dialect.rank) == ("semantic_kernel", A_FRAMEWORK)


def test_semantic_kernels_text_agents_and_tools() -> None:
    scope = "semantic_kernel.functions.kernel_function"
    text = {"gen_ai.operation.name": "text_completions", "gen_ai.request.model": "m"}
    assert a_call(scope, text)[names.OPERATION] == "text_completion"
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    assert read(scope, tool) == {names.OPERATION: "execute_tool", names.TOOL_NAME: "search"}


def test_azures_own_spans_do_not_tell_what_was_cached() -> None:
    span = {
        "az.namespace": "Microsoft.CognitiveServices",
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "az.ai.inference",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.id": "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0",
        "server.address": "my.services.ai.azure.com",
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 3,
    }
    for scope in ("azure.ai.inference", "azure.core.tracing.ext.opentelemetry_span", "Azure.AI.Inference"):
        dialect = dialect_of(scope)
        assert dialect is not None
        assert (dialect.source, dialect.rank) == ("genai", AN_SDKS_OWN)
        assert a_call(scope, span)[names.USAGE_STATUS] == "estimated"
