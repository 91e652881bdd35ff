"""Embedded ClickHouse: start, health, stop, and everything that can be in the way."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanledger.exporter import embedded
from spanledger.exporter.client import connect
from spanledger.exporter.embedded import EmbeddedClickHouse, EmbeddedError
from tests.conftest import free_port

pytest.importorskip("chdb")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedClickHouse]:
    monkeypatch.setattr(embedded, "HTTP_PORT", free_port())
    monkeypatch.setattr(embedded, "TCP_PORT", free_port())
    server = EmbeddedClickHouse(tmp_path / "home")
    yield server
    server.stop()


def test_it_starts_answers_and_stops(server: EmbeddedClickHouse) -> None:
    assert server.endpoint() is None
    assert not server.status().running
    endpoint = server.start()

    assert endpoint.port == embedded.HTTP_PORT
    client = connect(endpoint)
    assert client.query("SELECT currentUser(), currentDatabase()").rows == [("spanledger", "spanledger")]
    client.close()
    status = server.status()
    assert status.running
    assert status.pid != os.getpid()
    assert (status.http_port, status.tcp_port) == (embedded.HTTP_PORT, embedded.TCP_PORT)
    assert status.version
    assert status.version.startswith("26.9.")
    assert status.data_bytes > 0

    assert server.stop()
    assert server.endpoint() is None
    assert not server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", endpoint.port), 1)


def test_starting_again_finds_the_running_one(server: EmbeddedClickHouse) -> None:
    first = server.start()
    pid = server.status().pid
    assert EmbeddedClickHouse(server.home).start() == first
    assert server.status().pid == pid
    with pytest.raises(EmbeddedError, match=f"already runs with http_port {first.port}, not 1234"):
        server.start(http_port=1234)


def test_a_server_that_is_just_ending_is_waited_for(server: EmbeddedClickHouse) -> None:
    """It holds its lock until it has gone, and no longer answers."""
    port = free_port()
    server._make_folder()
    (server.folder / "server.lock").write_text("123")
    (server.folder / "server.json").write_text(json.dumps({"pid": 123, "http_port": port, "tcp_port": free_port()}))
    with (server.folder / "server.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert server._state() is not None
        gone = threading.Timer(0.2, fcntl.flock, (held, fcntl.LOCK_UN))
        gone.start()
        endpoint = server.start()
        gone.join()
    connect(endpoint).close()


def test_processes_that_start_it_at_the_same_time_share_one(server: EmbeddedClickHouse) -> None:
    endpoints = []
    threads = [
        threading.Thread(target=lambda: endpoints.append(EmbeddedClickHouse(server.home).start())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(endpoints) == 4
    assert len(set(endpoints)) == 1


def test_it_outlives_the_process_that_started_it(server: EmbeddedClickHouse) -> None:
    code = (
        "import sys; from pathlib import Path; from spanledger.exporter.embedded import EmbeddedClickHouse;"
        f"EmbeddedClickHouse(Path(sys.argv[1])).start({free_port()}, {free_port()})"
    )
    subprocess.run([sys.executable, "-c", code, str(server.home)], check=True, timeout=60)
    endpoint = server.endpoint()
    assert endpoint is not None
    client = connect(endpoint)
    assert client.query("SELECT 1").rows == [(1,)]
    client.close()


def test_rows_survive_kill_9_and_a_restart_keeps_ports_and_passwords(server: EmbeddedClickHouse) -> None:
    endpoint = server.start()
    client = connect(endpoint)
    client.command("CREATE TABLE kept (x UInt8) ENGINE = MergeTree ORDER BY x")
    client.command("INSERT INTO kept SELECT 7")
    client.close()
    pid = server.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    embedded._wait(lambda: server.endpoint() is None, 10)

    assert not server.status().running  # server.json is still there, and stale
    assert (server.folder / "server.json").exists()
    assert server.start() == endpoint
    client = connect(endpoint)
    assert client.query("SELECT x FROM kept").rows == [(7,)]
    client.close()


def test_a_default_port_that_is_taken_is_replaced_and_remembered(
    server: EmbeddedClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(embedded, "HTTP_PORT", port)
        endpoint = server.start()
        assert endpoint.port != port
        server.stop()
    assert server.start().port == endpoint.port


def test_an_asked_port_that_is_taken_is_an_error(server: EmbeddedClickHouse) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"port {port} is taken"):
            server.start(http_port=port)
        with pytest.raises(EmbeddedError, match=f"port {port} is taken"):
            server.start(tcp_port=port)
    with pytest.raises(EmbeddedError, match="70000 is not a port"):
        server.start(http_port=70000)


def test_a_port_taken_between_choice_and_start_is_replaced_unless_it_was_asked_for(
    server: EmbeddedClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_free", lambda port: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"a port is taken.*{port}"):
            server.start(free_port(), port)
        assert server.endpoint() is None
        monkeypatch.setattr(embedded, "TCP_PORT", port)
        endpoint = server.start()
    assert server.status().tcp_port not in (None, port)
    assert endpoint == server.endpoint()


def test_data_in_use_by_another_process_is_an_error(server: EmbeddedClickHouse, tmp_path: Path) -> None:
    server._make_folder()
    held = tmp_path / "held.fifo"
    os.mkfifo(held)
    code = (
        "import sys; from chdb import _chdb;"
        f"_chdb.query(\"SELECT count() FROM file('{held}', 'LineAsString')\", 'CSV', path=sys.argv[1])"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(server.folder / "data")], cwd=tmp_path)
    try:
        # The pipe opens when the other engine reads it, so when it has the data.
        with held.open("w"), pytest.raises(EmbeddedError, match="in use by another process"):
            server.start()
    finally:
        assert other.wait(30) == 0
    server.start()


def test_without_the_engine_the_error_says_what_to_install(
    server: EmbeddedClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"pip install 'spanledger\[local\]'"):
        server.start()


def test_damaged_state_files_are_replaced(server: EmbeddedClickHouse) -> None:
    server._make_folder()
    (server.folder / "server.json").write_text("{", encoding="utf-8")
    (server.folder / "credentials.json").write_text("[]", encoding="utf-8")
    client = connect(server.start())
    assert client.query("SELECT 1").rows == [(1,)]
    client.close()


def test_the_data_folder_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "clickhouse").symlink_to(tmp_path / "real")
    with pytest.raises(EmbeddedError, match="symbolic link"):
        EmbeddedClickHouse(tmp_path).start()


def test_automatic_instrumentation_stays_out_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/x/opentelemetry/instrumentation/auto_instrumentation:/mine")
    assert embedded.child_environment()["PYTHONPATH"] == "/mine"
    monkeypatch.setenv("PYTHONPATH", "/x/opentelemetry/instrumentation/auto_instrumentation")
    assert "PYTHONPATH" not in embedded.child_environment()


def test_stop_comes_at_any_moment(server: EmbeddedClickHouse) -> None:
    for _ in range(3):
        server.start()
        assert server.stop()
