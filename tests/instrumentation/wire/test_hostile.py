"""Answers that no provider should give: nothing is raised, no part is negative, and the row says what is wrong."""

from __future__ import annotations

import copy
import json
import math
import os
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from spanledger.instrumentation.wire import endpoints
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.usage import (
    CONTRADICTORY,
    ESTIMATED,
    INCOMPLETE,
    MAX_QUANTITY,
    MISSING,
    PARTS,
    REPORTED,
    Quantity,
    Usage,
)
from tests.instrumentation.wire import fixtures

MUTATIONS = int(os.environ.get("SPANLEDGER_FUZZ", "5000"))
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3.0, 1.5, -0.0, 10**15, 10**15 + 1, 2**63, 2**64, 10**40, 1e300),
    *(math.nan, math.inf, -math.inf, "", "7", "-7", "abc", "9" * 400, "\x00", "\ud800", [], [None], {}, {"a": None}),
    *([[[]]], {"type": []}, {"tokens": {"tokens": {"tokens": {"tokens": {"tokens": {"tokens": 1}}}}}}),
)
FIXTURES = [fixtures.load(name) for name in fixtures.names()]


def chat(usage: object) -> Usage:
    endpoint = endpoints.find("openai", "POST", "/chat/completions")
    assert endpoint is not None
    return endpoint.read({"id": "c", "model": "m", "choices": [], "usage": usage}, {}).usage


def message(usage: object) -> Usage:
    endpoint = endpoints.find("anthropic", "POST", "/v1/messages")
    assert endpoint is not None
    return endpoint.read({"id": "c", "model": "m", "content": [], "usage": usage}, {}).usage


@pytest.mark.parametrize("value", [12, 12.0, "12"])
def test_a_whole_number_counts_however_it_is_written(value: object) -> None:
    assert chat({"prompt_tokens": value, "completion_tokens": 3}) == Usage(
        {"input": 12, "output": 3}, {}, REPORTED, (), {"prompt_tokens": value, "completion_tokens": 3}
    )


@pytest.mark.parametrize(
    "value", [-1, True, 1.5, MAX_QUANTITY + 1, 10**40, 1e300, math.nan, math.inf, "abc", "-7", [], {}]
)
@pytest.mark.parametrize("read", [chat, message])
def test_what_cannot_be_a_count_is_left_out_and_told(value: object, read: Callable[[object], Usage]) -> None:
    name = "prompt_tokens" if read is chat else "input_tokens"
    usage = read({name: value, "output_tokens": 3})
    assert usage.parts == {"output": 3}
    assert usage.status == CONTRADICTORY
    assert usage.reasons == (f"{name} is not a count",)


def test_the_largest_quantity_counts() -> None:
    assert chat({"prompt_tokens": MAX_QUANTITY}).parts == {"input": MAX_QUANTITY}


@pytest.mark.parametrize("usage", [{"prompt_tokens": -1}, "none", [1], 7, {}])
def test_a_usage_without_a_usable_count_is_missing(usage: object) -> None:
    assert chat(usage).status == MISSING
    assert chat(usage).reasons


@pytest.mark.parametrize("usage", [{"prompt_tokens": 5}, {"completion_tokens": 5}, {"input_tokens": 5}])
def test_a_count_that_is_not_reported_is_absent(usage: dict[str, int]) -> None:
    assert chat(usage).parts in ({"input": 5}, {"output": 5})
    assert chat(usage).status == REPORTED


@pytest.mark.parametrize(
    ("usage", "parts"),
    [
        ({"prompt_tokens": 5, "total_tokens": 8}, {"input": 5, "output": 3}),
        ({"completion_tokens": 5, "total_tokens": 8}, {"input": 3, "output": 5}),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 20, "completion_tokens_details":
            {"reasoning_tokens": 3}}, {"input": 10, "output_reasoning": 5, "output": 5}),
        ({"prompt_tokens": 10, "cached_tokens": 4, "num_cached_tokens": 6}, {"input": 4, "cache_read": 6}),
        ({"prompt_tokens": 10, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5},
            {"input": 6, "cache_read": 4}),
        ({"prompt_tokens": 10, "cache_write_tokens": 11}, {"input": 0, "cache_write": 10}),
        ({"input_tokens": 9, "seconds": -1}, {"input": 9}),
    ],
)  # fmt: skip
def test_contradictions_are_told(usage: dict[str, Any], parts: dict[str, Quantity]) -> None:
    assert chat(usage).parts == parts
    assert chat(usage).status == CONTRADICTORY


