"""Calls through the real google-cloud-aiplatform SDK, over gRPC and REST, against servers on loopback."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import pytest

pytest.importorskip(
    "vertexai.generative_models", reason="needs Google's SDK: pip install 'google-cloud-aiplatform>=1.100,<3'"
)

import grpc
import vertexai
from google.api.httpbody_pb2 import HttpBody
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from vertexai.generative_models import GenerativeModel

from spanledger import attributes as names
from spanledger.instrumentation import VertexAIBetaInstrumentor, VertexAIInstrumentor
from spanledger.settings import settings
from spanledger.tracking import cost_of
from tests import recordings
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider, stream

pytestmark = pytest.mark.filterwarnings("ignore")

PARENT = "projects/my-project/locations/europe-west4"
MODEL = f"{PARENT}/publishers/google/models/gemini-2.5-flash"
EMBEDDING = f"{PARENT}/publishers/google/models/gemini-embedding-001"
OWN = f"{PARENT}/endpoints/1234567890"
VERSIONS: dict[str, Any] = {"v1": aiplatform_v1, "v1beta1": aiplatform_v1beta1}
ASK = [{"role": "user", "parts": [{"text": "what is in my secret diary?"}]}]
USAGE = {
    "prompt_token_count": 100,
    "cached_content_token_count": 40,
    "candidates_token_count": 20,
    "thoughts_token_count": 500,
    "total_token_count": 620,
    "prompt_tokens_details": [{"modality": "TEXT", "token_count": 100}],
    "traffic_type": "ON_DEMAND",
}
PARTS = {"cache_read": 40, "input": 60, "output": 20, "output_reasoning": 500}
COST = "0.0013192"
"""60 x 0.30 + 40 x 0.03 + 520 x 2.50, per million."""
REST_USAGE = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 500,
    "totalTokenCount": 620,
    "trafficType": "ON_DEMAND",
}


def content(text: str, reason: str = "", **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}}
    if reason:
        candidate["finish_reason"] = reason
    return {
        "candidates": [candidate],
        "response_id": "r-1",
        "model_version": "gemini-2.5-flash",
        "create_time": "2026-11-22T08:16:49.731Z",
        **fields,
    }


def rest_content(text: str, reason: str = "", **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}}
    if reason:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "responseId": "r-1", "modelVersion": "gemini-2.5-flash", **fields}


ANSWERS = [content("hello", "STOP", usage_metadata=USAGE)]
STREAM = [content("hel", usage_metadata={"prompt_token_count": 100}), content("lo", "STOP", usage_metadata=USAGE)]


class Service:
    """Vertex AI's prediction service over gRPC: says what a test told it to, by the SDK's own messages."""

    def __enter__(self) -> Service:
        self.answers: dict[str, list[Any]] = {}
        self.calls: list[str] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        for version, api in VERSIONS.items():
            kinds = {
                "GenerateContent": (api.GenerateContentRequest, False),
                "StreamGenerateContent": (api.GenerateContentRequest, True),
                "Predict": (api.PredictRequest, False),
                "RawPredict": (api.RawPredictRequest, False),
                "StreamRawPredict": (api.StreamRawPredictRequest, True),
                "CountTokens": (api.CountTokensRequest, False),
            }
            if hasattr(api, "EmbedContentRequest"):
                kinds["EmbedContent"] = (api.EmbedContentRequest, False)
            handlers = {name: self._handler(name, *kind) for name, kind in kinds.items()}
            service = f"google.cloud.aiplatform.{version}.PredictionService"
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def say(self, method: str, *answers: Any) -> None:
        """Messages, or one (status, details) to abort with."""
        self.answers[method] = list(answers)

    def _handler(self, name: str, request: Any, streamed: bool) -> Any:
        def said(context: Any) -> Iterator[Any]:
            self.calls.append(name)
            for answer in self.answers[name]:
                if isinstance(answer, tuple):
                    context.abort(*answer)
                yield answer if isinstance(answer, HttpBody) else type(answer).pb(answer)

        def unary(_: Any, context: Any) -> Any:
            return next(said(context))

        def many(_: Any, context: Any) -> Iterator[Any]:
            yield from said(context)

        make = grpc.unary_stream_rpc_method_handler if streamed else grpc.unary_unary_rpc_method_handler
        return make(
            many if streamed else unary,
            request_deserializer=lambda data: data,
            response_serializer=lambda message: message.SerializeToString(),
        )


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as served:
        yield served


@pytest.fixture(autouse=True)
def at_vertex(own_settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    vertexai.init(project="my-project", location="europe-west4", credentials=AnonymousCredentials())
    monkeypatch.delenv("SPANLEDGER_HOSTS")
    settings.cache_clear()


def messages(version: str, events: list[dict[str, Any]]) -> list[Any]:
    """The events, as far as the version's messages have their fields."""
    kind = VERSIONS[version].GenerateContentResponse
    return [kind.from_json(json.dumps(event), ignore_unknown_fields=True) for event in events]


