"""docs/troubleshooting.md has every line that the program logs and every finding of doctor, and its commands work."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from spanledger.service import doctor
from tests.pages import ROOT, blocks, commands

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
CODE = {text.replace("`", "") for text in re.findall(r"`[^`\n]+`", PAGE)}
ROOMS = ("pricing", "instrumentation", "exporter", "service")


def text_of(node: ast.expr) -> str:
    """A text of the source as the page has it: `…` for what differs, no backquotes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[.\d]*[sdg]", "…", node.value).replace("`", "")
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(piece) if isinstance(piece, ast.Constant) else "…" for piece in node.values)
    return "…"


def calls(path: Path) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))


def logged() -> Iterator[str]:
    for path in (
        path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "logger." in path.read_text("utf-8")
    ):
        for call in calls(path):
            if re.search(r"\blogger\.(warning|error|exception|info)$", ast.unparse(call.func)):
                yield text_of(call.args[0]).removeprefix("spanledger: ").partition("\n")[0]


def findings() -> Iterator[str]:
    """What doctor says where not all is well."""
    for call in calls(Path(doctor.__file__)):
        if ast.unparse(call.func) == "Finding" and ast.unparse(call.args[0]) != "OK":
            yield text_of(call.args[2])
    yield from (f"… {text}" for text, _ in doctor._TROUBLES.values())


def told(texts: Iterator[str]) -> list[str]:
    """Those that say something themselves, and not only what an error said."""
    return sorted({text for text in texts if re.search(r"\w", text)})


def test_there_are_as_many_as_the_source_has() -> None:
    assert len(told(logged())) > 25
    assert len(told(findings())) > 25


@pytest.mark.parametrize("text", [*told(logged()), *told(findings())])
def test_the_page_has_it(text: str) -> None:
    assert text in CODE


def test_the_tables_have_nothing_that_is_not_said() -> None:
    log, _, doctors = PAGE.partition("## What the log says")[2].partition("## What `doctor` says")
    said = {*told(logged()), *told(findings()), "… waiting, the oldest for …"}
    for column, table in ((1, log), (2, doctors)):
        quoted = [
            cell for line in table.splitlines() if line.startswith("| ") for cell in [line.split(" | ")[column - 1]]
        ]
        assert set(re.findall(r"`([^`]+)`", "".join(quoted))) - said == set()


@pytest.mark.parametrize(
    "command",
    [line for block in blocks("docs/troubleshooting.md") for line in commands(block.text) if line[:10] == "spanledger"],
)
def test_its_commands_work(run: Callable[..., Result], command: str) -> None:
    done = run(*shlex.split(command)[1:])
    assert done.exit_code == (1 if command == "spanledger doctor" and "wrong" in done.output else 0), done.output
