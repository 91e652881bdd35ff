from __future__ import annotations

from datetime import datetime, timezone

import pytest

from spanledger.service.times import parse

NOW = datetime(2026, 11, 22, 13, 30, 15, tzinfo=timezone.utc)


def iso(when: datetime) -> str:
    assert when.tzinfo is timezone.utc
    return when.replace(tzinfo=None).isoformat()


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026-11-01", "2026-11-01T00:00:00", "2026-11-02T00:00:00"),
        ("2026-11", "2026-11-01T00:00:00", "2026-12-01T00:00:00"),
        ("2026-12", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("today", "2026-11-22T00:00:00", "2026-11-23T00:00:00"),
        ("Yesterday", "2026-11-21T00:00:00", "2026-11-22T00:00:00"),
        ("now", "2026-11-22T13:30:15", "2026-11-22T13:30:15"),
        ("90m", "2026-11-22T12:00:15", "2026-11-22T12:00:15"),
        ("24h", "2026-11-21T13:30:15", "2026-11-21T13:30:15"),
        ("7d", "2026-11-15T13:30:15", "2026-11-15T13:30:15"),
        ("2w", "2026-11-08T13:30:15", "2026-11-08T13:30:15"),
        ("2026-11-01T08:30", "2026-11-01T08:30:00", "2026-11-01T08:30:00"),
        ("2026-11-01 08:30:00.250", "2026-11-01T08:30:00.250000", "2026-11-01T08:30:00.250000"),
        ("2026-11-01T08:30:00Z", "2026-11-01T08:30:00", "2026-11-01T08:30:00"),
        ("2026-11-01T08:30+02:00", "2026-11-01T06:30:00", "2026-11-01T06:30:00"),
    ],
)
def test_a_time_as_typed_begins_and_ends_where_one_expects(text, start, end):
    assert iso(parse(text, NOW)) == start
    assert iso(parse(text, NOW, end=True)) == end


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-02-30", "7", "7y", "999999w", "2026-13", "-1d"])
def test_what_is_not_a_time_is_named_with_what_would_be(text):
    with pytest.raises(ValueError, match="is not a time: use a day"):
        parse(text, NOW)
