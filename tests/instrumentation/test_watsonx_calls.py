"""Calls through the real ibm-watsonx-ai SDK, sync and async, against a scripted provider on loopback."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ibm_watsonx_ai", reason="needs IBM's SDK: pip install 'ibm-watsonx-ai>=1.6,<2'")

import httpx
from ibm_watsonx_ai import APIClient, Credentials
from ibm_watsonx_ai.foundation_models import AudioModelInference, Embeddings, ModelInference, Rerank, TSModelInference
from ibm_watsonx_ai.gateway import Gateway
from ibm_watsonx_ai.wml_client_error import WMLClientError

from spanledger import attributes as names
from spanledger.instrumentation import WatsonxInstrumentor
from spanledger.instrumentation.keys import hash_key
from spanledger.instrumentation.wire.endpoints import find
from spanledger.settings import settings
from spanledger.tracking import cost_of
from tests import recordings
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider, stream

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

KEY = "watsonx-test-0123456789abcdef"
MODEL = "ibm/granite-4-h-small"
ASK = [{"role": "user", "content": "what is in my secret diary?"}]


def generated(input: int, output: int, reason: str) -> dict[str, Any]:
    result = {
        "generated_text": "hello",
        "generated_token_count": output,
        "input_token_count": input,
        "stop_reason": reason,
    }
    return {"model_id": MODEL, "created_at": "2026-11-22T08:16:49.731Z", "results": [result]}


GENERATED = generated(8, 5, "eos_token")
USAGE = {"prompt_tokens": 23, "completion_tokens": 9, "total_tokens": 32}
CHAT = {
    "id": "chatcmpl-1",
    "model_id": MODEL,
    "model": MODEL,
    "created": 1763799409,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
    "usage": USAGE,
}


def chunk(text: str | None, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    choices = [] if text is None else [{"index": 0, "finish_reason": reason, "delta": {"content": text}}]
    return {"id": "chatcmpl-1", "model_id": MODEL, "model": MODEL, "choices": choices, **fields}


def generation_stream() -> Answer:
    return stream(
        generated(8, 0, "not_finished"), generated(0, 3, "not_finished"), generated(0, 5, "max_tokens"), done=False
    )


def chat_stream() -> Answer:
    return stream(chunk("hel"), chunk("lo", "stop"), chunk(None, usage=USAGE), done=False)


@pytest.fixture(autouse=True)
def at_watsonx(own_settings: None, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=ibm.watsonx.ai")
    monkeypatch.setenv("WATSONX_DELAY_TIME", "0")
    settings.cache_clear()


def api_client(url: str, **options: Any) -> APIClient:
    """A client that asks nobody for a token, and whose server is on loopback."""
    credentials = Credentials(url="https://us-south.ml.cloud.ibm.com", token=KEY)
    client = APIClient(credentials, scope_validation=False, **options)
    client.default_project_id = "project-1"
    client._href_definitions.url = url
    return client


@pytest.fixture
def client(spans: Spans, provider: Provider) -> APIClient:
    return api_client(provider.url)


def a_model(url: str) -> ModelInference:
    return ModelInference(model_id=MODEL, api_client=api_client(url), validate=False)


@pytest.fixture
def model(spans: Spans, provider: Provider) -> ModelInference:
    return a_model(provider.url)


def test_a_generation(model: ModelInference, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(GENERATED))
    assert model.generate_text("what is in my secret diary?") == "hello"
    span = spans.one()
    assert spans.parts() == {"input": 8, "output": 5}
    assert (span[names.PROVIDER], span[names.OPERATION]) == ("ibm.watsonx.ai", "text_completion")
    assert (span[names.REQUEST_MODEL], span[names.RESPONSE_MODEL]) == (MODEL, MODEL)
    assert span[names.FINISH_REASONS] == ("eos_token",)
    assert span[names.API_KEY_HASH] == hash_key(KEY)[0]
    assert names.RETRIES not in span
    told = spans.all()[0].to_json()
    assert all(secret not in told for secret in (KEY, "diary", "hello", "project-1"))


def test_several_prompts_are_a_row_each(model: ModelInference, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(GENERATED))
    assert len(model.generate(["one", "two", "three"])) == 3
    assert len(list(model.generate(["four", "five"], async_mode=True))) == 2
    assert [json.loads((span.attributes or {})[names.USAGE_PARTS]) for span in spans.all()] == [
        {"input": 8, "output": 5}
    ] * 5


async def _gather(events: Any) -> list[Any]:
    return [event async for event in await events]


CALLS: dict[str, tuple[Callable[[ModelInference], Any], Callable[[], Answer], dict[str, int]]] = {
    "generate": (lambda m: m.generate("hi"), lambda: Answer(GENERATED), {"input": 8, "output": 5}),
    "agenerate": (lambda m: asyncio.run(m.agenerate("hi")), lambda: Answer(GENERATED), {"input": 8, "output": 5}),
    "generate_text_stream": (
        lambda m: list(m.generate_text_stream("hi")),
        generation_stream,
        {"input": 8, "output": 5},
    ),
    "agenerate_stream": (
        lambda m: asyncio.run(_gather(m.agenerate_stream("hi"))),
        generation_stream,
        {"input": 8, "output": 5},
    ),
    "chat": (lambda m: m.chat(ASK), lambda: Answer(CHAT), {"input": 23, "output": 9}),
    "achat": (lambda m: asyncio.run(m.achat(ASK)), lambda: Answer(CHAT), {"input": 23, "output": 9}),
    "chat_stream": (lambda m: list(m.chat_stream(ASK)), chat_stream, {"input": 23, "output": 9}),
    "achat_stream": (lambda m: asyncio.run(_gather(m.achat_stream(ASK))), chat_stream, {"input": 23, "output": 9}),
}


@pytest.mark.parametrize("method", CALLS)
def test_every_way_to_generate(model: ModelInference, provider: Provider, spans: Spans, method: str) -> None:
    call, answer, parts = CALLS[method]
    provider.say(answer())
    result = call(model)
    span = spans.one()
    assert spans.parts() == parts
    assert span[names.USAGE_STATUS] == "reported"
    assert span[names.OPERATION] == ("chat" if "chat" in method else "text_completion")
    assert span[names.REQUEST_STREAM] == ("stream" in method)
    assert (names.TIME_TO_FIRST_TOKEN_NS in span) == ("stream" in method)
    WatsonxInstrumentor().uninstrument()
    provider.say(answer())
    assert call(a_model(provider.url)) == result
    assert len(spans.all()) == 1


def test_a_deployment_tells_its_model_in_the_answer(client: APIClient, provider: Provider, spans: Spans) -> None:
    client.default_project_id, client.default_space_id = None, "space-1"
    model = ModelInference(deployment_id="my-tuned", api_client=client, validate=False)
    provider.say(Answer(CHAT))
    model.chat(ASK)
    span = spans.one()
    assert names.RESPONSE_MODEL in span
    assert span[names.RESPONSE_MODEL] == MODEL
    assert provider.paths[-1].startswith("/ml/v1/deployments/my-tuned/text/chat?")


@pytest.mark.parametrize("leave", ["break", "async break"])
@pytest.mark.parametrize("kind", ["text", "chat"])
def test_an_abandoned_stream_has_what_was_seen(
    model: ModelInference, provider: Provider, spans: Spans, kind: str, leave: str
) -> None:
    provider.say(generation_stream() if kind == "text" else chat_stream())

    async def use_async() -> None:
        events = await (model.agenerate_stream("hi") if kind == "text" else model.achat_stream(ASK))
        async for _ in events:
            break
        await events.aclose()

    def use() -> None:
        for _ in model.generate_text_stream("hi") if kind == "text" else model.chat_stream(ASK):
            break

    asyncio.run(use_async()) if leave == "async break" else use()
    gc.collect()
    assert spans.one()[names.USAGE_STATUS] == ("incomplete" if kind == "text" else "missing")
    if kind == "text":
        assert spans.parts() == {"input": 8, "output": 0}


@pytest.mark.parametrize("method", ["generate_text_stream", "agenerate_stream"])
@pytest.mark.parametrize("how", ["broken", "error"])
def test_a_stream_that_fails(model: ModelInference, provider: Provider, spans: Spans, how: str, method: str) -> None:
    failed = {"errors": [{"code": "downstream_request_failed", "message": "The model failed."}]}
    answer = stream(generated(8, 2, "not_finished"), done=False)
    if how == "error":
        answer.chunks = [*(answer.chunks or ()), b"event: error\ndata: " + json.dumps(failed).encode() + b"\n\n"]
    answer.drop = how == "broken"
    provider.say(answer)
    with pytest.raises(Exception, match="(?i)incomplete|peer|error"):
        CALLS[method][0](model)
    gc.collect()
    span = spans.one()
    assert spans.parts() == {"input": 8, "output": 2}
    assert span[names.USAGE_STATUS] == "incomplete"
    assert span[names.ERROR_TYPE] == ("downstream_request_failed" if how == "error" else "RemoteProtocolError")


@pytest.mark.parametrize(
    ("method", "status"),
    [(method, status) for method in ("generate", "chat_stream", "achat_stream") for status in (429, 503)]
    + [("agenerate", 503)],  # after a 429 it closes the response by a function that raises
)
def test_what_the_sdk_tries_again_is_one_row(
    model: ModelInference, provider: Provider, spans: Spans, method: str, status: int
) -> None:
    call, answer, parts = CALLS[method]
    provider.say(Answer({"errors": [{"code": "busy"}]}, status=status), answer())
    call(model)
    assert len(provider.paths) == 2
    span = spans.one()
    assert (spans.parts(), span[names.RETRIES]) == (parts, 1)


@pytest.mark.parametrize("method", ["generate", "agenerate", "chat_stream", "achat_stream"])
def test_an_http_error_is_not_billed(model: ModelInference, provider: Provider, spans: Spans, method: str) -> None:
    provider.say(Answer({"errors": [{"code": "invalid_request", "message": "No."}]}, status=400))
    with pytest.raises(WMLClientError, match="400"):
        CALLS[method][0](model)
    gc.collect()
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.ERROR_TYPE]) == ("not_billed", "400")


@pytest.mark.parametrize("method", ["generate", "achat", "chat_stream"])
def test_a_server_that_is_not_there_is_not_billed(spans: Spans, method: str) -> None:
    model = a_model("http://127.0.0.1:1")
    with pytest.raises(Exception, match="(?i)refused|connect"):
        CALLS[method][0](model)
    gc.collect()
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_other_operations(client: APIClient, provider: Provider, spans: Spans, tmp_path: Path) -> None:
    counted = {"model_id": MODEL, "created_at": "2026-11-22T08:16:49.731Z", "input_token_count": 11}
    embedded = counted | {"results": [{"embedding": [0.1]}]}
    embeddings = Embeddings(model_id=MODEL, api_client=client)
    provider.say(Answer(embedded))
    assert embeddings.embed_query("hello") == [0.1]
    assert asyncio.run(embeddings.aembed_query("hello")) == [0.1]
    provider.say(Answer(counted | {"results": [{"index": 0, "score": 0.7}]}))
    Rerank(model_id=MODEL, api_client=client).generate("hello", ["hello"])
    points = {"input_data_points": 512, "output_data_points": 96}
    provider.say(Answer({"model_id": MODEL, "results": [{"load": [1.5]}]} | points))
    TSModelInference(model_id=MODEL, api_client=client).forecast(
        {"date": ["2026-11-22T00:00:00"], "load": [1.0]}, {"timestamp_column": "date"}
    )
    sound = tmp_path / "sound.mp3"
    sound.write_bytes(b"not a sound")
    provider.say(Answer({"text": "hello", "usage": {"type": "duration", "seconds": 7}}))
    AudioModelInference(model=MODEL, api_client=client).transcribe(sound)
    seen = [dict(span.attributes or {}) for span in spans.all()]
    assert [(span[names.OPERATION], span[names.REQUEST_MODEL]) for span in seen] == [
        (operation, MODEL) for operation in ("embeddings", "embeddings", "rerank", "forecast", "transcription")
    ]
    assert [json.loads(span.get(names.USAGE_PARTS, "{}")) for span in seen] == [
        {"input": 11},
        {"input": 11},
        {"input": 11},
        {},
        {"audio_second": 7},
    ]
    assert json.loads(seen[3][names.USAGE_UNMAPPED]) == points
    assert {span[names.API_KEY_HASH] for span in seen} == {hash_key(KEY)[0]}


def test_the_gateway(client: APIClient, provider: Provider, spans: Spans) -> None:
    gateway = Gateway(api_client=client)
    provider.say(Answer(CHAT))
    gateway.chat.completions.create(model="gpt-5", messages=ASK)
    provider.say(stream(chunk("hel"), chunk("lo", "stop"), chunk(None, usage=USAGE)))
    assert len(list(gateway.chat.completions.create(model="gpt-5", messages=ASK, stream=True))) == 3
    seen = [dict(span.attributes or {}) for span in spans.all()]
    assert [json.loads(span[names.USAGE_PARTS]) for span in seen] == [{"input": 23, "output": 9}] * 2
    assert [span[names.REQUEST_STREAM] for span in seen] == [False, True]


def test_a_client_of_the_programs_own(spans: Spans, provider: Provider) -> None:
    with httpx.Client() as own:
        model = ModelInference(model_id=MODEL, api_client=api_client(provider.url, httpx_client=own), validate=False)
        provider.say(Answer(GENERATED))
        model.generate("hi")
        provider.say(chat_stream())
        list(model.chat_stream(ASK))
    assert [dict(span.attributes or {})[names.API_KEY_HASH] for span in spans.all()] == [hash_key(KEY)[0]] * 2


def test_the_cost_of_a_response_is_known(model: ModelInference, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(CHAT))
    made = model.chat(ASK)
    outcome = cost_of(made)
    assert outcome is not None
    assert (outcome.total_tokens, outcome.price_status) == (32, "unpriced")


def test_calls_that_bill_nothing_make_no_span(model: ModelInference, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"model_id": MODEL, "result": {"token_count": 3}}))
    model.tokenize("hello")
    assert spans.all() == []


@pytest.mark.recordings
@recordings.needed
def test_the_recorded_answers(provider: Provider, spans: Spans) -> None:
    truth = recordings.truth()
    driven = recordings.load("watsonx")
    for recording in driven:
        streamed = recording["path"].endswith("_stream")
        endpoint = find("watsonx", "POST", recording["path"])
        assert endpoint is not None
        assert endpoint.operation == truth[recording["id"]]["operation"]
        answer = Answer(recording["response_body"].encode(), content_type=recording["content_type"])
        provider.say(answer)
        for method in ("generate_text_stream", "agenerate_stream") if streamed else ("generate", "agenerate"):
            CALLS[method][0](a_model(provider.url))
            span = dict(spans.all()[-1].attributes or {})
            expected = truth[recording["id"]]
            assert json.loads(span[names.USAGE_PARTS]) in recordings.readings(expected)
            assert span[names.RESPONSE_MODEL] == expected["response_model"]
            assert span[names.USAGE_STATUS] == expected["usage_status"]
    assert len(spans.all()) == 2 * len(driven) == 6
