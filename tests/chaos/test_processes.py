"""Forks, spawns, servers, workers, freezing, and every way to end: each call is in the ledger exactly once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.shipper import load_journal
from tests.chaos import kills
from tests.chaos.kills import ROOT, Outcome
from tests.chaos.traffic import witnessed
from tests.conftest import free_port
from tests.exporter.conftest import wait

Told = Callable[[Outcome], None]
BIN = Path(sys.executable).parent


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="spanledger-chaos-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANLEDGER_"))}
    nothing = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    path = os.pathsep.join([str(home), str(ROOT)])
    return {**kept, **nothing, "SPANLEDGER_HOME": str(home), "PYTHONPATH": path, **more}


def instrumented(home: Path, *command: str, **more: str) -> subprocess.Popen[bytes]:
    """A program under the bare `opentelemetry-instrument`."""
    program = [str(BIN / "opentelemetry-instrument"), str(BIN / command[0]), *command[1:]]
    with (home / "output").open("ab") as out:
        return subprocess.Popen(program, cwd=ROOT, env=environment(home, **more), stdout=out, stderr=out)


def end(process: subprocess.Popen[bytes], home: Path, number: int = signal.SIGTERM) -> None:
    process.send_signal(number)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError((home / "output").read_text()) from None


def once_each(name: str, had: list[str], home: Path, ledger: Client, told: Told, unseen: int = 0) -> None:
    assert had, (home / "output").read_text()
    load_journal(home, ledger)
    outcome = kills.compared(name, 1, had, ledger)
    told(outcome)
    assert outcome.good, outcome
    assert outcome.unseen == unseen, outcome


def asked(url: str) -> list[str]:
    """The answer's process, and the ids of its calls."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode()).split()


def serves(url: str) -> bool:
    try:
        asked_ids.extend(asked(url)[1:])
    except OSError:
        return False
    return True


asked_ids: list[str] = []


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str, home: Path, ledger: Client, told: Told) -> None:
    process = instrumented(home, "python", "-m", "tests.chaos.programs.family", method)
    assert process.wait(60) == 0, (home / "output").read_text()
    had = witnessed(home / "witness")
    assert len(had) == 2 * (3 * 2 + 2 * 2 + 4)
    once_each(f"multiprocessing, {method}", had, home, ledger, told)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sync", ["-k", "sync"]),
        ("preload", ["-k", "sync", "--preload", "--max-requests", "3"]),
        ("gthread", ["-k", "gthread", "--threads", "4"]),
        ("uvicorn", ["-k", "uvicorn_worker.UvicornWorker"]),
    ],
)
def test_gunicorn(kind: str, options: list[str], home: Path, ledger: Client, told: Told) -> None:
    port = free_port()
    application = "tests.chaos.programs.web:" + ("asgi" if kind == "uvicorn" else "wsgi")
    process = instrumented(home, "gunicorn", "-b", f"127.0.0.1:{port}", "-w", "2", *options, application)
    asked_ids.clear()
    try:
        assert wait(lambda: serves(f"http://127.0.0.1:{port}"), 30), (home / "output").read_text()
        answers = [asked(f"http://127.0.0.1:{port}") for _ in range(12)]
    finally:
        end(process, home)
    had = asked_ids + [each for answer in answers for each in answer[1:]]
    once_each(f"gunicorn, {kind}", had, home, ledger, told)


def test_uvicorn_that_reloads(home: Path, ledger: Client, told: Told) -> None:
    port = free_port()
    application = home / "application"
    application.mkdir()
    (application / "reloaded.py").write_text("from tests.chaos.programs.web import asgi\n")
    options = ["--port", str(port), "--app-dir", str(application), "--reload", "--reload-dir", str(application)]
    process = instrumented(home, "uvicorn", "reloaded:asgi", *options)
    asked_ids.clear()
    url = f"http://127.0.0.1:{port}"
    try:
        assert wait(lambda: serves(url), 30), (home / "output").read_text()
        before = asked(url)
        (application / "reloaded.py").write_text("from tests.chaos.programs.web import asgi  # again\n")
        later: list[str] = []

        def reloaded() -> bool:
            try:
                answer = asked(url)
            except OSError:
                return False
            later.extend(answer[1:])
            return answer[0] != before[0]

        assert wait(reloaded, 30), (home / "output").read_text()
    finally:
        end(process, home, signal.SIGINT)
    once_each("uvicorn, reload", [*asked_ids, *before[1:], *later], home, ledger, told)


