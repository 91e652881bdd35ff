"""Calls through the real xai-sdk: what the span says, and that the program gets what it would get without us."""

from __future__ import annotations

import asyncio
import datetime
import gc
import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from types import AsyncGeneratorType, GeneratorType
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel
from xai_sdk import AsyncClient, Client, proto
from xai_sdk.aio import chat as aio_chat
from xai_sdk.chat import Response, user
from xai_sdk.proto import chat_pb2, deferred_pb2, image_pb2, usage_pb2
from xai_sdk.sync import chat as sync_chat

from spanledger import attributes as names
from spanledger.exporter import rows
from spanledger.instrumentation import XAIInstrumentor
from spanledger.instrumentation.keys import hash_key
from spanledger.instrumentation.patches import xai as patch
from spanledger.settings import settings
from spanledger.tracking import cost_of, track
from tests.grpc_provider import GrpcProvider
from tests.instrumentation.conftest import Metrics, Spans

KEY = "xai-test-0123456789abcdef"
MODEL = "grok-4-0709"
PARTS = {"cache_read": 128, "input": 10120 - 128, "output": 1499, "output_reasoning": 2809}
COST = "0.094692"  # (9992 x 3 + 128 x 0.75 + (1499 + 2809) x 15) / 10^6
HAS_COST = "cost_in_usd_ticks" in usage_pb2.SamplingUsage.DESCRIPTOR.fields_by_name
USAGE = usage_pb2.SamplingUsage(
    prompt_tokens=10120,
    cached_prompt_text_tokens=128,
    completion_tokens=1499,
    reasoning_tokens=2809,
    total_tokens=14428,
    **({"cost_in_usd_ticks": 232_856_000} if HAS_COST else {}),
)
SOON = datetime.timedelta(milliseconds=1)


def completion(name: str = "r-1", text: str = "hello", **fields: Any) -> Any:
    message = chat_pb2.CompletionMessage(content=text, role="ROLE_ASSISTANT")
    output = chat_pb2.CompletionOutput(index=0, finish_reason="REASON_STOP", message=message)
    return chat_pb2.GetChatCompletionResponse(
        **{"id": name, "model": MODEL, "outputs": [output], "usage": USAGE} | fields
    )


def chunk(text: str, finish: str | None = None, **fields: Any) -> Any:
    output = chat_pb2.CompletionOutputChunk(
        index=0, finish_reason=finish, delta=chat_pb2.Delta(content=text, role="ROLE_ASSISTANT")
    )
    return chat_pb2.GetChatCompletionChunk(id="r-1", model=MODEL, outputs=[output], **fields)


SOME = usage_pb2.SamplingUsage(prompt_tokens=10, completion_tokens=1, total_tokens=11)
CHUNKS = [chunk("he", usage=SOME), chunk("llo"), chunk("", "REASON_STOP", usage=USAGE)]


@pytest.fixture
def server() -> Iterator[GrpcProvider]:
    with GrpcProvider() as server:
        yield server


@pytest.fixture(autouse=True)
def at_xai(own_settings: None, monkeypatch: pytest.MonkeyPatch, server: GrpcProvider) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{server.host}=x_ai")
    settings.cache_clear()


@pytest.fixture
def client(server: GrpcProvider, spans: Spans) -> Iterator[Client]:
    with Client(api_key=KEY, api_host=server.host, use_insecure_channel=True) as client:
        yield client


def chat_of(client: Any) -> Any:
    chat = client.chat.create(model="grok-4")
    chat.append(user("what is in my secret diary?"))
    return chat


def in_loop(server: GrpcProvider, use: Any, **options: Any) -> Any:
    """What `use` returns of a chat of an async client."""

    async def main() -> Any:
        async with AsyncClient(api_key=KEY, api_host=server.host, use_insecure_channel=True, **options) as client:
            return await use(chat_of(client))

    return asyncio.run(main())


