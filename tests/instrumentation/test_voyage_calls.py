"""Calls through the real voyageai SDK: what the span says, and that the program gets what it would get without us."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from typing import Any

import pytest
import tenacity
import voyageai

from spanledger import attributes as names
from spanledger.instrumentation import VoyageInstrumentor
from spanledger.instrumentation.keys import hash_key
from spanledger.settings import settings
from spanledger.tracking import track
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider

KEY = "pa-test-0123456789abcdef"
EMBEDDED: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "embedding": [0.1], "index": 0}],
    "model": "voyage-3",
    "usage": {"total_tokens": 1000},
}
ASK: dict[str, Any] = {"texts": ["what is in my secret diary?"], "model": "voyage-3"}
COST = "0.00006"  # 1000 x 0.06, per million


@pytest.fixture(autouse=True)
def at_voyage(own_settings: None, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=voyageai")
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda _: None)
    settings.cache_clear()


@pytest.fixture
def client(provider: Provider) -> voyageai.Client:
    return voyageai.Client(api_key=KEY, base_url=provider.url + "/v1")


def async_client(provider: Provider, **options: Any) -> voyageai.AsyncClient:
    return voyageai.AsyncClient(api_key=KEY, base_url=provider.url + "/v1", **options)


def assert_complete(span: dict[str, Any]) -> None:
    assert json.loads(span[names.USAGE_PARTS]) == {"input": 1000}
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS], span[names.COST]) == ("reported", "priced", COST)


def test_a_call(client: voyageai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(EMBEDDED))
    result = client.embed(**ASK)
    assert (result.embeddings, result.total_tokens) == ([[0.1]], 1000)
    span = spans.one()
    assert_complete(span)
    assert (span[names.OPERATION], span[names.PROVIDER]) == ("embeddings", "voyageai")
    assert (span[names.REQUEST_MODEL], span[names.RESPONSE_MODEL]) == ("voyage-3", "voyage-3")
    assert span[names.REQUEST_STREAM] is False
    assert span[names.API_KEY_HASH] == hash_key(KEY)[0]
    told = spans.all()[0].to_json()
    assert all(secret not in told for secret in (KEY, "diary"))


def test_an_async_call_and_its_tracker(provider: Provider, spans: Spans) -> None:
    provider.say(Answer(EMBEDDED))
    with track() as tracked:
        asyncio.run(async_client(provider).embed(**ASK))
    assert_complete(spans.one())
    assert tracked.calls == 1


def test_reranking_and_multimodal_embeddings(client: voyageai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"object": "list", "data": [], "model": "rerank-2-lite", "usage": {"total_tokens": 57}}))
    client.rerank("hello", ["a", "b"], model="rerank-2-lite")
    usage = {"text_tokens": 5, "image_pixels": 2_000_000, "video_pixels": 0, "total_tokens": 3576}
    provider.say(Answer(EMBEDDED | {"model": "voyage-multimodal-3", "usage": usage}))
    client.multimodal_embed([["hello"]], model="voyage-multimodal-3")
    seen = [dict(span.attributes or {}) for span in spans.all()]
    assert [span[names.OPERATION] for span in seen] == ["rerank", "embeddings"]
    assert json.loads(seen[0][names.USAGE_PARTS]) == {"input": 57}
    assert json.loads(seen[1][names.USAGE_PARTS]) == {"input": 5, "input_image": 3571}
    assert seen[1][names.COST] == "0.001200456"  # 5 x 0.12 + 3571 x 0.336, per million


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_an_http_error_is_not_billed(
    client: voyageai.Client, provider: Provider, spans: Spans, status: int, mode: str
) -> None:
    provider.say(Answer({"detail": "no"}, status=status))
    with pytest.raises(voyageai.error.VoyageError):
        client.embed(**ASK) if mode == "sync" else asyncio.run(async_client(provider).embed(**ASK))
    span = spans.one()
    assert span[names.COST_STATUS] == "not_billed"
    assert span[names.ERROR_TYPE].endswith("Error")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_retries_are_one_call(provider: Provider, spans: Spans, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Answer({"detail": "busy"}, status=429)
    provider.say(busy, busy, Answer(EMBEDDED))
    if mode == "sync":
        voyageai.Client(api_key=KEY, base_url=provider.url, max_retries=3).embed(**ASK)
    else:
        monkeypatch.setattr(asyncio, "sleep", lambda *_: asyncio.futures.wrap_future(_done()))
        asyncio.run(async_client(provider, max_retries=3).embed(**ASK))
    span = spans.one()
    assert_complete(span)
    assert span[names.RETRIES] == 2


def _done() -> Any:
    from concurrent.futures import Future

    done: Future[None] = Future()
    done.set_result(None)
    return done


def test_retries_that_all_fail_are_one_call(provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"detail": "busy"}, status=429))
    with pytest.raises(voyageai.error.RateLimitError):
        voyageai.Client(api_key=KEY, base_url=provider.url, max_retries=2).embed(**ASK)
    assert len(provider.requests) == 2
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.RETRIES]) == ("not_billed", 1)


def test_a_program_that_gives_up_between_two_tries(
    provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tenacity.nap.time, "sleep", interrupt)
    provider.say(Answer({"detail": "busy"}, status=429), Answer(EMBEDDED))
    client = voyageai.Client(api_key=KEY, base_url=provider.url, max_retries=2)
    with pytest.raises(KeyboardInterrupt):
        client.embed(**ASK)
    assert spans.all() == []
    client.embed(**ASK)
    gc.collect()
    seen = [dict(span.attributes or {}) for span in spans.all()]
    assert sorted(span[names.COST_STATUS] for span in seen) == ["not_billed", "priced"]


def test_a_server_that_is_not_there_is_not_billed(spans: Spans) -> None:
    with pytest.raises(voyageai.error.APIConnectionError):
        voyageai.Client(api_key=KEY, base_url="http://127.0.0.1:1").embed(**ASK)
    with pytest.raises(voyageai.error.APIConnectionError):
        asyncio.run(voyageai.AsyncClient(api_key=KEY, base_url="http://127.0.0.1:1").embed(**ASK))
    assert [span.attributes[names.COST_STATUS] for span in spans.all()] == ["not_billed", "not_billed"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_answer_that_does_not_come_may_be_billed(provider: Provider, spans: Spans, mode: str) -> None:
    late = threading.Event()
    provider.say(Answer(chunks=[late.wait]))
    with pytest.raises((voyageai.error.Timeout, voyageai.error.APIConnectionError)):
        if mode == "sync":
            voyageai.Client(api_key=KEY, base_url=provider.url, timeout=0.1).embed(**ASK)
        else:
            asyncio.run(async_client(provider, timeout=0.1).embed(**ASK))
    late.set()
    assert spans.one()[names.COST_STATUS] == "usage_missing"


def test_uninstrumented_calls_make_no_span(client: voyageai.Client, provider: Provider, spans: Spans) -> None:
    VoyageInstrumentor().uninstrument()
    provider.say(Answer(EMBEDDED))
    client.embed(**ASK)
    assert spans.all() == []
