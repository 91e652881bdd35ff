"""Each rule of `docs/usage.md`, on an answer of `tests/fixtures` that was written for it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from spanledger.pricing.usage import CONTRADICTORY, ESTIMATED, INCOMPLETE, MISSING, REPORTED, Quantity, totals
from tests.instrumentation.wire import (
    fixtures,
    rules_bedrock,
    rules_gemini,
    rules_others,
    rules_video,
    rules_watsonx,
    rules_xai,
)


def parts(**quantities: Quantity) -> dict[str, Quantity]:
    return quantities


PARTS: dict[str, dict[str, Quantity]] = {
    "openai/chat_cached": parts(
        cache_read=1920, input=2006 - 1920, input_audio=0, output=300, output_reasoning=0, output_audio=0
    ),
    "openai/chat_reasoning_and_predictions": {"input": 100, "output_reasoning": 200, "output": 500 - 200},
    "openai/chat_audio": parts(
        cache_read=0,
        input_audio=69,
        input_image=9,
        input=90 - 69 - 9,
        output_reasoning=0,
        output_audio=50,
        output=72 - 50,
    ),
    "openai/chat_cached_audio": parts(
        cache_read_audio=800, cache_read=864 - 800, input_audio=900 - 800, input=1000 - 864 - 100, output=10
    ),
    "openai/chat_cache_of_unknown_modality": {"cache_read": 100, "input_audio": 120 - 100, "input": 0, "output": 10},
    "openai/chat_cache_write": {"cache_read": 0, "cache_write": 4012, "input": 4020 - 4012, "output": 4},
    "openai/chat_cache_write_12h": parts(cache_read=1000, cache_write_12h=3012, input=4020 - 1000 - 3012, output=4),
    "openai/chat_cache_write_of_several_lifetimes": parts(cache_read=0, cache_write=4012, input=4020 - 4012, output=4),
    "openai/chat_tier_of_the_response": {"input": 10, "output": 5},
    "openai/chat_tier_of_the_request": {"input": 10, "output": 5},
    "openai/chat_choices": {"input": 10, "output": 50},
    "openai/chat_stream_without_usage": {},
    "openai/chat_stream_usage_last": {"input": 9, "output": 2},
    "openai/chat_stream_usage_on_every_chunk": {"input": 9, "output": 15},
    "openai/chat_stream_broken": {"input": 9, "output": 7},
    "openai/chat_azure_content_filter": {},
    "openai/chat_azure_stream": {"input": 9, "output": 2},
    "openai/completion": {"input": 8, "output": 16},
    "openai/groq_stream": {"input": 304, "output_reasoning": 23, "output": 49 - 23},
    "openai/groq_stream_error": {},
    "openai/groq_compound": {"input": 5296, "output": 387, "web_search": 1, "code_execution": 1, "tool_call": 1},
    "openai/deepseek": {"cache_read": 960, "input": 1000 - 960, "output": 20},
    "openai/deepseek_hits_only": {"cache_read": 960, "input": 1000 - 960, "output": 20},
    "openai/deepseek_without_prompt": {"cache_read": 960, "input": 40, "output": 20},
    "openai/together": {"cache_read": 32, "input": 45 - 32, "output": 3},
    "openai/writer": {"cache_read": 16, "input": 39 - 16, "output_reasoning": 30, "output": 74 - 30},
    "openai/mistral": {"cache_read": 64, "input": 86 - 64, "output": 70, "audio_second": 12},
    "openai/gemini_hidden_reasoning": {"input": 100, "output_reasoning": 620 - 100 - 20, "output": 20},
    "openai/xai_chat": parts(
        cache_read=128,
        input=10120 - 128,
        input_audio=0,
        input_image=0,
        output_reasoning=2809,
        output=1499,
        output_audio=0,
    ),
    "openai/xai_responses": parts(
        cache_read=600,
        input=1000 - 600,
        output_reasoning=400,
        output=500 - 400,
        web_search=2,
        tool_call=1 + 1,
        code_execution=1,
        file_search=0,
    ),
    "openai/azure_grok": {"input": 10, "output_reasoning": 97, "output": 1},
    "openai/cache_outside_the_prompt": {"cache_read": 1000, "input": 100, "output": 50},
    "openai/openrouter": parts(cache_read=0, input=2315, output_reasoning=0, output=40, web_search=1, tool_call=3 - 1),
    "openai/openrouter_read_and_written": parts(cache_read=2161, cache_write=2161, input=2168 - 2161, output=100),
    "openai/openrouter_free": {"input": 43, "output": 10},
    "openai/openrouter_anthropic_cache": parts(cache_read=0, cache_write_1h=1900, input=2000 - 1900, output=10),
    "openai/moonshot_stream": {"cache_read": 10, "input": 19 - 10, "output": 21},
    "openai/perplexity": {"input": 33, "output_reasoning": 73997, "output": 7163, "web_search": 21},
    "openai/perplexity_agent": parts(
        cache_read=1000,
        cache_write=200,
        input=3681 - 1000 - 200,
        output_reasoning=0,
        output=780,
        web_search=2,
        web_fetch=1,
        tool_call=1,
    ),
    "openai/reasoning_outside_details": {"input": 10, "output_reasoning": 30, "output": 50 - 30},
    "openai/litellm_cache": parts(
        cache_read=20,
        cache_write_5m=7,
        cache_write_1h=3,
        input=100,
        output_reasoning=0,
        output=25,
        web_search=2,
    ),
    "openai/vertex": {"input": 21, "output_reasoning": 113, "output": 1},
    "openai/alibaba_cache": parts(
        cache_read=2048, cache_write_5m=900, input=3019 - 2048 - 900, output_reasoning=82, output=104 - 82
    ),
    "openai/alibaba_cache_alone": parts(cache_read=2048, cache_write=500, input=3019 - 2048 - 500, output=104),
    "openai/openrouter_server_tools": parts(input=2315, output=40, web_search=1, web_fetch=2, tool_call=5 - 1 - 2),
    "openai/groq_browser_search": parts(input=5296, output=387, web_search=1, web_fetch=1, code_execution=1),
    "openai/chat_stream_empty_usage_last": {"input": 9, "output": 2},
    "openai/details_above_their_parent": parts(
        cache_read=43, input_audio=0, input=0, output_reasoning=10, output_audio=0, output=0
    ),
    "openai/total_below_its_parts": {"input": 43, "output": 10},
    "openai/total_alone": {},
    "openai/unknown_fields": {"input": 43, "output": 10},
    "openai/responses": {"cache_read": 1280, "input": 1618 - 1280, "output_reasoning": 64, "output": 125 - 64},
    "openai/responses_cache_write_split": parts(
        cache_read=4000,
        cache_write_30m=9000,
        cache_write_12h=6000,
        input=20000 - 4000 - 15000,
        output_reasoning=0,
        output=10,
    ),
    "openai/responses_cache_write_12h": parts(
        cache_read=0, cache_write_12h=4012, input=8, output_reasoning=0, output=5
    ),
    "openai/responses_searches_stated": parts(cache_read=0, input=1000, output_reasoning=64, output=36, web_search=1),
    "openai/responses_searches_counted": parts(
        cache_read=0, input=1000, output_reasoning=64, output=36, web_search=1 + 1
    ),
    "openai/responses_tool_runs": parts(
        cache_read=0,
        input=1000,
        output_reasoning=64,
        output=36,
        file_search=1,
        code_execution=1 + 1,
        tool_call=1 + 1,
        image=1,
    ),
    "openai/responses_image_generating": parts(cache_read=0, input=1000, output_reasoning=64, output=36, image=1),
    "openai/responses_image_tool": parts(cache_read=0, input=1000, output_reasoning=64, output=36, web_search=0),
    "openai/responses_svg": {"cache_read": 0, "input": 1000, "output_reasoning": 64, "output": 36, "image": 1},
    "openai/responses_queued": {},
    "openai/responses_failed": {},
    "openai/responses_incomplete": {"cache_read": 0, "input": 1000, "output_reasoning": 64, "output": 36},
    "openai/responses_broken_stream": {"web_search": 1},
    "openai/responses_stream_error": {},
    "openai/responses_compact": {"cache_read": 0, "input": 5000, "output_reasoning": 0, "output": 400},
    "openai/decision": parts(cache_read=100, cache_write=200, input=500 - 100 - 200, output_reasoning=8, output=12 - 8),
    "openai/embeddings": {"input": 8},
    "openai/embeddings_total": {"input": 10},
    "openai/rerank": {"input": 77, "output": 0},
    "writer/question": {},
    "openai/image_tokens": {"input": 60 - 10, "input_image": 10, "output_image": 4160},
    "openai/image_tokens_with_text": {"input": 60 - 10, "input_image": 10, "output": 40, "output_image": 4200 - 40},
    "openai/image_count": {"image": 2},
    "openai/image_cost_alone": {"image": 2},
    "openai/image_of_zero_tokens": {"input_image": 0, "input": 0, "output_image": 0, "image": 1},
    "openai/image_stream": {"input": 60 - 10, "input_image": 10, "output_image": 4160},
    "openai/transcription_tokens": {"input": 114 - 100, "input_audio": 100, "output": 25},
    "openai/transcription_stream": {"input": 114 - 100, "input_audio": 100, "output": 25},
    "openai/transcription_duration": {"audio_second": 9},
    "openai/transcription_verbose": {"audio_second": Decimal("8.470000267028809")},
    "openai/transcription_text": {},
    "openai/speech_stream": {"input": 14, "output_audio": 101},
    "openai/speech": {},
    "openai/moderation": {},
    "anthropic/cache": {"input": 100, "cache_read": 1000, "cache_write_5m": 600, "cache_write_1h": 400, "output": 50},
    "anthropic/cache_1h_of_the_request": {"input": 100, "cache_read": 0, "cache_write_1h": 1000, "output": 50},
    "anthropic/cache_without_lifetime": {"input": 100, "cache_read": 0, "cache_write": 1000, "output": 50},
    "anthropic/cache_of_several_lifetimes": {"input": 100, "cache_read": 0, "cache_write": 1000, "output": 50},
    "anthropic/cache_split_above_the_sum": parts(
        input=100, cache_read=0, cache_write_5m=600, cache_write_1h=1000 - 600, output=50
    ),
    "anthropic/stream_cumulative": {
        "input": 25,
        "cache_read": 1000,
        "output": 15,
        "cache_write_5m": 0,
        "cache_write_1h": 0,
    },
    "anthropic/stream_broken": {"input": 25, "output": 1},
    "anthropic/stream_error": {"input": 25, "output": 1},
    "anthropic/stream_cache_grows": parts(input=30, cache_read=0, cache_write_5m=0, cache_write_1h=500, output=15),
    "anthropic/thinking": {"input": 100, "output_reasoning": 420, "output": 500 - 420},
    "anthropic/compaction": parts(
        input=220 + 55196, cache_read=10, output=8 + 125, cache_write=0, cache_write_5m=7, cache_write_1h=0
    ),
    "anthropic/advisor": {"input": 2390, "cache_read": 0, "cache_write": 0, "output": 121},
    "anthropic/fallback": {"input": 2, "cache_read": 79214, "cache_write": 0, "output": 13658},
    "anthropic/fallback_before_any_output": {"input": 106, "cache_read": 0, "cache_write": 0, "output": 40},
    "anthropic/fallback_on_top": {"input": 100, "cache_read": 0, "cache_write": 0, "output": 10},
    "anthropic/iterations_that_do_not_sum": {"input": 100, "output": 10},
    "anthropic/fast_in_the_us": {"input": 100, "output": 10},
    "anthropic/speed_and_place_of_the_request": {"input": 100, "output": 10},
    "anthropic/batch": {"input": 100, "output": 10},
    "anthropic/searches_stated": parts(input=12251, output=153, web_search=3, web_fetch=1, code_execution=1),
    "anthropic/searches_counted": {"input": 100, "output": 10, "web_search": 1 + 1, "tool_call": 1 + 1},
    "anthropic/tools_stated": parts(input=100, output=10, web_search=0, code_execution=3, tool_call=2 + 1),
    "anthropic/unknown_fields": {"input": 100, "output": 10, "web_search": 0},
    "anthropic/complete": {},
    "anthropic/complete_stream": {},
    "anthropic/bedrock_metrics": {"input": 14, "output": 20},
    "anthropic/vertex": {"input": 100, "cache_read": 0, "cache_write": 0, "output": 50},
}

STATUS = {
    "openai/chat_cache_of_unknown_modality": ESTIMATED,
    "openai/chat_cache_write_of_several_lifetimes": ESTIMATED,
    "openai/chat_stream_broken": INCOMPLETE,
    "openai/details_above_their_parent": CONTRADICTORY,
    "openai/total_alone": CONTRADICTORY,
    "openai/total_below_its_parts": CONTRADICTORY,
    "openai/responses_broken_stream": INCOMPLETE,
    "openai/moderation": REPORTED,
    "anthropic/cache_of_several_lifetimes": ESTIMATED,
    "anthropic/cache_split_above_the_sum": CONTRADICTORY,
    "anthropic/stream_broken": INCOMPLETE,
    "anthropic/stream_error": INCOMPLETE,
    "anthropic/iterations_that_do_not_sum": CONTRADICTORY,
}
"""Where it is neither `reported` with parts nor `missing` without."""

LINES: dict[str, list[tuple[str, dict[str, Quantity]]]] = {
    "bedrock/agent": [  # the third names no model in the trace: the request's
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", {"input": 1200, "output": 80}),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", {"input": 1500, "output": 90}),
    ],
    "openai/responses_image_tool": [
        ("gpt-image-1", {"cache_read": 20, "cache_read_image": 0, "input": 60 - 20 - 10, "input_image": 10,
                         "output": 0, "output_image": 4160})
    ],
    "openai/responses_svg": [("gpt-5.6-luna", {"input": 300, "output_reasoning": 500, "output": 900 - 500})],
    "openai/image_tokens_with_text": [("gpt-5.6-luna", {"input": 300, "output_reasoning": 500, "output": 900 - 500})],
    "anthropic/advisor": [("claude-opus-4-8", {"input": 2518, "cache_read": 0, "cache_write": 0, "output": 22})],
    "anthropic/fallback": [("claude-fable-5", {"input": 2, "cache_read": 72769, "cache_write": 10421, "output": 578})],
    "anthropic/fallback_on_top": [("claude-opus-4-8", {"input": 50, "cache_read": 0, "cache_write": 0, "output": 5})],
}  # fmt: skip

UNMAPPED: dict[str, dict[str, Quantity]] = {
    "openai/xai_chat": {"num_sources_used": 3},
    "openai/perplexity": {"citation_tokens": 19028},
    "openai/openrouter_server_tools": {"server_tool_use_details.image_requests": 1},
    "openai/total_alone": {"total_tokens": 40},
    "openai/unknown_fields": {
        "spoken_tokens": 5,
        "deep.er.tokens": 2,
        "prompt_tokens_details.multimodal_tokens": 30,
        "completion_tokens_details.draft_tokens": 4,
    },
    "anthropic/unknown_fields": {"video_tokens": 3, "server_tool_use.maps_requests": 2},
}

OTHER: dict[str, dict[str, Any]] = {
    "openai/chat_cached": {
        "response_id": "chatcmpl-1",
        "response_model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "finish_reasons": ("stop",),
        "created_ns": 1_780_000_000 * 10**9,
    },
    "openai/chat_tier_of_the_response": {"service_tier": "priority"},
    "openai/chat_tier_of_the_request": {"service_tier": "flex"},
    "openai/chat_stream_usage_last": {"service_tier": "default", "finish_reasons": ("stop",)},
    "openai/chat_choices": {"finish_reasons": ("stop", "length")},
    "openai/chat_azure_content_filter": {"error": ("content_filter", "The response was filtered.")},
    "openai/chat_azure_stream": {"response_id": "chatcmpl-1", "response_model": "gpt-4o-2024-08-06"},
    "openai/groq_stream_error": {
        "error": ("tool_use_failed", "Tool choice is required, but model did not call a tool"),
        "response_model": "openai/gpt-oss-120b",
    },
    "openai/xai_chat": {"reported_cost": Decimal("0.0232856")},
    "openai/xai_responses": {"reported_cost": Decimal("0.0037756")},
    "openai/openrouter": {"reported_cost": Decimal("0.007637029")},
    "openai/openrouter_read_and_written": {"reported_cost": Decimal("0.0004970133333333333")},
    "openai/openrouter_free": {"reported_cost": Decimal(0)},
    "openai/perplexity": {"reported_cost": Decimal("0.35")},
    "openai/perplexity_agent": {"reported_cost": Decimal("0.0174")},
    "openai/vertex": {"service_tier": "priority"},
    "openai/image_cost_alone": {"reported_cost": Decimal("0.04")},
    "openai/responses": {"response_id": "resp_1", "finish_reasons": ("completed",), "background": False},
    "openai/responses_queued": {"pending": True, "background": True, "service_tier": "auto", "finish_reasons": ()},
    "openai/responses_failed": {"error": ("server_error", "The model failed."), "pending": False},
    "openai/responses_incomplete": {"finish_reasons": ("max_output_tokens",)},
    "openai/responses_broken_stream": {"response_id": "resp_1", "pending": False, "finish_reasons": ()},
    "openai/responses_stream_error": {"error": ("rate_limit_exceeded", "Slow down.")},
    "openai/responses_compact": {"response_id": "resp_c", "response_model": ""},
    "openai/image_stream": {"created_ns": 1_780_000_000 * 10**9},
    "anthropic/cache": {"region": "global", "service_tier": "standard", "processing": "", "response_id": "msg_1"},
    "anthropic/stream_error": {"error": ("overloaded_error", "Overloaded")},
    "anthropic/fallback": {"response_model": "claude-opus-4-8"},
    "anthropic/fast_in_the_us": {"processing": "fast", "region": "us", "service_tier": "priority"},
    "anthropic/speed_and_place_of_the_request": {"processing": "fast", "region": "us", "service_tier": "standard"},
    "anthropic/batch": {"processing": "batch"},
    "anthropic/complete": {"response_id": "compl_1", "finish_reasons": ("stop_sequence",)},
    "anthropic/complete_stream": {"response_id": "compl_1", "response_model": "claude-2.1"},
}

SUMS = {
    "openai/chat_cached": 2306,
    "openai/chat_cached_audio": 1010,
    "openai/xai_chat": 14428,
    "openai/vertex": 135,
    "openai/gemini_hidden_reasoning": 620,
    "openai/azure_grok": 108,
    "openai/cache_outside_the_prompt": 1150,
    "openai/responses_cache_write_split": 20010,
    "openai/image_tokens": 4220,
    "openai/transcription_tokens": 139,
}
"""The provider's own total, where the fixture states one that its parts are told by."""


