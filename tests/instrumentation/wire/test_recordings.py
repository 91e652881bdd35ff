"""Every recorded response, through the pure readers: parts, identity, status and cost equal the truth."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from spanledger.instrumentation.wire import endpoints
from spanledger.instrumentation.wire.endpoints import Endpoint
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.usage import CONTRADICTORY, MISSING, REPORTED, totals
from tests import recordings
from tests.instrumentation.wire import fixtures

pytestmark = [pytest.mark.recordings, recordings.needed]

FORMATS = {"openai": "openai", "azure": "openai", "anthropic": "anthropic"}

COMPATIBLE = (
    "bedrock",
    "cerebras",
    "crusoe",
    "deepseek",
    "groq",
    "huggingface",
    "mistral",
    "ollama",
    "openrouter",
    "snowflake",
    "together",
    "writer",
    "zai",
)
"""Other providers whose recordings are, some or all, in the format of OpenAI or Anthropic."""

SPELT = {"/v1/chat": "/v1/chat/completions", "/v1/chat/completions#stream": "/v1/chat/completions"}


def _request(recording: dict[str, Any]) -> dict[str, Any]:
    try:
        request = json.loads(recording["request_body"])
    except (TypeError, ValueError):
        return {}
    return request if isinstance(request, dict) else {}


def _lines(recording: dict[str, Any]) -> Iterator[bytes]:
    body = recording["response_body"]
    if isinstance(body, str):
        yield from body.encode().splitlines()
        return
    frames = base64.b64decode(body["base64"])  # AWS event stream: length, headers' length, checksum, ..., checksum
    while frames:
        total, headers = int.from_bytes(frames[:4], "big"), int.from_bytes(frames[4:8], "big")
        payload = json.loads(frames[12 + headers : total - 4])
        yield b"data: " + base64.b64decode(payload["bytes"])
        frames = frames[total:]


def _endpoint(recording: dict[str, Any], format: str) -> Endpoint | None:
    path = SPELT.get(recording["path"], recording["path"]) + (recording.get("query") or "")
    if "/model/" in path and "anthropic" not in path:
        return None  # InvokeModel of other models has their own formats
    return endpoints.find(format, recording["method"], path)


def _read(endpoint: Endpoint, recording: dict[str, Any], stream: bool) -> Reading:
    if not stream:
        return endpoint.read(json.loads(recording["response_body"]), _request(recording))
    reader = endpoint.stream_reader(_request(recording))
    for line in _lines(recording):
        reader.feed(line)
    return reader.reading()


def _differences(reading: Reading, truth: dict[str, Any]) -> list[str]:
    parts = dict(reading.usage.parts)
    status = REPORTED if reading.usage.status == CONTRADICTORY else reading.usage.status
    sums = totals(parts)
    allowed = recordings.readings(truth)
    found = [] if parts in allowed else [f"parts {parts}, not {allowed[0]}"]
    pairs = [
        ("status", status, truth["usage_status"]),
        ("model", reading.response_model, truth["response_model"] or ""),
        ("id", reading.response_id, truth["response_id"] or ""),
        ("tier", reading.service_tier, truth["service_tier"] or ""),
        ("cost", None if reading.reported_cost is None else f"{reading.reported_cost:f}", truth["reported_cost_usd"]),
        (
            "lines",
            [(line.model, dict(line.usage.parts)) for line in reading.lines],
            [(other["model"], other["parts"]) for other in truth.get("other_models") or ()],
        ),
    ]
    if not truth.get("alternatives"):
        pairs += [
            ("input tokens", sums.input_tokens, truth["input_tokens"] or 0),
            ("output tokens", sums.output_tokens, truth["output_tokens"] or 0),
            ("total tokens", sums.total_tokens, truth["total_tokens"] or 0),
        ]
    return found + [
        f"{name} {ours!r}, not {theirs!r}" for name, ours, theirs in pairs if (ours or None) != (theirs or None)
    ]


def _compare(provider: str, formats: tuple[str, ...]) -> tuple[int, list[str], int]:
    """(equal, differences, recordings that no reader claims)."""
    truth = recordings.truth()
    equal, unclaimed = 0, 0
    different: list[str] = []
    for recording in recordings.load(provider):
        known = truth.get(recording["id"])
        if known is None:
            continue  # a status of 400 or more
        endpoint = next((found for format in formats if (found := _endpoint(recording, format))), None)
        if endpoint is None:
            unclaimed += 1
            continue
        found = _differences(_read(endpoint, recording, known["stream"]), known)
        different += [f"{recording['id']}: {'; '.join(found)}"] if found else []
        equal += not found
    return equal, different, unclaimed


@pytest.mark.parametrize(("source", "format"), FORMATS.items())
def test_every_recording_equals_the_truth(source: str, format: str) -> None:
    equal, different, unclaimed = _compare(source, (format,))
    assert not different
    assert equal > 30
    truth = recordings.truth().values()
    assert unclaimed == sum(t["provider"] == source and t["notes"][:1] == [THREADS] for t in truth)


THREADS = "assistants thread message list/create: not a model call, no usage by nature"


@pytest.mark.parametrize("source", COMPATIBLE)
def test_every_recording_of_a_compatible_endpoint_equals_the_truth(source: str) -> None:
    equal, different, _ = _compare(source, ("openai", "anthropic"))
    assert not different
    assert equal


@pytest.mark.parametrize(("source", "format"), FORMATS.items())
def test_every_recorded_answer_reads_the_same_as_a_stream(source: str, format: str) -> None:
    truth = recordings.truth()
    told = 0
    for recording in recordings.load(source):
        known = truth.get(recording["id"])
        path = recording["path"].removeprefix("/v1") if format == "openai" else recording["path"]
        endpoint = _endpoint(recording, format)
        if endpoint is None or known is None or known["stream"] or path not in fixtures.STREAMED:
            continue
        body, request = json.loads(recording["response_body"]), _request(recording)
        plain = endpoint.read(body, request)
        streamed = fixtures.stream(endpoint, request, fixtures.lines(fixtures.as_events(path, body)))
        if plain.usage.status == MISSING:  # worded for the one and the other
            plain.usage.reasons = streamed.usage.reasons = ()
        assert plain == streamed, recording["id"]
        told += 1
    assert told > 20 or source == "azure"
