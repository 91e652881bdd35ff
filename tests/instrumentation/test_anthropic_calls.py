"""Calls through the real anthropic SDK and its client classes for other clouds."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from spanledger import attributes as names
from spanledger.tracking import cost_of
from tests.instrumentation.conftest import Spans
from tests.provider import Answer, Provider, stream

MESSAGE = {
    "id": "msg_01Xk3vZk0v5n2p8Qw7xYt1LmNo",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 100,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 1000,
        "cache_creation": {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 400},
        "output_tokens": 50,
        "service_tier": "standard",
    },
}
PARTS = {"input": 100, "cache_read": 1000, "cache_write_5m": 600, "cache_write_1h": 400, "output": 50}
COST = "0.006"  # 100 x 3 + 1000 x 0.30 + 600 x 3.75 + 400 x 6 + 50 x 15, per million
MIDDLEWARE = pytest.mark.skipif(not hasattr(Anthropic, "with_middleware"), reason="this SDK has no middleware")
ASK: dict[str, Any] = {
    "model": "claude-sonnet-4-6",
    "max_tokens": 99,
    "messages": [{"role": "user", "content": "what is in my secret diary?"}],
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": MESSAGE | {"content": [], "usage": MESSAGE["usage"] | {"output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 50}},
    {"type": "message_stop"},
]


@pytest.fixture(autouse=True)
def known_host(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> None:
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=anthropic")


@pytest.fixture
def client(provider: Provider) -> Anthropic:
    return Anthropic(api_key="sk-ant-test-0123456789", base_url=provider.url, max_retries=0)


def answer() -> Any:
    return stream(*EVENTS, done=False, event_names=True)


def assert_complete(spans: Spans) -> None:
    assert {part: n for part, n in spans.parts().items() if n} == PARTS
    span = spans.one()
    assert (span[names.USAGE_STATUS], span[names.COST_STATUS], span[names.COST]) == ("reported", "priced", COST)
    assert span[names.RESPONSE_ID] == MESSAGE["id"]


def test_a_plain_call(client: Anthropic, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(MESSAGE))
    message = client.messages.create(**ASK)
    assert_complete(spans)
    assert str(cost_of(message).cost).rstrip("0") == COST
    assert "diary" not in spans.all()[0].to_json()


def test_the_beta_namespace(client: Anthropic, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(MESSAGE))
    client.beta.messages.create(**ASK)
    assert provider.paths[0].startswith("/v1/messages")
    assert_complete(spans)


def test_a_stream(client: Anthropic, provider: Provider, spans: Spans) -> None:
    provider.say(answer())
    events = list(client.messages.create(**ASK, stream=True))
    assert [e.type for e in events] == [e["type"] for e in EVENTS]
    assert_complete(spans)


def test_the_stream_helper(client: Anthropic, provider: Provider, spans: Spans) -> None:
    provider.say(answer())
    with client.messages.stream(**ASK) as helper:
        assert "".join(helper.text_stream) == "hello"
        assert_complete(spans)
        assert str(cost_of(helper).cost).rstrip("0") == COST


def test_a_stream_that_is_left_early_has_what_was_seen(client: Anthropic, provider: Provider, spans: Spans) -> None:
    provider.say(answer())
    with client.messages.create(**ASK, stream=True) as events:
        for event in events:
            if event.type == "content_block_delta":
                break
    span = spans.one()
    assert span[names.USAGE_STATUS] in ("incomplete", "reported")  # small streams may have been read whole by then
    assert span[names.INPUT_TOKENS] == 2100


@pytest.mark.skipif(not hasattr(anthropic.resources.Messages, "count_tokens"), reason="this SDK cannot count tokens")
def test_counting_tokens_makes_no_span(client: Anthropic, provider: Provider, spans: Spans) -> None:
    provider.say(Answer({"input_tokens": 12}))
    assert client.messages.count_tokens(model=ASK["model"], messages=ASK["messages"]).input_tokens == 12
    assert spans.all() == []


@pytest.mark.skipif(not hasattr(Anthropic, "_set_open_telemetry"), reason="this SDK has no telemetry of its own")
def test_the_sdks_own_telemetry_is_not_a_second_span_of_ours(provider: Provider, spans: Spans) -> None:
    provider.say(Answer(MESSAGE))
    client = Anthropic(
        api_key="k",
        base_url=provider.url,
        open_telemetry={"tracer_provider": spans.provider, "traces": {"enabled": True}},
    )
    client.messages.create(**ASK)
    scopes = [s.instrumentation_scope.name for s in spans.exporter.get_finished_spans()]
    assert any(scope.startswith("com.anthropic.sdk.python") for scope in scopes)
    assert_complete(spans)


@MIDDLEWARE
def test_a_middleware_that_answers_by_itself_is_no_call(client: Anthropic, provider: Provider, spans: Spans) -> None:
    cached = anthropic.types.Message.model_validate(MESSAGE)
    assert client.with_middleware(lambda request, call_next: cached).messages.create(**ASK) is cached
    assert provider.requests == []
    assert spans.all() == []


@MIDDLEWARE
def test_a_middleware_that_passes_on_is_one_call(client: Anthropic, provider: Provider, spans: Spans) -> None:
    provider.say(Answer(MESSAGE))
    client.with_middleware(lambda request, call_next: call_next(request)).messages.create(**ASK)
    assert_complete(spans)


# Other clouds


def bedrock(provider: Provider) -> Any:
    where = {"aws_region": "us-east-1", "base_url": provider.url}
    try:
        return anthropic.AnthropicBedrock(api_key="k-bedrock-1234", **where)
    except TypeError:  # before the SDK took Bedrock's own keys
        return anthropic.AnthropicBedrock(aws_access_key="AKIATEST", aws_secret_key="secret", **where)


def test_bedrock(provider: Provider, spans: Spans) -> None:
    provider.say(Answer(MESSAGE))
    client = bedrock(provider)
    client.messages.create(**ASK | {"model": "us.anthropic.claude-sonnet-4-6-v1:0"})
    assert provider.paths == ["/model/us.anthropic.claude-sonnet-4-6-v1:0/invoke"]
    assert {part: n for part, n in spans.parts().items() if n} == PARTS
    assert spans.one()[names.REQUEST_MODEL] == "us.anthropic.claude-sonnet-4-6-v1:0"


def test_a_bedrock_stream(provider: Provider, spans: Spans) -> None:
    pytest.importorskip("botocore", reason="the SDK's Bedrock streams need botocore: pip install 'anthropic[bedrock]'")
    frames = [aws_message({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}) for event in EVENTS]
    whole = b"".join(frames)
    pieces = [whole[i : i + 50] for i in range(0, len(whole), 50)]
    provider.say(Answer(chunks=pieces, content_type="application/vnd.amazon.eventstream"))
    client = bedrock(provider)
    events = list(client.messages.create(**ASK, stream=True))
    assert [e.type for e in events] == [e["type"] for e in EVENTS]
    assert {part: n for part, n in spans.parts().items() if n} == PARTS


def test_vertex(provider: Provider, spans: Spans) -> None:
    pytest.importorskip(
        "google.auth", reason="the SDK's Vertex client needs google-auth: pip install 'anthropic[vertex]'"
    )
    provider.say(answer())
    client = anthropic.AnthropicVertex(region="us-east5", project_id="p", access_token="t", base_url=provider.url)
    list(client.messages.create(**ASK, stream=True))
    assert provider.paths[0].endswith(":streamRawPredict")
    assert {part: n for part, n in spans.parts().items() if n} == PARTS


def aws_message(payload: dict[str, Any]) -> bytes:
    """One AWS event stream message: https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html"""
    headers = b""
    for name, value in {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}.items():
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + body
    return message + struct.pack(">I", binascii.crc32(message))
