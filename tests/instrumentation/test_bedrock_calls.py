"""Bedrock through the real boto3 and aiobotocore, against a scripted provider on loopback."""

from __future__ import annotations

import asyncio
import base64
import binascii
import gc
import io
import json
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.eventstream import EventStream
from botocore.exceptions import ClientError, EventStreamError, ParamValidationError
from botocore.response import StreamingBody
from botocore.stub import Stubber
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import StatusCode

from spanledger import attributes as names
from spanledger.instrumentation import AioBotocoreInstrumentor, BotocoreInstrumentor
from spanledger.tracking import cost_of, track
from tests.instrumentation.conftest import Metrics, Spans
from tests.provider import Answer, Provider

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
MISTRAL = "mistral.mistral-7b-instruct-v0:2"
ASK: dict[str, Any] = {
    "modelId": CLAUDE,
    "messages": [{"role": "user", "content": [{"text": "what is in my secret diary?"}]}],
}
INVOKE = {"modelId": MISTRAL, "body": json.dumps({"prompt": "what is in my secret diary?"})}
USAGE = {
    "inputTokens": 4299,
    "outputTokens": 631,
    "cacheReadInputTokens": 35574,
    "cacheWriteInputTokens": 17787,
    "totalTokens": 58291,
}
PARTS = {"input": 4299, "cache_read": 35574, "cache_write": 17787, "output": 631}
COST = "0.109708995"  # 1.1 x (4299 x 3 + 35574 x 0.30 + 17787 x 3.75 + 631 x 15), per million
ANSWER = {
    "metrics": {"latencyMs": 900},
    "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
    "stopReason": "end_turn",
    "usage": USAGE,
}
GENERATED = {"outputs": [{"text": "hello " * 1000, "stop_reason": "length"}]}
COUNTS = {"x-amzn-bedrock-input-token-count": "7", "x-amzn-bedrock-output-token-count": "3"}
EVENTS = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hel"}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo"}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"metrics": {"latencyMs": 900}, "usage": USAGE}),
]
METRICS = {"inputTokenCount": 7, "outputTokenCount": 3, "invocationLatency": 1, "firstByteLatency": 1}


def frame(payload: Any, **headers: str) -> bytes:
    """A message of an AWS event stream."""
    told = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in ((f":{key.replace('_', '-')}", value) for key, value in headers.items())
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(told) + len(body), len(told))
    prelude += struct.pack("!I", binascii.crc32(prelude))
    message = prelude + told + body
    return message + struct.pack("!I", binascii.crc32(message))


def event(kind: str, payload: Any) -> bytes:
    return frame(payload, event_type=kind, content_type="application/json", message_type="event")


def chunk(document: Any) -> bytes:
    return event("chunk", {"bytes": base64.b64encode(json.dumps(document).encode()).decode(), "p": "abc"})


def failure(kind: str, message: str) -> bytes:
    return frame({"message": message}, exception_type=kind, content_type="application/json", message_type="exception")


def streamed(*frames: bytes | Callable[[], None], **options: Any) -> Answer:
    return Answer(chunks=frames, content_type="application/vnd.amazon.eventstream", **options)


def converse_stream() -> Answer:
    return streamed(*[event(kind, payload) for kind, payload in EVENTS])


def options(provider: Provider, **config: Any) -> dict[str, Any]:
    return {
        "region_name": "us-east-1",
        "endpoint_url": provider.url,
        "aws_access_key_id": "AKIATESTTESTTESTTEST",
        "aws_secret_access_key": "secret",
        "config": Config(**{"retries": {"total_max_attempts": 1}, **config}),
    }


def make(provider: Provider, service: str = "bedrock-runtime", **config: Any) -> Any:
    return boto3.client(service, **options(provider, **config))


@pytest.fixture(autouse=True)
def own_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPANLEDGER_HOSTS")


@pytest.fixture
def spans() -> Iterator[Spans]:
    collected = Spans()
    instrumentors = BotocoreInstrumentor(), AioBotocoreInstrumentor()
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=collected.provider)
    try:
        yield collected
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()


@pytest.fixture
def client(provider: Provider, spans: Spans) -> Any:
    return make(provider)


