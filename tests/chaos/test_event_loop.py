"""Nothing of ours holds up an event loop, but one write that finds the disk slow; each call still has its row first."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI
from opentelemetry.sdk.trace import TracerProvider

from spanledger.exporter import journal, shipper
from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.install import install
from spanledger.instrumentation import OpenAIInstrumentor, span
from spanledger.pricing.book import PriceBook, default_book, reload
from spanledger.tracking import cost_of
from tests.chaos import traffic
from tests.chaos.conftest import LONG
from tests.chaos.kills import ROOT
from tests.chaos.test_processes import environment

DELAY_S = 0.02
CALLS = 4_000 if LONG else 200
MOST_US, MOST_OF_FIRST_US = 1_000, 3_000


@pytest.fixture
def in_the_loop(ledger_home: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each write to the journal in the main thread; every write takes `DELAY_S` or more."""
    taken: list[float] = []
    write = os.write

    def slow(descriptor: int, data: bytes) -> int:
        if not data.startswith(journal.ROW_START):
            return write(descriptor, data)
        began = time.perf_counter()
        time.sleep(DELAY_S)
        written = write(descriptor, data)
        if threading.current_thread() is threading.main_thread():
            taken.append(time.perf_counter() - began)
        return written

    monkeypatch.setattr(journal.os, "write", slow)
    shipper._shipper = shipper.Shipper(ledger_home, interval=3600)
    provider = TracerProvider(shutdown_on_exit=False)
    install(provider)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    return taken


def written(home: Path) -> bytes:
    """All rows; a segment that is sealed meanwhile is looked for once more."""
    folder = home / "journal"
    try:
        return b"".join(path.read_bytes() for kind in ("open", "block") for path in folder.glob(f"*.{kind}"))
    except FileNotFoundError:
        return written(home)


def test_one_write_finds_the_disk_slow_and_a_thread_does_the_others(
    in_the_loop: list[float], ledger_home: Path, told: Callable[[str], None]
) -> None:
    without_row: list[str] = []

    async def call(of: traffic.AsyncOpenAI, streamed: bool) -> None:
        response_id = await (traffic.async_stream if streamed else traffic.async_plain)(of)
        if response_id.encode() not in written(ledger_home):
            without_row.append(response_id)

    async def calls() -> None:
        of = traffic.async_client()
        for _ in range(5):
            await asyncio.gather(*(call(of, bool(number % 2)) for number in range(8)))

    try:
        asyncio.run(calls())
    finally:
        OpenAIInstrumentor().uninstrument()
    told(f"event loop, every write {DELAY_S * 1000:.0f} ms: {len(in_the_loop)} of 40 in the loop")
    assert len(in_the_loop) == 1
    assert not without_row
    assert written(ledger_home).count(b"\n") == 40


@pytest.mark.parametrize("threads", [True, False])
def test_prices_of_another_provider_are_loaded_in_a_thread_where_there_is_one(
    threads: bool, ledger_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded_in: list[str] = []
    lay, start = PriceBook._lay, threading.Thread.start

    def noting(self: PriceBook, target: Any, provider: str, seen: set[str]) -> None:
        if provider == "azure.ai.openai":
            loaded_in.append(threading.current_thread().name)
        lay(self, target, provider, seen)

    def none_left(self: threading.Thread) -> None:
        if self.name == "spanledger-prices":
            raise RuntimeError("can't start new thread")
        start(self)

    async def answer(request: httpx2.Request) -> httpx2.Response:
        for _ in range(200):  # the first call to a provider takes long enough; here until its prices are there
            if not threads or default_book().is_prepared("azure.ai.openai"):
                break
            await asyncio.sleep(0.01)
        return await traffic._async_answer(request)

    async def call() -> Any:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        of = AsyncOpenAI(api_key="sk-x", base_url="https://a.openai.azure.com/openai/v1", http_client=http)
        return await of.chat.completions.create(**traffic.ASK)

    monkeypatch.setattr(span, "_prepared", set())
    monkeypatch.setattr(PriceBook, "_lay", noting)
    reload()
    OpenAIInstrumentor().instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))
    if not threads:
        monkeypatch.setattr(threading.Thread, "start", none_left)
    try:
        outcome = cost_of(asyncio.run(call()))
    finally:
        OpenAIInstrumentor().uninstrument()
    assert outcome is not None
    assert (outcome.cost, outcome.price_status) == (Decimal("0.005615"), "priced")
    assert loaded_in == ["spanledger-prices" if threads else "MainThread"]


def test_no_step_of_ours_takes_a_millisecond_of_the_loop(
    tmp_path: Path, clickhouse: EmbeddedClickHouse, ledger: Client, told: Callable[[str], None]
) -> None:
    """A fresh program whose journal rotates and is shipped: no import, no price list, no file is read in the loop.

    Its first call is the first of a process: it also makes the journal and starts the thread that ships it. Other work
    on the machine can only add to what is measured: so of three programs one that stays below is enough.
    """
    endpoint = clickhouse.endpoint()
    assert endpoint is not None
    url = f"http://{endpoint.username}:{endpoint.password}@127.0.0.1:{endpoint.port}/{endpoint.database}"
    found: dict[str, Any] = {}
    for attempt in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos.programs.loop", str(CALLS)],
            cwd=ROOT,
            env=environment(tmp_path / str(attempt), SPANLEDGER_URL=url),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["waits"] == {"os.mkdir": 3, "open": 1, "fcntl.flock": 1, "os.rename": 1}  # the journal is made
        assert found["left"] == []
        assert ledger.query("SELECT uniqExact(entry_id) FROM llm_calls").rows == [((CALLS + 2) * (attempt + 1),)]
        if found["longest_us"][0][1] < MOST_US and found["first_us"] < MOST_OF_FIRST_US:
            break
    told(
        f"event loop: {CALLS + 2} calls, {found['steps']} steps of ours: {found['median_us']:.0f} us in the median,"
        f" {found['longest_us'][0][1]:.0f} us the longest; of the first call {found['first_us']:.0f} us"
    )
    assert found["longest_us"][0][1] < MOST_US
    assert found["first_us"] < MOST_OF_FIRST_US