def test_broken_lines_are_passed_over() -> None:
    for fixture in FIXTURES:
        reader = fixture.endpoint.stream_reader(fixture.request)
        for line in (
            b"",
            b"data:",
            b"data: ",
            b"data: {",
            b'data: {"usage":{"a":',
            b"{",
            b"\xff\xfe",
            b"data: []",
            b"data: 7",
        ):
            reader.feed(line)
        assert reader.reading().usage.parts == {}


def test_nothing_of_the_content_stays_with_a_stream_reader() -> None:
    marker = "SECRET CONTENT"
    for name in ("openai/chat_cached", "openai/responses", "anthropic/cache"):
        fixture = fixtures.load(name)
        assert fixture.body is not None
        events = json.dumps(fixtures.as_events(fixture.path, fixture.body))
        told = (
            events.replace('Say \\"', marker)
            .replace("Hello.", marker)
            .replace('"content": []', f'"content": "{marker}"')
        )
        assert marker in told
        reader = fixture.endpoint.stream_reader({})
        for line in fixtures.lines(json.loads(told)):
            reader.feed(line)
        held = [getattr(reader, slot) for slot in reader.__slots__ if slot != "_request"]  # type: ignore[attr-defined]
        assert marker not in repr(held)


def test_mutated_answers() -> None:
    chance = random.Random(20_260_101)
    for number in range(MUTATIONS):
        fixture = chance.choice(FIXTURES)
        request: Any = copy.deepcopy(fixture.request)
        body = copy.deepcopy(fixture.body)
        events = copy.deepcopy(fixture.events)
        if body is not None and events is None and fixture.told_both_ways and chance.random() < 0.5:
            events = copy.deepcopy(fixtures.as_events(fixture.path, body))  # type: ignore[assignment]
        for _ in range(chance.randint(1, 4)):
            documents = [part for part in (request, body, body, events, events) if part]
            if documents:
                _mutate(chance.choice(documents), chance)
        if chance.random() < 0.02:
            request = chance.choice(HOSTILE)
        told = f"mutation {number} of {fixture.name}: {body if events is None else events!r}"
        readings = []
        if body is not None:
            readings.append(fixture.endpoint.read(chance.choice(HOSTILE) if chance.random() < 0.02 else body, request))
        if events is not None:
            readings.append(_streamed(fixture, request, events, chance))
        for reading in readings:
            _check(reading, told)


def _mutate(document: Any, chance: random.Random) -> None:
    """Change one place, chosen at random, in a JSON document."""
    places = list(_places(document))
    if not places:
        return
    holder, key = chance.choice(places)
    match chance.randint(0, 4):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[chance.choice(("usage", "error", "type", "model", "details"))] = holder[key]
        case 2 if isinstance(holder[key], int):
            holder[key] = holder[key] * chance.choice((-1, 2, 1000)) + chance.randint(-1, 1)
        case _:
            holder[key] = copy.deepcopy(chance.choice(HOSTILE))


def _places(document: Any) -> Any:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items):
        yield document, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _streamed(fixture: fixtures.Fixture, request: Any, events: Any, chance: random.Random) -> Reading:
    reader = fixture.endpoint.stream_reader(request)
    for event in events:
        line = (event if isinstance(event, str) else f"data: {json.dumps(event)}").encode(errors="replace")
        if chance.random() < 0.05:
            line = line[: chance.randrange(len(line) + 1)]
        elif chance.random() < 0.05 and line:
            at = chance.randrange(len(line))
            line = line[:at] + bytes([chance.randrange(256)]) + line[at + 1 :]
        reader.feed(line)
        if isinstance(event, dict) and chance.random() < 0.1:
            reader.take(event)
        if chance.random() < 0.02:
            break
    return reader.reading()


def _check(reading: Reading, told: str) -> None:
    for usage in (reading.usage, *(line.usage for line in reading.lines)):
        assert usage.status in (REPORTED, INCOMPLETE, ESTIMATED, CONTRADICTORY, MISSING), told
        assert (usage.status == REPORTED) == (not usage.reasons), told
        assert usage.status != MISSING or not (usage.parts or usage.unmapped), told
        for part, quantity in usage.parts.items():
            assert part in PARTS, told
            assert type(quantity) in (int, Decimal), told
            assert 0 <= quantity <= MAX_QUANTITY, told
        for name, quantity in usage.unmapped.items():
            assert name not in PARTS, told
            assert type(quantity) in (int, Decimal), told
            assert 0 < quantity <= MAX_QUANTITY, told
    texts = (reading.response_id, reading.response_model, reading.service_tier, reading.processing, reading.region)
    assert all(isinstance(text, str) for text in (*texts, *reading.finish_reasons, *(reading.error or ()))), told
    assert reading.created_ns is None or type(reading.created_ns) is int, told
    assert reading.reported_cost is None or reading.reported_cost >= 0, told
    assert type(reading.pending) is bool, told
    assert type(reading.background) is bool, told
