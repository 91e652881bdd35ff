"""The documentation names every command, option and setting there is, and none that is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import spanledger.settings
from spanledger.service.api import settings as serve_settings
from spanledger.service.budgets import settings as budget_settings
from spanledger.service.cli import cli
from spanledger.service.collector import settings as collector_settings

ROOT = Path(__file__).parents[2]
CLI_PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
SETTINGS_SOURCE = Path(spanledger.settings.__file__).read_text(encoding="utf-8")


def commands(group: click.Group = cli, before: str = "spanledger") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def section(name: str) -> str:
    """The text below the heading that starts with `name`."""
    found = re.search(rf"^#+ `{re.escape(name)}[ `].*?(?=^#+ `spanledger|\Z)", CLI_PAGE, re.M | re.S)
    assert found, f"docs/cli.md has no heading for `{name}`"
    return found[0]


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_command_has_a_section_with_all_its_options_and_no_others(name, command):
    text = section(name)
    options = {opt for param in command.params for opt in param.opts if opt.startswith("--") and not param.hidden}
    assert options - set(re.findall(r"--[a-z-]+", text)) == set()
    assert set(re.findall(r"`(--[a-z-]+)", text)) - options <= {"--help", "--debug"}


def test_the_page_has_no_command_that_is_not_there():
    headings = set(re.findall(r"^#+ `(spanledger(?: [a-z]+)+)", CLI_PAGE, re.M))
    assert headings - {name for name, _ in commands()} <= {
        "spanledger prices",
        "spanledger budgets",
        "spanledger content",
    }


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_the_help_has_an_example(name):
    command = dict(commands())[name]
    assert name in (command.help or "").split("Example", 1)[-1], f"{name} --help has no example of itself"


def test_every_variable_has_a_line():
    variables = set(re.findall(r"\b(?:SPANLEDGER|LLM_USAGE)_[A-Z_]+\b", SETTINGS_SOURCE))
    assert len(variables) >= 8
    for part in (collector_settings, serve_settings, budget_settings):
        keys = set(part._READERS) - {"enabled"} | (set() if part is budget_settings else {"token"})
        variables |= {part.VARIABLE, *(f"{part.VARIABLE}_{key.upper()}" for key in keys)}
    documented = set(re.findall(r"\b(?:SPANLEDGER|LLM_USAGE)_[A-Z_]+\b", SETTINGS_PAGE))
    assert variables == documented


def test_every_key_of_the_file_has_a_line():
    keys = set(re.findall(r'(?:section|logging|keys)\.get\("(\w+)"', SETTINGS_SOURCE))
    keys |= set(re.findall(r'choose\("\w+", "(\w+)"', SETTINGS_SOURCE))
    keys -= {"usage_logging", "api_keys", "collector", "serve", "alerts"}
    assert len(keys) >= 9
    keys |= set(collector_settings._READERS) | set(serve_settings._READERS) | set(budget_settings._READERS)
    documented = {key.rsplit(".", 1)[-1] for key in re.findall(r"`settings\.([\w.]+)`", SETTINGS_PAGE)}
    assert keys == documented


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages - set(re.findall(r"\S+\.md$", navigation, re.M)) == set(), "add these pages to mkdocs.yml"
