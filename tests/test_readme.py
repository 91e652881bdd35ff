"""README.md and the first pages of the documentation work as printed: every block, in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

import pytest

from spanledger.exporter.client import Client
from tests.exporter.test_shipper import url
from tests.pages import Block, blocks, commands
from tests.service.conftest import BIN, ROOT, environment, spanledger

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "docs/index.md", "docs/getting-started.md")
NOT_HERE = ("make ", "pip ")  # see the tests of the demo and of the extras


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a program of the user's, whose provider is the stand-in, and a home of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from standin import StandIn

    with StandIn() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://localhost:{provider.server_port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-stand-in")
        (tmp_path / "app.py").write_text(programs("docs/getting-started.md")[0].text)
        yield tmp_path
    assert spanledger(tmp_path / "home", "down").returncode == 0


def programs(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


class Shell:
    """Runs commands one after the other, as in one terminal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._exported = folder / "exported"
        self._exported.touch()
        self.said = ""

    def run(self, command: str) -> None:
        result = subprocess.run(
            ["bash", "-c", f". {self._exported}\n{command}\ncode=$?; export -p > {self._exported}; exit $code"],
            cwd=self._folder,
            env=environment(self._folder / "home"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
        self.said = result.stdout


def lines(text: str) -> list[str]:
    """Without the blanks that pad a table."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n").splitlines()


@pytest.mark.parametrize("page", PAGES)
def test_every_block_works_as_printed(page: str, workplace: Path, ledger: Client) -> None:
    yours = ("https://user:password@clickhouse.example.com:8443/llm", url(ledger.endpoint))
    shell = Shell(workplace)
    response_id = ""
    for block in blocks(page):
        if block.language == "python":
            (workplace / block.title).write_text(block.text)
        elif block.language == "text":
            assert lines(shell.said) == lines(block.text), str(block)
        else:
            assert block.language == "sh", f"{block}: nothing runs a block of this kind"
            for command in commands(block.text):
                if command.startswith(NOT_HERE):
                    continue
                shell.run(command.replace("RESPONSE_ID", response_id).replace(*yours))
                if found := re.search(r"resp_\w+", shell.said):
                    response_id = found[0]
                expected = {"--by tenant": "acme", "--by tag:team": "blue", "explain": "equal to the last digit"}
                for part, answer in expected.items():
                    assert answer in shell.said or part not in command, f"{command}: {shell.said}"


def test_a_program_needs_no_change() -> None:
    first = programs("docs/getting-started.md")[0]
    assert "spanledger" not in first.text


def test_it_begins_with_the_demo_and_the_tests() -> None:
    first = next(blocks("README.md"))
    assert commands(first.text) == ["make demo", "make test"]
    assert README.startswith("# spanledger\n\n```sh\nmake demo ")


@pytest.mark.parametrize("page", PAGES)
def test_what_pip_is_asked_for_exists(page: str) -> None:
    extras = metadata("spanledger").get_all("Provides-Extra")
    asked = re.findall(r"pip install '?spanledger(?:\[([\w,]+)\])?", (ROOT / page).read_text(encoding="utf-8"))
    assert asked
    assert {extra for several in asked for extra in several.split(",") if extra} <= set(extras or ())


def test_the_pages_it_links_to_exist():
    linked = re.findall(r"\]\(([\w./-]+)\)", README)
    assert "docs/cli.md" in linked
    assert [page for page in linked if not (ROOT / page).is_file()] == []


def test_the_demo_shows_costs_by_model_and_how_to_see_more_and_leaves_nothing_running(tmp_path):
    home = tmp_path / "demo"
    env = {**environment(home), "DEMO_HOME": str(home)}
    recipe = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "bash examples/demo.sh" in recipe
    for _ in range(2):  # the second time it starts afresh
        result = subprocess.run(
            ["bash", "examples/demo.sh"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        assert [line for line in result.stderr.splitlines() if not line.startswith("A bar of the trend is ")] == []
        table, _, more = result.stdout.partition("This ledger stays in ")
        assert re.search(r"gpt-5-mini-2025-08-07 +4 +0 ", table)
        assert re.search(r"claude-sonnet-4-6 +3 +0 ", table)
        assert re.search(r"\n +13 +1 .* 0\.\d{6} ", table)
    assert spanledger(home, "status").returncode == 1

    follow_up = "\n".join(line for line in more.splitlines() if line.startswith("    "))
    shown = subprocess.run(
        ["bash", "-euc", follow_up],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "acme" in shown.stdout
    assert "price_snapshot:" in shown.stdout


def test_the_live_demo_asks_for_keys(tmp_path):
    env = {k: v for k, v in environment(tmp_path / "home").items() if not k.endswith("_API_KEY")}
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "app.py")],
        env={**env, "DEMO": "live"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "set OPENAI_API_KEY, ANTHROPIC_API_KEY or both" in result.stderr
