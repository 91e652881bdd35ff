"""Calls through the real openai SDK: what the span says, and that the program gets what it would get without us."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from spanledger import attributes as names
from spanledger.attribution import attribute
from spanledger.instrumentation import OpenAIInstrumentor
from spanledger.instrumentation.keys import hash_key
from spanledger.settings import settings
from spanledger.tracking import cost_of, track
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider, gzipped, stream

KEY = "sk-test-0123456789abcdef"
USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
CHAT = {
    "id": "chatcmpl-Bk3vZk0v5n2p8Qw7xYt1LmNo",
    "object": "chat.completion",
    "created": 1_780_000_000,
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
COST = "0.005615"  # 86 x 2.50 + 1920 x 1.25 + 300 x 10, per million
ASK: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "what is in my secret diary?"}]}


def chunk(**fields: Any) -> dict[str, Any]:
    return {
        "id": CHAT["id"],
        "object": "chat.completion.chunk",
        "created": CHAT["created"],
        "model": CHAT["model"],
        "service_tier": "default",
        "choices": [],
        "usage": None,
    } | fields


def delta(text: str | None = None, finish: str | None = None) -> dict[str, Any]:
    content = {} if text is None else {"content": text}
    return chunk(choices=[{"index": 0, "delta": content, "finish_reason": finish}])


EVENTS = [delta("he"), delta("llo"), delta(finish="stop"), chunk(usage=USAGE)]


@pytest.fixture
def client(provider: Provider) -> OpenAI:
    return OpenAI(api_key=KEY, base_url=provider.url + "/v1", max_retries=0)


def async_client(provider: Provider, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(api_key=KEY, base_url=provider.url + "/v1", **{"max_retries": 0} | options)


def assert_complete(span: dict[str, Any]) -> None:
    parts = {part: n for part, n in json.loads(span[names.USAGE_PARTS]).items() if n}
    assert parts == {"input": 86, "cache_read": 1920, "output": 300}
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS], span[names.COST]) == ("reported", "priced", COST)


def test_a_plain_call(client: OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    response = client.chat.completions.create(**ASK)
    assert response.choices[0].message.content == "hello"
    span = spans.one()
    assert_complete(span)
    assert span[names.OPERATION] == "chat"
    assert span[names.PROVIDER] == "openai"
    assert (span[names.REQUEST_MODEL], span[names.RESPONSE_MODEL]) == ("gpt-4o", "gpt-4o-2024-08-06")
    assert span[names.RESPONSE_ID] == CHAT["id"]
    assert span[names.REQUEST_STREAM] is False
    assert (span[names.INPUT_TOKENS], span[names.OUTPUT_TOKENS], span[names.CACHE_READ_TOKENS]) == (2006, 300, 1920)
    assert span[names.FINISH_REASONS] == ("stop",)
    assert span[names.CREATED_NS] == CHAT["created"] * 10**9
    assert span[names.API_KEY_HASH] == hash_key(KEY)[0]
    assert spans.all()[0].name == "chat gpt-4o"
    assert KEY not in str(spans.all()[0].to_json())
    assert "diary" not in str(spans.all()[0].to_json())
    assert "hello" not in str(spans.all()[0].to_json())


def test_an_async_call(provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))

    async def main() -> None:
        async with async_client(provider) as client:
            assert (await client.chat.completions.create(**ASK)).usage.prompt_tokens == 2006

    asyncio.run(main())
    assert_complete(spans.one())


@pytest.mark.parametrize("squeeze", [lambda answer: answer, gzipped], ids=["plain", "gzip"])
def test_a_stream(client: OpenAI, provider: Provider, spans: Spans, squeeze: Any) -> None:
    provider.say(squeeze(stream(*EVENTS)))
    stream_ = client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    assert isinstance(stream_, openai.Stream)
    assert spans.all() == []
    chunks = list(stream_)
    assert [c.choices[0].delta.content for c in chunks if c.choices] == ["he", "llo", None]
    assert chunks[-1].usage.prompt_tokens == 2006
    span = spans.one()
    assert_complete(span)
    assert span[names.REQUEST_STREAM] is True
    assert span[names.TIME_TO_FIRST_TOKEN_NS] > 0


def test_an_async_stream(provider: Provider, spans: Spans) -> None:
    provider.say(stream(*EVENTS))

    async def main() -> None:
        async with async_client(provider) as client:
            chunks = [c async for c in await client.chat.completions.create(**ASK, stream=True)]
            assert len(chunks) == 4

    asyncio.run(main())
    assert_complete(spans.one())


def test_the_row_is_there_before_the_stream_says_that_it_has_ended(
    client: OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(stream(*EVENTS))
    stream_ = iter(client.chat.completions.create(**ASK, stream=True))
    for _ in EVENTS:
        next(stream_)
    with pytest.raises(StopIteration):
        next(stream_)
    assert_complete(spans.one())


@pytest.mark.parametrize("how", ["with_raw_response", "with_streaming_response"])
@pytest.mark.parametrize("streamed", [False, True])
def test_raw_responses(client: OpenAI, provider: Provider, spans: Spans, how: str, streamed: bool) -> None:
    provider.say(stream(*EVENTS) if streamed else Answer(CHAT))
    create = getattr(client.chat.completions, how).create
    if how == "with_raw_response":
        raw = create(**ASK, stream=streamed)
        assert raw.headers["content-type"]
        parsed = raw.parse()
        if streamed:
            assert len(list(parsed)) == 4
    else:
        with create(**ASK, stream=streamed) as response:
            body = b"".join(response.iter_bytes())
            assert b"hello" in body or b"llo" in body
    assert_complete(spans.one())


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", ""])
def test_a_body_of_json_that_is_called_something_else(
    client: OpenAI, provider: Provider, spans: Spans, content_type: str
) -> None:
    provider.say(Answer(CHAT, content_type=content_type))
    with client.chat.completions.with_streaming_response.create(**ASK) as response:
        assert b"hello" in response.read()
    assert_complete(spans.one())


def test_an_async_streaming_response(provider: Provider, spans: Spans) -> None:
    provider.say(stream(*EVENTS))

    async def main() -> list[str]:
        async with async_client(provider) as client:
            async with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
                return [line async for line in response.iter_lines()]

    lines = asyncio.run(main())
    assert sum(line.startswith("data:") for line in lines) == 5
    assert_complete(spans.one())


@pytest.mark.skipif(not hasattr(openai.resources.chat.Completions, "parse"), reason="this SDK parses in `beta`")
def test_parse_and_the_stream_helper(client: OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT), stream(*EVENTS))
    assert client.chat.completions.parse(**ASK).choices[0].message.parsed is None
    with client.chat.completions.stream(**ASK) as events:
        final = events.get_final_completion()
    assert final.choices[0].message.content == "hello"
    assert len(spans.all()) == 2
    assert {s.attributes[names.COST] for s in spans.all()} == {COST}
    assert str(cost_of(final).cost).rstrip("0") == COST


# Asking for usage


@pytest.fixture
def at_openai(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> OpenAI:
    """A client whose host is OpenAI's; a proxy brings its requests to the scripted provider."""
    for name, value in {"http_proxy": provider.url, "no_proxy": ""}.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.upper(), value)
    return OpenAI(api_key=KEY, base_url="http://api.openai.com/v1", max_retries=0)


