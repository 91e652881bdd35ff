"""Logfire 5.2 and Pydantic AI 2.68: their attributes, with the sums."""

from __future__ import annotations

from typing import Any

from spanledger import attributes as names
from spanledger.exporter.dialects import A_FRAMEWORK, ANOTHER_INSTRUMENTATION, dialect_of
from tests.exporter.dialects.reading import a_call, parts, read

OPENAI = "logfire.openai"
ANTHROPIC = "logfire.anthropic"
PYDANTIC_AI = "pydantic-ai"

CALL: dict[str, Any] = {
    "logfire.span_type": "span",
    "logfire.msg": "Chat Completion with 'gpt-4o'",
    "request_data": '{"model":"gpt-4o"}',
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0",
    "gen_ai.response.finish_reasons": '["stop"]',
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.raw": '{"completion_tokens":300,"prompt_tokens":2006,"total_tokens":2306,'
    '"prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},'
    '"completion_tokens_details":{"reasoning_tokens":100}}',
}


def test_the_providers_own_usage_is_read() -> None:
    found = a_call(OPENAI, CALL)
    assert parts(OPENAI, CALL) == {"cache_read": 1920, "input": 86, "output_reasoning": 100, "output": 200}
    assert (found[names.USAGE_STATUS], found[names.FINISH_REASONS]) == ("reported", ["stop"])
    dialect = dialect_of(OPENAI)
    assert dialect is not None
    assert (dialect.source, dialect.rank) == ("logfire", ANOTHER_INSTRUMENTATION)


def test_anthropics_usage_counts_the_cache_on_top() -> None:
    """Trap 8, and a compaction on top: 55 000 of input, 5 000 of it read from the cache."""
    raw = (
        '{"input_tokens":100,"cache_read_input_tokens":1000,"cache_creation_input_tokens":1000,'
        '"cache_creation":{"ephemeral_5m_input_tokens":600,"ephemeral_1h_input_tokens":400},"output_tokens":50,'
        '"server_tool_use":{"web_search_requests":3}'
    )
    span = {**CALL, "gen_ai.provider.name": "anthropic", "gen_ai.usage.raw": raw + "}"}
    expected = {
        "input": 100,
        "cache_read": 1000,
        "cache_write_5m": 600,
        "cache_write_1h": 400,
        "output": 50,
        "web_search": 3,
    }
    assert parts(ANTHROPIC, span) == expected
    iterations = (
        ',"iterations":[{"type":"message","input_tokens":100},{"type":"compaction","input_tokens":50000,'
        '"cache_read_input_tokens":5000,"output_tokens":70}]}'
    )
    assert parts(ANTHROPIC, {**span, "gen_ai.usage.raw": raw + iterations}) == {
        **expected,
        "input": 50_100,
        "cache_read": 6000,
        "output": 120,
    }


def test_a_stream_is_billed_once_by_the_log_at_its_end() -> None:
    begun = {name: value for name, value in CALL.items() if "usage" not in name and "response" not in name}
    assert read(OPENAI, begun) is None
    ended = {**begun, "logfire.span_type": "log", "duration": 0.6, "gen_ai.usage.raw": CALL["gen_ai.usage.raw"]}
    found = a_call(OPENAI, ended)
    assert (found[names.REQUEST_STREAM], found[names.USAGE_STATUS]) == (True, "reported")
    silent = {name: value for name, value in ended.items() if "usage" not in name}
    assert a_call(OPENAI, silent)[names.USAGE_STATUS] == "missing"


def test_a_failed_call_has_a_row_and_a_pending_span_has_none() -> None:
    begun = {name: value for name, value in CALL.items() if "usage" not in name and "response" not in name}
    failed = {**begun, "logfire.exception.fingerprint": "9c9344"}
    assert a_call(OPENAI, failed)[names.USAGE_STATUS] == "missing"
    assert read(OPENAI, {**CALL, "logfire.span_type": "pending_span"}) is None
    assert read(PYDANTIC_AI, {**CALL, "logfire.span_type": "pending_span"}) is None


def test_pydantic_ai_sums_the_input_whatever_the_provider() -> None:
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.response.id": "msg_01XTvDZL8dUrS8t8SxWTv7f6",
        "gen_ai.agent.name": "planner",
        "gen_ai.conversation.id": "c1",
        "gen_ai.usage.input_tokens": 9339,
        "gen_ai.usage.cache_read.input_tokens": 9116,
        "gen_ai.usage.cache_creation.input_tokens": 219,
        "gen_ai.usage.details.cache_read_tokens": 9116,
        "gen_ai.usage.details.cache_write_tokens": 219,
        "gen_ai.usage.output_tokens": 156,
        "operation.cost": 0.0123,
    }
    found = a_call(PYDANTIC_AI, chat)
    assert parts(PYDANTIC_AI, chat) == {"cache_read": 9116, "cache_write": 219, "input": 4, "output": 156}
    assert (found[names.REPORTED_COST], found[names.AGENT_NAME], found[names.SESSION_ID]) == ("0.0123", "planner", "c1")
    dialect = dialect_of(PYDANTIC_AI)
    assert dialect is not None
    assert (dialect.source, dialect.rank) == ("logfire", A_FRAMEWORK)


def test_a_run_of_an_agent_is_no_call() -> None:
    run = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "planner",
        "gen_ai.aggregated_usage.input_tokens": 9339,
        "model_name": "claude-sonnet-4-5",
    }
    assert read(PYDANTIC_AI, run) == {names.OPERATION: "invoke_agent", names.AGENT_NAME: "planner"}
    older = {"agent_name": "planner", "model_name": "m", "gen_ai.usage.input_tokens": 9, "logfire.msg": "planner run"}
    assert read(PYDANTIC_AI, older) is None
