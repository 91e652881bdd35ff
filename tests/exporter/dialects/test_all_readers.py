"""What holds for every reader, whatever a span says: no exception, no negative part, nothing that a row cannot hold."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from spanledger import attributes as names
from spanledger.exporter import dialects
from spanledger.exporter.dialects import MARKS, SCOPES, SURROUNDINGS, dialect_of
from spanledger.exporter.rows import encode
from spanledger.pricing.usage import MAX_QUANTITY, PARTS
from tests.exporter.conftest import Book, Ended
from tests.exporter.dialects import (
    test_frameworks,
    test_genai,
    test_logfire,
    test_openinference,
    test_openlit,
    test_traceloop,
    test_vercel,
)

FIXTURES: list[Mapping[str, Any]] = [
    *(test_genai.OPENAI, test_genai.BEDROCK, test_genai.ANTHROPICS_OWN, test_genai.MISTRAL),
    *(test_openinference.CALL, test_openinference.ANTHROPICS),
    *(test_frameworks.LANGSMITH, test_frameworks.LITELLM, test_frameworks.LANGFUSE),
    *(test_logfire.CALL, test_openlit.CALL, test_traceloop.CALL, test_vercel.V6),
]

KNOWN = sorted({name for fixture in FIXTURES for name in fixture} | set(MARKS))

VALUES = st.one_of(
    st.sampled_from([value for fixture in FIXTURES for value in fixture.values()]),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.text(max_size=20),
    st.lists(st.text(max_size=5), max_size=3).map(tuple),
    st.lists(st.integers(), max_size=3).map(tuple),
    st.sampled_from(
        ["{", "{}", "[]", "null", '{"input_tokens": -5}', '{"prompt_tokens": {"a": 1}}', "{'cache_read': 'x'}"]
    ),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    scope=st.sampled_from([*SCOPES, "unknown"]),
    fixture=st.sampled_from(FIXTURES),
    changes=st.dictionaries(st.sampled_from(KNOWN), VALUES, max_size=8),
    without=st.sets(st.sampled_from(KNOWN), max_size=8),
)
def test_nothing_in_a_span_raises_or_makes_a_negative_part(
    scope: str, fixture: Mapping[str, Any], changes: Mapping[str, Any], without: set[str]
) -> None:
    attributes = {name: value for name, value in {**fixture, **changes}.items() if name not in without}
    dialect = dialect_of(scope, attributes)
    found = None if dialect is None else dialect.read(attributes)
    if found is None or found.get(names.OPERATION) in SURROUNDINGS:
        return
    if names.USAGE_STATUS not in found:
        assert scope == "spanledger"
        return
    usage = json.loads(found.get(names.USAGE_PARTS, "{}"))
    assert usage.keys() <= PARTS
    assert all(type(count) is int and 0 <= count <= MAX_QUANTITY for count in usage.values())
    assert (found[names.USAGE_STATUS] == "missing") == (not usage and names.USAGE_UNMAPPED not in found)
    if found[names.USAGE_STATUS] != "reported":
        assert found[names.USAGE_REASONS]


@pytest.mark.parametrize("fixture", FIXTURES)
def test_every_fixture_makes_a_row_by_its_attributes_alone(
    fixture: Mapping[str, Any], ended: Ended, book: Book
) -> None:
    (row,) = encode(ended(dict(fixture), scope="unknown")).splitlines()
    read = json.loads(row)
    assert read["usage_status"] in ("reported", "estimated")
    assert read["total_tokens"] > 0


def test_the_longest_scope_counts() -> None:
    names_of = {scope: getattr(dialect_of(scope), "source", None) for scope in SCOPES}
    assert None not in names_of.values()
    assert dialect_of("opentelemetry.instrumentation.openai_v2") is not dialect_of(
        "opentelemetry.instrumentation.openai"
    )
    assert names_of["opentelemetry.instrumentation.openai_v2"] == "genai"
    assert names_of["opentelemetry.instrumentation.openai"] == "traceloop"


def test_scopes_are_remembered_within_bounds() -> None:
    for number in range(5000):
        assert dialect_of(f"my.scope.{number}", {"http.method": "GET"}) is None
    assert len(dialects._by_scope) <= 1000


def test_other_spans_cost_little() -> None:
    """Every ended span in the user's process is looked at: a known scope is one look-up, an unknown one a few."""
    attributes = {f"http.attribute.{number}": "value" for number in range(12)}
    for scope in ("opentelemetry.instrumentation.httpx", "my.app"):
        best = min(_seconds(scope, attributes) for _ in range(5))
        assert best / 10_000 < 20e-6


def _seconds(scope: str, attributes: Mapping[str, Any]) -> float:
    begun = time.perf_counter()
    for _ in range(10_000):
        dialect_of(scope, attributes)
    return time.perf_counter() - begun


def test_a_rows_counting_depends_on_the_version_of_its_scope(ended: Ended, book: Book) -> None:
    """openinference-instrumentation-anthropic before 1.0 does not tell what a stream cached."""
    span = ended(dict(test_openinference.CALL), scope="openinference.instrumentation.anthropic")
    for version, status in (("0.1.20", "estimated"), ("3.1.0", "reported")):
        span._instrumentation_scope = InstrumentationScope("openinference.instrumentation.anthropic", version)
        attributes = {name: value for name, value in test_openinference.CALL.items() if "cache" not in name}
        span._attributes = attributes
        (row,) = encode(span).splitlines()
        assert json.loads(row)["usage_status"] == status


def test_the_collectors_filter_lets_every_mark_through() -> None:
    config = (Path(__file__).parents[3] / "collector-config.yaml").read_text("utf-8")
    patterns = re.findall(r"\(gen_ai\|[^)]*\)\[[^]]*\]", config)
    assert patterns
    for pattern in patterns:
        assert [mark for mark in MARKS if not re.match(pattern, mark)] == []
