"""What users type reaches ClickHouse as bound parameters: SQL in any option of any command is a text like others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import click
import pytest
from click.testing import Result

from tests.service.test_docs import commands

INJECTIONS = (
    "' OR 1=1 --",
    "x'); DROP TABLE llm_calls; --",
    "\\' UNION ALL SELECT name FROM system.tables --",
    "{cluster:Identifier} %(name)s {}",
    "` FROM llm_calls; TRUNCATE llm_calls",
)
NOT_ASKED = {
    *("spanledger up", "spanledger down", "spanledger collector", "spanledger serve"),  # servers
    *("spanledger top", "spanledger tail"),  # go on until stopped; they share report's filters
    *("spanledger prices import", "spanledger completion"),  # know no ledger
    "spanledger sql",  # SQL is what it takes: see below
}


def texts() -> Iterator[tuple[str, str, bool]]:
    """Command, option or argument that takes a text, and whether it is an option."""
    for name, command in commands():
        if name in NOT_ASKED:
            continue
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                if not parameter.is_flag and parameter.name != "help":
                    yield name, parameter.opts[0], True
            else:
                yield name, parameter.name or "", False


CALLS = "SELECT count() AS calls, toString(sum(cost_base)) AS cost FROM llm_calls FINAL"
ALL_AT_ONCE = "x'); DROP TABLE llm_calls; -- \\' OR 1=1 -- \" ` {cluster:Identifier} %(name)s {}"
_seen: dict[str, str] = {}


@pytest.mark.parametrize(("command", "parameter", "is_option"), list(texts()))
def test_sql_in_an_option_is_a_text(command: str, parameter: str, is_option: bool, run: Callable[..., Result]) -> None:
    value = f"team={ALL_AT_ONCE}" if parameter == "--tag" else ALL_AT_ONCE
    given = [f"{parameter}={value}"] if is_option else ["--", value]
    more = ["--yes"] if command == "spanledger forget" else []
    done = run(*command.split()[1:], *more, *given)
    said = done.output + (done.stderr if done.stderr_bytes else "")
    assert done.exit_code in (0, 1, 2), said
    assert "Syntax error" not in said, said
    assert "unexpected" not in said, said
    left = run("sql", CALLS, "--json").output
    assert json.loads(left)["calls"] not in (0, "0")
    assert _seen.setdefault("calls", left) == left


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("option", ["--model", "--tenant", "--user", "--provider", "--feature"])
def test_a_filter_finds_what_is_called_so_and_nothing_else(
    option: str, injection: str, run: Callable[..., Result]
) -> None:
    done = run("report", f"{option}={injection}", "--json")
    assert done.exit_code == 0, done.output
    assert (
        json.loads(done.output)["rows"] == [] if done.output.lstrip().startswith("{") else json.loads(done.output) == []
    )


@pytest.mark.parametrize(
    "statement", ["DROP TABLE llm_calls", "TRUNCATE TABLE llm_calls", "INSERT INTO llm_calls (line) VALUES (1)"]
)
def test_sql_can_only_read(statement: str, run: Callable[..., Result]) -> None:
    before = run("sql", CALLS, "--json").output
    assert run("sql", statement).exit_code == 1
    assert run("sql", CALLS, "--json").output == before
