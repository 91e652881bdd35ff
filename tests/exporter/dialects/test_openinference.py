"""OpenInference: each package's attributes, with the sums."""

from __future__ import annotations

from typing import Any

import pytest

from spanledger import attributes as names
from spanledger.exporter.dialects import A_FRAMEWORK, A_GATEWAY, ANOTHER_INSTRUMENTATION, dialect_of
from tests.exporter.dialects.reading import a_call, parts, read

OPENAI = "openinference.instrumentation.openai"
ANTHROPIC = "openinference.instrumentation.anthropic"
BEDROCK = "openinference.instrumentation.bedrock"

CALL: dict[str, Any] = {
    "openinference.span.kind": "LLM",
    "llm.provider": "openai",
    "llm.system": "openai",
    "llm.model_name": "gpt-4o-2024-08-06",
    "llm.finish_reason": "stop",
    "llm.token_count.prompt": 2006,
    "llm.token_count.prompt_details.cache_read": 1920,
    "llm.token_count.prompt_details.audio": 6,
    "llm.token_count.completion": 300,
    "llm.token_count.completion_details.reasoning": 100,
    "llm.token_count.completion_details.audio": 0,
    "llm.token_count.total": 2306,
    "input.value": '{"messages": "the words of the user"}',
    "output.value": '{"id": "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0"}',
    "session.id": "s1",
    "user.id": "ann",
}
"""openinference-instrumentation-openai 0.1.66."""


def test_a_call() -> None:
    found = a_call(OPENAI, CALL)
    # 2006 - 1920 - 6 = 80; 300 - 100 = 200
    assert parts(OPENAI, CALL) == {
        "cache_read": 1920,
        "input_audio": 6,
        "input": 80,
        "output_reasoning": 100,
        "output": 200,
    }
    assert {
        name: found[name] for name in (names.OPERATION, names.PROVIDER, names.REQUEST_MODEL, names.USAGE_STATUS)
    } == {
        names.OPERATION: "chat",
        names.PROVIDER: "openai",
        names.REQUEST_MODEL: "gpt-4o-2024-08-06",
        names.USAGE_STATUS: "reported",
    }
    assert (found[names.SESSION_ID], found[names.USER_ID]) == ("s1", "ann")
    assert names.RESPONSE_ID not in found  # only in what is content
    assert "words" not in str(found)


@pytest.mark.parametrize(
    ("scope", "rank"),
    [
        (OPENAI, ANOTHER_INSTRUMENTATION),
        ("openinference.instrumentation.openai_agents", A_FRAMEWORK),
        ("openinference.instrumentation.langchain", A_FRAMEWORK),
        ("openinference.instrumentation.litellm", A_GATEWAY),
        ("@arizeai/openinference-instrumentation-openai", A_FRAMEWORK),
    ],
)
def test_how_far_each_is_believed(scope: str, rank: int) -> None:
    dialect = dialect_of(scope)
    assert dialect is not None
    assert (dialect.source, dialect.rank) == ("openinference", rank)


@pytest.mark.parametrize(
    ("kind", "operation"),
    [("EMBEDDING", "embeddings"), ("RERANKER", "rerank"), ("DECISION", "decision"), ("llm", "chat")],
)
def test_the_kinds_that_are_billed(kind: str, operation: str) -> None:
    assert a_call(OPENAI, {"openinference.span.kind": kind})[names.OPERATION] == operation


