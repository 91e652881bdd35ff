"""`spanledger prices explain`: the sum is the stored cost, or the command says that it is not."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal

import pytest

from spanledger.service.explain_cli import proof


def ids(run, column, where="line = 0"):
    query = f"SELECT {column} FROM llm_calls FINAL WHERE {where} ORDER BY start_time FORMAT TSVRaw"
    return [line for line in run("sql", query).stdout.splitlines() if line]


@pytest.mark.parametrize("column", ["entry_id", "span_id", "response_id"])
def test_every_row_is_found_by_each_of_its_ids_and_comes_to_its_stored_cost(run, column):
    found = ids(run, column)
    assert len(found) >= 11
    for identifier in found:
        result = run("prices", "explain", identifier, "--json")
        assert result.exit_code == 0, result.output
        (explained,) = json.loads(result.stdout)
        assert explained["price_status"] in ("priced", "not_billed")
        if explained["price_status"] == "priced":
            assert explained["equal"] is True
            amounts = sum(Decimal(part["amount"]) for part in explained["parts"] if part["amount"])
            assert amounts == Decimal(explained["sum"]) == Decimal(explained["cost"]) > 0


def test_each_part_is_quantity_times_rate(run):
    (identifier,) = ids(run, "response_id", "service_tier = 'flex'")
    (explained,) = json.loads(run("prices", "explain", identifier, "--json").stdout)
    assert explained["price"]["modes"] == {"service_tier": "flex"}
    for part in explained["parts"]:
        if part["quantity"]:
            assert Decimal(part["amount"]) == part["quantity"] * Decimal(part["rate"])


def test_people_see_parts_rates_per_million_source_and_verdict(run):
    identifier = ids(run, "response_id", "provider = 'anthropic' AND cache_write_tokens > 0")[0]
    text = run("prices", "explain", identifier).stdout
    assert "cache_write_1h" in text
    assert "per 1M" in text
    assert "source: " in text
    assert "equal to the last digit" in text
    assert "web_search" not in text  # nothing of it was consumed


def test_a_call_that_was_not_billed_says_so(run):
    (identifier,) = ids(run, "span_id", "status = 'error'")
    result = run("prices", "explain", identifier)
    assert result.exit_code == 0
    assert "not_billed" in result.stdout


def test_an_unknown_id_is_an_error_that_shows_where_ids_are(run):
    result = run("prices", "explain", "chatcmpl-none")
    assert result.exit_code == 1
    assert "no call has 'chatcmpl-none'" in result.stderr
    assert "spanledger sql" in result.stderr


def test_a_row_that_does_not_come_to_its_stored_cost_is_told(run):
    (identifier,) = ids(run, "response_id", "service_tier = 'flex'")
    (explained,) = json.loads(run("prices", "explain", identifier, "--json").stdout)
    row = {
        **{name: explained[name] for name in explained if name not in ("parts", "sum", "equal", "price", "reasons")},
        "start_time": datetime(2026, 11, 22),
        "usage": {"input": Decimal(16), "output": Decimal(27)},
        "unmapped": {},
        "cost_reasons": [],
        "cost_details": {"input": Decimal("0.00001"), "output": Decimal("0.000135")},
        "cost": Decimal("0.000145"),
        "cost_base": Decimal("0.000145"),
        "cost_input": Decimal("0.00001"),
        "cost_output": Decimal("0.000135"),
        "cost_cache": Decimal(0),
        "cost_tools": Decimal(0),
        "input_tokens": 16,
        "output_tokens": 27,
        "price_snapshot": '{"rates":{"input":"0.000000625","output":"0.000005"},"currency":"USD"}',
    }
    assert proof(row)["equal"] is True
    assert proof({**row, "cost": Decimal("0.000145000000000001")})["equal"] is False
    assert proof({**row, "cost_details": {"input": Decimal("0.000145")}})["equal"] is False
