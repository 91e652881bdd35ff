"""A slow disk holds up an event loop with one write at most; each call still has its row before its result."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanledger.exporter import journal, shipper
from spanledger.exporter.install import install
from spanledger.instrumentation import OpenAIInstrumentor
from tests.chaos import traffic

DELAY_S = 0.02


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
