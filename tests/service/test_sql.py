"""`spanledger sql`, which can only read."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.service.conftest import BIN, environment

COUNT = "SELECT countIf(line = 0) AS calls FROM llm_calls FINAL"


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        ([COUNT, "--format", "csv"], '"calls"\n13\n'),
        ([COUNT + " FORMAT TSV"], "13\n"),
        ([COUNT + "\nformat TSV;"], "13\n"),
        ([COUNT + ";", "--format", "TSV"], "13\n"),
        (["SELECT 'a format b' AS x FORMAT TSV"], "a format b\n"),
    ],
)
def test_the_answer_comes_in_the_format_asked_for(run, args, answer):
    result = run("sql", *args)
    assert (result.exit_code, result.stdout) == (0, answer)


def test_json_is_one_object_a_line(run):
    lines = run("sql", "SELECT DISTINCT provider FROM llm_calls FINAL ORDER BY provider", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [{"provider": "anthropic"}, {"provider": "openai"}]


def test_the_table_is_for_people(run):
    assert "│    13 │" in run("sql", COUNT).stdout


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO llm_calls (entry_id) VALUES ('x')",
        "DROP TABLE llm_calls",
        "ALTER TABLE llm_calls DELETE WHERE 1",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    ],
)
def test_it_can_only_read_the_ledger(run, query):
    result = run("sql", query)
    assert result.exit_code == 1
    assert "Not enough privileges" in result.stderr or "readonly" in result.stderr, result.stderr


def test_an_error_is_one_line_with_the_servers_words(run):
    result = run("sql", "SELECT nothing FROM llm_calls")
    assert result.exit_code == 1
    assert result.stderr.startswith("spanledger: ")
    assert "nothing" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unknown_format_is_named(run):
    result = run("sql", COUNT, "--format", "no such")
    assert result.exit_code == 1
    assert "'no such' is not a ClickHouse format" in result.stderr


def test_an_empty_query_is_wrong_usage(run):
    assert run("sql", " ; ").exit_code == 2


def test_the_query_may_come_from_standard_input(example_home):
    result = subprocess.run(
        [str(BIN / "spanledger"), "sql", "-"],
        input=f"{COUNT}\nFORMAT TSV;\n",
        env=environment(example_home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "13\n")
