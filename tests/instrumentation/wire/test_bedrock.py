"""Bedrock's recordings through the pure readers, its headers, and what kind of call an InvokeModel is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from spanledger.instrumentation.wire import bedrock_invoke, endpoints
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.usage import CONTRADICTORY, MISSING, REPORTED
from tests import recordings


def _messages(frames: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """(event type, payload) of an AWS event stream: lengths, checksum, headers, payload, checksum."""
    while frames:
        total, size = int.from_bytes(frames[:4], "big"), int.from_bytes(frames[4:8], "big")
        headers, named = frames[12 : 12 + size], {}
        while headers:
            name_end = 1 + headers[0]
            value_end = name_end + 3 + int.from_bytes(headers[name_end + 1 : name_end + 3], "big")
            named[headers[1:name_end].decode()] = headers[name_end + 3 : value_end].decode()
            headers = headers[value_end:]
        yield named[":event-type"], json.loads(frames[12 + size : total - 4])
        frames = frames[total:]


def _read(recording: dict[str, Any], request: dict[str, Any]) -> Reading:
    endpoint = endpoints.find("bedrock", recording["method"], recording["path"])
    assert endpoint is not None
    body = recording["response_body"]
    if isinstance(body, str):
        return endpoint.read(json.loads(body), request)
    reader = endpoint.stream_reader(request)
    for kind, payload in _messages(base64.b64decode(body["base64"])):
        assert not reader.ended
        if kind == "chunk":
            reader.feed(base64.b64decode(payload["bytes"]))
        else:
            reader.take({kind: payload})
    assert reader.ended
    return reader.reading()


@recordings.needed
@pytest.mark.recordings
def test_every_recording_equals_the_truth() -> None:
    truth = recordings.truth()
    different, equal = [], 0
    for recording in recordings.load("bedrock"):
        known = truth.get(recording["id"])
        if known is None or "/model/" not in recording["path"]:
            continue  # an error, or an endpoint in OpenAI's format
        try:
            request = json.loads(recording["request_body"])
        except ValueError:  # written by hand
            request = {}
        reading = _read(recording, request)
        model = unquote(recording["path"].split("/model/")[1].rpartition("/")[0])
        invoked = recording["path"].rpartition("/")[2].startswith("invoke")
        ours = {
            "response_model": reading.response_model,
            "response_id": reading.response_id,
            "service_tier": reading.service_tier,
            "usage_status": reading.usage.status,
            "operation": bedrock_invoke.operation_of(model, request) if invoked else "chat",
        }
        theirs = {name: known[name] or "" for name in ours}
        if ours != theirs or reading.usage.parts not in recordings.readings(known):
            different.append(f"{recording['id']}: {ours} {reading.usage.parts}, not {theirs} {known['parts']}")
        else:
            equal += 1
    assert not different
    assert equal == 248


HEADERS = {
    "x-amzn-bedrock-input-token-count": "30",
    "x-amzn-bedrock-output-token-count": "51",
    "x-amzn-bedrock-cache-read-input-token-count": "8",
}


def invoked(body: dict[str, Any], headers: dict[str, str], **parameters: Any) -> Reading:
    return bedrock_invoke.take_headers(bedrock_invoke.read(body, {}), headers, parameters)


def test_headers_stand_in_for_a_body_without_usage() -> None:
    usage = invoked({"outputs": [{"text": "a"}]}, HEADERS).usage
    assert usage.parts == {"input": 30, "output": 51, "cache_read": 8}
    assert (usage.status, usage.reasons) == (REPORTED, ())
    assert usage.raw == {"headers": {"inputTokenCount": 30, "outputTokenCount": 51, "cacheReadInputTokenCount": 8}}


def test_headers_stand_in_for_the_side_that_a_body_lacks() -> None:
    usage = invoked({"output": {}, "stopReason": "guardrail_intervened", "usage": {"inputTokens": 29}}, HEADERS).usage
    assert usage.parts == {"input": 29, "output": 51}
    assert usage.status == REPORTED


def test_headers_do_not_replace_a_body() -> None:
    body = {"generation": "a", "prompt_token_count": 5, "generation_token_count": 10}
    assert invoked(body, HEADERS).usage.parts == {"input": 5, "output": 10}


def test_tokens_of_the_headers_are_not_added_to_images() -> None:
    assert invoked({"images": ["aGk="]}, HEADERS).usage.parts == {"image": 1}


@pytest.mark.parametrize("value", ["", "-1", "1.5", "many", "9" * 400])
def test_headers_that_cannot_be_counts_are_left_out(value: str) -> None:
    usage = invoked({}, {"x-amzn-bedrock-input-token-count": value}).usage
    assert (usage.parts, usage.status) == ({}, MISSING)


def test_a_count_that_cannot_be_stays_a_contradiction_where_headers_stand_in() -> None:
    usage = invoked({"generation": "a", "prompt_token_count": -1}, HEADERS).usage
    assert usage.parts == {"input": 30, "output": 51, "cache_read": 8}
    assert (usage.status, usage.reasons) == (CONTRADICTORY, ("prompt_token_count is not a count",))


def test_the_tier_of_the_headers_stands() -> None:
    headers = {"x-amzn-bedrock-service-tier": "flex", "x-amzn-bedrock-performanceconfig-latency": "optimized"}
    reading = invoked({}, headers, serviceTier="priority")
    assert (reading.service_tier, reading.processing) == ("flex", "optimized")
    assert invoked({}, {}, serviceTier="priority").service_tier == "priority"


@pytest.mark.parametrize(
    ("model", "request_body", "operation"),
    [
        ("us.anthropic.claude-opus-4-8", {"messages": []}, "chat"),
        ("cohere.command-r-v1:0", {"message": "a", "chat_history": []}, "chat"),
        ("anthropic.claude-v2", {"prompt": "a"}, "text_completion"),
        ("amazon.titan-text-lite-v1", {"inputText": "a"}, "text_completion"),
        ("amazon.titan-embed-text-v1", {"inputText": "a"}, "embeddings"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x",
            {"inputText": "a", "normalize": True}, "embeddings"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x",
            {"texts": ["a"], "input_type": "search_query"}, "embeddings"),
        ("amazon.nova-2-multimodal-embeddings-v1:0", {"taskType": "SINGLE_EMBEDDING"}, "embeddings"),
        ("amazon.nova-canvas-v1:0", {"taskType": "TEXT_IMAGE"}, "image_generation"),
        ("stability.stable-image-ultra-v1:1", {"prompt": "a"}, "image_generation"),
        ("amazon.rerank-v1:0", {}, "rerank"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x",
            {"query": "a", "documents": ["b"]}, "rerank"),
    ],
)  # fmt: skip
def test_the_kind_of_an_invocation(model: str, request_body: dict[str, Any], operation: str) -> None:
    assert bedrock_invoke.operation_of(model, request_body) == operation
    assert operation in bedrock_invoke.OPERATIONS
