"""The background service of `spanledger up`: keeps embedded ClickHouse, the collector and the API running, loads the
journal, settles and rolls up.

One process a home: it holds a lock on `service.lock` as long as it lives.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from spanledger.exporter.private import home_folder
from spanledger.service import presence

if TYPE_CHECKING:
    from spanledger.exporter.client import Client
    from spanledger.exporter.embedded import EmbeddedClickHouse
    from spanledger.service.child import Child

logger = logging.getLogger("spanledger")

START_SECONDS = 60.0
STOP_SECONDS = 30.0
_MAX_PAUSE_SECONDS = 30.0


class ServiceError(RuntimeError):
    """The background service could not be started or stopped; the message says why and what to do."""


class Ports(NamedTuple):
    """Ports on 127.0.0.1 that embedded ClickHouse must take; None leaves the choice to it.

    Attributes:
        collector: whether the collector is started, where the settings say so.
        serve: the same of the API.
    """

    http: int | None = None
    tcp: int | None = None
    collector: bool = True
    serve: bool = True


ANY_PORTS = Ports()


@dataclass(frozen=True, slots=True)
class Running:
    """A service that runs.

    Attributes:
        pid: its process.
        since_ns: when it came up, ns since the epoch.
        interval: seconds between two loads of the journal.
    """

    pid: int
    since_ns: int
    interval: float


def lock_file(home: Path) -> Path:
    return home / "service.lock"


def log_file(home: Path) -> Path:
    return home / "service.log"


def running(home: Path) -> Running | None:
    """The service of `home`, or None if none runs."""
    return presence.running(lock_file(home), Running)


def start(home: Path, ports: Ports = ANY_PORTS, timeout: float = START_SECONDS) -> Running:
    """Start the service in the background and wait until it has come up.

    Raises:
        ServiceError: it did not; the message is the service's own where it said one.
    """
    from spanledger.exporter.embedded import child_environment

    home_folder(home)
    receive, send = os.pipe()
    with open(log_file(home), "ab", opener=_private) as log, os.fdopen(receive) as answer:
        process = subprocess.Popen(
            [sys.executable, "-m", "spanledger.service.daemon", str(home), str(send), json.dumps(ports)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,  # not the user's, whose modules would come before the library's
            env=child_environment(),
            pass_fds=(send,),
            start_new_session=True,
        )
        os.close(send)
        said = _first_line(answer, timeout)
        if said != "ready":
            process.terminate()
            process.wait()
    if said == "ready" and (service := running(home)):
        return service
    raise ServiceError(said or f"the service did not come up; see {log_file(home)}")


def stop(home: Path, timeout: float = STOP_SECONDS) -> bool:
    """Stop the service; it loads what waits in the journal first. False if none ran.

    Raises:
        ServiceError: it is still there after `timeout` seconds.
    """
    service = running(home)
    if service is None:
        return False
    try:
        os.kill(service.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    if not _gone(home, timeout):
        raise ServiceError(
            f"the service (process {service.pid}) has not stopped after {timeout:g} s; see {log_file(home)}, "
            f"or end it with: kill -9 {service.pid}"
        )
    return True


def run(home: Path, up: Callable[[], None], stopping: threading.Event, ports: Ports = ANY_PORTS) -> None:
    """The service itself, until `stopping` is set.

    Parameters:
        up: called once, when everything answers.

    Raises:
        ServiceError: another service runs in this home.
        EmbeddedError: embedded ClickHouse cannot start.
        ChildError: the collector or the API cannot start.
        SettingsError: a setting is wrong.
    """
    from spanledger.exporter.embedded import EmbeddedClickHouse
    from spanledger.exporter.settle import settle
    from spanledger.exporter.shipper import load_journal
    from spanledger.service.upkeep import Upkeep
    from spanledger.settings import settings

    interval = settings().ship_interval
    engine = EmbeddedClickHouse(home)
    client: Client | None = None
    children: list[Child] = []
    with _held(home, interval):
        try:
            client = _open(home, engine, ports)
            upkeep = Upkeep(settings())
            for part in (_COLLECTOR if ports.collector else "", _API if ports.serve else ""):
                if part and (child := _start(part, home)):
                    children.append(child)
            up()
            pause, trouble = interval, ""
            while not stopping.wait(pause):
                if not lock_file(home).exists():
                    logger.error("%s was deleted: the service ends", home)
                    return
                try:
                    children[:] = [_another(child, home) if child.ended else child for child in children]
                    if engine.endpoint() is None:
                        client.close()
                        client = _open(home, engine, ports)
                    upkeep.keep(client, load_journal(home, client).blocks > 0)
                    if trouble:
                        logger.warning("the service works again")
                    pause, trouble = interval, ""
                except Exception as error:
                    if str(error) != trouble:
                        trouble = str(error)
                        logger.error("loading the journal or starting what had ended failed, trying again: %s", trouble)
                    pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            for child in children:
                child.stop()  # first: what the collector has taken is loaded then
            load_journal(home, client)
            settle(client)
        finally:
            for child in children:
                child.stop()
            if client is not None:
                client.close()  # an open connection holds up the server's end
            engine.stop()


def _open(home: Path, engine: EmbeddedClickHouse, ports: Ports) -> Client:
    from spanledger.exporter.migrate import open_ledger
    from spanledger.service.ledger import alone

    with alone(home):
        endpoint = engine.start(ports.http, ports.tcp)
    return open_ledger(endpoint)


_COLLECTOR = "collector"
_API = "serve"


def _start(part: str, home: Path) -> Child | None:
    """The collector or the API; None where the settings want none, or its packages are not installed.

    Raises:
        ChildError, SettingsError: it cannot start.
    """
    from spanledger.service.child import Child
    from spanledger.settings import settings

    if part == _COLLECTOR:
        from spanledger.service.collector.running import missing
    else:
        from spanledger.service.api.running import missing
    if absent := missing():
        logger.warning("no %s is started: %s", part, absent)
        return None
    if part == _COLLECTOR:
        from spanledger.service.collector.settings import load

        wanted, module = load(settings(), os.environ).enabled, "spanledger.service.collector.child"
    else:
        from spanledger.service.api.settings import load as load_serve

        wanted, module = load_serve(settings(), os.environ).enabled, "spanledger.service.api.child"
    return Child(home, part, module) if wanted else None


def _another(ended: Child, home: Path) -> Child:
    """A child in place of one that has ended; still that one where none starts, for the next time to try."""
    logger.error("the %s has ended, starting another", ended.part)
    try:
        return _start(ended.part, home) or ended
    except Exception as error:
        logger.error("no other starts: %s", error)
        return ended


@contextmanager
def _held(home: Path, interval: float) -> Iterator[None]:
    """The lock that says that the service of `home` runs, for as long as the block lasts."""
    with ExitStack() as stack:
        try:
            say = stack.enter_context(presence.held(lock_file(home)))
        except presence.Taken:
            raise ServiceError(f"another service runs for {home}: spanledger status") from None
        say(asdict(Running(os.getpid(), time.time_ns(), interval)))
        yield


def _gone(home: Path, timeout: float) -> bool:
    """Wait for the lock to be free."""
    waiting = threading.Thread(target=presence.wait, args=(lock_file(home),), daemon=True)
    waiting.start()
    waiting.join(timeout)
    return not waiting.is_alive()


def _first_line(pipe: IO[str], timeout: float) -> str:
    """The first line that the child writes; empty if it ends or `timeout` seconds pass before."""
    lines: list[str] = []
    reading = threading.Thread(target=lambda: lines.append(pipe.readline()), daemon=True)
    reading.start()
    reading.join(timeout)
    return lines[0].strip() if lines else ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def main(home: str, answer_fd: str, ports: str) -> None:
    """The child process of `start`: says `ready`, or why not, on `answer_fd`."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # it logs what it then raises
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    with os.fdopen(int(answer_fd), "w") as answer:

        def say(text: str) -> None:
            answer.write(text + "\n")
            answer.close()

        try:
            run(Path(home), lambda: say("ready"), stopping, Ports(*json.loads(ports)))
        except Exception as error:
            logger.exception("the service ends")
            if answer.closed:
                raise
            say(" ".join(str(error).split()) or type(error).__name__)
            sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
