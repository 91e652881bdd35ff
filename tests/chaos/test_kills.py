"""kill -9 at any moment: no call is lost whose result the program had, and none is billed twice."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger
from tests.chaos import kills
from tests.chaos.conftest import LONG, SEED
from tests.chaos.kills import Outcome
from tests.chaos.traffic import witnessed

Told = Callable[[Outcome], None]


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="spanledger-chaos-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_programs_that_write_the_journal(home: Path, ledger: Client, told: Told) -> None:
    number = 120 if LONG else 6
    kills.kill_programs(home, SEED, number)
    kills.all_loaded(home, ledger)
    outcome = kills.compared("kill -9, journal only", number, witnessed(home / "witness"), ledger)
    told(outcome)
    assert outcome.good, outcome


def test_programs_that_ship(home: Path, clickhouse: EmbeddedClickHouse, ledger: Client, told: Told) -> None:
    endpoint = clickhouse.endpoint()
    assert endpoint is not None
    number = 120 if LONG else 6
    url = f"http://{endpoint.username}:{endpoint.password}@127.0.0.1:{endpoint.port}/{endpoint.database}"
    kills.kill_programs(home, SEED + 1, number, url)
    shipped = ledger.query("SELECT count() FROM llm_calls").rows[0][0]
    kills.all_loaded(home, ledger)
    outcome = kills.compared("kill -9, shipping to ClickHouse", number, witnessed(home / "witness"), ledger)
    told(outcome)
    assert outcome.good, outcome
    assert int(shipped) > 0, "no kill met an insert"


@pytest.mark.skipif(not LONG, reason="minutes: make chaos")
@pytest.mark.timeout(0)
def test_the_start_of_embedded_clickhouse(home: Path, told: Told) -> None:
    number = 20
    kills.kill_starts(home, SEED + 2, number)
    server = EmbeddedClickHouse(home)
    try:
        client = open_ledger(server.start())
        kills.all_loaded(home, client)
        tried = number * 3  # two programs, and the loader
        outcome = kills.compared("kill -9, embedded ClickHouse starts", tried, witnessed(home / "witness"), client)
        client.close()
    finally:
        server.stop()
    told(outcome)
    assert outcome.good, outcome


def test_the_comparison_sees_a_call_that_is_lost(home: Path, ledger: Client) -> None:
    kills.kill_programs(home, random.randrange(1000), 2)
    had = witnessed(home / "witness")
    kills.all_loaded(home, ledger)
    outcome = kills.compared("", 2, [*had, "chatcmpl-never"], ledger)
    assert outcome.lost == 1
    assert not outcome.good
