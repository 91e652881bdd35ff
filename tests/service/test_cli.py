"""The frame of the command line: quick to start, one line an error, codes for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal

import click
import pytest
from click.testing import CliRunner

from spanledger.service import cli as frame
from spanledger.service.cli import COMMANDS, cli
from spanledger.service.output import money, print_table, text
from tests.service.conftest import BIN, environment, spanledger

HEAVY = ("rich", "clickhouse_connect", "numpy", "yaml", "opentelemetry", "chdb", "spanledger.pricing", "orjson")


def test_help_lists_all_commands_and_the_exit_codes():
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)
    assert "Exit codes: 0 done; 1 something is wrong; 2 wrong usage" in result.stdout


def test_importing_the_command_line_loads_nothing_heavy():
    code = "import sys, spanledger.service.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if name.startswith(HEAVY)]


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert CliRunner().invoke(cli, ["--version"]).stdout == f"spanledger, version {version('spanledger')}\n"


@pytest.mark.parametrize(
    "args", [["bogus"], ["report", "--bogus"], ["sql"], ["prices", "explain"], ["up", "--http-port", "0"]]
)
def test_wrong_usage_is_code_2(args):
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


@pytest.fixture
def broken(monkeypatch):
    @click.command()
    def command() -> None:
        raise KeyError("inside")

    monkeypatch.setattr(frame, "_load", lambda place: command)


def test_an_unexpected_error_is_one_line_that_shows_the_way_to_the_traceback(broken):
    result = CliRunner().invoke(cli, ["status"])
    assert result.exit_code == 1
    assert result.stderr == "spanledger: unexpected KeyError: 'inside' (spanledger --debug shows where)\n"


def test_debug_shows_the_error_itself(broken):
    result = CliRunner().invoke(cli, ["--debug", "status"])
    assert isinstance(result.exception, KeyError)


def test_a_wrong_setting_is_one_line(tmp_path):
    for more in ({"SPANLEDGER_CONFIG": str(tmp_path / "none.yaml")}, {"LLM_USAGE_FAIL_OPEN": "perhaps"}):
        result = spanledger(tmp_path / "home", "report", **more)
        assert result.returncode == 1
        assert result.stderr.startswith("spanledger: ")
        assert result.stderr.count("\n") == 1
        assert next(iter(more)) in result.stderr


def test_a_reader_that_has_seen_enough_is_no_error(example_home):
    process = subprocess.Popen(
        [str(BIN / "spanledger"), "sql", "SELECT number FROM numbers(2000000)", "--format", "TSV"],
        env=environment(example_home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.parametrize("forced", [False, True])
def test_colours_are_for_terminals_and_never_with_no_color(example_home, forced):
    more = {"FORCE_COLOR": "1"} | ({} if forced else {"NO_COLOR": "1"})
    out = spanledger(example_home, "doctor", **more).stdout
    assert ("\x1b[32m" in out) is forced


def test_amounts_are_rounded_half_even_and_never_to_zero():
    assert money(Decimal("0.0000015")) == "0.000002"
    assert money(Decimal("0.0000025")) == "0.000002"
    assert money(Decimal("1234.5")) == "1,234.500000"
    assert money(Decimal("0.0000000015")) == "1.50e-9"
    assert money(Decimal("0")) == "0.000000"
    assert text(None) == "-"


def test_a_cell_is_text_never_markup(capsys):
    print_table(["model"], [{"model": "[red]x[/red] [link=http://x]"}])
    assert "[red]x[/red] [link=http://x]" in capsys.readouterr().out


def test_json_of_every_command_that_offers_it_is_json(run):
    for args in (["status"], ["report"], ["doctor"]):
        json.loads(run(*args, "--json").stdout)


def test_a_number_is_never_cut_however_narrow_the_terminal(monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr("spanledger.service.output.console", lambda: Console(width=20))
    row = {"model": "claude-sonnet-4-6", "input": 12_345_678_901, "cost USD": Decimal("123456.12345678")}
    print_table(list(row), [row])
    assert "   12,345,678,901   123,456.123457  \n" in capsys.readouterr().out