@pytest.mark.parametrize("squeeze", [lambda answer: answer, gzipped], ids=["plain", "gzip"])
def test_usage_is_asked_for_and_hidden(at_openai: OpenAI, provider: Provider, spans: Spans, squeeze: Any) -> None:
    provider.say(squeeze(stream(*EVENTS)))
    ask = {**ASK}
    chunks = list(at_openai.chat.completions.create(**ask, stream=True))
    assert provider.requests[0]["stream_options"] == {"include_usage": True}
    assert "stream_options" not in ask
    assert [bool(c.choices) for c in chunks] == [True, True, True]
    assert all("usage" not in c.model_fields_set for c in chunks)
    assert_complete(spans.one())


def test_hidden_usage_is_cut_whole_however_the_bytes_are_split(
    at_openai: OpenAI, provider: Provider, spans: Spans
) -> None:
    whole = b"".join(stream(*EVENTS).chunks)
    pieces = [whole[i : i + 7] for i in range(0, len(whole), 7)]
    provider.say(Answer(chunks=pieces, content_type="text/event-stream"))
    chunks = list(at_openai.chat.completions.create(**ASK, stream=True))
    assert [c.choices[0].delta.content for c in chunks] == ["he", "llo", None]
    assert_complete(spans.one())


@pytest.mark.parametrize(
    "options",
    [{"stream_options": {"include_usage": True}}, {"stream_options": {"include_usage": False}}],
    ids=["asked", "declined"],
)
def test_what_the_program_says_of_usage_stands(
    at_openai: OpenAI, provider: Provider, spans: Spans, options: dict[str, Any]
) -> None:
    provider.say(stream(*EVENTS))
    chunks = list(at_openai.chat.completions.create(**ASK, stream=True, **options))
    assert provider.requests[0]["stream_options"] == options["stream_options"]
    assert len(chunks) == 4


