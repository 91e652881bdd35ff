"""Memory stays flat however many calls there are, and nothing is left after uninstrument."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from spanledger.instrumentation import OpenAIInstrumentor
from spanledger.tracking import cost_of, track
from tests.chaos import traffic
from tests.chaos.conftest import LONG
from tests.chaos.kills import ROOT
from tests.chaos.test_processes import environment

CALLS, STREAMS = (200_000, 20_000) if LONG else (3_000, 300)
MIB = 2**20


@pytest.mark.timeout(0 if LONG else 120)
def test_many_calls_and_streams_half_of_them_abandoned(tmp_path: Path, told: Callable[[str], None]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos.programs.many", str(CALLS), str(STREAMS)],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    first, *_, last = found["rss"]
    told(
        f"memory: {first / MIB:.1f} MiB after warming up, {last / MIB:.1f} MiB after"
        f" {CALLS} calls and {STREAMS} streams; largest {max(found['rss']) / MIB:.1f}"
    )
    assert last - first < 4 * MIB, found["rss"]
    before, after = found["before"], found["after"]
    assert after["threads"] == before["threads"]
    assert after["descriptors"] == before["descriptors"]
    assert found["restored"]
    assert not found["client"]
    assert found["streams"] == 0


def test_knowing_the_cost_does_not_keep_a_response(ledger_home: Path) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        of = traffic.client()
        traffic.plain(of)
        gc.collect()
        gc.disable()
        with track() as tracker:
            response = of.chat.completions.create(**traffic.ASK)
            stream = of.chat.completions.create(**traffic.ASK, stream=True)
            for _ in stream:
                pass
            assert cost_of(response) is not None
            assert cost_of(stream) is not None
            references = weakref.ref(response), weakref.ref(stream)
            del response, stream
            assert references[0]() is None  # at once, without a collection
            gc.collect()
            assert references[1]() is None
        assert tracker.calls == 2
    finally:
        gc.enable()
        instrumentor.uninstrument()
