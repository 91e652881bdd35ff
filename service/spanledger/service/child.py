"""A part of the service as a child process: the collector, the API."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

logger = logging.getLogger("spanledger")

START_S = 60.0
STOP_S = 6.0


class ChildError(RuntimeError):
    """A part of the service did not come up; the message is its own where it said one."""


class Child:
    """A process that lives as long as this one at most: it ends when the pipe to it closes."""

    def __init__(self, home: Path, part: str, module: str) -> None:
        """Start it, and wait until it is ready.

        Parameters:
            part: what it is called in messages.
            module: run as `__main__`; its `main` says so by `answering`.

        Raises:
            ChildError: it did not come up.
        """
        from spanledger.exporter.embedded import child_environment

        self.part = part
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
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
            raise ChildError(said or f"the {part} did not come up; its log says why")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """End it, in order."""
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


@contextlib.contextmanager
def answering(part: str) -> Iterator[Callable[[str], None]]:
    """In the child: what it yields says `ready` to `Child`; an error before that is said too, and ends the process."""
    logging.basicConfig(format=f"%(asctime)s %(levelname)s {part}: %(message)s", level=logging.INFO)
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # worker processes inherit it: nothing but the answer goes there

    def say(text: str) -> None:
        answer.write(text + "\n")
        answer.close()

    try:
        yield say
    except Exception as error:
        if answer.closed:
            raise
        logger.error("it does not start: %s", error)
        say(" ".join(str(error).split()) or type(error).__name__)
        sys.exit(1)
