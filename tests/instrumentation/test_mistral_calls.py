"""Calls through the real mistralai SDK: what the span says, and that the program gets what it would get without us."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from typing import Any

import pytest
from mistralai.azure.client import MistralAzure
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.utils import BackoffStrategy, RetryConfig, eventstreaming
from mistralai.gcp.client import MistralGCP

from spanledger import attributes as names
from spanledger.instrumentation import MistralInstrumentor
from spanledger.instrumentation.keys import hash_key
from spanledger.settings import settings
from spanledger.tracking import cost_of, track
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider, gzipped, stream

KEY = "mistral-test-0123456789abcdef"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300}
CHAT: dict[str, Any] = {
    "id": "c0ffee0123456789",
    "object": "chat.completion",
    "created": 1_780_000_000,
    "model": "mistral-large-2411",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
ASK: dict[str, Any] = {
    "model": "mistral-large-latest",
    "messages": [{"role": "user", "content": "what is in my secret diary?"}],
}
COST = "0.0038"  # 1000 x 2 + 300 x 6, per million


def chunk(text: str, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {name: CHAT[name] for name in ("id", "created", "model")} | {"choices": [choice]} | fields


CHUNKS = [chunk("he"), chunk("llo"), chunk("", "stop", usage=USAGE)]


@pytest.fixture(autouse=True)
def at_mistral(own_settings: None, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=mistral_ai")
    settings.cache_clear()


@pytest.fixture
def client(provider: Provider) -> Mistral:
    return Mistral(api_key=KEY, server_url=provider.url)


def assert_complete(span: dict[str, Any]) -> None:
    assert json.loads(span[names.USAGE_PARTS]) == {"input": 1000, "output": 300}
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS], span[names.COST]) == ("reported", "priced", COST)


def test_a_plain_call(client: Mistral, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    response = client.chat.complete(**ASK)
    assert response.choices[0].message.content == "hello"
    span = spans.one()
    assert_complete(span)
    assert (span[names.OPERATION], span[names.PROVIDER]) == ("chat", "mistral_ai")
    assert (span[names.REQUEST_MODEL], span[names.RESPONSE_MODEL]) == ("mistral-large-latest", "mistral-large-2411")
    assert span[names.RESPONSE_ID] == CHAT["id"]
    assert span[names.REQUEST_STREAM] is False
    assert span[names.FINISH_REASONS] == ("stop",)
    assert span[names.API_KEY_HASH] == hash_key(KEY)[0]
    assert cost_of(response) is not None
    told = spans.all()[0].to_json()
    assert all(secret not in told for secret in (KEY, "diary", "hello"))


def test_an_async_call_and_its_tracker(client: Mistral, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    with track() as tracked:
        asyncio.run(client.chat.complete_async(**ASK))
    assert_complete(spans.one())
    assert tracked.calls == 1


@pytest.mark.parametrize("squeeze", [lambda answer: answer, gzipped], ids=["plain", "gzip"])
def test_a_stream(client: Mistral, provider: Provider, spans: Spans, squeeze: Any) -> None:
    provider.say(squeeze(stream(*CHUNKS)))
    events = client.chat.stream(**ASK)
    assert type(events) is eventstreaming.EventStream
    assert spans.all() == []
    assert [event.data.choices[0].delta.content for event in events] == ["he", "llo", ""]
    span = spans.one()
    assert_complete(span)
    assert span[names.REQUEST_STREAM] is True
    assert span[names.TIME_TO_FIRST_TOKEN_NS] > 0


def test_an_async_stream(client: Mistral, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*CHUNKS))

    async def main() -> list[Any]:
        return [event async for event in await client.chat.stream_async(**ASK)]

    assert len(asyncio.run(main())) == 3
    assert_complete(spans.one())


def test_an_async_stream_that_is_left(client: Mistral, provider: Provider, spans: Spans) -> None:
    provider.say(stream(chunk("he", usage=USAGE), chunk("llo"), done=False))

    async def main() -> None:
        async with await client.chat.stream_async(**ASK) as events:
            async for _ in events:
                break

    asyncio.run(main())
    assert spans.one()[names.USAGE_STATUS] == "incomplete"


@pytest.mark.parametrize("leave", ["break", "close", "never read"])
def test_an_abandoned_stream_ends_its_span(client: Mistral, provider: Provider, spans: Spans, leave: str) -> None:
    provider.say(stream(chunk("he"), chunk("llo"), done=False))

    def use() -> None:
        events = client.chat.stream(**ASK)
        if leave == "close":
            events.close()
        elif leave == "break":
            next(events)

    use()
    gc.collect()
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    assert names.ERROR_TYPE not in span


def test_a_stream_that_breaks(client: Mistral, provider: Provider, spans: Spans) -> None:
    answer = stream(chunk("he"), done=False)
    answer.drop = True
    provider.say(answer)
    with pytest.raises(Exception, match="(?i)closed|incomplete|peer"):
        list(client.chat.stream(**ASK))
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("missing", "usage_missing")
    assert span[names.ERROR_TYPE]


@pytest.mark.parametrize("streamed", [False, True])
def test_an_http_error_is_not_billed(client: Mistral, provider: Provider, spans: Spans, streamed: bool) -> None:
    provider.say(Answer({"message": "slow down"}, status=429))
    with pytest.raises(SDKError, match="slow down"):
        (client.chat.stream if streamed else client.chat.complete)(**ASK)
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.ERROR_TYPE]) == ("not_billed", "429")


def test_a_server_that_is_not_there_is_not_billed(provider: Provider, spans: Spans) -> None:
    client = Mistral(api_key=KEY, server_url="http://127.0.0.1:1")
    with pytest.raises(Exception, match="(?i)refused|connect"):
        client.chat.complete(**ASK)
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_an_answer_that_does_not_come_may_be_billed(client: Mistral, provider: Provider, spans: Spans) -> None:
    late = threading.Event()
    provider.say(Answer(chunks=[late.wait]))
    with pytest.raises(Exception, match="(?i)timed out"):
        client.chat.complete(**ASK, timeout_ms=100)
    late.set()
    assert spans.one()[names.COST_STATUS] == "usage_missing"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_retries_are_one_call(client: Mistral, provider: Provider, spans: Spans, mode: str) -> None:
    provider.say(Answer({}, status=503), Answer({}, status=503), Answer(CHAT))
    retries = RetryConfig("backoff", BackoffStrategy(1, 2, 1.0, 10_000, 1), True)
    if mode == "sync":
        client.chat.complete(**ASK, retries=retries)
    else:
        asyncio.run(client.chat.complete_async(**ASK, retries=retries))
    span = spans.one()
    assert_complete(span)
    assert span[names.RETRIES] == 2


def test_other_operations(client: Mistral, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    client.fim.complete(model="codestral-latest", prompt="def f(")
    client.agents.complete(agent_id="ag_1", messages=ASK["messages"])
    provider.say(Answer({"id": "e", "object": "list", "model": "mistral-embed", "data": [], "usage": USAGE}))
    client.embeddings.create(model="mistral-embed", inputs=["hello"])
    ocr = {"pages": [], "model": "mistral-ocr-2505", "usage_info": {"pages_processed": 3, "doc_size_bytes": 9}}
    provider.say(Answer(ocr))
    document = {"type": "document_url", "document_url": "https://example.com/a.pdf"}
    client.ocr.process(model="mistral-ocr-latest", document=document)
    spoken = {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 99, "prompt_audio_seconds": 7}
    said = {"model": "voxtral-mini-2507", "text": "hi", "language": "en", "usage": spoken}
    provider.say(Answer(said))
    client.audio.transcriptions.complete(model="voxtral-mini-latest", file={"file_name": "a.mp3", "content": b"-"})
    delta, done = {"type": "transcription.text.delta", "text": "hi"}, {"type": "transcription.done", **said}
    provider.say(stream(delta, done, done=False, event_names=True))
    list(client.audio.transcriptions.stream(model="voxtral-mini-latest", file={"file_name": "a.mp3", "content": b"-"}))
    talk = {"conversation_id": "conv_1", "outputs": [], "usage": USAGE}
    provider.say(Answer(talk))
    client.beta.conversations.start(model="mistral-medium-latest", inputs="hello")
    client.beta.conversations.append(conversation_id="conv_1", inputs="hello")
    seen = [dict(span.attributes or {}) for span in spans.all()]
    assert [span[names.OPERATION] for span in seen] == [
        "text_completion",
        "chat",
        "embeddings",
        "ocr",
        "transcription",
        "transcription",
        "chat",
        "chat",
    ]
    assert {span[names.USAGE_STATUS] for span in seen} == {"reported"}
    parts = [json.loads(span[names.USAGE_PARTS]) for span in seen]
    assert parts[3] == {"page": 3}
    assert parts[4] == parts[5] == {"input": 4, "output": 6, "audio_second": 7}
    assert seen[4][names.REQUEST_MODEL] == seen[5][names.REQUEST_MODEL] == "voxtral-mini-latest"


def test_calls_that_bill_nothing_make_no_span(client: Mistral, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"object": "list", "data": []}))
    client.models.list()
    client.files.list()
    assert spans.all() == []


def test_the_azure_client(provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPANLEDGER_HOSTS")
    settings.cache_clear()
    provider.say(Answer(CHAT))
    MistralAzure(api_key=KEY, server_url=provider.url).chat.complete(**ASK)
    span = spans.one()
    assert (span[names.PROVIDER], span[names.OPERATION]) == ("azure.ai.inference", "chat")
    assert spans.parts() == {"input": 1000, "output": 300}


def test_the_google_cloud_client(provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPANLEDGER_HOSTS")
    settings.cache_clear()
    provider.say(Answer(CHAT))
    client = MistralGCP(project_id="p", region="europe-west4", access_token="t", server_url=provider.url)
    client.chat.complete(**ASK)
    client.fim.complete(model="codestral-2", prompt="def f(")
    first, second = (dict(span.attributes or {}) for span in spans.all())
    assert first[names.PROVIDER] == second[names.PROVIDER] == "gcp.vertex_ai"
    assert (first[names.OPERATION], second[names.OPERATION]) == ("chat", "text_completion")


def test_uninstrumented_calls_make_no_span(client: Mistral, provider: Provider, spans: Spans) -> None:
    MistralInstrumentor().uninstrument()
    provider.say(Answer(CHAT))
    client.chat.complete(**ASK)
    assert spans.all() == []