def test_the_kinds_that_are_not() -> None:
    """A chain's counts are those of the calls inside it."""
    for kind in ("RETRIEVER", "GUARDRAIL", "EVALUATOR", "PROMPT", "UNKNOWN", ""):
        assert read(OPENAI, {**CALL, "openinference.span.kind": kind}) is None
    agent = {**CALL, "openinference.span.kind": "AGENT", "agent.name": "planner"}
    assert read(OPENAI, agent) == {
        names.OPERATION: "invoke_agent",
        names.AGENT_NAME: "planner",
        names.SESSION_ID: "s1",
        names.USER_ID: "ann",
    }
    tool = {"openinference.span.kind": "TOOL", "tool.name": "search"}
    assert read(OPENAI, tool) == {names.OPERATION: "execute_tool", names.TOOL_NAME: "search"}
    assert read(OPENAI, {"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 5}) is None


ANTHROPICS: dict[str, Any] = {
    "openinference.span.kind": "LLM",
    "llm.provider": "anthropic",
    "llm.request.model_name": "claude-sonnet-4-5",
    "llm.response.model_name": "claude-sonnet-4-5-20250929",
    "llm.token_count.prompt": 9339,
    "llm.token_count.prompt_details.cache_read": 9116,
    "llm.token_count.prompt_details.cache_write": 219,
    "llm.token_count.completion": 156,
    "llm.token_count.total": 9495,
}
"""openinference-instrumentation-anthropic 3.1.0: 4 + 9116 + 219."""


def test_anthropic_sums_the_input() -> None:
    assert parts(ANTHROPIC, ANTHROPICS, "3.1.0") == {"cache_read": 9116, "cache_write": 219, "input": 4, "output": 156}
    assert a_call(ANTHROPIC, ANTHROPICS, "3.1.0")[names.USAGE_STATUS] == "reported"


def test_anthropics_tool_runs_and_compactions_are_in_the_metadata() -> None:
    searched = {**ANTHROPICS, "metadata": '{"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}}'}
    assert parts(ANTHROPIC, searched)["web_search"] == 2
    compacted = {**ANTHROPICS, "metadata": '{"usage_iterations": [{"type": "compaction"}]}'}
    assert a_call(ANTHROPIC, compacted)[names.USAGE_STATUS] == "estimated"
    assert a_call(ANTHROPIC, {**ANTHROPICS, "metadata": "{server_tool_use"})[names.USAGE_STATUS] == "reported"


def test_anthropic_before_1_0_does_not_tell_what_a_stream_cached() -> None:
    """0.1.10 and the streams of 0.1.20: `input_tokens` as Anthropic counts them, without cache."""
    old = {name: value for name, value in ANTHROPICS.items() if "details" not in name}
    for version in ("0.1.10", "0.1.20"):
        assert a_call(ANTHROPIC, old, version)[names.USAGE_STATUS] == "estimated"
    for version in ("1.0.0", "3.1.0", ""):
        assert a_call(ANTHROPIC, old, version)[names.USAGE_STATUS] == "reported"


def test_bedrocks_total_tells_whether_the_cache_is_inside() -> None:
    """openinference-instrumentation-bedrock 0.1.61: inside in Converse, on top in ConverseStream."""
    converse = {
        "openinference.span.kind": "LLM",
        "llm.provider": "aws",
        "llm.model_name": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "llm.token_count.prompt": 57_660,
        "llm.token_count.prompt_details.cache_read": 35_574,
        "llm.token_count.prompt_details.cache_write": 17_787,
        "llm.token_count.completion": 631,
        "llm.token_count.total": 58_291,
    }
    stream = {**converse, "llm.token_count.prompt": 4299}
    for span in (converse, stream):
        assert parts(BEDROCK, span) == {"cache_read": 35_574, "cache_write": 17_787, "input": 4299, "output": 631}
        assert a_call(BEDROCK, span)[names.USAGE_STATUS] == "reported"
    assert a_call(BEDROCK, converse)[names.PROVIDER] == "aws.bedrock"
    no_total = {name: value for name, value in converse.items() if name != "llm.token_count.total"}
    assert a_call(BEDROCK, no_total)[names.USAGE_STATUS] == "estimated"


def test_coheres_tokens_are_not_those_that_it_bills() -> None:
    cohere = {**CALL, "llm.provider": "cohere"}
    assert a_call("openinference.instrumentation.cohere", cohere)[names.USAGE_STATUS] == "estimated"


def test_an_embeddings_total_is_its_input() -> None:
    span = {"openinference.span.kind": "EMBEDDING", "embedding.model_name": "m", "llm.token_count.total": 12}
    assert parts(OPENAI, span) == {"input": 12}


def test_a_stated_cost() -> None:
    assert a_call(OPENAI, {**CALL, "llm.cost.total": 0.005})[names.REPORTED_COST] == "0.005"


def test_an_unknown_scope_is_recognised_by_the_kind() -> None:
    dialect = dialect_of("my.tracer", CALL)
    assert dialect is not None
    assert dialect.source == "openinference"
    assert a_call("my.tracer", CALL)[names.USAGE_STATUS] == "estimated"
