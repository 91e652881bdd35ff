"""The rollup never shows: figures are those of `llm_calls FINAL` to the last digit, whatever came, and however late."""

from __future__ import annotations

import hashlib
import itertools
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanledger.exporter import rollup
from spanledger.exporter import stats as statistics
from spanledger.exporter.client import Client
from spanledger.exporter.reprice import apply, changes
from spanledger.exporter.rollup import Covered, roll_up, rolled_up, tidy
from spanledger.exporter.settle import settle
from spanledger.exporter.stats import Kept, Question, stats
from spanledger.pricing.book import default_book

BEGIN = datetime(2026, 11, 2, tzinfo=timezone.utc)
QUESTIONS = (
    Question(),
    Question(by=("model", "tenant")),
    Question(by=("user",), where={"status": ["ok"]}),
    Question(by=("tag:team",)),
    Question(
        by=("user", "tenant"),
        bucket="day",
        since=BEGIN + timedelta(hours=7),
        until=BEGIN + timedelta(days=2, hours=1),
        where={"tenant": ["a", "b"]},
        sort="time",
    ),
    Question(by=("feature",), where={"status": ["ok"]}),
    Question(by=("model",), where={"tenant": ["nobody"]}),
    Question(by=("model", "key")),
    Question(by=("provider",), bucket="day", time_zone="America/New_York", sort="time"),
    Question(bucket="hour", time_zone="Asia/Kolkata", sort="time"),
    Question(
        by=("model",),
        bucket="day",
        since=BEGIN + timedelta(hours=5, minutes=17),
        until=BEGIN + timedelta(days=1, hours=3, minutes=1),
        sort="time",
    ),
    Question(since=BEGIN + timedelta(minutes=10), until=BEGIN + timedelta(minutes=50), by=("user", "model")),
)

KEPT = Kept()
"""Shared by all tests: what is kept must not outlive what it is of."""

_tokens = itertools.count()


def insert(ledger: Client, rows: list[dict[str, Any]]) -> None:
    block = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    ledger.insert_block("llm_calls", block, hashlib.sha256(block + str(next(_tokens)).encode()).hexdigest())


def row(number: int, version: int = 1, *, minute: int = 0, **columns: Any) -> dict[str, Any]:
    """A call; `minute` counts from `BEGIN`, the date is that of the call whatever the version says of its start."""
    cost = f"0.{number * 7919 + version:018d}"
    at = BEGIN + timedelta(minutes=minute)
    return {
        "event_date": f"2026-11-{2 + number % 3:02}",
        "entry_id": f"{number:032x}",
        "version": version << 8,
        "span_id": f"{number:016x}",
        "trace_id": f"{number // 4:032x}",
        "start_time": f"{int(at.timestamp())}.{number:09d}",
        "duration_ns": 10**6 * (1 + number * 37 % 1000),
        "provider": "openai",
        "operation": "chat",
        "response_model": "gpt-5-mini",
        "status": "ok",
        "source": "spanledger",
        "input_tokens": number,
        "output_tokens": version,
        "total_tokens": number + version,
        "usage": {"input": number, "output": version},
        "usage_status": "reported",
        "cost": cost,
        "cost_base": cost,
        "cost_details": {"input": cost},
        "currency": "USD",
        "base_currency": "USD",
        "price_status": "priced",
        **columns,
    }