def transport(version: str, kind: str) -> Any:
    return VERSIONS[version].PredictionServiceClient.get_transport_class(kind)


def client(service: Service, version: str = "v1") -> Any:
    made = transport(version, "grpc")(channel=grpc.insecure_channel(service.host), host=HOST)
    return VERSIONS[version].PredictionServiceClient(transport=made)


HOST = "europe-west4-aiplatform.googleapis.com"


def rest_client(provider: Provider, version: str = "v1") -> Any:
    made = transport(version, "rest")(host=provider.host, url_scheme="http", credentials=AnonymousCredentials())
    return VERSIONS[version].PredictionServiceClient(transport=made)


def use_async(service: Service, use: Callable[[Any], Any], version: str = "v1") -> Any:
    async def run() -> Any:
        made = transport(version, "grpc_asyncio")(channel=grpc.aio.insecure_channel(service.host), host=HOST)
        api = VERSIONS[version].PredictionServiceAsyncClient(transport=made)
        try:
            return await use(api)
        finally:
            await made.close()

    return asyncio.run(run())


async def drain(events: Any) -> list[Any]:
    return [event async for event in await events]


def assert_priced(span: dict[str, Any]) -> None:
    assert json.loads(span[names.USAGE_PARTS]) == PARTS
    assert span[names.USAGE_STATUS] == "reported"
    assert (span[names.COST], span[names.COST_STATUS]) == (COST, "priced")
    assert (span[names.PROVIDER], span[names.OPERATION]) == ("gcp.vertex_ai", "chat")
    assert (span[names.REQUEST_MODEL], span[names.RESPONSE_MODEL]) == ("gemini-2.5-flash", "gemini-2.5-flash")
    assert (span[names.RESPONSE_ID], span[names.FINISH_REASONS]) == ("r-1", ("STOP",))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_call(service: Service, spans: Spans, mode: str, version: str) -> None:
    answer = messages(version, ANSWERS)
    service.say("GenerateContent", *answer)
    if mode == "sync":
        response = client(service, version).generate_content(model=MODEL, contents=ASK)
    else:
        response = use_async(service, lambda api: api.generate_content(model=MODEL, contents=ASK), version)
    assert type(response) is VERSIONS[version].GenerateContentResponse
    assert response == answer[0]
    span = spans.one()
    assert_priced(span)
    assert span[names.REGION] == "europe-west4"
    assert span[names.SERVER_ADDRESS] == HOST
    assert span[names.CREATED_NS] == 1_795_335_409_731_000_000
    assert cost_of(response).total_tokens == 620  # type: ignore[union-attr]
    told = spans.all()[0].to_json()
    assert all(secret not in told for secret in ("diary", "hello"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_stream(service: Service, spans: Spans, mode: str, version: str) -> None:
    answer = messages(version, STREAM)
    service.say("StreamGenerateContent", *answer)
    if mode == "sync":
        seen = list(client(service, version).stream_generate_content(model=MODEL, contents=ASK))
    else:
        seen = use_async(service, lambda api: drain(api.stream_generate_content(model=MODEL, contents=ASK)), version)
    assert seen == answer
    span = spans.one()
    assert_priced(span)
    assert span[names.REQUEST_STREAM] is True
    assert span[names.TIME_TO_FIRST_TOKEN_NS] > 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("streamed", [False, True])
def test_rest(provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch, streamed: bool, version: str) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=gcp.vertex_ai")
    settings.cache_clear()
    api = rest_client(provider, version)
    if streamed:
        parts = [rest_content("hel"), rest_content("lo", "STOP", usageMetadata=REST_USAGE)]
        provider.say(Answer(parts))
        seen = list(api.stream_generate_content(model=MODEL, contents=ASK))
        assert [event.candidates[0].content.parts[0].text for event in seen] == ["hel", "lo"]
    else:
        provider.say(Answer(rest_content("hello", "STOP", usageMetadata=REST_USAGE)))
        assert api.generate_content(model=MODEL, contents=ASK).candidates[0].content.parts[0].text == "hello"
    span = spans.one()
    assert_priced(span)
    assert span[names.REGION] == "europe-west4"
    assert provider.paths[0].startswith(f"/{version}/{MODEL}:")


@pytest.mark.parametrize("way", ["plain", "stream", "chat", "async", "async stream"])
def test_a_generative_model(service: Service, spans: Spans, way: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GenerativeModel(MODEL)
    for method, events in (("GenerateContent", ANSWERS), ("StreamGenerateContent", STREAM)):
        service.say(method, *messages("v1", events))
    model._prediction_client = client(service, "v1")
    if way == "plain":
        assert model.generate_content("what is in my secret diary?").text == "hello"
    elif way == "stream":
        assert [part.text for part in model.generate_content("hello", stream=True)] == ["hel", "lo"]
    elif way == "chat":
        assert model.start_chat().send_message("hello").text == "hello"
    else:

        async def use(api: Any) -> None:
            model._prediction_async_client = api
            if way == "async":
                assert (await model.generate_content_async("hello")).text == "hello"
            else:
                events = await model.generate_content_async("hello", stream=True)
                assert [part.text async for part in events] == ["hel", "lo"]

        use_async(service, use)
    assert_priced(spans.one())


def test_a_tuned_model_at_an_endpoint(service: Service, spans: Spans) -> None:
    service.say("GenerateContent", *messages("v1", [content("hello", "STOP", usage_metadata=USAGE)]))
    client(service).generate_content(model=OWN, contents=ASK)
    span = spans.one()
    assert (span[names.REQUEST_MODEL], span[names.RESPONSE_MODEL]) == ("1234567890", "gemini-2.5-flash")


def test_tools_and_grounding(service: Service, spans: Spans) -> None:
    answer = content("hello", "STOP", usage_metadata=USAGE)
    candidate = answer["candidates"][0]
    candidate["content"]["parts"].append({"executable_code": {"language": "PYTHON", "code": "1 + 1"}})
    candidate["grounding_metadata"] = {
        "web_search_queries": ["my diary", "", "diaries"],
        "grounding_chunks": [{"web": {"uri": "https://example.org"}}, {"maps": {"uri": "https://example.org"}}],
    }
    service.say("GenerateContent", *messages("v1", [answer]))
    client(service).generate_content(model=MODEL, contents=ASK)
    maps = {"maps_search": 1} if hasattr(aiplatform_v1.GroundingChunk, "Maps") else {}  # older versions have none
    assert spans.parts() == PARTS | {"code_execution": 1, "web_search": 2, "grounded_request": 1} | maps
    assert "my diary" not in spans.all()[0].to_json()


def predicted(body: dict[str, Any]) -> Any:
    return aiplatform_v1.PredictResponse.from_json(json.dumps(body))


@pytest.mark.skipif(
    "tool_use_prompt_tokens_details" not in aiplatform_v1.GenerateContentResponse.UsageMetadata.meta.fields,
    reason="this version's messages do not hold them",
)
def test_tokens_of_tools(service: Service, spans: Spans) -> None:
    usage = {
        "prompt_token_count": 100,
        "candidates_token_count": 20,
        "tool_use_prompt_tokens_details": [{"modality": "TEXT", "token_count": 300}],
        "total_token_count": 420,
    }
    service.say("GenerateContent", *messages("v1", [content("hello", "STOP", usage_metadata=usage)]))
    client(service).generate_content(model=MODEL, contents=ASK)
    assert spans.parts() == {"input": 100, "input_tool_use": 300, "output": 20}
    assert spans.one()[names.USAGE_STATUS] == "reported"


def test_embeddings_by_predict(service: Service, spans: Spans) -> None:
    def prediction(tokens: int) -> dict[str, Any]:
        return {"embeddings": {"values": [0.1, 0.2], "statistics": {"token_count": tokens, "truncated": False}}}

    answer = predicted({"predictions": [prediction(4), prediction(7)], "metadata": {"billableCharacterCount": 31}})
    service.say("Predict", answer)
    response = client(service).predict(endpoint=EMBEDDING, instances=[{"content": "hello"}, {"content": "world"}])
    assert response == answer
    span = spans.one()
    assert spans.parts() == {"input": 4 + 7}
    assert (span[names.OPERATION], span[names.REQUEST_MODEL]) == ("embeddings", "gemini-embedding-001")
    assert json.loads(span[names.USAGE_UNMAPPED]) == {"billableCharacterCount": 31}


@pytest.mark.skipif(not hasattr(aiplatform_v1, "EmbedContentRequest"), reason="this version has no embed_content")
def test_embeddings(service: Service, spans: Spans) -> None:
    usage = {"prompt_token_count": 9, "total_token_count": 9}
    service.say("EmbedContent", aiplatform_v1.EmbedContentResponse(usage_metadata=usage))
    client(service).embed_content(model=EMBEDDING, content={"parts": [{"text": "hello"}]})
    assert spans.parts() == {"input": 9}
    assert spans.one()[names.OPERATION] == "embeddings"


def test_images_by_predict(service: Service, spans: Spans) -> None:
    image = {"bytesBase64Encoded": "aGVsbG8=", "mimeType": "image/png"}
    answer = predicted({"predictions": [image, {"raiFilteredReason": "no"}]})
    service.say("Predict", answer)
    assert client(service).predict(endpoint=f"{MODEL[:-16]}imagen-4.0-generate-001", instances=[{}]) == answer
    assert spans.parts() == {"image": 1}
    assert spans.one()[names.OPERATION] == "image_generation"


MESSAGE = {
    "id": "msg_vrtx_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 5},
}


@pytest.mark.parametrize("streamed", [False, True])
def test_another_publishers_model(service: Service, spans: Spans, streamed: bool) -> None:
    endpoint = f"{PARENT}/publishers/anthropic/models/claude-sonnet-4-5@20250929"
    if streamed:
        told = stream(
            {"type": "message_start", "message": MESSAGE | {"usage": {"input_tokens": 10, "output_tokens": 1}}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
            done=False,
            event_names=True,
        )
        whole = b"".join(chunk for chunk in told.chunks or () if isinstance(chunk, bytes))
        service.say("StreamRawPredict", HttpBody(data=whole[:50]), HttpBody(data=whole[50:]))
        request = aiplatform_v1.StreamRawPredictRequest(endpoint=endpoint)
        assert b"".join(body.data for body in client(service).stream_raw_predict(request)) == whole
    else:
        service.say("RawPredict", HttpBody(data=json.dumps(MESSAGE).encode()))
        client(service).raw_predict(aiplatform_v1.RawPredictRequest(endpoint=endpoint))
    span = spans.one()
    assert spans.parts() == {"input": 10, "output": 5}
    assert (span[names.PROVIDER], span[names.RESPONSE_ID]) == ("gcp.vertex_ai", "msg_vrtx_1")


def test_calls_that_bill_nothing_make_no_span(service: Service, spans: Spans) -> None:
    api = client(service)
    service.say("Predict", predicted({"predictions": [{"score": 0.5}]}))
    api.predict(endpoint=OWN, instances=[{}])  # billed by the hour of its machines
    service.say("CountTokens", aiplatform_v1beta1.CountTokensResponse(total_tokens=3))
    client(service, "v1beta1").count_tokens({"endpoint": MODEL, "model": MODEL})
    assert service.calls == ["Predict", "CountTokens"]
    assert spans.all() == []


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("leave", ["let go", "cancel"])
def test_an_abandoned_stream_has_what_was_seen(service: Service, spans: Spans, leave: str, mode: str) -> None:
    service.say("StreamGenerateContent", *messages("v1", STREAM))

    def use() -> None:
        events = client(service).stream_generate_content(model=MODEL, contents=ASK)
        next(events)
        if leave == "cancel":
            events.cancel()

    async def async_use(api: Any) -> None:
        events = await api.stream_generate_content(model=MODEL, contents=ASK)
        async for _ in events:
            break
        if leave == "cancel":
            events.cancel()

    use() if mode == "sync" else use_async(service, async_use)
    gc.collect()
    assert spans.one()[names.USAGE_STATUS] == "incomplete"
    assert spans.parts() == {"input": 100}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_stream_that_breaks(service: Service, spans: Spans, mode: str) -> None:
    service.say("StreamGenerateContent", *messages("v1", STREAM[:1]), (grpc.StatusCode.INTERNAL, "gone"))
    with pytest.raises(exceptions.InternalServerError, match="gone"):
        if mode == "sync":
            list(client(service).stream_generate_content(model=MODEL, contents=ASK))
        else:
            use_async(service, lambda api: drain(api.stream_generate_content(model=MODEL, contents=ASK)))
    span = spans.one()
    assert spans.parts() == {"input": 100}
    assert (span[names.USAGE_STATUS], span[names.ERROR_TYPE]) == ("incomplete", "InternalServerError")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "not_billed"),
        (grpc.StatusCode.INVALID_ARGUMENT, "not_billed"),
        (grpc.StatusCode.INTERNAL, "usage_missing"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "usage_missing"),
    ],
)
def test_an_error_is_billed_only_where_something_was_generated(
    service: Service, spans: Spans, code: Any, status: str, mode: str, streamed: bool
) -> None:
    method = "stream_generate_content" if streamed else "generate_content"
    service.say("StreamGenerateContent" if streamed else "GenerateContent", (code, "no"))

    async def use(api: Any) -> None:
        answer = getattr(api, method)(model=MODEL, contents=ASK)
        await (drain(answer) if streamed else answer)

    with pytest.raises(exceptions.GoogleAPICallError):
        if mode == "sync":
            answer = getattr(client(service), method)(model=MODEL, contents=ASK)
            list(answer) if streamed else None
        else:
            use_async(service, use)
    assert spans.one()[names.COST_STATUS] == status


@pytest.mark.parametrize("over", ["grpc", "rest"])
def test_a_server_that_is_not_there_is_not_billed(spans: Spans, over: str) -> None:
    if over == "grpc":
        made = transport("v1", "grpc")(channel=grpc.insecure_channel("127.0.0.1:1"))
    else:
        made = transport("v1", "rest")(host="127.0.0.1:1", url_scheme="http", credentials=AnonymousCredentials())
    with pytest.raises(Exception, match="(?i)refused|connect"):
        aiplatform_v1.PredictionServiceClient(transport=made).generate_content(model=MODEL, contents=ASK)
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_an_http_error_is_not_billed(provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"error": {"code": 500, "status": "INTERNAL", "message": "No."}}, status=500))
    with pytest.raises(exceptions.InternalServerError):
        rest_client(provider).generate_content(model=MODEL, contents=ASK)
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_uninstrumented_calls_make_no_span(service: Service, spans: Spans) -> None:
    api = client(service)
    service.say("GenerateContent", *messages("v1", ANSWERS))
    for instrumentor in (VertexAIInstrumentor, VertexAIBetaInstrumentor):
        instrumentor().uninstrument()
    api.generate_content(model=MODEL, contents=ASK)
    client(service).generate_content(model=MODEL, contents=ASK)
    assert spans.all() == []


@pytest.mark.recordings
@recordings.needed
def test_the_recorded_answers(provider: Provider, spans: Spans) -> None:
    """Every recorded plain answer of Vertex AI that the client's messages can hold, by REST: as the truth says."""
    truth = recordings.truth()
    api = rest_client(provider, "v1beta1")
    driven = []
    for recording in recordings.load("google"):
        if "aiplatform" not in recording["host"] or not recording["path"].endswith(":generateContent"):
            continue
        if recording["id"] not in truth:
            continue
        provider.say(Answer(recording["response_body"].encode()))
        api.generate_content(model=MODEL, contents=ASK)
        driven.append(recording["id"])
    different = []
    for id, span in zip(driven, spans.all(), strict=True):
        found = json.loads((span.attributes or {}).get(names.USAGE_PARTS, "{}"))
        found.pop("grounded_request", None)  # a unit of the bill, where the truth has the searches alone
        allowed = [{part: count for part, count in parts.items() if count} for parts in recordings.readings(truth[id])]
        if {part: count for part, count in found.items() if count} not in allowed:  # a message has no zeros
            different.append((id, found, allowed))
    assert not different, f"{len(different)} of {len(driven)} differ: {different[:5]}"
    assert len(driven) > 80
