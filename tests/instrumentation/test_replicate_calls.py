"""Calls through the real replicate SDK: a prediction is one row, however often it is retrieved."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import replicate
from replicate.exceptions import ReplicateError

from spanledger import attributes as names
from spanledger.instrumentation import ReplicateInstrumentor
from spanledger.instrumentation.keys import hash_key
from spanledger.settings import settings
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider

KEY = "r8_test0123456789abcdef"
MODEL = "meta/llama-2-70b-chat"
METRICS = {"input_token_count": 12, "output_token_count": 40, "predict_time": 1.5}


@pytest.fixture(autouse=True)
def at_replicate(own_settings: None, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=replicate")
    monkeypatch.setenv("REPLICATE_POLL_INTERVAL", "0")
    settings.cache_clear()


@pytest.fixture
def client(provider: Provider) -> replicate.Client:
    return replicate.Client(api_token=KEY, base_url=provider.url)


def prediction(id: str, status: str, **fields: Any) -> Answer:
    body = {"id": id, "model": MODEL, "version": "hidden", "status": status, "input": {}, "error": None, "urls": {}}
    return Answer(body | fields, status=201 if status == "starting" else 200)


def test_a_prediction_that_is_done_at_once(client: replicate.Client, provider: Provider, spans: Spans) -> None:
    provider.say(prediction("p-once", "succeeded", output=["hello"], metrics=METRICS))
    assert client.run(MODEL, input={"prompt": "what is in my secret diary?"}) == ["hello"]
    span = spans.one()
    assert spans.parts() == {"input": 12, "output": 40}
    assert (span[names.PROVIDER], span[names.REQUEST_MODEL]) == ("replicate", MODEL)
    assert span[names.RESPONSE_ID] == "p-once"
    assert "1.5" in span[names.USAGE_UNMAPPED]
    assert span[names.API_KEY_HASH] == hash_key(KEY)[0]
    told = spans.all()[0].to_json()
    assert all(secret not in told for secret in (KEY, "diary", "hello"))


def test_a_prediction_that_is_waited_for_is_billed_once(
    client: replicate.Client, provider: Provider, spans: Spans
) -> None:
    provider.say(
        prediction("p-later", "starting"),
        prediction("p-later", "processing"),
        prediction("p-later", "succeeded", output="hello", metrics=METRICS),
    )
    made = client.models.predictions.create(MODEL, input={"prompt": "hello"})
    made.wait()
    made.reload()  # once more: nothing new
    first, second = (dict(span.attributes or {}) for span in spans.all())
    assert (first[names.USAGE_STATUS], second[names.USAGE_STATUS]) == ("missing", "reported")
    assert first[names.RESPONSE_ID] == second[names.RESPONSE_ID] == "p-later"
    assert json.loads(second[names.USAGE_PARTS]) == {"input": 12, "output": 40}


def test_an_async_prediction(client: replicate.Client, provider: Provider, spans: Spans) -> None:
    provider.say(prediction("p-async", "succeeded", output="hello", metrics=METRICS))
    asyncio.run(client.predictions.async_create(version="0" * 64, input={"prompt": "hello"}))
    assert spans.parts() == {"input": 12, "output": 40}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_http_error_is_not_billed(client: replicate.Client, provider: Provider, spans: Spans, mode: str) -> None:
    provider.say(Answer({"detail": "no credit", "status": 402}, status=402))
    with pytest.raises(ReplicateError, match="no credit"):
        if mode == "sync":
            client.predictions.create(version="0" * 64, input={})
        else:
            asyncio.run(client.predictions.async_create(version="0" * 64, input={}))
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.ERROR_TYPE]) == ("not_billed", "ReplicateError")


def test_a_server_that_is_not_there_is_not_billed(spans: Spans) -> None:
    with pytest.raises(Exception, match="(?i)refused|connect"):
        replicate.Client(api_token=KEY, base_url="http://127.0.0.1:1").predictions.create(version="0" * 64, input={})
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_calls_that_bill_nothing_make_no_span(client: replicate.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"results": [], "next": None, "previous": None}))
    client.predictions.list()
    client.models.list()
    provider.say(prediction("p-strange", "succeeded"))
    client.predictions.get("p-strange")
    assert spans.all() == []


def test_uninstrumented_calls_make_no_span(client: replicate.Client, provider: Provider, spans: Spans) -> None:
    ReplicateInstrumentor().uninstrument()
    provider.say(prediction("p-un", "succeeded", metrics=METRICS))
    client.predictions.create(version="0" * 64, input={})
    assert spans.all() == []
