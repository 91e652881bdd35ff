"""Calls through the real cohere SDK: what the span says, and that the program gets what it would get without us."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
from typing import Any

import cohere
import pytest
from cohere.core.api_error import ApiError

from spanledger import attributes as names
from spanledger.instrumentation import CohereInstrumentor
from spanledger.instrumentation.keys import hash_key
from spanledger.settings import settings
from spanledger.tracking import track
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider, gzipped, stream

KEY = "cohere-test-0123456789abcdef"
USAGE = {"billed_units": {"input_tokens": 1000, "output_tokens": 300}, "tokens": {"input_tokens": 1500}}
CHAT: dict[str, Any] = {
    "id": "00f7ec58-cd22-4b62-b068-0e7ece6bbf67",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
    "finish_reason": "COMPLETE",
    "usage": USAGE,
}
ASK: dict[str, Any] = {
    "model": "command-a-03-2025",
    "messages": [{"role": "user", "content": "what is in my secret diary?"}],
}
NO_RETRIES: Any = {"max_retries": 0} if "max_retries" in inspect.signature(cohere.ClientV2).parameters else {}
COST = "0.0055"  # 1000 x 2.50 + 300 x 10, per million
EVENTS = [
    {"id": CHAT["id"], "type": "message-start", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "hello"}}}},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": USAGE}},
]


@pytest.fixture(autouse=True)
def at_cohere(own_settings: None, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=cohere")
    settings.cache_clear()


@pytest.fixture
def client(provider: Provider) -> cohere.ClientV2:
    return cohere.ClientV2(api_key=KEY, base_url=provider.url, **NO_RETRIES)


def async_client(provider: Provider) -> cohere.AsyncClientV2:
    return cohere.AsyncClientV2(api_key=KEY, base_url=provider.url, **NO_RETRIES)


def events(*told: dict[str, Any]) -> Answer:
    return stream(*told, done=False, event_names=True)


def assert_complete(span: dict[str, Any]) -> None:
    assert json.loads(span[names.USAGE_PARTS]) == {"input": 1000, "output": 300}
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS], span[names.COST]) == ("reported", "priced", COST)


def test_a_plain_call(client: cohere.ClientV2, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    assert client.chat(**ASK).message.content[0].text == "hello"
    span = spans.one()
    assert_complete(span)
    assert (span[names.OPERATION], span[names.PROVIDER]) == ("chat", "cohere")
    assert span[names.REQUEST_MODEL] == "command-a-03-2025"
    assert span[names.RESPONSE_ID] == CHAT["id"]
    assert span[names.REQUEST_STREAM] is False
    assert span[names.API_KEY_HASH] == hash_key(KEY)[0]
    told = spans.all()[0].to_json()
    assert all(secret not in told for secret in (KEY, "diary", "hello"))


def test_an_async_call_and_its_tracker(provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    with track() as tracked:
        asyncio.run(async_client(provider).chat(**ASK))
    assert_complete(spans.one())
    assert tracked.calls == 1


@pytest.mark.parametrize("squeeze", [lambda answer: answer, gzipped], ids=["plain", "gzip"])
def test_a_stream(client: cohere.ClientV2, provider: Provider, spans: Spans, squeeze: Any) -> None:
    provider.say(squeeze(events(*EVENTS)))
    chunks = client.chat_stream(**ASK)
    assert provider.requests == []  # it is sent when the program asks for the first event
    assert [chunk.type for chunk in chunks] == ["message-start", "content-delta", "message-end"]
    span = spans.one()
    assert_complete(span)
    assert span[names.REQUEST_STREAM] is True


def test_an_async_stream(provider: Provider, spans: Spans) -> None:
    provider.say(events(*EVENTS))

    async def main() -> list[Any]:
        return [event async for event in async_client(provider).chat_stream(**ASK)]

    assert len(asyncio.run(main())) == 3
    assert_complete(spans.one())


@pytest.mark.parametrize("leave", ["break", "close"])
def test_an_abandoned_stream_ends_its_span(
    client: cohere.ClientV2, provider: Provider, spans: Spans, leave: str
) -> None:
    provider.say(events(*EVENTS[:2]))

    def use() -> None:
        chunks = client.chat_stream(**ASK)
        next(chunks)
        if leave == "close":
            chunks.close()

    use()
    gc.collect()
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    assert names.ERROR_TYPE not in span


def test_a_stream_that_breaks(client: cohere.ClientV2, provider: Provider, spans: Spans) -> None:
    answer = events(*EVENTS[:2])
    answer.drop = True
    provider.say(answer)
    with pytest.raises(Exception, match="(?i)closed|incomplete|peer"):
        list(client.chat_stream(**ASK))
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("missing", "usage_missing")
    assert span[names.ERROR_TYPE]


@pytest.mark.parametrize("mode", ["plain", "stream", "async", "async stream"])
def test_an_http_error_is_not_billed(client: cohere.ClientV2, provider: Provider, spans: Spans, mode: str) -> None:
    provider.say(Answer({"message": "slow down"}, status=429))

    async def drain() -> None:
        async for _ in async_client(provider).chat_stream(**ASK):
            pass

    with pytest.raises(ApiError, match="slow down"):
        match mode:
            case "plain":
                client.chat(**ASK)
            case "stream":
                list(client.chat_stream(**ASK))
            case "async":
                asyncio.run(async_client(provider).chat(**ASK))
            case _:
                asyncio.run(drain())
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.ERROR_TYPE]) == ("not_billed", "429")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_server_that_is_not_there_is_not_billed(spans: Spans, streamed: bool) -> None:
    client = cohere.ClientV2(api_key=KEY, base_url="http://127.0.0.1:1", **NO_RETRIES)
    with pytest.raises(Exception, match="(?i)refused|connect"):
        list(client.chat_stream(**ASK)) if streamed else client.chat(**ASK)
    assert spans.one()[names.COST_STATUS] == "not_billed"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_retries_are_one_call(client: cohere.ClientV2, provider: Provider, spans: Spans, mode: str) -> None:
    again = {"retry-after-ms": "1"}
    provider.say(Answer({}, status=503, headers=again), Answer({}, status=503, headers=again), Answer(CHAT))
    options: Any = {"max_retries": 2}
    if mode == "sync":
        client.chat(**ASK, request_options=options)
    else:
        asyncio.run(async_client(provider).chat(**ASK, request_options=options))
    span = spans.one()
    assert_complete(span)
    assert span[names.RETRIES] == 2


def test_other_operations(provider: Provider, spans: Spans) -> None:
    client = cohere.Client(api_key=KEY, base_url=provider.url, **NO_RETRIES)
    meta = {"billed_units": {"input_tokens": 7, "output_tokens": 9}}
    provider.say(Answer({"response_id": "r", "text": "hi", "generation_id": "g", "meta": meta}))
    client.chat(model="command-r", message="hello")
    provider.say(Answer({"id": "g", "generations": [], "meta": meta}))
    client.generate(model="command", prompt="hello")
    provider.say(Answer({"id": "e", "embeddings": {"float": []}, "texts": [], "meta": meta}))
    client.v2.embed(model="embed-v4.0", texts=["hello"], input_type="search_query", embedding_types=["float"])
    provider.say(Answer({"id": "k", "results": [], "meta": {"billed_units": {"search_units": 2}}}))
    client.v2.rerank(model="rerank-v3.5", query="hello", documents=["a", "b"])
    seen = [dict(span.attributes or {}) for span in spans.all()]
    assert [span[names.OPERATION] for span in seen] == ["chat", "text_completion", "embeddings", "rerank"]
    assert json.loads(seen[3][names.USAGE_PARTS]) == {"search_unit": 2}
    assert seen[3][names.COST] == "0.004"  # 2 x 2 per thousand


def test_amazons_client_is_amazons(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("boto3")
    assert boto3
    client = cohere.BedrockClient(aws_access_key="a", aws_secret_key="s", aws_region="us-east-1")

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError("no network here")

    monkeypatch.setattr(client._client_wrapper.httpx_client.httpx_client, "send", refuse)
    with pytest.raises(ConnectionRefusedError):
        client.chat(model="cohere.command-r-v1:0", message="hello")
    span = spans.one()
    assert (span[names.PROVIDER], span[names.COST_STATUS]) == ("aws.bedrock", "not_billed")


def test_calls_that_bill_nothing_make_no_span(client: cohere.ClientV2, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"models": []}))
    client.models.list()
    assert spans.all() == []


def test_uninstrumented_calls_make_no_span(client: cohere.ClientV2, provider: Provider, spans: Spans) -> None:
    CohereInstrumentor().uninstrument()
    provider.say(Answer(CHAT), events(*EVENTS))
    client.chat(**ASK)
    list(client.chat_stream(**ASK))
    assert spans.all() == []
