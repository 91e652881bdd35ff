"""The stand-in server answers the real SDKs in the providers' wire format."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from standin import StandIn

PREFIX = "A long and stable prefix. " * 400


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "localhost,127.0.0.1")


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


@pytest.fixture
def gpt(server: StandIn) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(server: StandIn) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="sk-test", max_retries=0) as client:
        yield client


def ask(text: str) -> list:
    return [{"role": "user", "content": text}]


def test_chat_counts_cached_written_and_reasoning_tokens_inside_the_totals(gpt):
    def call(question: str):
        messages = [{"role": "system", "content": PREFIX}, *ask(question)]
        return gpt.chat.completions.create(model="gpt-5.6-sol", messages=messages)

    first, second = call("one"), call("two")
    assert first.usage.prompt_tokens_details.cache_write_tokens > 1024
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cache_write_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens > 1024
    for answer in (first, second):
        usage = answer.usage
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
        assert usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens
    assert first.id != second.id


def test_the_same_request_takes_the_same_tokens_and_another_takes_others(server, gpt):
    def usages() -> list[int]:
        with StandIn() as fresh, openai.OpenAI(base_url=f"{fresh.url}/v1", api_key="sk-test") as client:
            create = client.chat.completions.create
            return [create(model="gpt-5-mini", messages=ask(f"question {n}")).usage.total_tokens for n in range(5)]

    assert usages() == usages()
    assert len(set(usages())) > 1


def test_older_models_do_not_bill_the_cache_write(gpt):
    messages = [{"role": "system", "content": PREFIX}, *ask("one")]
    usage = gpt.chat.completions.create(model="gpt-4.1-mini", messages=messages).usage
    assert usage.prompt_tokens_details.cache_write_tokens == 0
    assert usage.completion_tokens_details.reasoning_tokens == 0


def test_chat_counts_audio_on_both_sides(gpt):
    audio = {"type": "input_audio", "input_audio": {"data": "A" * 3200, "format": "wav"}}
    answer = gpt.chat.completions.create(
        model="gpt-audio-mini",
        modalities=["text", "audio"],
        audio={"voice": "alloy", "format": "pcm16"},
        messages=[{"role": "user", "content": [{"type": "text", "text": "What is this?"}, audio]}],
    )
    assert answer.usage.prompt_tokens_details.audio_tokens == 100
    assert answer.usage.completion_tokens_details.audio_tokens > 0
    assert answer.choices[0].message.audio.transcript


@pytest.mark.parametrize(("asked", "served"), [("auto", "default"), ("flex", "flex"), ("fast", "priority")])
def test_the_tier_served_is_answered(gpt, asked, served):
    answer = gpt.chat.completions.create(model="gpt-5-mini", messages=ask("hi"), service_tier=asked)
    assert answer.service_tier == served


def chunks_of(server: StandIn, **request: object) -> list[str]:
    """The data lines of a streamed chat completion, as sent."""
    body = {"model": "gpt-5-mini", "messages": ask("hi"), "stream": True, **request}
    http = urllib.request.Request(
        f"{server.url}/v1/chat/completions", json.dumps(body).encode(), {"Authorization": "Bearer sk-test"}
    )
    with urllib.request.urlopen(http) as response:
        lines = response.read().decode().split("\n\n")
    return [line.removeprefix("data: ") for line in lines if line]


def test_a_chat_stream_that_asks_for_usage_gets_null_on_each_chunk_and_a_last_one_without_choices(server):
    *chunks, done = chunks_of(server, stream_options={"include_usage": True})
    assert done == "[DONE]"
    *before, last = map(json.loads, chunks)
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in before)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] > 0
    assert before[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_chat_stream_that_does_not_ask_never_mentions_usage(server):
    *chunks, done = chunks_of(server)
    assert done == "[DONE]"
    assert not any("usage" in json.loads(chunk) for chunk in chunks)


def test_a_stream_says_what_the_plain_answer_says(gpt, claude):
    plain = gpt.responses.create(model="gpt-5", input="hello", reasoning={"effort": "none"})
    with gpt.responses.stream(model="gpt-5", input="hello", reasoning={"effort": "none"}) as stream:
        stream.until_done()
        streamed = stream.get_final_response()
    assert streamed.status == "completed"
    assert streamed.usage.input_tokens == plain.usage.input_tokens
    assert streamed.usage.total_tokens == streamed.usage.input_tokens + streamed.usage.output_tokens

    with claude.messages.stream(model="claude-sonnet-4-6", max_tokens=500, messages=ask("hi")) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert message.content[0].text == text
    assert message.usage.output_tokens > 1


def test_responses_count_executed_searches_and_cache_writes_by_time_to_live(gpt):
    messages = [{"role": "system", "content": PREFIX}, *ask("one")]
    answer = gpt.responses.create(
        model="gpt-6.1-sol",
        input=messages,
        tools=[{"type": "web_search"}],
        extra_body={"prompt_cache_options": {"ttl": "12h"}},
    )
    assert answer.tool_usage.web_search.num_requests == 1
    assert [item.type for item in answer.output] == ["reasoning", "web_search_call", "message"]
    details = answer.usage.input_tokens_details
    assert details.cache_write_tokens == details.cache_write_tokens_details.ttl_12h_tokens > 1024


def test_embeddings_have_prompt_tokens_only(gpt):
    answer = gpt.embeddings.create(model="text-embedding-3-small", input=["one", "two words"])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 4
    assert [len(item.embedding) for item in answer.data] == [1536, 1536]


def test_messages_write_a_cache_by_time_to_live_and_then_read_it(claude):
    def call(question: str):
        return claude.messages.create(
            model="claude-sonnet-4-6",
            max_tokens=500,
            system=[
                {"type": "text", "text": PREFIX, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                {"type": "text", "text": "For now.", "cache_control": {"type": "ephemeral"}},
            ],
            messages=ask(question),
        ).usage

    first, second = call("one"), call("two")
    split = first.cache_creation
    assert split.ephemeral_1h_input_tokens > 2000
    assert split.ephemeral_5m_input_tokens > 0
    assert first.cache_creation_input_tokens == (split.ephemeral_1h_input_tokens + split.ephemeral_5m_input_tokens)
    assert first.cache_read_input_tokens == 0
    assert second.cache_creation_input_tokens == 0
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens


def test_messages_count_thinking_inside_the_output_and_searches_on_top(claude):
    usage = claude.messages.create(
        model="claude-sonnet-4-6",
        max_tokens=2048,
        thinking={"type": "enabled", "budget_tokens": 1024},
        tools=[{"type": "web_search_20250305", "name": "web_search"}],
        messages=ask("Is 1031 a prime?"),
    ).usage
    assert 0 < usage.output_tokens_details.thinking_tokens < usage.output_tokens
    assert usage.server_tool_use.web_search_requests >= 1


def test_a_message_streams_cumulative_usage(claude):
    stream = claude.messages.create(model="claude-sonnet-4-6", max_tokens=500, messages=ask("hi"), stream=True)
    events = list(stream)
    assert events[0].message.usage.output_tokens == 1
    deltas = [event for event in events if event.type == "message_delta"]
    assert deltas[-1].usage.output_tokens > 1
    assert deltas[-1].usage.input_tokens == events[0].message.usage.input_tokens


def test_refusals_are_the_sdks_own_exceptions(server, gpt, claude):
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        gpt.chat.completions.create(model="no-such-model", messages=ask("hi"))
    with pytest.raises(anthropic.NotFoundError, match="no-such-model"):
        claude.messages.create(model="no-such-model", max_tokens=5, messages=ask("hi"))
    with pytest.raises(openai.BadRequestError, match="messages"):
        gpt.post("/chat/completions", cast_to=object, body={"model": "gpt-5"})
    assert [path for path, _ in server.requests] == [
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/chat/completions",
    ]


def test_the_cut_answer_says_so(gpt, claude):
    answer = gpt.chat.completions.create(model="gpt-4.1-mini", messages=ask("hi"), max_tokens=5)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 5)
    message = claude.messages.create(model="claude-sonnet-4-6", max_tokens=5, messages=ask("hi"))
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)


def test_a_client_that_stops_reading_leaves_the_server_well(gpt):
    stream = gpt.chat.completions.create(model="gpt-5-mini", messages=ask("hi"), stream=True)
    next(iter(stream))
    stream.close()
    assert gpt.chat.completions.create(model="gpt-5-mini", messages=ask("hi")).usage.total_tokens > 0
