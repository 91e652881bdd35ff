"""The collector as a child process of the service."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from spanledger.service.collector.running import CollectorError

logger = logging.getLogger("spanledger")

START_S = 60.0
STOP_S = 6.0


class Child:
    """A collector that lives as long as this process at most: it ends when the pipe to it closes."""

    def __init__(self, home: Path) -> None:
        """Start it, and wait until it listens.

        Raises:
            CollectorError: it did not come up; the message is its own where it said one.
        """
        from spanledger.exporter.embedded import child_environment

        self._process = subprocess.Popen(
            [sys.executable, "-m", "spanledger.service.collector.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=home,
            env={**child_environment(), "SPANLEDGER_HOME": str(home)},
            text=True,
        )
        assert self._process.stdout is not None
        said = _first_line(self._process.stdout, START_S)
        self._process.stdout.close()
        if said != "ready":
            self.stop()
            raise CollectorError(said or "the collector did not come up; its log says why")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """End it; what it has taken is in the journal."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _first_line(pipe: IO[str], timeout: float) -> str:
    lines: list[str] = []
    reading = threading.Thread(target=lambda: lines.append(pipe.readline()), daemon=True)
    reading.start()
    reading.join(timeout)
    return lines[0].strip() if lines else ""


def main() -> None:
    """The child itself: says `ready`, or why not, on its standard output."""
    logging.basicConfig(format="%(asctime)s %(levelname)s collector: %(message)s", level=logging.INFO)
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # worker processes inherit it: nothing but the answer goes there

    def say(text: str) -> None:
        answer.write(text + "\n")
        answer.close()

    try:
        from spanledger.service.collector.server import run
        from spanledger.service.collector.settings import load
        from spanledger.settings import settings

        now = settings()
        run(now, load(now, os.environ), lambda _: say("ready"), parent=0)
    except Exception as error:
        if answer.closed:
            raise
        logger.error("the collector does not start: %s", error)
        say(" ".join(str(error).split()) or type(error).__name__)
        sys.exit(1)


if __name__ == "__main__":
    main()