def assert_complete(spans: Spans) -> dict[str, Any]:
    span = spans.one()
    assert spans.parts() == PARTS
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS], span[names.COST]) == ("reported", "priced", COST)
    return span


def test_converse(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(ANSWER, headers={"x-amzn-requestid": "11111111-2222-3333-4444-555555555555"}))
    response = client.converse(**ASK)
    assert response["output"] == ANSWER["output"]
    span = assert_complete(spans)
    assert span[names.PROVIDER] == "aws.bedrock"
    assert span[names.REQUEST_MODEL] == CLAUDE
    assert span[names.REGION] == "us-east-1"
    assert span[names.FINISH_REASONS] == ("end_turn",)
    assert span[names.API_KEY_HASH]
    assert str(cost_of(response).cost).rstrip("0") == COST
    assert "diary" not in spans.all()[0].to_json()
    assert "AKIATEST" not in spans.all()[0].to_json()


def test_fields_that_botocore_drops_are_kept(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(ANSWER | {"usage": USAGE | {"futureTokens": 7}}))
    assert "futureTokens" not in client.converse(**ASK)["usage"]
    assert json.loads(spans.one()[names.USAGE_UNMAPPED]) == {"futureTokens": 7}


def test_converse_stream(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(converse_stream())
    response = client.converse_stream(**ASK)
    stream = response["stream"]
    assert type(stream) is EventStream
    assert [list(item) for item in stream] == [[kind] for kind, _ in EVENTS]
    assert_complete(spans)
    assert str(cost_of(stream).cost).rstrip("0") == COST


def test_a_stream_has_the_times_of_its_chunks(client: Any, provider: Provider, measured: Metrics) -> None:
    provider.say(converse_stream())
    assert len(list(client.converse_stream(**ASK)["stream"])) == len(EVENTS)
    assert measured.chunks() == [len(EVENTS) - 1]


def test_the_span_ends_before_the_last_event_is_handed_over(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(converse_stream())
    for number, _ in enumerate(client.converse_stream(**ASK)["stream"]):
        assert bool(spans.all()) == (number == len(EVENTS) - 1)


def test_a_stream_is_not_read_ahead(client: Any, provider: Provider, spans: Spans) -> None:
    read = threading.Event()
    frames = [event(kind, payload) for kind, payload in EVENTS]
    provider.say(streamed(frames[0], lambda: read.wait(10), *frames[1:]))
    events = iter(client.converse_stream(**ASK)["stream"])
    assert next(events) == {"messageStart": {"role": "assistant"}}
    read.set()
    assert len(list(events)) == len(EVENTS) - 1
    assert_complete(spans)


def test_a_stream_that_is_closed_early(client: Any, provider: Provider, spans: Spans) -> None:
    hold = threading.Event()
    provider.say(streamed(event(*EVENTS[0]), lambda: hold.wait(10)))
    stream = client.converse_stream(**ASK)["stream"]
    next(iter(stream))
    assert not spans.all()
    stream.close()
    assert spans.one()[names.USAGE_STATUS] == "missing"
    hold.set()


def test_a_stream_that_is_abandoned(client: Any, provider: Provider, spans: Spans) -> None:
    hold = threading.Event()
    provider.say(streamed(event(*EVENTS[0]), lambda: hold.wait(10)))
    response = client.converse_stream(**ASK)
    for _ in response["stream"]:
        break
    assert not spans.all()
    del response
    gc.collect()  # botocore's event streams are cycles
    assert spans.one()[names.USAGE_STATUS] == "missing"
    hold.set()


def test_a_stream_that_nobody_reads(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(converse_stream())
    client.converse_stream(**ASK)
    gc.collect()
    assert spans.one()[names.USAGE_STATUS] == "missing"


def test_a_stream_that_breaks(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(streamed(event(*EVENTS[0]), event(*EVENTS[1]), drop=True))
    seen = []
    with pytest.raises(Exception) as raised:
        for item in client.converse_stream(**ASK)["stream"]:
            seen.append(item)
    assert len(seen) == 2
    span = spans.one()
    assert span[names.ERROR_TYPE] == type(raised.value).__name__
    assert span[names.USAGE_STATUS] == "missing"


def test_an_exception_in_a_stream(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(streamed(event(*EVENTS[0]), failure("throttlingException", "Too many requests")))
    with pytest.raises(EventStreamError, match="Too many requests"):
        list(client.converse_stream(**ASK)["stream"])
    span = spans.one()
    assert (span[names.ERROR_TYPE], span[names.ERROR_MESSAGE]) == ("ThrottlingException", "Too many requests")
    assert spans.all()[0].status.status_code is StatusCode.ERROR


def test_invoke_takes_the_headers_where_the_body_is_silent(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(GENERATED, headers=COUNTS | {"x-amzn-bedrock-service-tier": "flex"}))
    response = client.invoke_model(**INVOKE)
    body = response["body"]
    assert type(body) is StreamingBody
    assert not spans.all()
    assert json.loads(body.read()) == GENERATED
    span = spans.one()
    assert spans.parts() == {"input": 7, "output": 3}
    assert span[names.OPERATION] == "text_completion"
    assert span[names.SERVICE_TIER] == "flex"
    assert span[names.FINISH_REASONS] == ("length",)
    assert names.TIME_TO_FIRST_TOKEN_NS not in span
    assert cost_of(body).total_tokens == 10


READ: dict[str, Callable[[Any], Any]] = {
    "read": lambda body: body.read(),
    "read(amt)": lambda body: b"".join(iter(lambda: body.read(100), b"")),
    "read(amt=)": lambda body: b"".join(iter(lambda: body.read(amt=100), b"")),
    "iter_chunks": lambda body: b"".join(body.iter_chunks(chunk_size=100)),
    "iter": lambda body: b"".join(body),
    "iter_lines": lambda body: b"\n".join(body.iter_lines()),
    "readlines": lambda body: b"".join(body.readlines()),
    "with": lambda body: body.__enter__().read(),
    "json.load": lambda body: json.dumps(json.load(body)).encode(),
    "TextIOWrapper": lambda body: io.TextIOWrapper(io.BufferedReader(body._raw_stream)).read().encode(),
}
if hasattr(StreamingBody, "readinto"):  # older ones have none
    READ["readinto"] = lambda body: (lambda space: bytes(space[: body.readinto(space)]))(bytearray(100_000))


@pytest.mark.parametrize("how", READ)
@pytest.mark.parametrize("chunked", [False, True])
def test_every_way_of_reading_a_body(client: Any, provider: Provider, spans: Spans, how: str, chunked: bool) -> None:
    content = json.dumps(GENERATED).encode()
    pieces = [content[start : start + 1000] for start in range(0, len(content), 1000)]
    provider.say(Answer(content, headers=COUNTS) if not chunked else Answer(chunks=pieces, headers=COUNTS))
    response = client.invoke_model(**INVOKE)
    assert READ[how](response["body"]) == content
    assert not spans.all() or spans.parts() == {"input": 7, "output": 3}
    response["body"].close()
    assert spans.parts() == {"input": 7, "output": 3}
    assert spans.one()[names.FINISH_REASONS] == ("length",)


def test_a_body_that_nobody_reads_has_the_counts_of_the_headers(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(GENERATED, headers=COUNTS))
    client.invoke_model(**INVOKE)
    assert spans.parts() == {"input": 7, "output": 3}


def test_a_body_that_breaks(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(chunks=[b'{"outputs"'], drop=True))
    with pytest.raises(Exception) as raised:
        client.invoke_model(**INVOKE)["body"].read()
    span = spans.one()
    assert span[names.ERROR_TYPE] in (type(raised.value).__name__, type(raised.value.__context__).__name__)
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS]) == ("missing", "usage_missing")


def test_invoke_stream(client: Any, provider: Provider, spans: Spans) -> None:
    said = {"outputs": [{"text": "hello", "stop_reason": "stop"}]}
    provider.say(streamed(chunk(said), chunk(said | {"amazon-bedrock-invocationMetrics": METRICS})))
    response = client.invoke_model_with_response_stream(**INVOKE)
    assert type(response["body"]) is EventStream
    assert [json.loads(e["chunk"]["bytes"])["outputs"] for e in response["body"]] == [said["outputs"]] * 2
    assert spans.parts() == {"input": 7, "output": 3}


def test_rerank(provider: Provider, spans: Spans) -> None:
    arn = "arn:aws:bedrock:us-east-1::foundation-model/cohere.rerank-v3-5:0"
    source = {"type": "TEXT", "textDocument": {"text": "a"}}
    provider.say(Answer({"results": [{"index": 0, "relevanceScore": 0.5}]}))
    client = make(provider, "bedrock-agent-runtime")
    if not hasattr(client, "rerank"):
        pytest.skip("this botocore cannot rerank")
    client.rerank(
        queries=[{"type": "TEXT", "textQuery": {"text": "q"}}],
        sources=[{"type": "INLINE", "inlineDocumentSource": source}] * 101,
        rerankingConfiguration={
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": {"modelConfiguration": {"modelArn": arn}},
        },
    )
    span = spans.one()
    assert (span[names.OPERATION], span[names.REQUEST_MODEL]) == ("rerank", arn)
    assert spans.parts() == {"search_unit": 2}
    assert (span[names.COST_STATUS], span[names.COST]) == ("estimated", "0.004")  # 2 x 0.002


AGENT = {"agentId": "AGENT12345", "agentAliasId": "ALIAS12345", "sessionId": "s-1", "inputText": "my secret diary?"}
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"


def steps(*invocations: tuple[str, int, int], kind: str = "trace") -> list[bytes]:
    """The trace of an agent that invoked models: its events, with a piece of the answer in between."""
    events = []
    for number, (model, asked, answered) in enumerate(invocations):
        id = f"t-{number}"
        usage = {"inputTokens": asked, "outputTokens": answered}
        for step in (
            {"modelInvocationInput": {"traceId": id, "foundationModel": model, "text": "hello"}},
            {"modelInvocationOutput": {"traceId": id, "metadata": {"usage": usage}}},
        ):
            part = {"sessionId": "s-1", "trace": {"orchestrationTrace": step}}
            node = {"nodeName": "n", "traceElements": {"agentTraces": [part]}}
            events.append(event(kind, part if kind == "trace" else {"trace": {"nodeDependencyTrace": node}}))
        if kind == "trace":
            events.append(event("chunk", {"bytes": base64.b64encode(b"hello").decode()}))
    return events


def test_an_agents_model_invocations_are_lines(provider: Provider, spans: Spans) -> None:
    client = make(provider, "bedrock-agent-runtime")
    provider.say(streamed(*steps((HAIKU, 1000, 100), (CLAUDE, 2000, 300))))
    response = client.invoke_agent(**AGENT, enableTrace=True)
    assert type(response["completion"]) is EventStream
    assert len(list(response["completion"])) == 6
    span = spans.one()
    assert spans.parts() == {"input": 1000, "output": 100}
    assert (span[names.OPERATION], span[names.RESPONSE_MODEL]) == ("chat", HAIKU)
    assert span[names.USAGE_STATUS] == "reported"
    (line,) = json.loads(span[names.LINES])
    assert (line["model"], line["parts"], line["status"]) == (CLAUDE, {"input": 2000, "output": 300}, "reported")
    # 1000 x 0.25 + 100 x 1.25, and 1.1 x (2000 x 3 + 300 x 15), per million
    assert (span[names.COST_STATUS], span[names.COST]) == ("priced", "0.011925")
    told = spans.all()[0].to_json()
    assert all(secret not in told for secret in ("diary", "hello"))


def test_a_flows_agents(provider: Provider, spans: Spans) -> None:
    client = make(provider, "bedrock-agent-runtime")
    provider.say(streamed(*steps((HAIKU, 1000, 100), kind="flowTraceEvent")))
    inputs = [{"content": {"document": "hello"}, "nodeName": "FlowInputNode", "nodeOutputName": "document"}]
    flow = client.invoke_flow(flowIdentifier="FLOW123456", flowAliasIdentifier="ALIAS12345", inputs=inputs)
    list(flow["responseStream"])
    assert spans.parts() == {"input": 1000, "output": 100}


def test_an_agent_that_is_left_early(provider: Provider, spans: Spans) -> None:
    client = make(provider, "bedrock-agent-runtime")
    provider.say(streamed(*steps((HAIKU, 1000, 100), (CLAUDE, 2000, 300))))
    events = client.invoke_agent(**AGENT, enableTrace=True)["completion"]
    for _ in range(2):
        next(iter(events))
    events.close()
    assert spans.parts() == {"input": 1000, "output": 100}
    assert spans.one()[names.USAGE_STATUS] == "incomplete"


def test_an_agent_without_a_trace_may_be_billed(provider: Provider, spans: Spans) -> None:
    client = make(provider, "bedrock-agent-runtime")
    provider.say(streamed(event("chunk", {"bytes": base64.b64encode(b"hello").decode()})))
    list(client.invoke_agent(**AGENT)["completion"])
    if not hasattr(client, "invoke_inline_agent"):
        pytest.skip("this botocore has no inline agents")
    provider.say(streamed(event("chunk", {"bytes": base64.b64encode(b"hello").decode()})))
    inline = client.invoke_inline_agent(
        sessionId="s-1",
        inputText="hello",
        foundationModel=HAIKU,
        instruction="Answer each question as well as you can.",
    )
    list(inline["completion"])
    first, second = (dict(span.attributes or {}) for span in spans.all())
    assert [span[names.USAGE_STATUS] for span in (first, second)] == ["missing", "missing"]
    assert "enableTrace" in str(first[names.USAGE_REASONS])
    assert (first[names.REQUEST_MODEL], second[names.REQUEST_MODEL]) == ("", HAIKU)


def test_a_knowledge_base_reports_nothing(provider: Provider, spans: Spans) -> None:
    client = make(provider, "bedrock-agent-runtime")
    arn = f"arn:aws:bedrock:us-east-1::foundation-model/{HAIKU}"
    provider.say(Answer({"sessionId": "s-1", "output": {"text": "hello"}, "citations": []}))
    client.retrieve_and_generate(
        input={"text": "hello"},
        retrieveAndGenerateConfiguration={
            "type": "KNOWLEDGE_BASE",
            "knowledgeBaseConfiguration": {"knowledgeBaseId": "KB12345678", "modelArn": arn},
        },
    )
    span = spans.one()
    assert (span[names.OPERATION], span[names.REQUEST_MODEL]) == ("chat", arn)
    assert span[names.COST_STATUS] == "usage_missing"


def test_a_guardrail(client: Any, provider: Provider, spans: Spans) -> None:
    units = {"topicPolicyUnits": 2, "contentPolicyUnits": 3, "wordPolicyUnits": 0}
    provider.say(Answer({"action": "NONE", "outputs": [], "assessments": [], "usage": units}))
    client.apply_guardrail(
        guardrailIdentifier="guard12345", guardrailVersion="1", source="INPUT", content=[{"text": {"text": "hello"}}]
    )
    span = spans.one()
    assert (span[names.OPERATION], span[names.REQUEST_MODEL]) == ("moderation", "guard12345")
    assert json.loads(span[names.USAGE_UNMAPPED]) == {
        "guardrail.topicPolicyUnits": 2,
        "guardrail.contentPolicyUnits": 3,
    }
    assert span[names.COST_STATUS] == "unpriced"


def test_throttling_is_not_billed(client: Any, provider: Provider, spans: Spans) -> None:
    error = {"message": "Too many requests", "__type": "ThrottlingException"}
    provider.say(Answer(error, status=429, headers={"x-amzn-errortype": "ThrottlingException"}))
    with pytest.raises(client.exceptions.ThrottlingException):
        client.converse(**ASK)
    span = spans.one()
    assert (span[names.ERROR_TYPE], span[names.COST_STATUS]) == ("ThrottlingException", "not_billed")


@pytest.mark.parametrize("call", ["converse", "converse_stream", "invoke_model", "invoke_model_with_response_stream"])
def test_an_error_status_of_any_operation(client: Any, provider: Provider, spans: Spans, call: str) -> None:
    provider.say(Answer({"message": "The provided model identifier is invalid."}, status=400))
    with pytest.raises(ClientError):
        getattr(client, call)(**(ASK if "converse" in call else INVOKE))
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_botocores_retries_make_one_row(provider: Provider, spans: Spans) -> None:
    client = make(provider, retries={"total_max_attempts": 3, "mode": "standard"})
    throttled = Answer({"message": "slow"}, status=429, headers={"x-amzn-errortype": "ThrottlingException"})
    provider.say(throttled, throttled, Answer(ANSWER))
    client.converse(**ASK)
    assert len(provider.requests) == 3
    assert assert_complete(spans)[names.RETRIES] == 2


def test_retries_in_vain(provider: Provider, spans: Spans) -> None:
    client = make(provider, retries={"total_max_attempts": 2, "mode": "standard"})
    provider.say(Answer({"message": "slow"}, status=429, headers={"x-amzn-errortype": "ThrottlingException"}))
    with pytest.raises(ClientError):
        client.converse(**ASK)
    span = spans.one()
    assert (span[names.RETRIES], span[names.COST_STATUS]) == (1, "not_billed")


def test_an_answer_that_is_lost_may_be_billed(provider: Provider, spans: Spans) -> None:
    hold = threading.Event()
    provider.say(Answer(chunks=[lambda: hold.wait(10) and None]))
    client = make(provider, read_timeout=0.2)
    with pytest.raises(Exception, match="timeout|timed out"):
        client.converse(**ASK)
    hold.set()
    span = spans.one()
    assert (span[names.ERROR_TYPE], span[names.COST_STATUS]) == ("ReadTimeoutError", "usage_missing")


def test_a_request_that_never_left_is_not_billed(provider: Provider, spans: Spans, client: Any) -> None:
    with pytest.raises(ParamValidationError):
        client.converse(modelId=CLAUDE, messages="hello")
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_a_stub_makes_no_row(client: Any, provider: Provider, spans: Spans) -> None:
    with Stubber(client) as stub:
        usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
        stub.add_response("converse", ANSWER | {"usage": usage})
        assert client.converse(**ASK)["usage"] == usage
    assert not spans.all()


def test_a_botocore_that_makes_other_objects_leaves_a_row(
    client: Any, provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spanledger.instrumentation.patches import botocore

    def fail(*_: Any) -> None:
        raise AttributeError("_event_generator")

    monkeypatch.setattr(botocore, "_watch_events", fail)
    provider.say(converse_stream())
    assert len(list(client.converse_stream(**ASK)["stream"])) == len(EVENTS)
    assert spans.one()[names.COST_STATUS] == "usage_missing"


def test_other_calls_make_no_row(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"inputTokens": 12}))
    if hasattr(client, "count_tokens"):  # older ones cannot
        question = {"converse": {"messages": ASK["messages"]}}
        assert client.count_tokens(modelId=CLAUDE, input=question)["inputTokens"] == 12
    provider.say(Answer({"QueueUrls": []}))
    assert "ResponseMetadata" in make(provider, "sqs").list_queues()
    assert not spans.all()


def test_suppressed_calls_make_no_row(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(ANSWER))
    with suppress_instrumentation():
        client.converse(**ASK)
    assert not spans.all()


def test_removed_hooks_leave_nothing(provider: Provider, spans: Spans) -> None:
    from botocore.client import BaseClient

    hooked = BaseClient._make_api_call
    BotocoreInstrumentor().uninstrument()
    assert BaseClient._make_api_call is not hooked
    provider.say(Answer(ANSWER))
    make(provider).converse(**ASK)
    assert not spans.all()


def test_threads(client: Any, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(ANSWER))
    with track() as tracker:
        client.converse(**ASK)
    threads = [threading.Thread(target=client.converse, kwargs=ASK) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spans.all()) == 9
    assert (tracker.calls, str(tracker.cost).rstrip("0")) == (1, COST)


# aiobotocore


@asynccontextmanager
async def aio(provider: Provider, service: str = "bedrock-runtime") -> AsyncIterator[Any]:
    session = pytest.importorskip("aiobotocore.session").get_session()
    given = options(provider)
    given["config"] = pytest.importorskip("aiobotocore.config").AioConfig(retries={"total_max_attempts": 1})
    async with session.create_client(service, **given) as client:
        yield client


def test_async_converse(provider: Provider, spans: Spans) -> None:
    async def main() -> None:
        async with aio(provider) as client:
            await client.converse(**ASK)
            assert_complete(spans)

    provider.say(Answer(ANSWER))
    asyncio.run(main())
    assert_complete(spans)


def test_async_fields_that_botocore_drops_are_kept(provider: Provider, spans: Spans) -> None:
    async def main() -> None:
        async with aio(provider) as client:
            await client.converse(**ASK)

    provider.say(Answer(ANSWER | {"usage": USAGE | {"futureTokens": 7}}))
    asyncio.run(main())
    assert json.loads(spans.one()[names.USAGE_UNMAPPED]) == {"futureTokens": 7}


def test_async_stream(provider: Provider, spans: Spans) -> None:
    AioEventStream = pytest.importorskip("aiobotocore.eventstream").AioEventStream

    async def main() -> None:
        async with aio(provider) as client:
            response = await client.converse_stream(**ASK)
            assert type(response["stream"]) is AioEventStream
            assert [list(item) async for item in response["stream"]] == [[kind] for kind, _ in EVENTS]
            assert_complete(spans)

    provider.say(converse_stream())
    asyncio.run(main())


@pytest.mark.parametrize("how", ["close", "abandon"])
def test_async_stream_that_is_left_early(provider: Provider, spans: Spans, how: str) -> None:
    hold = threading.Event()

    async def main() -> None:
        async with aio(provider) as client:
            response = await client.converse_stream(**ASK)
            async for _ in response["stream"]:
                break
            assert not spans.all()
            if how == "close":
                response["stream"].close()
            del response
            while len(asyncio.all_tasks()) > 1 or not spans.all():
                await asyncio.sleep(0)  # the loop closes the generators that were left
                gc.collect()
            assert spans.one()[names.USAGE_STATUS] == "missing"

    provider.say(streamed(event(*EVENTS[0]), lambda: hold.wait(10)))
    try:
        asyncio.run(main())
    finally:
        hold.set()


async def _read_async(body: Any, how: str) -> bytes:
    match how:
        case "read":
            return await body.read()
        case "read(amt)":
            return b"".join([piece async for piece in body.iter_chunks(100)])
        case "iter":
            return b"".join([piece async for piece in body])
        case "with":
            async with body as entered:
                return await entered.read()
        case _:
            return b"\n".join([line async for line in body.iter_lines()])


@pytest.mark.parametrize("how", ["read", "read(amt)", "iter", "iter_lines", "with"])
def test_async_ways_of_reading_a_body(provider: Provider, spans: Spans, how: str) -> None:
    async def main() -> None:
        async with aio(provider) as client:
            response = await client.invoke_model(**INVOKE)
            assert not spans.all()
            assert json.loads(await _read_async(response["body"], how)) == GENERATED
            assert spans.parts() == {"input": 7, "output": 3}
            assert type(response["body"]).__name__ in ("AioStreamingBody", "StreamingBody")  # the latter before 3.9

    provider.say(Answer(GENERATED, headers=COUNTS))
    asyncio.run(main())


def test_async_agent(provider: Provider, spans: Spans) -> None:
    async def main() -> None:
        async with aio(provider, "bedrock-agent-runtime") as client:
            response = await client.invoke_agent(**AGENT, enableTrace=True)
            assert len([event async for event in response["completion"]]) == 3

    provider.say(streamed(*steps((HAIKU, 1000, 100))))
    asyncio.run(main())
    assert spans.parts() == {"input": 1000, "output": 100}
    assert spans.one()[names.USAGE_STATUS] == "reported"


def test_async_error(provider: Provider, spans: Spans) -> None:
    async def main() -> None:
        async with aio(provider) as client:
            with pytest.raises(ClientError):
                await client.converse(**ASK)

    provider.say(Answer({"message": "no"}, status=400))
    asyncio.run(main())
    assert spans.one()[names.COST_STATUS] == "not_billed"


def test_async_call_that_is_cancelled_may_be_billed(provider: Provider, spans: Spans) -> None:
    asked, hold = threading.Event(), threading.Event()

    async def main() -> None:
        async with aio(provider) as client:
            task = asyncio.ensure_future(client.converse(**ASK))
            await asyncio.to_thread(asked.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    provider.say(Answer(chunks=[asked.set, lambda: hold.wait(10) and None]))
    asyncio.run(main())
    hold.set()
    assert spans.one()[names.COST_STATUS] == "usage_missing"
