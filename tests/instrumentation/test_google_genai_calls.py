"""Calls through the real google-genai SDK, over httpx and aiohttp: spans right, the program's behaviour unchanged."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
from typing import Any

import pytest
from google import genai
from google.genai import _api_client, errors, types, version
from google.oauth2.credentials import Credentials

from spanledger import attributes as names
from spanledger.attribution import attribute
from spanledger.instrumentation import GoogleGenAIInstrumentor
from spanledger.settings import settings
from spanledger.tracking import cost_of
from tests.instrumentation.conftest import Metrics, Spans
from tests.provider import Answer, Provider, stream

MODEL = "gemini-2.5-flash"
USAGE = {"promptTokenCount": 100, "candidatesTokenCount": 20, "thoughtsTokenCount": 500, "totalTokenCount": 620}
PARTS = {"input": 100, "output": 20, "output_reasoning": 500}
COST = "0.00133"  # 100 x 0.30 + (20 + 500) x 2.50, per million
ASK: dict[str, Any] = {"model": MODEL, "contents": "what is in my secret diary?"}


def answer(text: str = "hello", usage: Any = USAGE, finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": MODEL, "responseId": "r-1", **more}


CHUNKS = [
    answer("a", {"promptTokenCount": 100, "candidatesTokenCount": 1, "totalTokenCount": 101}, None),
    answer("b", {"promptTokenCount": 100, "candidatesTokenCount": 9, "totalTokenCount": 109}, None),
    answer("c"),
]
INTERACTION = {
    "id": "v1_1",
    "object": "interaction",
    "model": MODEL,
    "status": "completed",
    "created": "2026-05-13T19:57:40Z",
    "service_tier": "standard",
    "steps": [{"type": "model_output", "content": [{"type": "text", "text": "hello"}]}],
    "usage": {"total_tokens": 620, "total_input_tokens": 100, "total_output_tokens": 20, "total_thought_tokens": 500},
}
EVENTS: list[dict[str, Any]] = [
    {"event_type": "interaction.created", "interaction": {**INTERACTION, "status": "in_progress", "usage": None}},
    {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
    {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "hello"}},
    {"event_type": "step.stop", "index": 0},
    {"event_type": "interaction.completed", "interaction": INTERACTION},
]


SINCE_3 = pytest.mark.skipif(version.__version__ < "3", reason="interactions have another client before 3.0")


@pytest.fixture(autouse=True)
def any_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    """The client tells whom it calls at any host, but for interactions before 3.0."""
    if "interaction" in request.node.name:
        monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=gcp.gemini")
    else:
        monkeypatch.delenv("SPANLEDGER_HOSTS", raising=False)


@pytest.fixture(params=["aiohttp", "httpx"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(_api_client, "has_aiohttp", request.param == "aiohttp")
    return str(request.param)


def make(provider: Provider, **options: Any) -> genai.Client:
    return genai.Client(
        vertexai=False, api_key="AIza-test-0123456789", http_options={"base_url": provider.url, **options}
    )


@pytest.fixture
def client(provider: Provider) -> genai.Client:
    return make(provider)


def assert_complete(spans: Spans, parts: dict[str, int] = PARTS) -> dict[str, Any]:
    span = spans.one()
    assert spans.parts() == parts
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("reported", "priced")
    return span


def test_a_plain_call(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(answer()))
    response = client.models.generate_content(**ASK)
    assert response.text == "hello"
    span = assert_complete(spans)
    assert span[names.PROVIDER] == "gcp.gemini"
    assert span[names.COST] == COST
    assert (span[names.REQUEST_MODEL], span[names.RESPONSE_MODEL], span[names.RESPONSE_ID]) == (MODEL, MODEL, "r-1")
    assert len(span[names.API_KEY_HASH]) == 16
    assert str(cost_of(response).cost).rstrip("0") == COST
    told = spans.all()[0].to_json()
    assert "diary" not in told
    assert "AIza" not in told


def test_an_async_call(client: genai.Client, provider: Provider, spans: Spans, transport: str) -> None:
    provider.say(Answer(answer()))

    async def run() -> Any:
        return await client.aio.models.generate_content(**ASK)

    assert asyncio.run(run()).text == "hello"
    assert assert_complete(spans)[names.COST] == COST


def test_a_stream(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*CHUNKS, done=False))
    seen = []
    for chunk in client.models.generate_content_stream(**ASK):
        assert not spans.all()
        seen.append(chunk.text)
    assert seen == ["a", "b", "c"]
    span = assert_complete(spans)
    assert span[names.REQUEST_STREAM] is True
    assert span[names.TIME_TO_FIRST_TOKEN_NS] > 0


def test_a_stream_has_the_times_of_its_chunks(
    client: genai.Client, provider: Provider, spans: Spans, measured: Metrics
) -> None:
    provider.say(stream(*CHUNKS, done=False))
    assert len(list(client.models.generate_content_stream(**ASK))) == len(CHUNKS)
    assert measured.chunks() == [len(CHUNKS) - 1]


def test_an_async_stream(client: genai.Client, provider: Provider, spans: Spans, transport: str) -> None:
    provider.say(stream(*CHUNKS, done=False))

    async def run() -> list[Any]:
        return [chunk.text async for chunk in await client.aio.models.generate_content_stream(**ASK)]

    assert asyncio.run(run()) == ["a", "b", "c"]
    assert_complete(spans)


def test_a_stream_that_is_left_early_has_what_was_seen(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*CHUNKS, done=False))
    chunks = client.models.generate_content_stream(**ASK)
    assert next(chunks).text == "a"
    del chunks
    assert spans.one()[names.USAGE_STATUS] == "incomplete"
    assert spans.parts() == {"input": 100, "output": 1}


def test_a_stream_that_is_closed_has_what_was_seen(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*CHUNKS, done=False))
    chunks = client.models.generate_content_stream(**ASK)
    next(chunks)
    chunks.close()
    assert spans.parts() == {"input": 100, "output": 1}


def test_an_async_stream_that_is_left_early(
    client: genai.Client, provider: Provider, spans: Spans, transport: str
) -> None:
    provider.say(stream(*CHUNKS, done=False))

    async def run() -> None:
        async for chunk in await client.aio.models.generate_content_stream(**ASK):
            assert chunk.text == "a"
            break

    asyncio.run(run())
    assert spans.one()[names.USAGE_STATUS] == "incomplete"
    assert spans.parts() == {"input": 100, "output": 1}


def test_a_stream_that_is_never_read_is_no_call(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*CHUNKS, done=False))

    async def run() -> None:
        await client.aio.models.generate_content_stream(**ASK)

    client.models.generate_content_stream(**ASK)
    asyncio.run(run())
    gc.collect()
    assert not provider.paths
    assert not spans.all()


def test_an_async_stream_that_is_cancelled(
    client: genai.Client, provider: Provider, spans: Spans, transport: str
) -> None:
    stalled, wanted = asyncio.Event(), []
    go_on = threading.Event()
    provider.say(
        Answer(
            chunks=[b"data: " + json.dumps(CHUNKS[0]).encode() + b"\n\n", lambda: bool(go_on.wait(20))],
            content_type="text/event-stream",
        )
    )

    async def read() -> None:
        async for chunk in await client.aio.models.generate_content_stream(**ASK):
            wanted.append(chunk.text)
            stalled.set()

    async def run() -> None:
        task = asyncio.create_task(read())
        await stalled.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    try:
        asyncio.run(run())
    finally:
        go_on.set()
    assert wanted == ["a"]
    assert spans.one()[names.USAGE_STATUS] == "incomplete"
    assert spans.parts() == {"input": 100, "output": 1}


def test_a_stream_whose_connection_breaks(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*CHUNKS[:2], done=False, drop=True))
    with pytest.raises(Exception, match="peer closed connection") as broken:
        list(client.models.generate_content_stream(**ASK))
    span = spans.one()
    assert span[names.ERROR_TYPE] == type(broken.value).__name__
    assert span[names.USAGE_STATUS] == "incomplete"
    assert spans.parts() == {"input": 100, "output": 9}


def test_an_error_in_a_stream(client: genai.Client, provider: Provider, spans: Spans) -> None:
    failure = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    provider.say(stream(CHUNKS[0], failure, done=False))
    with pytest.raises(errors.ServerError):
        list(client.models.generate_content_stream(**ASK))
    assert spans.one()[names.ERROR_TYPE] == "UNAVAILABLE"
    assert spans.parts() == {"input": 100, "output": 1}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_refused_call_is_not_billed(client: genai.Client, provider: Provider, spans: Spans, streamed: bool) -> None:
    provider.say(Answer({"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}, status=429))
    with pytest.raises(errors.ClientError, match="Slow down"):
        if streamed:
            next(client.models.generate_content_stream(**ASK))
        else:
            client.models.generate_content(**ASK)
    span = spans.one()
    assert (span[names.NOT_BILLED], span[names.COST_STATUS]) == (True, "not_billed")
    assert span[names.ERROR_TYPE] == "ClientError"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_refused_async_call_is_not_billed(
    client: genai.Client, provider: Provider, spans: Spans, transport: str, streamed: bool
) -> None:
    provider.say(Answer({"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}, status=400))

    async def run() -> None:
        if streamed:
            await anext(await client.aio.models.generate_content_stream(**ASK))
        else:
            await client.aio.models.generate_content(**ASK)

    with pytest.raises(errors.ClientError):
        asyncio.run(run())
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_a_provider_that_cannot_be_reached_bills_nothing(spans: Spans, transport: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        client = genai.Client(
            vertexai=False,
            api_key="k",
            http_options={
                "base_url": f"http://127.0.0.1:{closed.getsockname()[1]}",
                "retry_options": {"attempts": 1},
            },
        )

        async def run() -> None:
            await client.aio.models.generate_content(**ASK)

        with pytest.raises(Exception, match="(?i)connect"):
            client.models.generate_content(**ASK)
        with pytest.raises(Exception, match="(?i)connect"):
            asyncio.run(run())
    assert [span.attributes[names.COST_STATUS] for span in spans.all()] == ["not_billed"] * 2


def test_a_call_that_times_out_may_be_billed(provider: Provider, spans: Spans) -> None:
    go_on = threading.Event()
    provider.say(Answer(chunks=[lambda: bool(go_on.wait(20))]))
    client = make(provider, timeout=100)
    try:
        with pytest.raises(Exception, match="timed out"):
            client.models.generate_content(**ASK)
    finally:
        go_on.set()
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("missing", "usage_missing")
    assert names.NOT_BILLED not in span


@pytest.mark.parametrize("of_the_call", [False, True])
def test_retries_make_one_row(provider: Provider, spans: Spans, of_the_call: bool) -> None:
    busy = Answer({"error": {"code": 503, "message": "Busy.", "status": "UNAVAILABLE"}}, status=503)
    retries = {"retry_options": {"attempts": 3, "initial_delay": 0.001, "max_delay": 0.001, "jitter": 0}}
    provider.say(busy, busy, Answer(answer()))
    client = make(provider, **({} if of_the_call else retries))
    client.models.generate_content(**ASK, config={"http_options": retries} if of_the_call else None)
    assert len(provider.paths) == 3
    assert assert_complete(spans)[names.RETRIES] == 2


def test_retries_of_an_async_call(provider: Provider, spans: Spans, transport: str) -> None:
    busy = Answer({"error": {"code": 503, "message": "Busy.", "status": "UNAVAILABLE"}}, status=503)
    retries = {"retry_options": {"attempts": 3, "initial_delay": 0.001, "max_delay": 0.001, "jitter": 0}}
    provider.say(busy, Answer(answer()))
    client = make(provider, **retries)

    async def run() -> None:
        await client.aio.models.generate_content(**ASK)

    asyncio.run(run())
    assert assert_complete(spans)[names.RETRIES] == 1


def test_each_turn_of_automatic_function_calling_is_a_call(
    client: genai.Client, provider: Provider, spans: Spans
) -> None:
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"hot in {city}"

    turn = answer()
    turn["candidates"][0]["content"]["parts"] = [{"functionCall": {"name": "weather", "args": {"city": "Rome"}}}]
    provider.say(Answer(turn), Answer(answer("It is hot.") | {"responseId": "r-2"}))
    response = client.models.generate_content(**ASK, config=types.GenerateContentConfig(tools=[weather]))
    assert response.text == "It is hot."
    assert [span.attributes[names.RESPONSE_ID] for span in spans.all()] == ["r-1", "r-2"]
    assert [json.loads(span.attributes[names.USAGE_PARTS]) for span in spans.all()] == [PARTS, PARTS]


def test_a_chat(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(answer()))
    assert client.chats.create(model=MODEL).send_message("hi").text == "hello"
    assert_complete(spans)


def test_embeddings(client: genai.Client, provider: Provider, spans: Spans) -> None:
    usage = {"promptTokenCount": 7, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": 7}]}
    provider.say(Answer({"embeddings": [{"values": [0.1]}], "usageMetadata": usage}))
    response = client.models.embed_content(model="gemini-embedding-2", contents="a")
    assert response.embeddings[0].values == [0.1]
    assert spans.parts() == {"input": 7}
    assert spans.one()[names.OPERATION] == "embeddings"


@pytest.fixture
def vertex(provider: Provider) -> genai.Client:
    return genai.Client(
        vertexai=True,
        project="p",
        location="europe-west4",
        credentials=Credentials(token="ya29.test"),
        http_options={"base_url": provider.url},
    )


@pytest.mark.filterwarnings("ignore:The generate_images method")
def test_images(vertex: genai.Client, provider: Provider, spans: Spans) -> None:
    image = {"mimeType": "image/png", "bytesBase64Encoded": "iVBORw0K"}
    provider.say(Answer({"predictions": [image, image, {"raiFilteredReason": "Filtered."}]}))
    vertex.models.generate_images(model="imagen-4.0-generate-001", prompt="a lamp")
    assert spans.parts() == {"image": 2}
    assert spans.one()[names.OPERATION] == "image_generation"


def test_vertex_ai(vertex: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(answer(usage=USAGE | {"trafficType": "ON_DEMAND_FLEX"})))
    vertex.models.generate_content(**ASK)
    span = spans.one()
    assert spans.parts() == PARTS
    assert (span[names.PROVIDER], span[names.REGION], span[names.SERVICE_TIER]) == (
        "gcp.vertex_ai",
        "europe-west4",
        "flex",
    )
    assert names.API_KEY_HASH not in span  # a token that changes by the hour tells nobody apart


@SINCE_3
def test_an_interaction_of_a_gateway(
    client: genai.Client, provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPANLEDGER_HOSTS")
    settings.cache_clear()
    provider.say(Answer(INTERACTION))
    client.interactions.create(model=MODEL, input="hi")
    assert assert_complete(spans)[names.PROVIDER] == "gcp.gemini"


def test_an_interaction(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(INTERACTION))
    interaction = client.interactions.create(model=MODEL, input="hi")
    assert interaction.usage.total_tokens == 620
    span = assert_complete(spans)
    assert (span[names.COST], span[names.REQUEST_MODEL], span[names.RESPONSE_ID]) == (COST, MODEL, "v1_1")
    assert str(cost_of(interaction).cost).rstrip("0") == COST


def test_an_async_interaction(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(INTERACTION))

    async def run() -> Any:
        return await client.aio.interactions.create(model=MODEL, input="hi")

    assert asyncio.run(run()).usage.total_tokens == 620
    assert_complete(spans)


def test_a_stream_of_an_interaction(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*EVENTS))
    events = list(client.interactions.create(model=MODEL, input="hi", stream=True))
    assert [event.event_type for event in events] == [event["event_type"] for event in EVENTS]
    assert_complete(spans)


def test_an_async_stream_of_an_interaction(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(stream(*EVENTS))

    async def run() -> list[Any]:
        return [e async for e in await client.aio.interactions.create(model=MODEL, input="hi", stream=True)]

    assert len(asyncio.run(run())) == len(EVENTS)
    assert_complete(spans)


def test_a_raw_interaction(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(INTERACTION))
    client.interactions.with_raw_response.create(model=MODEL, input="hi")
    assert_complete(spans)


@SINCE_3
@pytest.mark.parametrize("streamed", [False, True])
def test_an_interaction_in_the_background_is_billed_when_it_is_first_there(
    client: genai.Client, provider: Provider, spans: Spans, streamed: bool
) -> None:
    name = f"v1_background_{streamed}"
    started = {"id": name, "object": "interaction", "status": "in_progress", "agent": "deep-research-pro"}
    done = {**INTERACTION, "id": name, "model": None, "agent": "deep-research-pro"}
    provider.say(Answer(started))
    with attribute(tags={"report": "7"}):
        client.interactions.create(agent="deep-research-pro", input="hi", background=True)
    assert spans.one()[names.USAGE_STATUS] == "missing"
    client.interactions.get(name)
    provider.say(Answer({"error": {"code": "not_found", "message": "Not there."}}, status=404))
    with pytest.raises(Exception, match="Not there"):
        client.interactions.get(name)
    assert len(spans.all()) == 1  # it is not done yet
    for _ in range(2):
        if streamed:
            event = {"event_type": "interaction.completed", "interaction": done}
            provider.say(stream(event))
            assert len(list(client.interactions.get(name, stream=True))) == 1
        else:
            provider.say(Answer(done))
            assert client.interactions.get(name).status == "completed"
    created, delivered = spans.all()
    assert json.loads(delivered.attributes[names.USAGE_PARTS]) == PARTS
    assert delivered.attributes[names.REQUEST_MODEL] == "deep-research-pro"
    assert delivered.start_time == created.start_time
    assert delivered.parent.span_id == created.context.span_id
    assert json.loads(delivered.attributes[names.TAGS]) == {"report": "7"}


@SINCE_3
def test_a_refused_interaction_is_not_billed(provider: Provider, spans: Spans) -> None:
    client = make(provider, retry_options={"attempts": 2, "initial_delay": 0.001, "max_delay": 0.001, "jitter": 0})
    provider.say(Answer({"error": {"code": "overloaded", "message": "Busy."}}, status=503))
    with pytest.raises(Exception, match="Busy"):
        client.interactions.create(model=MODEL, input="hi")
    assert len(provider.paths) == 2
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.RETRIES]) == ("not_billed", 1)


def test_what_is_not_billed_makes_no_span(client: genai.Client, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"totalTokens": 7}))
    assert client.models.count_tokens(**ASK).total_tokens == 7
    provider.say(Answer({"models": []}))
    list(client.models.list())
    provider.say(Answer(INTERACTION))
    client.interactions.get("v1_1")
    assert not spans.all()


def test_the_sdk_is_as_it_was_once_the_patch_is_off(provider: Provider) -> None:
    before = dict(_api_client.BaseApiClient.__dict__)
    GoogleGenAIInstrumentor().instrument()
    assert _api_client.BaseApiClient.__dict__["_request"] is not before["_request"]
    assert asyncio.iscoroutinefunction(_api_client.BaseApiClient._async_request_once)
    GoogleGenAIInstrumentor().uninstrument()
    assert dict(_api_client.BaseApiClient.__dict__) == before