def test_celery_whose_processes_do_one_task_each(home: Path, ledger: Client, told: Told) -> None:
    for name in ("broker", "control"):
        (home / name).mkdir()
    send = "from tests.chaos.programs.tasks import two_calls\nfor _ in range(8): two_calls.delay()"
    subprocess.run([sys.executable, "-c", send], cwd=ROOT, env=environment(home), check=True, timeout=60)
    options = ["--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "1", "--without-mingle"]
    process = instrumented(home, "celery", "-A", "tests.chaos.programs.tasks", "worker", *options)
    try:
        assert wait(lambda: len(witnessed(home / "witness")) == 16, 60), (home / "output").read_text()
    finally:
        end(process, home)
    once_each("Celery, prefork, one task a process", witnessed(home / "witness"), home, ledger, told)


def test_freezing_in_the_middle_of_shipping(
    home: Path, clickhouse: EmbeddedClickHouse, ledger: Client, told: Told
) -> None:
    """As Lambda does between two requests; meanwhile another process looks after the same journal."""
    endpoint = clickhouse.endpoint()
    assert endpoint is not None
    url = f"http://{endpoint.username}:{endpoint.password}@127.0.0.1:{endpoint.port}/{endpoint.database}"
    code = "from tests.chaos.programs.family import calls\nwhile True:\n    calls(3)"
    settings = {"SPANLEDGER_URL": url, "SPANLEDGER_SHIP_INTERVAL": "0.1"}
    process = instrumented(home, "python", "-c", code, **settings)
    try:
        assert wait(lambda: ledger.query("SELECT count() FROM llm_calls").rows[0][0] > 0, 30)
        for _ in range(4):
            process.send_signal(signal.SIGSTOP)
            load_journal(home, ledger)
            process.send_signal(signal.SIGCONT)
            known = len(witnessed(home / "witness"))
            assert wait(lambda known=known: len(witnessed(home / "witness")) > known + 10)  # type: ignore[misc]
    finally:
        process.send_signal(signal.SIGCONT)
        end(process, home, signal.SIGINT)
    load_journal(home, ledger)
    outcome = kills.compared("frozen and thawed", 4, witnessed(home / "witness"), ledger)
    told(outcome)
    assert outcome.good, outcome


WAYS = (
    "returns",
    "os._exit after a flush",
    "os._exit",
    "SIGTERM",
    "SIGTERM, handled",
    "SIGINT",
    "an exception",
    "a thread pool at work",
    "a daemon thread at work",
    "cancelled tasks",
    "a stream left open",
)


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_end(way: str, home: Path, clickhouse: EmbeddedClickHouse, ledger: Client, told: Told) -> None:
    endpoint = clickhouse.endpoint()
    assert endpoint is not None
    url = f"http://{endpoint.username}:{endpoint.password}@127.0.0.1:{endpoint.port}/{endpoint.database}"
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos.programs.ends", way],
        cwd=ROOT,
        env=environment(home, SPANLEDGER_URL=url),
        capture_output=True,
        timeout=30,
    )
    expected = {"SIGTERM": -signal.SIGTERM, "SIGINT": 1, "an exception": 1}.get(way, 0)
    assert ended.returncode == expected, ended.stderr.decode()
    assert b"spanledger" not in ended.stderr.replace(b"/spanledger/", b""), ended.stderr.decode()
    assert time.monotonic() - began < 20
    had = witnessed(home / "witness")
    if way not in ("os._exit", "SIGTERM", "a daemon thread at work"):  # the last calls until nothing can be sent
        shipped = kills.compared(way, 1, had, ledger)
        assert shipped.lost == 0, "the end of the program has not sent its rows"
    load_journal(home, ledger)
    outcome = kills.compared(f"ends: {way}", 1, had, ledger)
    told(outcome)
    assert outcome.good, outcome
    assert outcome.unseen <= (way == "a daemon thread at work"), outcome


@pytest.mark.parametrize(
    ("way", "keeps"),
    [
        ("returns", True),
        ("SIGTERM, handled", True),
        ("SIGINT", True),
        ("an exception", True),
        ("SIGTERM", False),
        ("os._exit", False),
        ("20 000 spans at once", None),  # as many as the machine is quick enough for
    ],
)
def test_what_the_exporter_behind_a_batch_processor_keeps(
    way: str, keeps: bool | None, home: Path, ledger: Client, told: Callable[[str], None]
) -> None:
    """The limits that `docs/reliability.md` tells."""
    subprocess.run(
        [sys.executable, "-m", "tests.chaos.programs.ends", way],
        cwd=ROOT,
        env=environment(home, EXPORTER_MODE="1"),
        capture_output=True,
        timeout=120,
    )
    load_journal(home, ledger)
    had = witnessed(home / "witness")
    outcome = kills.compared(way, 1, had, ledger)
    told(f"exporter behind a batch processor, {way}: {outcome.survived} of {len(had)} calls kept")
    assert outcome.doubled == 0
    assert keeps is None or (outcome.lost == 0) is keeps, outcome
