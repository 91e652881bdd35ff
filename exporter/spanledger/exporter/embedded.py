"""Embedded ClickHouse: a real server on loopback that needs no installation, as a background process.

    clickhouse = EmbeddedClickHouse(settings().home)
    endpoint = clickhouse.start()

Everything it has is in `HOME/clickhouse`: `data`, `server.log`, `server.json` (ports, version), `credentials.json`
(passwords, mode 0600). Whoever holds the lock on `server.lock` is the running server.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanledger.exporter import embedded_config
from spanledger.exporter.client import Endpoint
from spanledger.exporter.private import home_folder, private_folder

HTTP_PORT = 18123
TCP_PORT = 19000
_START_S = 90.0
_STOP_S = 20.0
_LOG_BYTES = 8 * 2**20
_ATTEMPTS = 3


class EmbeddedError(Exception):
    """Embedded ClickHouse cannot do what was asked; the message says why and what to do."""


class _PortTaken(EmbeddedError):
    pass


@dataclass(frozen=True, slots=True)
class Status:
    """How an embedded ClickHouse is.

    Attributes:
        running: it serves.
        folder: where its data, log and passwords are.
        pid: process; None when it does not run, as are ports, version and `since_ns`.
        http_port: HTTP on 127.0.0.1.
        tcp_port: ClickHouse's native protocol on 127.0.0.1.
        version: the engine's, `26.9.2.1`.
        since_ns: start, ns since the epoch.
        data_bytes: size of the data folder.
    """

    running: bool
    folder: Path
    pid: int | None = None
    http_port: int | None = None
    tcp_port: int | None = None
    version: str | None = None
    since_ns: int | None = None
    data_bytes: int = 0

    @property
    def log(self) -> Path:
        return self.folder / "server.log"


class EmbeddedClickHouse:
    """The embedded ClickHouse of one `SPANLEDGER_HOME`; any process may start, use and stop it."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.folder = self.home / "clickhouse"

    def start(self, http_port: int | None = None, tcp_port: int | None = None) -> Endpoint:
        """Start the server, unless it runs; it outlives this process.

        Parameters:
            http_port: port on 127.0.0.1; None: the one it had before, 18123, or a free one.
            tcp_port: the same for the native protocol: before, 19000, or a free one.

        Returns:
            Where it listens, and the ledger's own user.

        Raises:
            EmbeddedError: chdb-core is not installed, an asked port is taken, the data are in use, ...
        """
        self._make_folder()
        with self._alone("start"):
            state = self._state()
            if state is not None and self._serves(state):
                return self._already(state, http_port, tcp_port)
            if importlib.util.find_spec("chdb") is None:
                raise EmbeddedError(
                    "embedded ClickHouse is not installed: pip install 'spanledger[local]'"
                    " (or set SPANLEDGER_URL to a ClickHouse of yours)"
                )
            before = self._record()
            http = _choose(http_port, before.get("http_port"), HTTP_PORT)
            tcp = _choose(tcp_port, before.get("tcp_port"), TCP_PORT, other_than=http)
            for attempt in range(_ATTEMPTS):
                try:
                    return self._endpoint(self._launch(http, tcp), embedded_config.WRITER)
                except _PortTaken:  # by somebody who was quicker
                    if attempt == _ATTEMPTS - 1 or (http_port is not None and tcp_port is not None):
                        raise
                    http = _choose(http_port)
                    tcp = _choose(tcp_port, other_than=http)
            raise AssertionError("unreachable")

    def stop(self) -> bool:
        """Stop the server; False when it does not run.

        Raises:
            EmbeddedError: it does not end, not even when killed.
        """
        if not self._running():
            return False
        with self._alone("stop"):
            for number, seconds in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, 5.0)):
                self._send(number)
                if _wait(lambda: not self._running(), seconds):
                    return True
        raise EmbeddedError(
            f"embedded ClickHouse (process {self._pid()}) does not end; see {self.folder / 'server.log'}"
        )

    def endpoint(self) -> Endpoint | None:
        """Where the running server listens, with the user who writes the ledger; None when it does not run."""
        state = self._state()
        return None if state is None else self._endpoint(state, embedded_config.WRITER)

    def reader(self) -> Endpoint | None:
        """The same, with the user who can only read: for queries and dashboards."""
        state = self._state()
        return None if state is None else self._endpoint(state, embedded_config.READER)

    def status(self) -> Status:
        data = _size(self.folder / "data")
        state = self._state()
        if state is None:
            return Status(False, self.folder, data_bytes=data)
        return Status(
            True,
            self.folder,
            pid=int(state["pid"]),
            http_port=int(state["http_port"]),
            tcp_port=int(state["tcp_port"]),
            version=str(state["version"]),
            since_ns=int(state["started_ns"]),
            data_bytes=data,
        )

    def _make_folder(self) -> None:
        try:
            home_folder(self.home)
            private_folder(self.folder)
        except OSError as error:
            raise EmbeddedError(f"cannot use {self.folder}: {error}") from error

    def _serves(self, state: dict[str, Any]) -> bool:
        """Whether the server is there to stay: one that does not answer is ending, and its end is waited for."""
        from spanledger.exporter.embedded_server import ask

        try:
            ask(int(state["http_port"]), "SELECT 1")
            return True
        except OSError:
            return not _wait(lambda: not self._running(), _STOP_S)

    def _already(self, state: dict[str, Any], http_port: int | None, tcp_port: int | None) -> Endpoint:
        for name, asked in (("http_port", http_port), ("tcp_port", tcp_port)):
            if asked is not None and asked != state[name]:
                raise EmbeddedError(
                    f"embedded ClickHouse already runs with {name} {state[name]}, not {asked}: stop it first"
                )
        return self._endpoint(state, embedded_config.WRITER)

    def _launch(self, http_port: int, tcp_port: int) -> dict[str, Any]:
        """Run the server with these ports until it is ready; what it says about itself."""
        log = self.folder / "server.log"
        try:
            embedded_config.write_config(self.folder, http_port, tcp_port)
            if log.exists() and log.stat().st_size > _LOG_BYTES:
                os.replace(log, self.folder / "server.log.1")
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EmbeddedError(f"cannot write into {self.folder}: {error}") from error
        try:
            begin = os.fstat(descriptor).st_size
            started = subprocess.run(
                [sys.executable, "-m", "spanledger.exporter.embedded_server", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
                cwd=self.folder,  # not the user's, whose modules would come before the library's
                env=child_environment(),
                check=False,
            )
        finally:
            os.close(descriptor)
        if started.returncode == 0 and not _wait(lambda: bool(self._state()) or not self._running(), _START_S):
            raise EmbeddedError(f"embedded ClickHouse is not ready after {_START_S:.0f} s; see {log}")
        state = self._state()
        if state is None:
            raise self._failure(log, begin)
        return state

    def _failure(self, log: Path, begin: int) -> EmbeddedError:
        """Why the server ended, by what it has logged since it was launched."""
        text = log.read_bytes()[begin:].decode("utf-8", "replace").strip()
        if "Address already in use" in text:
            line = next(line for line in text.splitlines() if "Address already in use" in line)
            return _PortTaken(f"embedded ClickHouse did not start, a port is taken: {line}")
        if "Cannot lock file" in text:
            return EmbeddedError(
                f"{self.folder / 'data'} is in use by another process: stop it, or choose another SPANLEDGER_HOME"
            )
        said = text.rpartition("spanledger: ")[2].strip() or "it ended without a word"
        return EmbeddedError(f"embedded ClickHouse did not start: {said[:600]} (log: {log})")

    def _running(self) -> bool:
        """Whether somebody holds `server.lock`."""
        try:
            descriptor = os.open(self.folder / "server.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)

    def _pid(self) -> int | None:
        """The process that holds, or held last, `server.lock`."""
        try:
            return int((self.folder / "server.lock").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _record(self) -> dict[str, Any]:
        """What the server last wrote about itself; it may be over."""
        try:
            found = json.loads((self.folder / "server.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _state(self) -> dict[str, Any] | None:
        """What the running server wrote about itself once it was ready; None when it is not."""
        record = self._record()
        if record and self._running() and record.get("pid") == self._pid():
            return record
        return None

    def _endpoint(self, state: dict[str, Any], user: str) -> Endpoint:
        try:
            password = embedded_config.passwords(self.folder)[user]
        except (OSError, ValueError) as error:
            raise EmbeddedError(
                f"cannot read the passwords in {self.folder / 'credentials.json'} ({error}):"
                " stop embedded ClickHouse, delete that file and start again"
            ) from error
        return Endpoint("127.0.0.1", int(state["http_port"]), user, password, embedded_config.DATABASE)

    def _send(self, number: signal.Signals) -> None:
        pid = self._pid()
        if pid is not None and self._running():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    @contextmanager
    def _alone(self, doing: str) -> Iterator[None]:
        """One start or stop at a time for this folder."""
        descriptor = os.open(self.folder / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:

            def locked() -> bool:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True

            if not _wait(locked, _START_S):
                raise EmbeddedError(f"cannot {doing} embedded ClickHouse: another process is at it; see {self.folder}")
            yield
        finally:
            os.close(descriptor)


def child_environment() -> dict[str, str]:
    """Ours, for a process that runs elsewhere and is not part of the program that starts it: without automatic
    instrumentation, with whole paths."""
    environment = {**os.environ, "TZ": "UTC"}
    if config := environment.get("SPANLEDGER_CONFIG"):
        environment["SPANLEDGER_CONFIG"] = os.path.abspath(os.path.expanduser(config))
    paths = [p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p]
    paths = [os.path.abspath(p) for p in paths if "auto_instrumentation" not in p]
    environment.pop("PYTHONPATH", None)
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _choose(asked: int | None, *preferred: object, other_than: int | None = None) -> int:
    """A free port: the one asked for or none, else the first of the preferred that is free, else any."""
    if asked is not None:
        if not _free(asked):
            raise EmbeddedError(f"port {asked} is taken: choose another, or leave it out to take a free one")
        return asked
    for port in preferred:
        if isinstance(port, int) and port != other_than and _free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free(port: int) -> bool:
    if not 0 < port < 65536:
        raise EmbeddedError(f"{port} is not a port: use 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    """Poll `done`, 20 ms apart, for so long at most."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:  # merged away while we look
                pass
    return total
