"""The filter of collector-config.yaml lets through every span that a dialect reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from spanledger.exporter.dialects import MARKS
from tests.exporter.dialects.test_all_readers import FIXTURES

CONFIG = Path(__file__).parents[2] / "collector-config.yaml"


def let_through(keys: Iterable[str]) -> bool:
    """Whether a span with these attributes is: as the Collector does it, by the list of them as JSON."""
    (condition,) = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["processors"]["filter/only_llm"][
        "trace_conditions"
    ]
    found = re.fullmatch(r'not IsMatch\(Keys\(span\.attributes\), ("(?:[^"\\]|\\.)*")\)', condition)
    assert found, condition
    return re.search(json.loads(found[1]), json.dumps(list(keys), separators=(",", ":"))) is not None


@pytest.mark.parametrize("mark", MARKS)
def test_an_attribute_that_tells_a_dialect_is_enough(mark):
    assert let_through([mark])
    assert let_through(["service.name", mark, "thread.id"])


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: next(iter(fixture)))
def test_a_span_of_each_dialect_is_let_through(fixture):
    assert let_through(fixture)


def test_other_spans_are_not():
    assert not let_through([])
    assert not let_through(["http.request.method", "url.full", "server.address", "http.response.status_code"])
    assert not let_through(["db.system.name", "db.query.text", "rai.gen_ai", "email.openai"])