def assert_complete(span: dict[str, Any]) -> None:
    assert json.loads(span[names.USAGE_PARTS]) == PARTS
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS], span[names.COST]) == ("reported", "priced", COST)
    if HAS_COST:  # else it is too old to be told
        assert Decimal(span[names.REPORTED_COST]) == Decimal("0.0232856")  # 232 856 000 x 1e-10


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_plain_call(client: Client, server: GrpcProvider, spans: Spans, mode: str) -> None:
    server.say("GetCompletion", completion())
    with track() as tracked:
        response = chat_of(client).sample() if mode == "sync" else in_loop(server, lambda chat: chat.sample())
    assert type(response) is Response
    assert response.content == "hello"
    span = spans.one()
    assert_complete(span)
    assert (span[names.OPERATION], span[names.PROVIDER]) == ("chat", "x_ai")
    assert (span[names.REQUEST_MODEL], span[names.RESPONSE_MODEL]) == ("grok-4", MODEL)
    assert (span[names.RESPONSE_ID], span[names.FINISH_REASONS]) == ("r-1", ("REASON_STOP",))
    assert span[names.REQUEST_STREAM] is False
    assert span[names.API_KEY_HASH] == hash_key(KEY)[0]
    assert tracked.calls == 1
    assert cost_of(response) is not None
    told = spans.all()[0].to_json()
    assert all(secret not in told for secret in (KEY, "diary", "hello"))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_parsed_answer(client: Client, server: GrpcProvider, spans: Spans, mode: str) -> None:
    class Said(BaseModel):
        text: str

    server.say("GetCompletion", completion(text='{"text": "hello"}'))
    _, said = chat_of(client).parse(Said) if mode == "sync" else in_loop(server, lambda chat: chat.parse(Said))
    assert said == Said(text="hello")
    assert_complete(spans.one())


def test_several_answers_are_one_call(client: Client, server: GrpcProvider, spans: Spans) -> None:
    outputs = [chat_pb2.CompletionOutput(index=index, finish_reason="REASON_STOP") for index in range(2)]
    server.say("GetCompletion", completion(outputs=outputs))
    with pytest.warns(PendingDeprecationWarning):
        assert len(chat_of(client).sample_batch(2)) == 2
    assert_complete(spans.one())


def test_a_stream(client: Client, server: GrpcProvider, spans: Spans) -> None:
    server.say("GetCompletionChunk", CHUNKS)
    stream = chat_of(client).stream()
    assert type(stream) is GeneratorType
    assert [piece.content for _, piece in stream] == ["he", "llo", ""]
    span = spans.one()
    assert_complete(span)
    assert span[names.REQUEST_STREAM] is True
    assert span[names.TIME_TO_FIRST_TOKEN_NS] > 0


def test_a_stream_has_the_times_of_its_chunks(client: Client, server: GrpcProvider, measured: Metrics) -> None:
    server.say("GetCompletionChunk", CHUNKS)
    list(chat_of(client).stream())
    assert measured.chunks() == [len(CHUNKS) - 1]


def test_an_async_stream(server: GrpcProvider, spans: Spans) -> None:
    server.say("GetCompletionChunk", CHUNKS)

    async def use(chat: Any) -> list[str]:
        stream = chat.stream()
        assert type(stream) is AsyncGeneratorType
        return [piece.content async for _, piece in stream]

    assert in_loop(server, use) == ["he", "llo", ""]
    assert_complete(spans.one())


def test_a_stream_makes_no_call_before_it_is_read(client: Client, server: GrpcProvider, spans: Spans) -> None:
    chat_of(client).stream()
    assert (server.requests, spans.all()) == ([], [])


@pytest.mark.parametrize("leave", ["break", "close"])
def test_a_stream_that_is_left(client: Client, server: GrpcProvider, spans: Spans, leave: str) -> None:
    more = threading.Event()
    server.say("GetCompletionChunk", [CHUNKS[0], more, CHUNKS[1]])

    def use() -> None:
        stream = chat_of(client).stream()
        next(stream)
        if leave == "close":
            stream.close()

    use()
    gc.collect()
    assert server.cancelled.wait(10), "the provider goes on generating"
    more.set()
    span = spans.one()
    assert span[names.USAGE_STATUS] == "incomplete"
    assert spans.parts() == {"input": 10, "output": 1}
    assert names.ERROR_TYPE not in span


