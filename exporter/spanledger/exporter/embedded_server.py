"""The process that owns an embedded ClickHouse: `python -m spanledger.exporter.embedded_server FOLDER`.

This module alone touches chdb-core. It uses the engine's private entry point, because only that starts the HTTP
and TCP listeners of the engine inside; hence the pinned version. `FOLDER` holds `config.xml` and `users.xml`
(`embedded_config.py`); the process serves until somebody opens and closes `stop.fifo`, or SIGTERM.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import json
import os
import signal
import sys
import threading
import time
from base64 import b64encode
from pathlib import Path

from spanledger.exporter.embedded_config import DATABASE, WRITER, passwords
from spanledger.exporter.private import write_private

# HTTP last: once it answers, all is there.
_SERVE = (
    f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic; "
    "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; "
    "SELECT count() FROM file('stop.fifo', 'LineAsString')"
)
_START_S = 60.0


class _Failure(Exception):
    """The server cannot serve; the message is for the user."""


def main(folder: Path) -> None:
    """Serve `folder` in the background; returns to the caller's process at once.

    Raises:
        SystemExit: another process serves this folder.
    """
    os.umask(0o077)
    lock = _own(folder)
    os.ftruncate(lock, 0)  # before the fork: the last server's id would pass for the one that starts
    if os.fork():
        os._exit(0)  # the server is nobody's child: whoever started it need not wait for it
    try:
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        os.chdir(folder)
        _serve(folder)
    except _Failure as failure:
        raise SystemExit(f"spanledger: {failure}") from None


def _own(folder: Path) -> int:
    """Lock `server.lock` for the lifetime of this process."""
    descriptor = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 2.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:  # somebody who looks whether a server runs holds it for a moment
            if time.monotonic() > deadline:
                raise SystemExit(f"spanledger: another process serves {folder}") from None
            time.sleep(0.02)


def _serve(folder: Path) -> None:
    stop = folder / "stop.fifo"
    stop.unlink(missing_ok=True)
    os.mkfifo(stop, 0o600)
    # The engine's threads inherit this: a signal waits for sigwait below instead of a handler of the engine's.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    ended = threading.Event()
    errors: list[str] = []

    def engine() -> None:
        try:
            from chdb import _chdb

            _chdb.query(_SERVE, "TabSeparated", path="data")  # type: ignore[attr-defined]
        except BaseException as error:
            errors.append(str(error).strip() or repr(error))
        finally:
            ended.set()
            signal.pthread_kill(main_thread, signal.SIGTERM)

    main_thread = threading.get_ident()
    started_ns = time.time_ns()
    thread = threading.Thread(target=engine, name="clickhouse")
    thread.start()

    failure = _announce(folder, started_ns, ended)
    if failure is None:
        signal.sigwait(signals)
    while not ended.is_set():  # asked to stop, or unfit to serve
        _close_fifo(stop)
        ended.wait(0.05)
    thread.join()
    if errors:
        raise _Failure(errors[0])
    if failure is not None:
        raise _Failure(failure)


def _announce(folder: Path, started_ns: int, ended: threading.Event) -> str | None:
    """Wait until the listener answers, see that it is shut to strangers, and write `server.json`.

    Returns why the server must not serve, or None.
    """
    config = (folder / "config.xml").read_text(encoding="utf-8")
    http_port = int(config.split("<http_port>")[1].split("<")[0])
    tcp_port = int(config.split("<tcp_port>")[1].split("<")[0])
    deadline = time.monotonic() + _START_S
    while not ended.is_set():
        try:
            status, _ = ask(http_port, "SELECT 1")
            if status == 200 or ask(http_port, "SELECT 1", "default")[0] == 200:
                return "this version of chdb-core answers without a password: install the pinned version"
            status, version = ask(http_port, "SELECT version()", WRITER, passwords(folder)[WRITER])
            if status != 200:
                return f"the ledger's user cannot log in: {version}"
            state = {
                "pid": os.getpid(),
                "http_port": http_port,
                "tcp_port": tcp_port,
                "version": version,
                "started_ns": started_ns,
            }
            write_private(folder / "server.json", json.dumps(state, indent=1))
            return None
        except OSError:
            if time.monotonic() > deadline:
                return f"no answer on port {http_port} within {_START_S:.0f} s"
            ended.wait(0.01)
    return None


def ask(port: int, sql: str, user: str = "", password: str = "") -> tuple[int, str]:
    """POST `sql` to a ClickHouse on loopback; HTTP status and body.

    Raises:
        OSError: no answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()} if user else {}
    try:
        connection.request("POST", "/?database=system", body=sql.encode(), headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace").strip()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


def _close_fifo(stop: Path) -> None:
    """End the query that keeps the server up: open the fifo it reads, and close it."""
    try:
        os.close(os.open(stop, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT):  # nobody reads: not yet, or no longer
            raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