def test_usage_is_not_asked_for_where_the_program_reads_the_bytes(
    at_openai: OpenAI, provider: Provider, spans: Spans
) -> None:
    provider.say(stream(*EVENTS[:-1]))
    with at_openai.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        assert b"".join(response.iter_bytes()) == b"".join(stream(*EVENTS[:-1]).chunks)
    assert "stream_options" not in provider.requests[0]
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("missing", "usage_missing")
    assert names.COST not in span
    assert names.INPUT_TOKENS not in span


def test_asking_for_usage_can_be_turned_off(
    at_openai: OpenAI, provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANLEDGER_STREAM_USAGE", "never")
    settings.cache_clear()
    provider.say(stream(*EVENTS[:-1]))
    list(at_openai.chat.completions.create(**ASK, stream=True))
    assert "stream_options" not in provider.requests[0]


def test_other_hosts_are_not_asked_for_usage(client: OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*EVENTS[:-1]))
    list(client.chat.completions.create(**ASK, stream=True))
    assert "stream_options" not in provider.requests[0]


# Streams that do not end well


def test_a_stream_that_is_closed_early_is_incomplete(client: OpenAI, provider: Provider, spans: Spans) -> None:
    early = [delta("he") | {"usage": USAGE}, delta("llo")]
    go_on = threading.Event()
    provider.say(stream(*early, done=False))
    provider.answers[0].chunks = [*provider.answers[0].chunks, go_on.wait]
    stream_ = client.chat.completions.create(**ASK, stream=True)
    assert next(stream_).choices[0].delta.content == "he"
    stream_.close()
    go_on.set()
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("incomplete", "estimated")
    assert span[names.USAGE_REASONS]


@pytest.mark.parametrize("leave", ["break", "raise", "never read"])
def test_an_abandoned_stream_ends_its_span(client: OpenAI, provider: Provider, spans: Spans, leave: str) -> None:
    provider.say(stream(delta("he"), delta("llo"), done=False))

    def use() -> None:
        stream_ = client.chat.completions.create(**ASK, stream=True)
        if leave == "never read":
            return
        for _ in stream_:
            if leave == "raise":
                raise KeyError("the program's own")
            break

    if leave == "raise":
        with pytest.raises(KeyError, match="the program's own"):
            use()
    else:
        use()
    gc.collect()
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    assert names.ERROR_TYPE not in span


def test_a_stream_that_breaks(client: OpenAI, provider: Provider, spans: Spans) -> None:
    answer = stream(delta("he"), done=False)
    answer.drop = True
    provider.say(answer)
    stream_ = client.chat.completions.create(**ASK, stream=True)
    with pytest.raises(Exception, match="(?i)connection|closed"):
        list(stream_)
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    assert span[names.ERROR_TYPE]
    assert not spans.all()[0].status.is_ok