def test_an_async_stream_that_is_left(server: GrpcProvider, spans: Spans) -> None:
    more = threading.Event()
    server.say("GetCompletionChunk", [CHUNKS[0], more, CHUNKS[1]])

    async def use(chat: Any) -> None:
        async for _ in chat.stream():
            break

    in_loop(server, use)
    more.set()
    span = spans.one()
    assert (span[names.USAGE_STATUS], span.get(names.ERROR_TYPE)) == ("incomplete", None)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_stream_that_breaks(client: Client, server: GrpcProvider, spans: Spans, mode: str) -> None:
    server.say("GetCompletionChunk", [CHUNKS[0], (grpc.StatusCode.INTERNAL, "the model failed")])

    async def use(chat: Any) -> None:
        async for _ in chat.stream():
            pass

    with pytest.raises(grpc.RpcError) as caught:
        list(chat_of(client).stream()) if mode == "sync" else in_loop(server, use)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    span = spans.one()
    assert span[names.USAGE_STATUS] == "incomplete"
    assert spans.parts() == {"input": 10, "output": 1}
    assert span[names.ERROR_TYPE] == "INTERNAL"


REFUSED = [
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down", "not_billed"),
    (grpc.StatusCode.INVALID_ARGUMENT, "no such model", "not_billed"),
    (grpc.StatusCode.UNAUTHENTICATED, "who are you", "not_billed"),
    (grpc.StatusCode.INTERNAL, "oops", "usage_missing"),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "too late", "usage_missing"),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max (9 vs. 8)", "usage_missing"),
]


@pytest.mark.parametrize("mode", ["sync", "async", "stream", "async stream"])
@pytest.mark.parametrize(("code", "details", "status"), REFUSED)
def test_an_error(
    client: Client, server: GrpcProvider, spans: Spans, code: Any, details: str, status: str, mode: str
) -> None:
    server.say("GetCompletion", (code, details))
    server.say("GetCompletionChunk", [(code, details)])

    async def read(chat: Any) -> None:
        async for _ in chat.stream():
            pass

    with pytest.raises(grpc.RpcError) as caught:
        if mode == "sync":
            chat_of(client).sample()
        elif mode == "stream":
            list(chat_of(client).stream())
        else:
            in_loop(server, read if mode == "async stream" else lambda chat: chat.sample())
    assert (caught.value.code(), caught.value.details()) == (code, details)
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.ERROR_TYPE]) == (status, code.name)
    assert span[names.ERROR_MESSAGE] == details


def test_an_answer_that_does_not_come_may_be_billed(server: GrpcProvider, spans: Spans) -> None:
    late = threading.Event()
    server.say("GetCompletion", [late, completion()])
    try:
        with Client(api_key=KEY, api_host=server.host, use_insecure_channel=True, timeout=0.2) as client:
            with pytest.raises(grpc.RpcError):
                chat_of(client).sample()
    finally:
        late.set()
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.ERROR_TYPE]) == ("usage_missing", "DEADLINE_EXCEEDED")


def test_a_cancelled_call_may_be_billed(server: GrpcProvider, spans: Spans) -> None:
    late = threading.Event()
    server.say("GetCompletion", [late, completion()])

    async def use(chat: Any) -> None:
        task = asyncio.create_task(chat.sample())
        while not server.requests:
            await asyncio.sleep(0)
        task.cancel()
        await task

    try:
        with pytest.raises(asyncio.CancelledError):
            in_loop(server, use)
    finally:
        late.set()
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.ERROR_TYPE]) == ("usage_missing", "CancelledError")


def test_a_server_that_is_not_there_is_not_billed(spans: Spans) -> None:
    options = [("grpc.enable_retries", 0)]
    with Client(api_key=KEY, api_host="127.0.0.1:1", use_insecure_channel=True, channel_options=options) as client:
        with pytest.raises(grpc.RpcError):
            chat_of(client).sample()
    span = spans.one()
    assert (span[names.COST_STATUS], span[names.ERROR_TYPE]) == ("not_billed", "UNAVAILABLE")


