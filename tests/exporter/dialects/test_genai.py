"""OpenTelemetry's GenAI conventions, and who keeps to them or nearly: each emitter's attributes, with the sums."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spanledger import attributes as names
from spanledger.exporter.dialects import AN_SDKS_OWN, ANOTHER_INSTRUMENTATION, dialect_of
from tests.exporter.dialects.reading import parts, read

UNKNOWN = "my.company.llm"


OPENAI = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.request.stream": True,
    "gen_ai.response.time_to_first_chunk": 0.25,
    "openai.response.service_tier": "default",
    "server.address": "api.openai.com",
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.cache_read.input_tokens": 1920,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.reasoning.output_tokens": 100,
}
"""opentelemetry-instrumentation-genai-openai 1.3b0."""


def test_a_call_by_the_current_names() -> None:
    found = read("opentelemetry.instrumentation.genai.openai", OPENAI)
    assert found is not None
    raw = {name: value for name, value in OPENAI.items() if name.startswith("gen_ai.usage.")}
    assert json.loads(found.pop(names.USAGE_RAW)) == raw
    assert json.loads(found.pop(names.USAGE_PARTS)) == {
        "cache_read": 1920,
        "input": 86,  # 2006 - 1920
        "output_reasoning": 100,
        "output": 200,  # 300 - 100
    }
    assert found == {
        names.OPERATION: "chat",
        names.PROVIDER: "openai",
        names.REQUEST_MODEL: "gpt-4o",
        names.RESPONSE_MODEL: "gpt-4o-2024-08-06",
        names.RESPONSE_ID: "chatcmpl-DPTDreURJooDVcZZ6Sbh6Fh0oCyz0",
        names.FINISH_REASONS: ("stop",),
        names.REQUEST_STREAM: True,
        names.TIME_TO_FIRST_TOKEN_NS: 250_000_000,
        names.SERVICE_TIER: "default",
        names.USAGE_STATUS: "reported",
    }


def test_the_names_before_those() -> None:
    """Semantic conventions 1.27 and before: `gen_ai.system`, `prompt_tokens`, `completion_tokens`."""
    old = {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "az.ai.openai",
        "gen_ai.request.model": "gpt-4",
        "gen_ai.usage.prompt_tokens": 100,
        "gen_ai.usage.completion_tokens": 20,
    }
    found = read(UNKNOWN, old)
    assert found is not None
    assert found[names.PROVIDER] == "azure.ai.openai"
    assert parts(UNKNOWN, old) == {"input": 100, "output": 20}


@pytest.mark.parametrize("name", ["cache_creation.input_tokens", "cache_write.input_tokens"])
def test_cache_writes_by_both_names(name: str) -> None:
    """opentelemetry-instrumentation-genai-anthropic 1.3b0 sums the input: 4 + 9116 + 219."""
    anthropic = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.usage.input_tokens": 9339,
        "gen_ai.usage.cache_read.input_tokens": 9116,
        f"gen_ai.usage.{name}": 219,
        "gen_ai.usage.output_tokens": 156,
    }
    assert parts("opentelemetry.instrumentation.genai.anthropic", anthropic) == {
        "cache_read": 9116,
        "cache_write": 219,
        "input": 4,
        "output": 156,
    }


def test_modalities_leave_the_input_once() -> None:
    """opentelemetry-instrumentation-google-genai 1.3b0: 900 audio tokens, 800 of them from the cache."""
    google = {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gemini-2.5-flash",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.text.input_tokens": 100,
        "gen_ai.usage.audio.input_tokens": 900,
        "gen_ai.usage.cache_read.input_tokens": 800,
        "gen_ai.usage.audio.cache_read.input_tokens": 800,
        "gen_ai.usage.output_tokens": 520,
        "gen_ai.usage.reasoning.output_tokens": 500,
    }
    found = read("opentelemetry.instrumentation.google_genai", google)
    assert found is not None
    assert (found[names.OPERATION], found[names.USAGE_STATUS]) == ("chat", "reported")
    assert parts("opentelemetry.instrumentation.google_genai", google) == {
        "cache_read_audio": 800,
        "input_audio": 100,
        "input": 100,
        "output_reasoning": 500,
        "output": 20,
    }


BEDROCK = {
    "rpc.system": "aws-api",
    "rpc.method": "Converse",
    "cloud.region": "us-east-1",
    "server.address": "bedrock-runtime.us-east-1.amazonaws.com",
    "gen_ai.system": "aws.bedrock",
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "gen_ai.usage.input_tokens": 4299,
    "gen_ai.usage.output_tokens": 631,
    "gen_ai.usage.cache_read.input_tokens": 35574,
    "gen_ai.usage.cache_creation.input_tokens": 17787,
}
"""opentelemetry-instrumentation-botocore 0.66b2; trap 17: 58 291 in all."""


def test_botocores_input_is_without_cache() -> None:
    scope = "opentelemetry.instrumentation.botocore.bedrock-runtime"
    usage = parts(scope, BEDROCK)
    assert usage == {"cache_read": 35574, "cache_write": 17787, "input": 4299, "output": 631}
    assert sum(usage.values()) == 58_291
    found = read(scope, {**BEDROCK, "rpc.method": "InvokeModel"})
    assert found is not None
    assert found[names.USAGE_STATUS] == "reported"  # the cache is told: no doubt
    assert found[names.REGION] == "us-east-1"
    without = {name: value for name, value in BEDROCK.items() if "cache" not in name} | {"rpc.method": "InvokeModel"}
    found = read(scope, without)
    assert found is not None
    assert found[names.USAGE_STATUS] == "estimated"
    assert found[names.USAGE_REASONS] == ("the emitter does not tell how many of the input tokens were cached",)


ANTHROPICS_OWN = {
    "gen_ai.provider.name": "anthropic",
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.response.model": "claude-sonnet-4-5-20250929",
    "gen_ai.response.id": "msg_01XTvDZL8dUrS8t8SxWTv7f6",
    "anthropic.response.service_tier": "standard",
    "http.request.method": "POST",
    "http.response.status_code": 200,
    "gen_ai.usage.input_tokens": 2100,
    "gen_ai.usage.cache_read.input_tokens": 1000,
    "gen_ai.usage.cache_write.input_tokens": 1000,
    "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 600,
    "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 400,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.usage.reasoning.output_tokens": 0,
}
"""anthropic 2.12.0; trap 8: `input 100, read 1000, 5m 600, 1h 400, output 50`."""


def test_the_anthropic_packages_own_spans() -> None:
    scope = "com.anthropic.sdk.python"
    dialect = dialect_of(scope)
    assert dialect is not None
    assert (dialect.source, dialect.rank) == ("genai", AN_SDKS_OWN)
    assert {part: count for part, count in parts(scope, ANTHROPICS_OWN).items() if count} == {
        "input": 100,
        "cache_read": 1000,
        "cache_write_5m": 600,
        "cache_write_1h": 400,
        "output": 50,
    }
    found = read(scope, ANTHROPICS_OWN)
    assert found is not None
    assert (found[names.SERVICE_TIER], found[names.USAGE_STATUS]) == ("standard", "reported")


def test_a_compaction_is_billed_on_top_and_its_cache_is_in_doubt() -> None:
    compacted = {
        **ANTHROPICS_OWN,
        "anthropic.usage.compaction.input_tokens": 55_000,
        "anthropic.usage.compaction.output_tokens": 70,
    }
    found = read("com.anthropic.sdk.python", compacted)
    assert found is not None
    assert (found[names.USAGE_STATUS], found[names.USAGE_REASONS]) == (
        "estimated",
        ("how much of the compaction's input was cached is not told",),
    )
    usage = parts("com.anthropic.sdk.python", compacted)
    assert (usage["input"], usage["output"]) == (55_100, 120)


def test_other_spans_of_the_anthropic_package_are_no_calls() -> None:
    counting = {
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "anthropic.message.count_tokens.input_tokens": 12,
    }
    assert read("com.anthropic.sdk.python", counting) is None


def test_xais_own_spans_count_reasoning_on_top() -> None:
    """xai-sdk 1.21.0; trap 19: 10120 (128 cached) / 1499 / reasoning 2809 / total 14428, 232 856 000 ticks."""
    grok = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "xai",
        "gen_ai.request.model": "grok-4",
        "gen_ai.response.id": "0d8a1a3c-6a0e-4f3c-a7a1-2f6d1cf9c6a0",
        "gen_ai.usage.input_tokens": 10120,
        "gen_ai.usage.output_tokens": 1499,
        "gen_ai.usage.total_tokens": 14428,
        "gen_ai.usage.reasoning_tokens": 2809,
        "gen_ai.usage.cached_prompt_text_tokens": 128,
        "gen_ai.usage.prompt_text_tokens": 10120,
        "gen_ai.usage.prompt_image_tokens": 0,
        "gen_ai.usage.cost_in_usd_ticks": 232_856_000,
    }
    found = read("xai_sdk.sync.chat", grok)
    assert found is not None
    usage = {part: count for part, count in parts("xai_sdk.sync.chat", grok).items() if count}
    assert usage == {"cache_read": 128, "input": 9992, "output_reasoning": 2809, "output": 1499}
    assert sum(usage.values()) == 14_428
    assert (found[names.PROVIDER], found[names.REPORTED_COST], found[names.USAGE_STATUS]) == (
        "x_ai",
        "0.0232856000",
        "reported",
    )


MISTRAL = {
    "http.request.method": "POST",
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "mistral_ai",
    "gen_ai.request.model": "mistral-large-latest",
    "gen_ai.response.id": "e5c2b2c7a0d54f6f9b4d8e1f2a3b4c5d",
    "gen_ai.usage.input_tokens": 120,
    "gen_ai.usage.output_tokens": 8,
    "gen_ai.usage.cache_read.input_tokens": 64,
}
"""mistralai 3.7.0."""


def test_mistrals_own_spans() -> None:
    scope = "mistralai_sdk_tracer"
    assert parts(scope, MISTRAL) == {"cache_read": 64, "input": 56, "output": 8}
    agent = {**MISTRAL, "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"}
    found = read(scope, agent)
    assert found is not None
    assert (found[names.OPERATION], found[names.AGENT_NAME]) == ("chat", "support")
    inside = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "mistral_ai", "gen_ai.response.id": "msg_1"}
    assert read(scope, inside) is None  # a message of that answer
    pages = {
        "http.request.method": "POST",
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.request.model": "mistral-ocr-latest",
        "mistral_ai.ocr.usage.pages_processed": 3,
    }
    found = read(scope, pages)
    assert found is not None
    assert found[names.OPERATION] == "ocr"
    assert parts(scope, pages) == {"page": 3}


# ---- a scope that nobody knows


def unknown(**usage: int) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        **{f"gen_ai.usage.{name}": value for name, value in usage.items()},
    }


def test_whether_an_unknown_emitters_input_includes_the_cache_is_estimated() -> None:
    usage = unknown(input_tokens=3000, cache_read_input_tokens=1000, output_tokens=50)
    found = read(UNKNOWN, usage)
    assert found is not None
    assert found[names.USAGE_STATUS] == "estimated"
    assert found[names.USAGE_REASONS] == (
        "whether the input tokens include the cached ones is not known of this emitter",
    )
    assert parts(UNKNOWN, usage) == {"cache_read": 1000, "input": 2000, "output": 50}
    dialect = dialect_of(UNKNOWN, usage)
    assert dialect is not None
    assert (dialect.source, dialect.rank) == ("genai", ANOTHER_INSTRUMENTATION)


def test_what_proves_that_the_cache_is_on_top_is_believed() -> None:
    more_than_the_input = unknown(input_tokens=100, cache_read_input_tokens=1000, output_tokens=50)
    by_the_total = unknown(input_tokens=3000, cache_read_input_tokens=1000, output_tokens=50, total_tokens=4050)
    for usage, fresh in ((more_than_the_input, 100), (by_the_total, 3000)):
        found = read(UNKNOWN, usage)
        assert found is not None
        assert found[names.USAGE_STATUS] == "reported"
        assert parts(UNKNOWN, usage) == {"cache_read": 1000, "input": fresh, "output": 50}


def test_without_cached_tokens_nothing_is_in_doubt() -> None:
    found = read(UNKNOWN, unknown(input_tokens=100, cache_read_input_tokens=0, output_tokens=50))
    assert found is not None
    assert found[names.USAGE_STATUS] == "reported"


def test_a_scope_without_llm_attributes_has_no_dialect() -> None:
    assert dialect_of(UNKNOWN, {"http.method": "GET"}) is None
    assert dialect_of(UNKNOWN, {}) is None
    assert dialect_of(UNKNOWN, None) is None
    assert dialect_of("opentelemetry.instrumentation.httpx", unknown(input_tokens=1)) is None
    assert dialect_of(UNKNOWN, unknown(input_tokens=1)) is not None


# ---- what is no call, and what is around calls


def test_agents_and_tools_give_their_names_and_no_bill() -> None:
    agent = {**unknown(input_tokens=500, output_tokens=60), "gen_ai.operation.name": "invoke_agent"}
    assert read(UNKNOWN, agent) is None  # it has no name to give
    assert read(
        UNKNOWN, {**agent, "gen_ai.agent.name": "writer", "gen_ai.conversation.id": "c1", "user.id": "ann"}
    ) == {
        names.OPERATION: "invoke_agent",
        names.AGENT_NAME: "writer",
        names.SESSION_ID: "c1",
        names.USER_ID: "ann",
    }
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    assert read(UNKNOWN, tool) == {names.OPERATION: "execute_tool", names.TOOL_NAME: "search"}


@pytest.mark.parametrize("operation", ["create_agent", "retrieval", "plan", "search_memory"])
def test_these_are_never_calls(operation: str) -> None:
    assert read(UNKNOWN, {**unknown(input_tokens=500), "gen_ai.operation.name": operation}) is None


def test_an_operation_that_nobody_knows_is_a_call_where_it_has_usage() -> None:
    strange = {**unknown(input_tokens=500), "gen_ai.operation.name": "summarise"}
    found = read(UNKNOWN, strange)
    assert found is not None
    assert found[names.OPERATION] == "summarise"
    assert read(UNKNOWN, {**unknown(), "gen_ai.operation.name": "summarise"}) is None


# ---- who serves it, what it cost, how it failed


@pytest.mark.parametrize(
    ("said", "host", "provider"),
    [
        ("openai", "openrouter.ai", "openrouter"),
        ("openai", "my.openai.azure.com", "azure.ai.openai"),
        ("openai", "gateway.corp", "openai"),
        ("vertex_ai", None, "gcp.vertex_ai"),
    ],
)
def test_a_known_host_says_who_answers(said: str, host: str | None, provider: str) -> None:
    span = {**unknown(input_tokens=1), "gen_ai.system": said} | ({"server.address": host} if host else {})
    found = read(UNKNOWN, span)
    assert found is not None
    assert found[names.PROVIDER] == provider


def test_a_stated_cost_is_the_senders_word() -> None:
    found = read(UNKNOWN, {**unknown(input_tokens=1), "gen_ai.usage.cost": 0.00012})
    assert found is not None
    assert found[names.REPORTED_COST] == "0.00012"
    assert names.COST not in found


def test_a_refused_call_is_not_billed_and_a_broken_one_may_be() -> None:
    for refusal in (
        {"error.type": "openai.BadRequestError"},
        {"error.type": "429"},
        {"http.response.status_code": 500},
    ):
        found = read(UNKNOWN, {**unknown(), **refusal})
        assert found is not None
        assert (found[names.USAGE_STATUS], found[names.NOT_BILLED]) == ("missing", True)
    found = read(UNKNOWN, {**unknown(), "error.type": "httpx.ReadTimeout"})
    assert found is not None
    assert names.NOT_BILLED not in found
    broken = {**unknown(input_tokens=10, output_tokens=2), "gen_ai.request.stream": True, "error.type": "Cancelled"}
    found = read(UNKNOWN, broken)
    assert found is not None
    assert found[names.USAGE_STATUS] == "incomplete"


def test_what_no_part_stands_for_is_unmapped() -> None:
    found = read(UNKNOWN, unknown(input_tokens=1, citation_tokens=7))
    assert found is not None
    assert json.loads(found[names.USAGE_UNMAPPED]) == {"gen_ai.usage.citation_tokens": 7}


def test_content_is_not_kept() -> None:
    secret = "the user's own words"
    content = {
        "gen_ai.input.messages": secret,
        "gen_ai.output.messages": secret,
        "gen_ai.prompt": secret,
        "gen_ai.prompt.0.content": secret,
        "gen_ai.system_instructions": secret,
        "gen_ai.tool.call.arguments": secret,
    }
    assert secret not in str(read(UNKNOWN, {**unknown(input_tokens=1), **content}))


def test_interactions_count_thoughts_on_top() -> None:
    """opentelemetry-instrumentation-google-genai 1.3b0."""
    interaction = {
        "gen_ai.operation.name": "interactions.create",
        "gen_ai.provider.name": "gemini",
        "gen_ai.request.model": "gemini-2.5-flash",
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 13,
        "gen_ai.usage.reasoning.output_tokens": 207,
        "gen_ai.usage.text.input_tokens": 9,
    }
    found = read("opentelemetry.instrumentation.google_genai", interaction)
    assert found is not None
    assert (found[names.OPERATION], found[names.USAGE_STATUS]) == ("chat", "reported")
    assert parts("opentelemetry.instrumentation.google_genai", interaction) == {
        "input": 9,
        "output_reasoning": 207,
        "output": 13,
    }