@pytest.fixture
def at_once(ledger: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A ledger whose inserts are seen when they return, as they are by a single client: so dates are quiet at once."""
    monkeypatch.setattr(rollup, "LATE_S", 0)
    monkeypatch.setattr(rollup, "_RECENT_DAYS", 2)
    return ledger


def empty(ledger: Client) -> None:
    for table in ("llm_calls", "llm_describers", "ledger_marks", "llm_calls_rollup", "rollup_dates", "price_history"):
        ledger.command(f"TRUNCATE TABLE {table}")


def same_everywhere(ledger: Client) -> None:
    """All questions have the same answers with the rollup and without, and these are the sums of the rows."""
    covered = rolled_up(ledger)
    without = Covered({}, [*covered.dates, *covered.live], "")
    for question in QUESTIONS:
        expected = stats(ledger, question, without)
        for kept in (KEPT, KEPT, None)[: 2 + (question == QUESTIONS[1])]:
            assert stats(ledger, question, covered, kept=kept) == expected, question
    (totals,) = stats(ledger, Question(), covered).totals or [None]
    rows, cost, tokens = ledger.query("SELECT count(), sum(cost_base), sum(input_tokens) FROM llm_calls FINAL").rows[0]
    if totals is None:
        assert rows == 0
        return
    assert (totals.figures["rows"], totals.figures["cost"], totals.figures["input_tokens"]) == (rows, cost, tokens)


def pause(ledger: Client) -> None:
    """Until ClickHouse's clock, which stamps rows to the millisecond, has moved on."""
    ledger.command("SELECT sleep(0.003)")


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("insert"),
            st.lists(
                st.tuples(st.integers(1, 24), st.integers(1, 4), st.integers(0, 4000), st.sampled_from("abc")),
                min_size=1,
                max_size=6,
            ),
        ),
        st.tuples(st.sampled_from(["settle", "reprice", "roll up", "merge", "delete"]), st.integers(1, 24)),
    ),
    min_size=3,
    max_size=6,
)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_figures_are_exact_after_any_inserts_duplicates_settling_and_repricing(at_once: Client, steps: Any) -> None:
    empty(at_once)
    for what, argument in steps:
        pause(at_once)
        if what == "insert":
            rows = [
                row(
                    number,
                    version,
                    minute=minute,
                    tenant=name,
                    user_id=f"u{number % 5}",
                    tags={"team": name},
                    status="error" if number % 7 == 0 else "ok",
                    response_model=f"gpt-5{'-mini' * (number % 2)}",
                )
                for number, version, minute, name in argument
            ]
            insert(at_once, rows)
        elif what == "delete":
            insert(at_once, [row(argument, 9, minute=argument, is_deleted=1)])
        elif what == "settle":
            settle(at_once)
        elif what == "reprice":
            book = default_book()
            apply(at_once, book, list(changes(at_once, book)))
        elif what == "roll up":
            rollup._RECENT_DAYS = 2 if argument % 3 == 0 else 10**4  # type: ignore[misc]
            roll_up(at_once, 0, 60)
        else:
            at_once.command("OPTIMIZE TABLE llm_calls FINAL")
        same_everywhere(at_once)


def test_a_date_is_read_from_the_rollup_until_something_comes_for_it(at_once: Client) -> None:
    insert(at_once, [row(number, minute=number) for number in range(30)])
    assert rolled_up(at_once).dates == {}
    pause(at_once)
    assert roll_up(at_once, 0, 60).dates == 3
    before = rolled_up(at_once)
    assert (len(before.dates), before.live) == (3, [])

    insert(at_once, [row(3, 2, minute=3000)])  # the same call, told anew, with another start
    at_once.command("OPTIMIZE TABLE llm_calls FINAL")
    after = rolled_up(at_once)
    assert (len(after.dates), after.live) == (2, [date(2026, 11, 2)])
    assert after.state != before.state
    same_everywhere(at_once)
    pause(at_once)
    assert roll_up(at_once, 0, 60).dates == 1
    assert len(rolled_up(at_once).dates) == 3
    same_everywhere(at_once)


def test_new_calls_of_a_recent_date_are_added_to_its_sums(at_once: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "_RECENT_DAYS", 10**4)
    insert(at_once, [row(number, minute=number) for number in range(30)])
    pause(at_once)
    roll_up(at_once, 0, 60)
    insert(at_once, [row(number, minute=100 * number) for number in (33, 36)])
    insert(at_once, [row(33, 2, minute=70, is_deleted=1), row(36, 3, minute=50)])
    covered = rolled_up(at_once)
    assert (len(covered.dates), list(covered.fresh), covered.live) == (3, [date(2026, 11, 2)], [])
    same_everywhere(at_once)

    before = stats(at_once, Question(), covered).totals
    pause(at_once)
    insert(at_once, [row(3, 2, minute=3000)])
    assert stats(at_once, Question(), covered).totals == before  # a call that is told anew meanwhile counts once
    at_once.command("OPTIMIZE TABLE llm_calls FINAL")
    covered = rolled_up(at_once)
    assert (len(covered.dates), covered.fresh, covered.live) == (2, {}, [date(2026, 11, 2)])
    same_everywhere(at_once)


def test_a_date_of_calls_that_keep_coming_is_made_now_and_then(at_once: Client) -> None:
    insert(at_once, [row(1)])
    assert roll_up(at_once, 3600, 60, busy_s=3600).dates == 0
    pause(at_once)
    assert roll_up(at_once, 3600, 60, busy_s=0).dates == 1


