"""`spanledger report` on the calls of examples/app.py, in embedded ClickHouse."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from spanledger.exporter.queries import DIMENSIONS


def rows(run, *args):
    result = run("report", "--json", *args)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def total(found):
    return sum(Decimal(row["cost"]) for row in found if row["cost"] is not None)


def test_every_call_of_the_example_is_one_row_with_a_cost(run):
    found = {row["model"]: row for row in rows(run)}
    assert {model: row["calls"] for model, row in found.items()} == {
        "claude-haiku-4-5-20251001": 2,
        "claude-sonnet-4-6": 3,
        "gpt-4.1-mini-2025-04-14": 1,
        "gpt-5-2025-08-07": 1,
        "gpt-5-mini-2025-08-07": 4,
        "no-such-model": 1,
        "text-embedding-3-small": 1,
    }
    assert all(row["unpriced"] == row["estimated"] == 0 for row in found.values())
    assert all(Decimal(row["cost"]) > 0 for model, row in found.items() if model != "no-such-model")
    assert (found["no-such-model"]["errors"], Decimal(found["no-such-model"]["cost"])) == (1, 0)
    assert found["claude-sonnet-4-6"]["cache_read_tokens"] == found["claude-sonnet-4-6"]["cache_write_tokens"] > 0
    assert found["gpt-5-mini-2025-08-07"]["reasoning_tokens"] > 0


@pytest.mark.parametrize("by", [*DIMENSIONS, "tag:team", "provider,model,day"])
def test_every_grouping_sums_to_the_same_calls_and_cost(run, by):
    found = rows(run, "--by", by)
    assert sum(row["calls"] for row in found) == 13
    assert total(found) == total(rows(run))


def test_the_attribution_of_the_example_is_there(run):
    assert {row["tenant"]: row["calls"] for row in rows(run, "--by", "tenant")} == {"acme": 7, "globex": 6}
    assert {row["tag:team"] for row in rows(run, "--by", "tag:team")} == {"blue", ""}
    assert {row["service"] for row in rows(run, "--by", "service")} == {"help-desk"}


@pytest.mark.parametrize(
    ("args", "calls"),
    [
        (["--tenant", "acme"], 7),
        (["--tenant", "acme", "--feature", "answer"], 2),
        (["--provider", "anthropic"], 6),
        (["--status", "error"], 1),
        (["--tier", "flex"], 1),
        (["--tag", "team=blue"], 2),
        (["--user", "nobody"], 0),
        (["--since", "1h"], 13),
        (["--since", "today", "--until", "today"], 13),
        (["--until", "2026-01-01"], 0),
        (["--since", (datetime.now(timezone.utc) + timedelta(days=2)).date().isoformat()], 0),
    ],
)
def test_filters_leave_only_what_they_name(run, args, calls):
    if "today" in args and (datetime.now(timezone.utc) - timedelta(minutes=20)).day != datetime.now(timezone.utc).day:
        pytest.skip("the example ran before midnight (UTC)")
    assert sum(row["calls"] for row in rows(run, *args)) == calls


def test_the_dearest_come_first_and_the_limit_keeps_these(run):
    costs = [Decimal(row["cost"]) for row in rows(run, "--by", "model,tenant")]
    assert costs == sorted(costs, reverse=True)
    assert [Decimal(row["cost"]) for row in rows(run, "--by", "model,tenant", "--limit", "2")] == costs[:2]


def test_csv_has_all_digits_of_the_json(run):
    result = run("report", "--format", "csv")
    found = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["cost"] for row in found] == [row["cost"] for row in rows(run)]
    assert all(len(row["cost"].partition(".")[2]) == 18 for row in found)


def test_the_table_ends_with_the_sum(run):
    lines = [line for line in run("report").stdout.splitlines() if line.strip()]
    assert "cost USD" in lines[0]
    assert lines[-1].split()[0] == "13"
    shown = Decimal(lines[-1].split()[-1])
    assert shown == total(rows(run)).quantize(Decimal("0.000001"))
    assert "\x1b[" not in "".join(lines)


def test_an_empty_report_says_so_and_is_no_error(run):
    result = run("report", "--tenant", "nobody")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No calls match.\n"
    assert rows(run, "--tenant", "nobody") == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--by", "colour"], "'colour' is no dimension: use model, provider"),
        (["--since", "soon"], "'soon' is not a time"),
        (["--tag", "team"], "'team' is not NAME=VALUE"),
        (["--limit", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_is_named_with_what_would_be_right(run, args, said):
    result = run("report", *args)
    assert result.exit_code == 2
    assert said in result.stderr
