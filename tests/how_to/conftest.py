"""Follows a how-to page: its files are written, its commands run as printed, and none is left out."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from tests.conftest import free_port
from tests.exporter.conftest import wait
from tests.pages import Block, blocks, commands
from tests.service.conftest import ROOT, environment

sys.path.insert(0, str(ROOT / "examples"))

from standin import StandIn

PATIENCE_S = 60.0


class Reader:
    """Who follows a page in an empty folder.

    Parameters:
        page: name of the page.
        folder: where they work.
        env: what their shell has.
        swaps: what they write in place of what is printed: their ports, addresses, passwords.
    """

    def __init__(self, page: str, folder: Path, env: dict[str, str], swaps: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.swaps = swaps
        self.blocks = list(blocks(f"docs/how-to/{page}.md"))
        self._waiting = [(each, command) for each in self.blocks if _is_shell(each) for command in commands(each.text)]
        self._unused = [each for each in self.blocks if not _is_shell(each)]
        self._running: list[subprocess.Popen[bytes]] = []
        self.output = folder / "output"

    def write(self) -> None:
        """Write the files of the page: blocks whose title is a path; `PATH, at its end` is added to what is there."""
        for block in list(self._unused):
            name, _, where = block.title.partition(", ")
            if not name:
                continue
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a" if where == "at its end" else "w", encoding="utf-8") as file:
                file.write(self.theirs(block.text))
            self._unused.remove(block)

    def take(self, language: str) -> Block:
        """The next block of a language that is no file: whoever takes it runs it."""
        block = next(each for each in self._unused if each.language == language)
        self._unused.remove(block)
        return block

    def theirs(self, text: str) -> str:
        for printed, own in self.swaps.items():
            text = text.replace(printed, own)
        return text

    def run(self, start: str) -> str:
        """Run the next command of the page, which begins so; its output, which is also what went wrong."""
        return self.also(self._next(start))

    def skip(self, start: str) -> str:
        """The next command, which the reader does without."""
        return self._next(start)

    def also(self, command: str) -> str:
        """Run a command that is not on the page; its output."""
        command = self.theirs(command)
        result = subprocess.run(
            self._shell(command), cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=PATIENCE_S
        )
        told = result.stdout + result.stderr
        assert result.returncode == 0, f"{command}:\n{told}"
        return told

    def start(self, start: str, options: str = "") -> subprocess.Popen[bytes]:
        """Start the next command of the page, which serves until it is ended; what it says is in `output`.

        Parameters:
            options: added to what is printed.
        """
        return self.started(self._next(start) + options)

    def started(self, command: str) -> subprocess.Popen[bytes]:
        """`start` for a command that is not on the page."""
        command = self.theirs(command)
        with self.output.open("ab") as out:
            process = subprocess.Popen(
                self._shell(_replacing(command)), cwd=self.folder, env=self.env, stdout=out, stderr=out
            )
        self._running.append(process)
        return process

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the servers that were started do."""
        assert wait(condition, PATIENCE_S), self.output.read_text()

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
        """End what `start` has started, as a process manager does."""
        process.send_signal(number)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.output.read_text()) from None

    def answered(self, start: str) -> str:
        """Run the next command until the server that was started answers it."""
        return self.until_it_answers(self._next(start))

    def until_it_answers(self, command: str) -> str:
        """`answered` for a command that is not on the page."""
        command = self.theirs(command)
        told: list[str] = []

        def answers() -> bool:
            result = subprocess.run(
                self._shell(command), cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=PATIENCE_S
            )
            told.append(result.stdout)
            return result.returncode == 0

        assert wait(answers, PATIENCE_S), f"{command}:\n{self.output.read_text()}"
        return told[-1]

    def done(self) -> None:
        """Everything on the page has been run, in order."""
        assert [f"{block}: {command}" for block, command in self._waiting] == []
        assert [f"{block}: {block.language}" for block in self._unused] == []

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _next(self, start: str) -> str:
        while self._waiting:
            _, command = self._waiting.pop(0)
            if command.startswith("pip install "):
                _installed(command)
            elif command.startswith("export "):
                self._export(self.theirs(command))
            else:
                assert command.startswith(start), f"the page has {command!r} where the test has {start!r}"
                return self.theirs(command)
        raise AssertionError(f"the page has no more commands, the test has {start!r}")

    def _export(self, command: str) -> None:
        told = subprocess.run(
            self._shell(f"{command}\nenv -0"), env=self.env, capture_output=True, text=True, check=True
        ).stdout
        self.env = dict(line.split("=", 1) for line in told.split("\0") if line)

    def _shell(self, command: str) -> Sequence[str]:
        return ["bash", "-euc", command]


def _is_shell(block: Block) -> bool:
    return block.language in ("sh", "console") and not block.title


def _replacing(command: str) -> str:
    """`exec`, behind the variables that are set for this command: signals go to it, not to the shell."""
    words = command.split(" ")
    first = next(n for n, word in enumerate(words) if "=" not in word)
    return " ".join([*(f"export {word};" for word in words[:first]), "exec", *words[first:]])


def _installed(command: str) -> None:
    """What pip is asked for is what this environment has, and extras are those there are."""
    words = iter(shlex.split(command)[2:])
    asked = [Requirement(word) for word in words if not (word.startswith("--") and next(words))]
    assert asked, command
    for each in asked:
        assert each.extras <= set(metadata.metadata(each.name).get_all("Provides-Extra") or ()), command


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def reader(
    tmp_path: Path, clickhouse: EmbeddedClickHouse, ledger: Client, standin: StandIn, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Reader]]:
    """`reader("django")`: somebody whose ledger is the shared ClickHouse, and whose provider is the stand-in."""
    endpoint = clickhouse.endpoint()
    assert endpoint is not None
    url = f"http://{endpoint.username}:{endpoint.password}@127.0.0.1:{endpoint.port}/{endpoint.database}"
    made: list[Reader] = []

    def make(page: str, **env: str) -> Reader:
        folder, user = tmp_path / "work", tmp_path / "user"
        folder.mkdir()
        user.mkdir()
        given = {
            "HOME": str(user),  # Jupyter keeps a history there
            "SPANLEDGER_URL": url,
            "SPANLEDGER_SHIP_INTERVAL": "0.2",
            "OPENAI_BASE_URL": f"http://localhost:{standin.server_port}/v1",
            "OPENAI_API_KEY": "sk-stand-in",
        }
        swaps = {
            "8000": str(free_port()),
            "https://ledger:password@clickhouse.example.com:8443/llm": url,
        }
        made.append(Reader(page, folder, environment(tmp_path / "home", **(given | env)), swaps))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def billed(ledger: Client) -> Callable[..., list[tuple[Any, ...]]]:
    """`billed("tenant", "feature", calls=2)`: these columns of so many calls, sorted, once they are in the ledger."""

    def rows(*columns: str, calls: int) -> list[tuple[Any, ...]]:
        sql = f"SELECT {', '.join(columns)} FROM llm_calls FINAL ORDER BY ALL"
        found: list[tuple[Any, ...]] = []

        def there() -> bool:
            found[:] = ledger.query(sql).rows
            return len(found) >= calls

        wait(there, PATIENCE_S)
        assert len(found) == calls, found
        unpriced = ledger.query("SELECT price_status, cost_reasons FROM llm_calls FINAL WHERE cost IS NULL").rows
        assert unpriced == []
        return found

    return rows
