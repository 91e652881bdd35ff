"""Wrong clocks and time zones: a row keeps the span's time, and its price is of that time."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from spanledger.exporter import arrival
from spanledger.exporter import rows as reader
from spanledger.exporter.client import Client
from spanledger.exporter.journal import Journal, bound
from spanledger.exporter.shipper import load_journal
from spanledger.pricing.call import Call, Charge
from tests.exporter.conftest import CALL, START_NS, Book, Ended, row

YEAR = 365 * 86_400 * 10**9
SECOND = 10**9


class Noted(Book):
    """Notes of which moments prices are asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def price(self, call: Call) -> Charge:
        self.asked.append(call.start_ns)
        return super().price(call)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    book = Noted()
    monkeypatch.setattr(arrival, "default_book", lambda: book)
    return book


def moment(ns: int) -> str:
    return datetime.fromtimestamp(ns // SECOND, timezone.utc).strftime("%Y-%m-%d %H:%M:%S") + f".{ns % SECOND:09}"


@pytest.mark.parametrize("years", [-40, -3, 3, 80])
def test_a_span_of_another_time_keeps_it_and_its_prices(
    years: int, ended: Ended, noted: Noted, ledger: Client, tmp_path: Path
) -> None:
    start = START_NS + years * YEAR
    journal = Journal(tmp_path / "journal")
    journal.append(reader.encode(ended(start=start, end=start + 1_500_000_001)))
    journal.seal(last=True)
    load_journal(tmp_path, ledger)
    found = ledger.query("SELECT toString(start_time), duration_ns, toString(event_date) FROM llm_calls").rows
    assert [tuple(line) for line in found] == [(moment(start), 1_500_000_001, moment(start + 1_500_000_001)[:10])]
    assert noted.asked == [start]


def test_a_clock_that_was_set_back_during_the_call_makes_no_negative_duration(
    ended: Ended, noted: Noted, ledger: Client, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(reader.encode(ended(start=START_NS, end=START_NS - 3600 * SECOND)))
    journal.seal(last=True)
    load_journal(tmp_path, ledger)
    ((start, duration),) = ledger.query("SELECT toString(start_time), duration_ns FROM llm_calls").rows
    assert (start, duration) == (moment(START_NS - 3600 * SECOND), 0)


def test_a_moment_that_clickhouse_cannot_hold_does_not_keep_the_row_out(
    ended: Ended, noted: Noted, ledger: Client, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    before = time.time_ns()
    journal.append(reader.encode(ended(start=2**63, end=2**64 - 1)))
    journal.seal(last=True)
    assert load_journal(tmp_path, ledger).rows == 1
    ((at,),) = ledger.query("SELECT toUnixTimestamp64Nano(start_time) FROM llm_calls").rows
    assert before <= at <= time.time_ns()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/Anchorage", "Pacific/Kiritimati", "nowhere/at-all"])
def test_the_programs_time_zone_changes_nothing(
    zone: str, ended: Ended, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    span = ended(CALL)
    before = reader.encode(span)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    reader._dates.clear()
    try:
        assert reader.encode(span) == before
    finally:
        monkeypatch.undo()
        time.tzset()


def test_one_block_holds_calls_of_any_number_of_months(ledger: Client, tmp_path: Path) -> None:
    """ClickHouse refuses an insert into more than 100 partitions, unless told otherwise."""
    journal = Journal(tmp_path / "journal")
    for number in range(150):
        journal.append(row(number).replace(b"2026-11-22", f"{2000 + number // 12}-{number % 12 + 1:02}-22".encode()))
    journal.seal(last=True)
    assert load_journal(tmp_path, ledger).rows == 150
    assert ledger.query("SELECT uniqExact(toYYYYMM(event_date)) FROM llm_calls").rows == [(150,)]


def test_a_clock_that_jumps_drops_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(row(1))
    journal.seal(last=True)
    now = time.time()
    for jump in (-30 * 365 * 86_400, 30 * 365 * 86_400):
        monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
        assert bound(journal.folder, 2**30, 0) == 0