def test_a_date_for_which_rows_just_came_waits(at_once: Client) -> None:
    insert(at_once, [row(1)])
    assert roll_up(at_once, 60, 60) == rollup.RolledUp(0, 1)
    pause(at_once)
    assert roll_up(at_once, 0, 60) == rollup.RolledUp(1, 0)


def test_the_rollup_is_really_what_answers(at_once: Client) -> None:
    insert(at_once, [row(number) for number in range(10)])
    pause(at_once)
    roll_up(at_once, 0, 60)
    covered = rolled_up(at_once)
    at_once.command("TRUNCATE TABLE llm_calls")
    (totals,) = stats(at_once, Question(), covered).totals
    assert totals.figures["calls"] == 10


def test_costs_in_another_currency_are_converted_and_kept(ledger: Client) -> None:
    foreign = {
        "currency": "CNY",
        "cost": "7.2",
        "cost_base": "1.0",
        "cost_details": {"input": "7.2"},
        "price_snapshot": orjson.dumps({"fx": {"rate": "0.138888888888888888"}}).decode(),
    }
    insert(ledger, [row(1), row(2, **foreign)])
    (totals,) = stats(ledger, Question()).totals
    assert totals.figures["costs"]["CNY"] == Decimal("7.2")
    assert totals.figures["cost_parts"]["CNY:input"] == Decimal("7.2")
    assert totals.figures["converted_parts"] == {"input": Decimal("0.999999999999999993")}


@pytest.mark.parametrize("recent", [True, False])
def test_what_stood_before_is_dropped(at_once: Client, recent: bool) -> None:
    day = str(datetime.now(timezone.utc).date() if recent else date(2026, 11, 5))
    for version in (1, 2):
        insert(at_once, [row(3, version, event_date=day)])
        pause(at_once)
        roll_up(at_once, 0, 60)
        pause(at_once)
    insert(at_once, [row(4)])
    pause(at_once)
    roll_up(at_once, 0, 60)
    if not recent:
        tidy(at_once)
    found = at_once.query("SELECT event_date, uniqExact(generation) FROM llm_calls_rollup GROUP BY event_date").rows
    assert sorted(number for _, number in found) == [1, 1]
    same_everywhere(at_once)


def test_sums_of_old_dates_are_kept_by_month_in_one_part(at_once: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    insert(at_once, [row(number) for number in range(30)])
    pause(at_once)
    monkeypatch.setattr(rollup, "_RECENT_DAYS", 10**4)
    assert roll_up(at_once, 0, 60).dates == 3
    volumes = "SELECT volume, uniqExact(event_date), uniqExact(_part) FROM llm_calls_rollup GROUP BY volume"
    assert len(at_once.query(volumes).rows) == 3
    monkeypatch.undo()
    monkeypatch.setattr(rollup, "LATE_S", 0)
    pause(at_once)
    assert roll_up(at_once, 0, 60).dates == 3
    tidy(at_once)
    assert [tuple(row) for row in at_once.query(volumes).rows] == [(202611, 3, 1)]
    assert len(rolled_up(at_once).dates) == 3
    same_everywhere(at_once)


def test_without_the_dates_all_is_read_from_the_calls(at_once: Client) -> None:
    insert(at_once, [row(number) for number in range(30)])
    pause(at_once)
    roll_up(at_once, 0, 60)
    at_once.command("TRUNCATE TABLE rollup_dates")
    assert (rolled_up(at_once).dates, len(rolled_up(at_once).live)) == ({}, 3)
    same_everywhere(at_once)
    pause(at_once)
    assert roll_up(at_once, 0, 60).dates == 3


def test_sums_of_many_groups_are_not_kept(at_once: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_MOST_GROUPS", 2)
    insert(at_once, [row(number, user_id=f"u{number}") for number in range(30)])
    pause(at_once)
    roll_up(at_once, 0, 60)
    question = Question(by=("user",))
    covered, kept = rolled_up(at_once), Kept()
    expected = stats(at_once, question, covered)
    assert [stats(at_once, question, covered, kept=kept) for _ in range(2)] == [expected] * 2


def test_what_was_asked_for_last_is_kept() -> None:
    kept = Kept(most_bytes=10)
    asked: list[str] = []

    def ask(name: str) -> bytes | None:
        def answer() -> bytes:
            asked.append(name)
            return name.encode() * 4

        return kept.get(name, answer)

    for name in "abacab":
        assert ask(name) == name.encode() * 4
    assert asked == ["a", "b", "c", "b"]
