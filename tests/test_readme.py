"""Every command of README.md works as printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

import pytest

from tests.service.conftest import BIN, ROOT, environment, spanledger

README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The shell commands of the README, in order, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Path]:
    """A folder with a program of the user's, and a home of its own."""
    shutil.copy(ROOT / "examples" / "standin.py", tmp_path)
    shutil.copy(ROOT / "examples" / "app.py", tmp_path)
    yield tmp_path
    assert spanledger(tmp_path / "home", "down").returncode == 0


def test_it_begins_with_the_demo_and_the_tests():
    first, second = commands()[:2]
    assert (first, second) == ("make demo", "make test")
    assert README.startswith("# spanledger\n\n```sh\nmake demo ")


def test_what_pip_is_asked_for_exists():
    extras = metadata("spanledger").get_all("Provides-Extra")
    asked = re.findall(r"pip install '?spanledger(?:\[([\w,]+)\])?", README)
    assert len(asked) >= 2
    assert {extra for extra in asked if extra} <= set(extras or ())


def test_the_commands_for_an_own_program_work_in_order(workplace):
    env = environment(workplace / "home")
    own = [command for command in commands() if not command.startswith(("make ", "pip "))]
    assert [command.split()[0] for command in own] == [
        "spanledger",
        "opentelemetry-instrument",
        "spanledger",
        "spanledger",
        "spanledger",
    ]
    outputs = []
    for command in own:
        result = subprocess.run(
            ["bash", "-c", command], cwd=workplace, env=env, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
        outputs.append(result.stdout)
    assert outputs[0].startswith("Up: ")
    assert "gpt-5-mini" in outputs[2]
    assert "acme" in outputs[3]
    assert "acme" in outputs[4]


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


def test_the_live_demo_asks_for_keys(workplace):
    env = {k: v for k, v in environment(workplace / "home").items() if not k.endswith("_API_KEY")}
    result = subprocess.run(
        [str(BIN / "python"), "app.py"],
        cwd=workplace,
        env={**env, "DEMO": "live"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "set OPENAI_API_KEY, ANTHROPIC_API_KEY or both" in result.stderr
