"""Fixtures that every room's tests share: a real ClickHouse, and a home of its own for each test."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spanledger.exporter import shipper, unlinked
from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger
from spanledger.settings import settings

if TYPE_CHECKING:
    from tests.all_recordings import Everything


def pytest_configure(config: pytest.Config) -> None:
    """No test writes to the user's own ledger; what is interrupted ends, also where the run itself would not."""
    home = tempfile.TemporaryDirectory(prefix="spanledger-tests-")
    config.add_cleanup(home.cleanup)
    os.environ["SPANLEDGER_HOME"] = home.name
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port() -> int:
    """A port of loopback, below those that outgoing connections get: none of them takes it until it is listened on."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    """An embedded ClickHouse for the whole run, on free ports, with the ledger's schema."""
    pytest.importorskip("chdb", reason="needs embedded ClickHouse: pip install 'spanledger[local]'")
    server = EmbeddedClickHouse(tmp_path_factory.mktemp("clickhouse"))
    endpoint = server.start(free_port(), free_port())
    try:
        open_ledger(endpoint).close()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    """The ledger of all recorded calls, in a ClickHouse of its own, made once for the whole run; do not change it."""
    from tests.all_recordings import ledger_of_everything

    with ledger_of_everything(tmp_path_factory.mktemp("all") / "home") as made:
        yield made


@pytest.fixture(autouse=True)
def _no_spans_of_other_tests() -> None:
    unlinked.of_another_process()


@pytest.fixture
def ledger(clickhouse: EmbeddedClickHouse) -> Iterator[Client]:
    """A client of the shared ClickHouse whose ledger is empty."""
    endpoint = clickhouse.endpoint()
    assert endpoint is not None, "the shared embedded ClickHouse has gone"
    client = open_ledger(endpoint)
    for table in (
        "llm_calls",
        "llm_describers",
        "ledger_marks",
        "spanledger_health",
        "budget_alerts",
        "llm_calls_rollup",
        "rollup_dates",
    ):
        client.command(f"TRUNCATE TABLE {table}")
    yield client
    client.close()


@pytest.fixture
def ledger_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `SPANLEDGER_HOME` of this test's own; the process's settings and shipper are as after a fresh start."""
    home = tmp_path / "home"
    for name in ("SPANLEDGER_URL", "SPANLEDGER_CONFIG", "LLM_USAGE_LOGGING_ENABLED", "LLM_USAGE_FAIL_OPEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPANLEDGER_HOME", str(home))
    monkeypatch.setattr(shipper, "_shipper", None)
    settings.cache_clear()
    yield home
    shipper.close()
    settings.cache_clear()