for _rules in (rules_bedrock, rules_gemini, rules_others, rules_video, rules_watsonx, rules_xai):
    PARTS |= _rules.PARTS
    STATUS |= _rules.STATUS
    UNMAPPED |= _rules.UNMAPPED
    OTHER |= _rules.OTHER
    SUMS |= _rules.SUMS


def test_every_fixture_has_its_parts() -> None:
    assert fixtures.names() == sorted(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_a_rule(name: str) -> None:
    readings = fixtures.load(name).readings()
    assert readings
    for reading in readings:
        assert reading.usage.parts == PARTS[name]
        assert reading.usage.status == STATUS.get(name, REPORTED if PARTS[name] else MISSING)
        assert bool(reading.usage.reasons) == (reading.usage.status != REPORTED)
        assert [(line.model, line.usage.parts) for line in reading.lines] == LINES.get(name, [])
        assert reading.usage.unmapped == UNMAPPED.get(name, {})
        for attribute, value in OTHER.get(name, {}).items():
            assert getattr(reading, attribute) == value, attribute
        assert name not in SUMS or totals(reading.usage.parts).total_tokens == SUMS[name]


@pytest.mark.parametrize("name", [name for name in fixtures.names() if fixtures.load(name).told_both_ways])
def test_a_stream_and_a_plain_answer_read_the_same(name: str) -> None:
    plain, streamed = fixtures.load(name).readings()
    if plain.usage.status == MISSING:  # what is missing is worded for the one and the other
        plain.usage.reasons = streamed.usage.reasons = ()
    assert plain == streamed


@pytest.mark.parametrize("name", [name for name in fixtures.names() if fixtures.load(name).events is not None])
def test_parsed_events_read_as_their_lines_do(name: str) -> None:
    fixture = fixtures.load(name)
    reader = fixture.endpoint.stream_reader(fixture.request)
    events = fixture.events or ()
    for event in events:
        if isinstance(event, dict):
            reader.take(event)
        else:
            reader.feed(event.encode())
    assert reader.reading() == fixtures.stream(fixture.endpoint, fixture.request, fixtures.lines(events))


@pytest.mark.parametrize("name", [name for name in fixtures.names() if fixtures.load(name).told_both_ways])
def test_a_whole_stream_is_ended_and_finished(name: str) -> None:
    fixture = fixtures.load(name)
    assert fixture.body is not None
    reader = fixture.endpoint.stream_reader(fixture.request)
    assert not reader.finished
    for line in fixtures.lines(fixture.events or fixtures.as_events(fixture.path, fixture.body)):
        assert not reader.ended or not line
        reader.feed(line)
    pending = reader.reading().pending
    assert reader.ended != pending
    assert reader.finished != pending


def test_a_stream_is_finished_only_with_the_last_word_on_usage() -> None:
    fixture = fixtures.load("openai/chat_stream_usage_on_every_chunk")
    reader = fixture.endpoint.stream_reader({})
    finished = []
    for line in fixtures.lines(fixture.events or ()):
        reader.feed(line)
        finished += [reader.finished] if line else []
    assert finished == [False, False, True, True]


@pytest.mark.parametrize("name", [name for name in fixtures.names() if fixtures.load(name).format == "openai"])
def test_an_error_ends_a_stream(name: str) -> None:
    fixture = fixtures.load(name)
    reader = fixture.endpoint.stream_reader({})
    reader.feed(b'data: {"type":"error","error":{"code":"server_error","message":"No."}}')
    assert reader.ended
    assert not reader.finished
    assert reader.reading().error == ("server_error", "No.")
