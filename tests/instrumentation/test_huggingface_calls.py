"""Calls through the real huggingface_hub SDK: what the span says, and that the program gets what it would get."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from huggingface_hub import (
    AsyncInferenceClient,
    ChatCompletionOutput,
    ChatCompletionStreamOutput,
    InferenceClient,
    close_session,
)
from huggingface_hub.errors import HfHubHTTPError

from spanledger import attributes as names
from spanledger.instrumentation import HuggingFaceAsyncInstrumentor, HuggingFaceInstrumentor
from spanledger.instrumentation.keys import hash_key
from spanledger.instrumentation.patches.huggingface import _routed
from spanledger.settings import settings
from spanledger.tracking import track
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider, gzipped, stream

KEY = "hf_test0123456789abcdef"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300}
MODEL = "Qwen/Qwen2.5-7B-Instruct"
CHAT: dict[str, Any] = {
    "id": "oV1n6B7-zqrih-9c4b15fafffad6d3",
    "object": "chat.completion",
    "created": 1_780_000_000,
    "model": MODEL,
    "system_fingerprint": "",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "what is in my secret diary?"}]}
COST = "0.00039"  # 1300 x 0.30, per million, by Together


def chunk(text: str, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
    head = {name: CHAT[name] for name in ("id", "created", "model", "system_fingerprint")}
    return head | {"choices": [choice]} | fields


CHUNKS = [chunk("he"), chunk("llo"), chunk("", "stop", usage=USAGE)]


@pytest.fixture(autouse=True)
def by_together(own_settings: None, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Iterator[None]:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=huggingface_together")
    settings.cache_clear()
    yield
    close_session()  # which the SDK keeps for the whole process, with the proxies of its start


@pytest.fixture
def client(provider: Provider) -> InferenceClient:
    return InferenceClient(base_url=provider.url + "/v1", api_key=KEY)


def async_client(provider: Provider) -> AsyncInferenceClient:
    return AsyncInferenceClient(base_url=provider.url + "/v1", api_key=KEY)


def assert_complete(span: dict[str, Any]) -> None:
    assert json.loads(span[names.USAGE_PARTS]) == {"input": 1000, "output": 300}
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS], span[names.COST]) == ("reported", "priced", COST)


def test_a_plain_call(client: InferenceClient, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    response = client.chat_completion(**ASK)
    assert type(response) is ChatCompletionOutput
    assert response.choices[0].message.content == "hello"
    span = spans.one()
    assert_complete(span)
    assert (span[names.OPERATION], span[names.PROVIDER]) == ("chat", "huggingface_together")
    assert span[names.RESPONSE_MODEL] == MODEL
    assert span[names.RESPONSE_ID] == CHAT["id"]
    assert span[names.REQUEST_STREAM] is False
    assert span[names.API_KEY_HASH] == hash_key(KEY)[0]
    told = spans.all()[0].to_json()
    assert all(secret not in told for secret in (KEY, "diary", "hello"))


def test_an_async_call_and_its_tracker(provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))

    async def main() -> None:
        async with async_client(provider) as client:
            await client.chat.completions.create(**ASK)

    with track() as tracked:
        asyncio.run(main())
    assert_complete(spans.one())
    assert tracked.calls == 1


@pytest.mark.parametrize("squeeze", [lambda answer: answer, gzipped], ids=["plain", "gzip"])
def test_a_stream(client: InferenceClient, provider: Provider, spans: Spans, squeeze: Any) -> None:
    provider.say(squeeze(stream(*CHUNKS)))
    chunks = list(client.chat_completion(**ASK, stream=True))
    assert {type(c) for c in chunks} == {ChatCompletionStreamOutput}
    assert [c.choices[0].delta.content for c in chunks] == ["he", "llo", ""]
    span = spans.one()
    assert_complete(span)
    assert span[names.REQUEST_STREAM] is True
    assert span[names.TIME_TO_FIRST_TOKEN_NS] > 0


def test_an_async_stream(provider: Provider, spans: Spans) -> None:
    provider.say(stream(*CHUNKS))

    async def main() -> int:
        async with async_client(provider) as client:
            return len([c async for c in await client.chat_completion(**ASK, stream=True)])

    assert asyncio.run(main()) == 3
    assert_complete(spans.one())


@pytest.mark.parametrize("leave", ["break", "close", "never read", "async break"])
def test_an_abandoned_stream_ends_its_span(
    client: InferenceClient, provider: Provider, spans: Spans, leave: str
) -> None:
    provider.say(stream(*CHUNKS[:2], done=False))

    def use() -> None:
        chunks = client.chat_completion(**ASK, stream=True)
        if leave != "never read":
            next(chunks)
        if leave == "close":
            client.close()

    async def use_async() -> None:
        async with async_client(provider) as client:
            async for _ in await client.chat_completion(**ASK, stream=True):
                break

    if leave == "async break":
        asyncio.run(use_async())
    else:
        use()
    gc.collect()
    span = spans.one()
    assert span[names.USAGE_STATUS] == "missing"
    assert names.ERROR_TYPE not in span
    client.close()


def test_a_stream_that_breaks(client: InferenceClient, provider: Provider, spans: Spans) -> None:
    answer = stream(chunk("he"), done=False)
    answer.drop = True
    provider.say(answer)
    with pytest.raises(Exception, match="(?i)closed|incomplete|peer"):
        list(client.chat_completion(**ASK, stream=True))
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("missing", "usage_missing")
    assert span[names.ERROR_TYPE]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_http_error_is_not_billed(
    client: InferenceClient, provider: Provider, spans: Spans, streamed: bool, mode: str
) -> None:
    provider.say(Answer({"error": "slow down"}, status=429))

    async def main() -> None:
        async with async_client(provider) as other:
            await other.chat_completion(**ASK, stream=streamed)

    with pytest.raises(HfHubHTTPError):
        client.chat_completion(**ASK, stream=streamed) if mode == "sync" else asyncio.run(main())
    span = spans.one()
    assert span[names.COST_STATUS] == "not_billed"
    assert span[names.ERROR_TYPE] in ("429", "HfHubHTTPError")


def test_a_server_that_is_not_there_is_not_billed(spans: Spans) -> None:
    with pytest.raises(Exception, match="(?i)refused|connect"):
        InferenceClient(base_url="http://127.0.0.1:1/v1", api_key=KEY).chat_completion(**ASK)
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_an_answer_that_does_not_come_may_be_billed(provider: Provider, spans: Spans) -> None:
    late = threading.Event()
    provider.say(Answer(chunks=[late.wait]))
    with pytest.raises(Exception, match="timed out"):  # its class depends on the version
        InferenceClient(base_url=provider.url + "/v1", api_key=KEY, timeout=0.1).chat_completion(**ASK)
    late.set()
    assert spans.one()[names.COST_STATUS] == "usage_missing"


def test_text_generation(provider: Provider, spans: Spans) -> None:
    client = InferenceClient(model=provider.url, api_key=KEY)
    details = {"finish_reason": "length", "generated_tokens": 20, "prefill": [], "tokens": []}
    provider.say(Answer([{"generated_text": "hello", "details": details}]))
    assert client.text_generation("say", details=True).details.generated_tokens == 20
    span = spans.one()
    assert span[names.OPERATION] == "text_completion"
    assert spans.parts() == {"output": 20}


@pytest.mark.parametrize(
    ("url", "model", "served_by"),
    [
        ("https://router.huggingface.co/together/v1/chat/completions", "m", "huggingface_together"),
        ("https://router.huggingface.co/fireworks-ai/inference/v1/chat/completions", "m", "huggingface_fireworks-ai"),
        ("https://router.huggingface.co/v1/chat/completions", "org/m:novita", "huggingface_novita"),
        ("https://router.huggingface.co/v1/chat/completions", "org/m:fastest", "huggingface"),
        ("https://router.huggingface.co/v1/chat/completions", "org/m", "huggingface"),
        ("https://api.together.xyz/v1/chat/completions", "m", ""),
        ("http://localhost:8080/v1/chat/completions", None, ""),
    ],
)
def test_who_serves_a_routed_call(url: str, model: str | None, served_by: str) -> None:
    assert _routed(url, model) == served_by


def test_tasks_that_are_not_counted_make_no_span(client: InferenceClient, provider: Provider, spans: Spans) -> None:
    provider.say(Answer([[{"label": "POSITIVE", "score": 0.9}]]))
    assert client.text_classification("fine", model=provider.url)[0].label == "POSITIVE"
    assert spans.all() == []


def test_uninstrumented_calls_make_no_span(client: InferenceClient, provider: Provider, spans: Spans) -> None:
    HuggingFaceInstrumentor().uninstrument()
    HuggingFaceAsyncInstrumentor().uninstrument()
    provider.say(Answer(CHAT))
    client.chat_completion(**ASK)
    assert spans.all() == []