def test_an_error_event_inside_a_stream(client: OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(stream(delta("he"), {"error": {"message": "overloaded", "type": "server_error"}}, done=False))
    with pytest.raises(openai.APIError, match="overloaded"):
        list(client.chat.completions.create(**ASK, stream=True))
    span = spans.one()
    assert span[names.ERROR_TYPE] == "server_error"
    assert span[names.USAGE_STATUS] == "missing"


# Failures


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, openai.BadRequestError), (429, openai.RateLimitError), (500, openai.InternalServerError)],
)
def test_a_refused_call_is_not_billed(
    client: OpenAI, provider: Provider, spans: Spans, status: int, error: type[Exception]
) -> None:
    message = f"no: your key {KEY} and mail jane@example.com"
    provider.say(Answer({"error": {"message": message}}, status=status))
    with pytest.raises(error):
        client.chat.completions.create(**ASK)
    span = spans.one()
    assert (span[names.NOT_BILLED], span[names.COST_STATUS], span[names.COST]) == (True, "not_billed", "0")
    assert span[names.ERROR_TYPE] == error.__name__
    assert KEY not in span[names.ERROR_MESSAGE]
    assert "jane" not in span[names.ERROR_MESSAGE]


def test_a_failed_connection_is_not_billed(spans: Spans) -> None:
    client = OpenAI(api_key=KEY, base_url="http://127.0.0.1:1/v1", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**ASK)
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_a_timed_out_call_may_be_billed(provider: Provider, spans: Spans) -> None:
    answered = threading.Event()
    provider.say(Answer(chunks=[answered.wait]))
    client = OpenAI(api_key=KEY, base_url=provider.url, max_retries=0, timeout=0.2)
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(**ASK)
    answered.set()
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.ERROR_TYPE]) == ("usage_missing", "APITimeoutError")
    assert names.COST not in span


def test_retries_are_one_call(provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"error": {}}, status=500, headers={"retry-after-ms": "1"}), Answer(CHAT))
    client = OpenAI(api_key=KEY, base_url=provider.url + "/v1", max_retries=2)
    client.chat.completions.create(**ASK)
    assert len(provider.requests) == 2
    span = spans.one()
    assert span[names.RETRIES] == 1
    assert_complete(span)


@pytest.mark.parametrize("body", [b"{not json", b"", b"[]", b'"text"', b"null"])
def test_a_body_that_is_no_response(client: OpenAI, provider: Provider, spans: Spans, body: bytes) -> None:
    provider.say(Answer(body))
    outcome = _outcome(lambda: client.chat.completions.create(**ASK))
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    OpenAIInstrumentor().uninstrument()
    assert _outcome(lambda: client.chat.completions.create(**ASK)) == outcome


@pytest.mark.parametrize("usage", [{"prompt_tokens": 10**30}, {"prompt_tokens": "many"}, {"prompt_tokens": -5}, [], 7])
def test_absurd_usage_neither_raises_nor_bills(client: OpenAI, provider: Provider, spans: Spans, usage: Any) -> None:
    provider.say(Answer(CHAT | {"usage": usage}))
    client.chat.completions.create(**ASK)
    span = spans.one()
    assert span[names.USAGE_STATUS] in ("missing", "contradictory")
    assert span[names.COST_STATUS] in ("usage_missing", "estimated", "unpriced")


def _outcome(call: Any) -> tuple[type, str]:
    try:
        return type(call()), "returned"
    except Exception as error:
        return type(error), "raised"


# Attribution, tracking


def test_attribution(client: OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    with attribute(tenant="acme", user="u-1", tags={"plan": "pro"}):
        with attribute(feature="summary", user="u-2", tags={"team": "a"}):
            client.chat.completions.create(**ASK)
    span = spans.one()
    assert (span[names.TENANT], span[names.USER_ID], span[names.FEATURE]) == ("acme", "u-2", "summary")
    assert span[names.TAGS] == '{"plan":"pro","team":"a"}'


def test_tracking(client: OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    with track() as outer:
        response = client.chat.completions.create(**ASK)
        with track() as inner:
            client.chat.completions.create(**ASK)

    assert (outer.calls, inner.calls) == (2, 1)
    assert outer.cost == 2 * inner.cost
    assert outer.total_tokens == 2 * 2306
    outcome = cost_of(response)
    assert outcome.cost == inner.cost
    assert (outcome.total_tokens, outcome.price_status) == (2306, "priced")
    assert outcome.duration_ns > 0
    assert cost_of(object()) is None


def test_tracking_across_tasks(provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))

    async def main() -> None:
        async with async_client(provider) as client:
            with track() as t:
                await asyncio.gather(*(client.chat.completions.create(**ASK) for _ in range(5)))
            assert t.calls == 5

    asyncio.run(main())


def test_cost_of_a_stream_is_known_when_it_has_ended(client: OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*EVENTS))
    stream_ = client.chat.completions.create(**ASK, stream=True)
    assert cost_of(stream_) is None
    list(stream_)
    assert str(cost_of(stream_).cost).rstrip("0") == COST


