"""Calls through the real ollama SDK: what the span says, and that the program gets what it would get without us."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
from typing import Any

import ollama
import pytest

from spanledger import attributes as names
from spanledger.instrumentation import OllamaInstrumentor
from spanledger.settings import settings
from spanledger.tracking import cost_of, track
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider

DONE: dict[str, Any] = {
    "model": "llama3:8b",
    "created_at": "2026-11-22T00:00:01Z",
    "message": {"role": "assistant", "content": "hello"},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 17,
    "eval_count": 50,
}
ASK: dict[str, Any] = {"model": "llama3", "messages": [{"role": "user", "content": "what is in my secret diary?"}]}
PIECE = {"model": "llama3:8b", "message": {"role": "assistant", "content": "hello"}, "done": False}


@pytest.fixture(autouse=True)
def no_hosts(own_settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPANLEDGER_HOSTS")
    settings.cache_clear()


@pytest.fixture
def client(provider: Provider) -> ollama.Client:
    return ollama.Client(host=provider.url)


def lines(*parts: dict[str, Any]) -> Answer:
    return Answer(chunks=[json.dumps(p).encode() + b"\n" for p in parts], content_type="application/x-ndjson")


def assert_free(span: dict[str, Any]) -> None:
    assert json.loads(span[names.USAGE_PARTS]) == {"input": 17, "output": 50}
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS], span[names.COST]) == ("reported", "free", "0")
    assert span[names.PRICED_MODEL] == "local"


def test_a_plain_call_is_free_by_its_price(client: ollama.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(DONE))
    response = client.chat(**ASK)
    assert type(response) is ollama.ChatResponse
    assert response.message.content == "hello"
    span = spans.one()
    assert_free(span)
    assert (span[names.OPERATION], span[names.PROVIDER]) == ("chat", "ollama")
    assert (span[names.REQUEST_MODEL], span[names.RESPONSE_MODEL]) == ("llama3", "llama3:8b")
    assert span[names.REQUEST_STREAM] is False
    assert cost_of(response).total_tokens == 67
    told = spans.all()[0].to_json()
    assert all(secret not in told for secret in ("diary", "hello"))


def test_a_model_of_the_cloud_is_not_free(client: ollama.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(DONE | {"model": "gpt-oss:120b-cloud", "remote_host": "https://ollama.com"}))
    client.chat(model="gpt-oss:120b-cloud", messages=ASK["messages"])
    assert spans.one()[names.COST_STATUS] == "unpriced"
    assert names.COST not in spans.one()


def test_an_async_call_and_its_tracker(provider: Provider, spans: Spans) -> None:
    provider.say(Answer(DONE))
    with track() as tracked:
        asyncio.run(ollama.AsyncClient(host=provider.url).chat(**ASK))
    assert_free(spans.one())
    assert tracked.calls == 1


def test_a_stream(client: ollama.Client, provider: Provider, spans: Spans) -> None:
    provider.say(lines(PIECE, DONE))
    events = client.chat(**ASK, stream=True)
    assert inspect.isgenerator(events)
    assert provider.requests == []  # it is sent when the program asks for the first event
    assert type(next(events)) is ollama.ChatResponse
    assert spans.all() == []
    assert next(events).done
    assert_free(spans.one())  # with the last event, not after it
    assert list(events) == []
    assert spans.one()[names.REQUEST_STREAM] is True
    assert spans.one()[names.TIME_TO_FIRST_TOKEN_NS] > 0


def test_an_async_stream(provider: Provider, spans: Spans) -> None:
    provider.say(lines(PIECE, DONE))

    async def main() -> int:
        events = await ollama.AsyncClient(host=provider.url).chat(**ASK, stream=True)
        assert inspect.isasyncgen(events)
        return len([event async for event in events])

    assert asyncio.run(main()) == 2
    assert_free(spans.one())


def test_a_stream_that_is_never_read_is_no_call(client: ollama.Client, provider: Provider, spans: Spans) -> None:
    client.chat(**ASK, stream=True)
    gc.collect()
    assert provider.requests == []
    assert spans.all() == []


@pytest.mark.parametrize("leave", ["break", "close", "async break"])
def test_an_abandoned_stream_ends_its_span(client: ollama.Client, provider: Provider, spans: Spans, leave: str) -> None:
    provider.say(lines(PIECE, PIECE))

    def use() -> None:
        events = client.chat(**ASK, stream=True)
        next(events)
        if leave == "close":
            events.close()

    async def use_async() -> None:
        async for _ in await ollama.AsyncClient(host=provider.url).chat(**ASK, stream=True):
            break

    if leave == "async break":
        asyncio.run(use_async())
    else:
        use()
    gc.collect()
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    assert names.ERROR_TYPE not in span


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("how", ["broken", "error"])
def test_a_stream_that_fails(client: ollama.Client, provider: Provider, spans: Spans, how: str, mode: str) -> None:
    answer = lines(PIECE, {"error": "the runner has stopped"}) if how == "error" else lines(PIECE)
    answer.drop = how == "broken"
    provider.say(answer)

    async def drain() -> None:
        async for _ in await ollama.AsyncClient(host=provider.url).chat(**ASK, stream=True):
            pass

    with pytest.raises(Exception, match="(?i)closed|incomplete|peer|stopped"):
        list(client.chat(**ASK, stream=True)) if mode == "sync" else asyncio.run(drain())
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    assert span[names.ERROR_TYPE]
    assert not spans.all()[0].status.is_ok


@pytest.mark.parametrize("streamed", [False, True])
def test_an_http_error_is_not_billed(client: ollama.Client, provider: Provider, spans: Spans, streamed: bool) -> None:
    provider.say(Answer({"error": "model not found"}, status=404))
    with pytest.raises(ollama.ResponseError, match="not found"):
        list(client.chat(**ASK, stream=True)) if streamed else client.chat(**ASK)
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.ERROR_TYPE]) == (
        "not_billed",
        "404" if streamed else "ResponseError",
    )


@pytest.mark.parametrize("streamed", [False, True])
def test_a_server_that_is_not_there_is_not_billed(spans: Spans, streamed: bool) -> None:
    client = ollama.Client(host="http://127.0.0.1:1")
    with pytest.raises(Exception, match="(?i)refused|connect"):
        list(client.chat(**ASK, stream=True)) if streamed else client.chat(**ASK)
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_other_operations(client: ollama.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(DONE | {"response": "hi"}))
    client.generate(model="llama3", prompt="hello")
    provider.say(Answer({"model": "all-minilm", "embeddings": [[0.1]], "prompt_eval_count": 3}))
    client.embed(model="all-minilm", input="hello")
    provider.say(Answer({"embedding": [0.1]}))
    client.embeddings(model="all-minilm", prompt="hello")
    seen = [dict(span.attributes or {}) for span in spans.all()]
    assert [span[names.OPERATION] for span in seen] == ["text_completion", "embeddings", "embeddings"]
    assert [span[names.USAGE_STATUS] for span in seen] == ["reported", "reported", "missing"]
    assert [span[names.COST_STATUS] for span in seen] == ["free", "free", "free"]


def test_calls_that_bill_nothing_make_no_span(client: ollama.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"models": []}))
    client.list()
    provider.say(lines({"status": "success"}))
    list(client.pull("llama3", stream=True))
    assert spans.all() == []


def test_uninstrumented_calls_make_no_span(client: ollama.Client, provider: Provider, spans: Spans) -> None:
    OllamaInstrumentor().uninstrument()
    provider.say(Answer(DONE))
    client.chat(**ASK)
    assert spans.all() == []