def deferred(status: str, response: Any = None) -> Any:
    return chat_pb2.GetDeferredCompletionResponse(status=status, response=response)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_deferred_completion_is_one_call(client: Client, server: GrpcProvider, spans: Spans, mode: str) -> None:
    server.say("StartDeferredCompletion", deferred_pb2.StartDeferredResponse(request_id=f"d-{mode}"))
    server.say("GetDeferredCompletion", deferred("PENDING"), deferred("PENDING"), deferred("DONE", completion()))
    response = (
        chat_of(client).defer(interval=SOON)
        if mode == "sync"
        else in_loop(server, lambda chat: chat.defer(interval=SOON))
    )
    assert response.content == "hello"
    assert len(server.requests) == 1 + 3
    assert_complete(spans.one())


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("status", ["EXPIRED", "PENDING"])
def test_a_deferred_completion_that_is_given_up(
    client: Client, server: GrpcProvider, spans: Spans, status: str, mode: str
) -> None:
    server.say("StartDeferredCompletion", deferred_pb2.StartDeferredResponse(request_id=f"g-{status}-{mode}"))
    server.say("GetDeferredCompletion", deferred(status))
    limits = {"timeout": datetime.timedelta(milliseconds=20), "interval": SOON}
    with pytest.raises((RuntimeError, TimeoutError)):
        if mode == "sync":
            chat_of(client).defer(**limits)
        else:
            in_loop(server, lambda chat: chat.defer(**limits))
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("missing", "usage_missing")
    assert span[names.ERROR_TYPE] in ("EXPIRED", "TimeoutError")


@pytest.mark.skipif(not hasattr(sync_chat.Chat, "compact"), reason="this SDK cannot compact")
def test_a_compaction(client: Client, server: GrpcProvider, spans: Spans) -> None:
    server.say("CompactContext", chat_pb2.CompactContextResponse(id="c-1", usage=USAGE))
    chat_of(client).compact()
    assert_complete(spans.one())


@pytest.mark.skipif(not HAS_COST, reason="this SDK is told no cost")
def test_images(client: Client, server: GrpcProvider, spans: Spans) -> None:
    images = [image_pb2.GeneratedImage(url="https://example.com/a.png") for _ in range(2)]
    usage = usage_pb2.SamplingUsage(cost_in_usd_ticks=400_000_000)
    server.say("GenerateImage", image_pb2.ImageResponse(images=images, model="grok-imagine-image", usage=usage))
    client.image.sample_batch("a diary", "grok-imagine-image", 2)
    span = spans.one()
    assert (span[names.OPERATION], Decimal(span[names.REPORTED_COST])) == ("image_generation", Decimal("0.04"))
    assert spans.parts() == {"image": 2}


def test_a_video_is_billed_once_however_often_it_is_fetched(client: Client, server: GrpcProvider, spans: Spans) -> None:
    video_pb2 = getattr(proto, "video_pb2", None) or pytest.skip("this SDK makes no videos")
    server.say("GenerateVideo", deferred_pb2.StartDeferredResponse(request_id="v-1"))
    video = video_pb2.VideoResponse(
        video=video_pb2.GeneratedVideo(url="https://example.com/a.mp4", duration=8),
        model="grok-imagine-video",
        usage=usage_pb2.SamplingUsage(cost_in_usd_ticks=4_000_000_000),
    )
    pending = video_pb2.GetDeferredVideoResponse(status="PENDING")
    server.say("GetDeferredVideo", pending, video_pb2.GetDeferredVideoResponse(status="DONE", response=video))
    started = client.video.start("a diary", "grok-imagine-video")
    client.video.get(started.request_id)
    assert spans.all() == []
    client.video.get(started.request_id)
    client.video.get(started.request_id)
    span = spans.one()
    assert (span[names.OPERATION], Decimal(span[names.REPORTED_COST])) == ("video_generation", Decimal("0.4"))
    assert spans.parts() == {"video_second": 8}


