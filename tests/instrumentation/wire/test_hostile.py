"""Answers that no provider should give: nothing is raised, no part is negative, and the row says what is wrong."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math
import os
import pkgutil
import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from itertools import zip_longest
from typing import Any

import pytest

from spanledger.instrumentation import wire
from spanledger.instrumentation.wire import endpoints
from spanledger.instrumentation.wire.endpoints import Endpoint
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
from tests.instrumentation.wire import fixtures, sessions

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


@dataclass(slots=True)
class Tried:
    """What came of the mutated answers that one reader was given."""

    answers: int = 0
    exceptions: int = 0
    negative: int = 0
    wrong: int = 0
    contradictory: int = 0


def endpoints_of_all() -> list[Endpoint]:
    """Every endpoint that a call can have."""
    tables = [endpoint for table in endpoints._POST.values() for endpoint in table.values()]
    return [*tables, *(value for value in vars(endpoints).values() if isinstance(value, Endpoint))]


def readers() -> dict[str, tuple[Endpoint, bool]]:
    """Name of each reader of plain answers and of streams -> an endpoint that has it, and whether it reads streams."""
    found = {}
    for endpoint in endpoints_of_all():
        found[_name(endpoint.read)] = (endpoint, False)
        found[_name(endpoint.stream_reader)] = (endpoint, True)
    return dict(sorted(found.items()))


def _name(reader: Any) -> str:
    return f"{reader.__module__.rpartition('.')[2]}.{reader.__qualname__}"


TRIED_ELSEWHERE = {
    "openai_usage.read": "a part of every reader of OpenAI's",
    "anthropic_batch.read": "test_batches",
    "gemini_batch.read": "test_batches",
    "openai_batch.read": "test_batches",
}
"""Functions that are no readers of an answer, though they are called so -> where they are tried."""


def test_no_reader_is_left_out() -> None:
    """Whatever reads in `wire/` belongs to an endpoint, a session or a batch, and so gets its mutated answers."""
    tried = {reader for endpoint in endpoints_of_all() for reader in (endpoint.read, endpoint.stream_reader)}
    tried |= {base for reader in tried if isinstance(reader, type) for base in reader.__mro__}
    for module in (import_module(f"{wire.__name__}.{each.name}") for each in pkgutil.iter_modules(wire.__path__)):
        for name, value in vars(module).items():
            if getattr(value, "__module__", "") != module.__name__ or getattr(value, "_is_protocol", False):
                continue
            reads = inspect.isfunction(value) and name.startswith("read")
            reads = reads or (isinstance(value, type) and hasattr(value, "feed") and hasattr(value, "reading"))
            assert not reads or value in tried or _name(value) in TRIED_ELSEWHERE, _name(value)
            if isinstance(value, type) and hasattr(value, "received") and hasattr(value, "broken_off"):
                assert value in sessions.READERS.values(), _name(value)
    assert {name.partition("/")[0] for name in sessions.names()} == set(sessions.READERS)


def test_mutated_answers() -> None:
    """Every reader gets as many: of its own answers for the most part, and of those that other readers get."""
    table = {name: _try(name, *reader) for name, reader in readers().items()}
    print(f"\n{'reader':42}" + "".join(f"{field.name:>15}" for field in dataclasses.fields(Tried)))
    for name, (tried, _) in table.items():
        print(f"{name:42}" + "".join(f"{count:15,}" for count in dataclasses.astuple(tried)))
    assert not [example for _, examples in table.values() for example in examples[:3]]
    assert sum(tried.contradictory for tried, _ in table.values())


def _try(name: str, endpoint: Endpoint, streams: bool) -> tuple[Tried, list[str]]:
    """What one reader made of mutated answers, and some that it should have read otherwise."""
    chance = random.Random(f"20260101 {name}")
    own = [f for f in FIXTURES if name in (_name(f.endpoint.read), _name(f.endpoint.stream_reader))]
    assert own, f"{name} has no fixture in {fixtures.FOLDER}"
    tried = Tried()
    examples: list[str] = []
    while tried.answers < max(MUTATIONS // len(readers()), 1):
        fixture = chance.choice(own if chance.random() < 0.9 else FIXTURES)
        answer, request = _mutated(fixture, streams, chance)
        if answer is None:
            continue
        tried.answers += 1
        told = f"{name}, mutation {tried.answers} of {fixture.name}: "
        try:
            reading = _streamed(endpoint, request, answer, chance) if streams else endpoint.read(answer, request)
        except Exception as error:
            tried.exceptions += 1
            examples.append(f"{told}{error!r}: {str(answer)[:2000]}")
            continue
        usages = [reading.usage, *(line.usage for line in reading.lines)]
        tried.contradictory += any(usage.status == CONTRADICTORY for usage in usages)
        tried.negative += any(n < 0 for usage in usages for n in (*usage.parts.values(), *usage.unmapped.values()))
        try:
            _check(reading, told)
        except AssertionError as error:
            tried.wrong += 1
            examples.append(f"{error}: {str(answer)[:2000]}")
    return tried, examples


def _mutated(fixture: fixtures.Fixture, streams: bool, chance: random.Random) -> tuple[Any, Any]:
    """A fixture's answer (None if it has none), or the events of its stream, and its request: some places changed."""
    request: Any = copy.deepcopy(fixture.request)
    answer: Any = copy.deepcopy(fixture.body)
    if streams:
        answer = copy.deepcopy(fixture.events)
        if answer is None and fixture.body is not None:
            both = fixture.told_both_ways
            answer = fixtures.as_events(fixture.path, copy.deepcopy(fixture.body)) if both else [fixture.body]
            answer = copy.deepcopy(answer)
    if answer is None:
        return None, request
    if streams:
        answer = [_parsed(event) for event in answer]
    for _ in range(chance.randint(1, 4)):
        documents = [part for part in (request, answer, answer, answer) if part]
        if documents:
            _mutate(chance.choice(documents), chance)
    if streams and chance.random() < 0.1:
        chance.shuffle(answer)
    if streams and chance.random() < 0.1:
        other = copy.deepcopy(chance.choice(FIXTURES).events or [])
        answer = [each for pair in zip_longest(answer, other) for each in pair if each is not None]
    if chance.random() < 0.02:
        places = list(_places(answer))
        if places:
            holder, key = chance.choice(places)
            holder[key] = _deep()
    if chance.random() < 0.02:
        request = chance.choice(HOSTILE)
    if not streams and chance.random() < 0.02:
        answer = chance.choice(HOSTILE)
        return (answer, request) if answer is not None else ({}, request)
    return answer, request


def _parsed(event: Any) -> Any:
    """An event that a fixture has as a line, as JSON if it is that: its inside can be changed then."""
    try:
        return json.loads(event.removeprefix("data:")) if isinstance(event, str) else event
    except ValueError:
        return event


def _deep(levels: int = 250) -> Any:
    deep: Any = 7
    for level in range(levels):
        deep = {"input_tokens": deep} if level % 2 else [deep]
    return deep


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


def _streamed(endpoint: Endpoint, request: Any, events: Any, chance: random.Random) -> Reading:
    reader = endpoint.stream_reader(request)
    start = chance.choice(("data: ", "data:", ""))  # server-sent events, or lines of JSON
    separators = chance.choice(((",", ":"), (", ", ": ")))
    for event in events:
        line = (event if isinstance(event, str) else start + json.dumps(event, separators=separators)).encode(
            errors="replace"
        )
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
