"""`spanledger up`, `down`, `status`: the life of the background service."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spanledger.exporter.client import connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.service import daemon
from tests.service.conftest import BIN, call_once, environment, spanledger


def state(home: Path) -> dict:
    result = spanledger(home, "status", "--json")
    found = json.loads(result.stdout)
    assert result.returncode == (0 if found["up"] else 1)
    return found


def calls_in_clickhouse(home: Path) -> int:
    """What is in ClickHouse now, without loading the journal as commands do."""
    endpoint = EmbeddedClickHouse(home).reader()
    assert endpoint is not None
    client = connect(endpoint)
    try:
        return client.query("SELECT countIf(line = 0) FROM llm_calls FINAL").rows[0][0]
    finally:
        client.close()


def eventually(look, wanted, seconds: float = 20.0):
    """Wait for what another process brings about."""
    deadline = time.monotonic() + seconds
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, f"{found!r} is not {wanted!r} after {seconds:g} s"
        time.sleep(0.05)


def test_up_twice_and_down_twice(home):
    assert state(home)["up"] is False
    first = spanledger(home, "up")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("Up: ClickHouse 26.9")
    pid = state(home)["process"]

    second = spanledger(home, "up")
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout.startswith("Already up: ")
    assert state(home)["process"] == pid

    down = spanledger(home, "down")
    assert (down.returncode, down.stdout) == (0, f"Down: {home}\n")
    assert state(home)["up"] is False
    assert EmbeddedClickHouse(home).status().running is False
    assert spanledger(home, "down").stdout == f"It was not up: {home}\n"
    assert spanledger(home, "down", "--quiet").stdout == ""


def test_the_home_and_what_is_in_it_are_private(home):
    spanledger(home, "up")
    assert home.stat().st_mode & 0o077 == 0
    for path in (daemon.lock_file(home), daemon.log_file(home), home / "clickhouse" / "credentials.json"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_service_loads_rows_while_programs_write_them(home):
    spanledger(home, "up", SPANLEDGER_SHIP_INTERVAL="0.2")
    made = call_once(home, SPANLEDGER_SHIP_INTERVAL="0.2")
    assert made.returncode == 0, made.stderr
    eventually(lambda: calls_in_clickhouse(home), 1)
    eventually(lambda: state(home)["rows_waiting"], 0)


def test_the_service_adopts_what_a_killed_program_left(home):
    spanledger(home, "up", SPANLEDGER_SHIP_INTERVAL="0.2")
    body = (
        'client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi"}]);'
        " os.kill(os.getpid(), 9)"
    )
    assert call_once(home, body, SPANLEDGER_SHIP_INTERVAL="3600").returncode == -signal.SIGKILL
    eventually(lambda: calls_in_clickhouse(home), 1)


def test_down_loads_what_waits_first(home):
    spanledger(home, "up", SPANLEDGER_SHIP_INTERVAL="3600")
    call_once(home)
    assert state(home)["rows_waiting"] == 1
    assert spanledger(home, "down").returncode == 0
    assert state(home)["rows_waiting"] == 0


def test_rows_of_calls_made_while_it_is_down_come_with_the_next_up(home):
    call_once(home)
    assert state(home)["rows_waiting"] == 1
    spanledger(home, "up", SPANLEDGER_SHIP_INTERVAL="0.2")
    eventually(lambda: calls_in_clickhouse(home), 1)


def test_a_killed_service_leaves_nothing_in_the_way(home):
    spanledger(home, "up")
    os.kill(state(home)["process"], signal.SIGKILL)
    eventually(lambda: state(home)["up"], False)
    assert EmbeddedClickHouse(home).status().running is True  # ClickHouse lives on by itself

    again = spanledger(home, "up")
    assert again.stdout.startswith("Up: "), again.stderr
    assert state(home)["up"] is True


def test_down_ends_the_clickhouse_that_a_killed_service_left(home):
    spanledger(home, "up")
    os.kill(state(home)["process"], signal.SIGKILL)
    eventually(lambda: state(home)["up"], False)
    assert spanledger(home, "down").stdout == f"Down: {home}\n"
    assert EmbeddedClickHouse(home).status().running is False


def test_the_service_starts_a_killed_clickhouse_again_with_all_rows(home):
    spanledger(home, "up", SPANLEDGER_SHIP_INTERVAL="0.2")
    call_once(home, SPANLEDGER_SHIP_INTERVAL="0.2")
    eventually(lambda: calls_in_clickhouse(home), 1)
    killed = EmbeddedClickHouse(home).status().pid
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: EmbeddedClickHouse(home).status().pid not in (None, killed), True)
    call_once(home, SPANLEDGER_SHIP_INTERVAL="0.2")
    eventually(lambda: calls_in_clickhouse(home), 2)


def test_a_stale_lock_file_does_not_mislead(home):
    home.mkdir(mode=0o700)
    daemon.lock_file(home).write_text(json.dumps({"pid": os.getpid(), "since_ns": 0, "interval": 1.0}))
    assert state(home)["up"] is False
    assert spanledger(home, "down").stdout == f"It was not up: {home}\n"
    assert spanledger(home, "up").stdout.startswith("Up: ")


def test_a_port_that_is_taken_is_said(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = spanledger(home, "up", "--http-port", str(port))
    assert result.returncode == 1
    assert result.stderr.startswith(f"spanledger: port {port} is taken: ")
    assert result.stderr.count("\n") == 1
    assert state(home)["up"] is False


def test_a_chosen_port_is_taken(home):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = spanledger(home, "up", "--http-port", str(port))
    assert f"http://127.0.0.1:{port} " in result.stdout, result.stderr


def test_without_the_engine_it_says_what_to_install(home):
    hidden = "import sys; sys.modules['chdb'] = None; from spanledger.service.cli import main; main()"
    for command in (["up", "--foreground"], ["report"]):
        result = subprocess.run(
            [sys.executable, "-c", hidden, *command], env=environment(home), capture_output=True, text=True, check=False
        )
        assert result.returncode == 1
        assert "pip install 'spanledger[local]'" in result.stderr
        assert result.stderr.count("\n") == 1


def test_an_own_clickhouse_leaves_nothing_to_start(home):
    result = spanledger(home, "up", SPANLEDGER_URL="http://ada:secret@clickhouse.example.com:8123/llm")
    assert result.returncode == 1
    assert "SPANLEDGER_URL is set: programs write to http://ada@clickhouse.example.com:8123/llm" in result.stderr
    assert "secret" not in result.stderr


def test_in_the_foreground_it_serves_until_it_is_told_to_stop(home):
    process = subprocess.Popen(
        [str(BIN / "spanledger"), "up", "--foreground"], env=environment(home), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Up: ClickHouse")
    assert state(home)["process"] == process.pid
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, f"Down: {home}\n")
    assert EmbeddedClickHouse(home).status().running is False


def test_a_second_service_in_the_same_home_is_refused(home):
    spanledger(home, "up")
    with pytest.raises(daemon.ServiceError, match="another service runs"), daemon._held(home, 1.0):
        pass


def test_modules_and_relative_settings_of_the_users_folder_do_not_get_in_the_way(home, tmp_path, monkeypatch):
    for name in ("http", "json", "queue", "secrets", "socket"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')")
    (tmp_path / "mine.yaml").write_text("settings: {ship_interval: 0.25}")
    monkeypatch.chdir(tmp_path)
    assert spanledger(home, "report", SPANLEDGER_CONFIG="mine.yaml").stderr == "No calls yet.\n"
    assert spanledger(home, "up", SPANLEDGER_CONFIG="mine.yaml").stderr == ""
    service = daemon.running(home)
    assert service is not None
    assert service.interval == 0.25


def test_a_report_without_up_leaves_nothing_running(home):
    call_once(home)
    result = spanledger(home, "report", "--json")
    assert [row["calls"] for row in json.loads(result.stdout)] == [1]
    assert EmbeddedClickHouse(home).status().running is False


def test_reports_at_the_same_time_without_up_wait_for_one_another(home):
    call_once(home)
    commands = [
        subprocess.Popen(
            [str(BIN / "spanledger"), "report", "--json"], env=environment(home), stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for command in commands:
        out, _ = command.communicate(timeout=60)
        assert command.returncode == 0
        assert [row["calls"] for row in json.loads(out)] == [1]
    assert EmbeddedClickHouse(home).status().running is False


def test_a_report_with_a_url_reads_from_that_clickhouse_and_loads_what_waits_here(home, tmp_path):
    spanledger(home, "up")
    endpoint = EmbeddedClickHouse(home).endpoint()
    url = f"http://{endpoint.username}:{endpoint.password}@127.0.0.1:{endpoint.port}/{endpoint.database}"
    other = tmp_path / "other"
    call_once(other, SPANLEDGER_SHIP_INTERVAL="3600")
    result = spanledger(other, "report", "--json", SPANLEDGER_URL=url)
    assert [row["calls"] for row in json.loads(result.stdout)] == [1], result.stderr
    assert calls_in_clickhouse(home) == 1
    assert not (other / "clickhouse").exists()
    shown = spanledger(other, "status", SPANLEDGER_URL=url)
    assert shown.returncode == 0
    assert endpoint.password not in shown.stdout


def test_a_user_who_can_only_read_gets_the_report_and_is_told_what_waits(home, tmp_path):
    spanledger(home, "up")
    spanledger(home, "report")  # makes the schema
    endpoint = EmbeddedClickHouse(home).reader()
    url = f"http://{endpoint.username}:{endpoint.password}@127.0.0.1:{endpoint.port}/{endpoint.database}"
    other = tmp_path / "other"
    call_once(other)
    result = spanledger(other, "report", SPANLEDGER_URL=url)
    assert result.returncode == 0
    assert "is not in this report" in result.stderr
    assert endpoint.password not in result.stderr


def test_a_clickhouse_that_does_not_answer_is_one_line(home):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = spanledger(home, "report", SPANLEDGER_URL=f"http://ada:secret@127.0.0.1:{port}/llm")
    assert result.returncode == 1
    assert result.stderr.startswith("spanledger: no answer from ClickHouse at http://ada@127.0.0.1")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr


def test_the_service_of_a_deleted_home_ends(home, tmp_path):
    assert spanledger(home, "up").returncode == 0
    lock = daemon.lock_file(home)
    kept = lock.rename(tmp_path / "kept.lock")  # as the deleted home's: gone, and held
    try:
        eventually(lambda: "was deleted: the service ends" in daemon.log_file(home).read_text("utf-8"), True)
    finally:
        eventually(lambda: EmbeddedClickHouse(home).endpoint(), None)
        kept.rename(lock)