def test_a_batchs_results_are_billed_once(client: Client, server: GrpcProvider, spans: Spans) -> None:
    batch_pb2 = getattr(proto, "batch_pb2", None) or pytest.skip("this SDK has no batches")
    created = 1_790_000_000
    answer = completion("b-r-1")
    answer.created.seconds = created
    done = batch_pb2.BatchResult(batch_request_id="one", response=batch_pb2.BatchResultData(completion_response=answer))
    failed = batch_pb2.BatchResult(batch_request_id="two")
    failed.error.code = 3
    server.say("ListBatchResults", batch_pb2.ListBatchResultsResponse(results=[done, failed]))
    assert len(client.batch.list_batch_results("batch-1").results) == 2
    client.batch.list_batch_results("batch-1")
    span = spans.one()
    assert json.loads(span[names.USAGE_PARTS]) == PARTS
    assert (span[names.PROCESSING], span[names.RESPONSE_MODEL]) == ("batch", MODEL)
    assert spans.all()[0].start_time == created * 10**9


def test_calls_that_bill_nothing_make_no_span(client: Client, server: GrpcProvider, spans: Spans) -> None:
    server.say("GetStoredCompletion", completion())
    server.say("DeleteStoredCompletion", chat_pb2.DeleteStoredCompletionResponse(response_id="r-1"))
    client.chat.get_stored_completion("r-1")
    client.chat.delete_stored_completion("r-1")
    assert spans.all() == []


def test_the_sdks_own_spans_are_of_the_same_call(
    client: Client, server: GrpcProvider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = TracerProvider()
    own.add_span_processor(spans.provider._active_span_processor)
    for module in (sync_chat, aio_chat):
        monkeypatch.setattr(module, "tracer", own.get_tracer(module.__name__))
    server.say("GetCompletion", completion())
    server.say("GetCompletionChunk", CHUNKS)
    chat_of(client).sample()
    list(chat_of(client).stream())
    in_loop(server, lambda chat: chat.sample())
    finished = spans.exporter.get_finished_spans()
    theirs = [span for span in finished if span not in spans.all()]
    assert (len(spans.all()), len(theirs)) == (3, 3)
    assert all(span.attributes["gen_ai.usage.input_tokens"] == 10120 for span in theirs)
    assert {rows.read(span)[0]["source"] for span in theirs} == {"genai"}
    assert {rows.read(span)[0]["response_id"] for span in finished} == {spans.all()[0].attributes["gen_ai.response.id"]}
    parents = {span.context.span_id for span in theirs}
    assert all(span.parent is not None and span.parent.span_id in parents for span in spans.all())


@pytest.mark.parametrize("mode", ["plain", "stream"])
def test_an_error_of_ours_does_not_reach_the_program(
    client: Client, server: GrpcProvider, spans: Spans, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(patch, "fields", broken)
    monkeypatch.setattr(patch, "Watch", broken)
    server.say("GetCompletion", completion())
    server.say("GetCompletionChunk", CHUNKS)
    if mode == "plain":
        assert chat_of(client).sample().content == "hello"
    else:
        assert [piece.content for _, piece in chat_of(client).stream()] == ["he", "llo", ""]


def test_regions_are_in_the_hosts_name(spans: Spans) -> None:
    options = [("grpc.enable_retries", 0)]
    with Client(api_key=KEY, api_host="us-east-1.api.x.ai", timeout=0.001, channel_options=options) as client:
        with pytest.raises(grpc.RpcError):
            chat_of(client).sample()
    span = spans.one()
    assert (span[names.PROVIDER], span[names.REGION]) == ("x_ai", "us-east-1")


def test_uninstrumented_calls_make_no_span(client: Client, server: GrpcProvider, spans: Spans) -> None:
    XAIInstrumentor().uninstrument()
    server.say("GetCompletion", completion())
    chat_of(client).sample()
    with Client(api_key=KEY, api_host=server.host, use_insecure_channel=True) as other:
        chat_of(other).sample()
    assert spans.all() == []