def test_cost_of_does_not_keep_a_response_alive(client: OpenAI, provider: Provider, spans: Spans) -> None:
    import weakref

    provider.say(Answer(CHAT))
    response = client.chat.completions.create(**ASK)
    gone = weakref.ref(response)
    del response
    assert gone() is None


# On and off


def test_uninstrument_and_instrument_again(client: OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    original = openai._base_client.SyncAPIClient.request
    instrumentor = OpenAIInstrumentor()
    instrumentor.uninstrument()
    assert openai._base_client.SyncAPIClient.request is not original
    client.chat.completions.create(**ASK)
    assert spans.all() == []
    instrumentor.instrument(tracer_provider=spans.provider)
    instrumentor.instrument(tracer_provider=spans.provider)
    client.chat.completions.create(**ASK)
    assert len(spans.all()) == 1


def test_a_suppressed_call_is_not_recorded(client: OpenAI, provider: Provider, spans: Spans) -> None:
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    provider.say(Answer(CHAT))
    with suppress_instrumentation():
        client.chat.completions.create(**ASK)
    assert spans.all() == []


def test_calls_that_bill_nothing_make_no_span(client: OpenAI, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"object": "list", "data": []}))
    client.models.list()
    client.files.list()
    assert spans.all() == []


def test_no_baggage_of_ours_leaves_for_the_provider(client: OpenAI, provider: Provider, spans: Spans) -> None:
    from opentelemetry import baggage
    from opentelemetry.context import get_current

    seen: list[Any] = []
    client._client.event_hooks["request"].append(lambda _: seen.append(dict(baggage.get_all(get_current()))))
    provider.say(Answer(CHAT))
    with attribute(tenant="acme"):
        assert baggage.get_all() == {"spanledger.tenant": "acme"}
        client.chat.completions.create(**ASK)
    assert seen == [{}]


# Background responses

BACKGROUND = pytest.mark.skipif(not hasattr(OpenAI, "responses"), reason="this SDK has no Responses")

RESPONSE = {
    "id": "resp_68a1b2c3d4e5f60718293a4b5c6d7e8f",
    "object": "response",
    "created_at": 1_780_000_000,
    "model": "gpt-4o-2024-08-06",
    "background": True,
    "output": [],
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}
DONE = {
    "status": "completed",
    "service_tier": "default",
    "usage": {
        "input_tokens": 2006,
        "input_tokens_details": {"cached_tokens": 1920},
        "output_tokens": 300,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2306,
    },
}


@BACKGROUND
def test_a_background_response_is_billed_when_it_completes_and_once(
    client: OpenAI, provider: Provider, spans: Spans
) -> None:
    queued = RESPONSE | {"status": "queued", "usage": None}
    provider.say(Answer(queued), Answer(queued), Answer(RESPONSE | DONE))
    with attribute(tenant="acme"):
        client.responses.create(model="gpt-4o", input="x", background=True)
    for _ in range(3):
        client.responses.retrieve(RESPONSE["id"])
    created, completed = spans.all()
    assert created.attributes[names.USAGE_STATUS] == "missing"
    assert completed.attributes[names.COST] == COST
    assert completed.attributes[names.TENANT] == "acme"
    assert completed.start_time == created.start_time
    assert completed.attributes[names.RESPONSE_ID] == created.attributes[names.RESPONSE_ID]


@BACKGROUND
def test_retrieving_an_ordinary_response_makes_no_row(client: OpenAI, provider: Provider, spans: Spans) -> None:
    other = RESPONSE | DONE | {"background": False, "id": "resp_00112233445566778899aabbccddeeff"}
    provider.say(Answer(other))
    client.responses.retrieve(other["id"])
    assert spans.all() == []
