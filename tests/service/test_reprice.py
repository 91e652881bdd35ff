"""`spanledger reprice`: today's prices for stored calls, the former ones kept; and `spanledger settle`."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import call_once, spanledger

CALLS = """
    ask = dict(messages=[{"role": "user", "content": "hi"}])
    client.chat.completions.create(model="gpt-5-mini", **ask)
    client.chat.completions.create(model="gpt-5-mini", **ask, stream=True).close()
    client.embeddings.create(model="text-embedding-3-small", input="hi")
"""

DEARER = """
settings: {}
schema: 1
provider: openai
currency: USD
per: 1M
source: https://example.com/contract
checked: 2026-11-22
models:
- id: gpt-5-mini
  match: [gpt-5-mini, "glob:gpt-5-mini-20??-??-??"]
  prices:
  - from: 2020-01-01
    rates: {input: 1000, cache_read: 1000, output: 2000, output_reasoning: 2000}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    done = call_once(tmp_path / "home", "\n    ".join(line.strip() for line in CALLS.strip().splitlines()))
    assert done.returncode == 0, done.stderr
    return tmp_path / "home"


def rows(home: Path, sql: str) -> list[dict[str, Any]]:
    done = spanledger(home, "sql", sql, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line, parse_float=Decimal) for line in done.stdout.splitlines()]


def test_nothing_changes_while_the_prices_are_the_same(home: Path) -> None:
    done = spanledger(home, "reprice")
    assert (done.returncode, done.stdout.strip()) == (0, "3 rows looked at, 0 changed"), done.stderr


def test_a_new_price_changes_the_rows_and_keeps_the_former(home: Path) -> None:
    question = "SELECT * FROM llm_calls FINAL WHERE request_model = 'gpt-5-mini' AND NOT stream"
    (before,) = rows(home, question)
    (home / "config.yaml").write_text(DEARER, encoding="utf-8")
    dry = json.loads(spanledger(home, "reprice", "--dry-run", "--json").stdout)
    assert (dry["looked_at"], dry["changed"], dry["written"]) == (3, 1, 0)
    assert rows(home, question) == [before]

    done = json.loads(spanledger(home, "reprice", "--json").stdout)
    assert (done["looked_at"], done["changed"], done["written"]) == (3, 1, 1)
    (change,) = done["changes"]
    (after,) = rows(home, question)
    expected = Decimal(int(before["input_tokens"])) * Decimal("0.001") + Decimal(
        int(before["output_tokens"])
    ) * Decimal("0.002")
    assert Decimal(after["cost"]) == Decimal(change["after"]) == expected
    assert Decimal(change["before"]) == Decimal(before["cost"])
    assert Decimal(change["difference"]) == expected - Decimal(before["cost"])
    same = set(before) - {"version", "ingested_at", *(name for name in before if name.startswith(("cost", "price_sn")))}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    (former,) = rows(home, "SELECT * FROM price_history")
    assert {former[name] == before[name] for name in ("cost", "cost_details", "price_snapshot", "version")} == {True}

    assert spanledger(home, "verify").returncode == 0
    assert "0 changed" in spanledger(home, "reprice").stdout
    (home / "config.yaml").unlink()
    assert json.loads(spanledger(home, "reprice", "--json").stdout)["written"] == 1
    (again,) = rows(home, question)
    assert (again["cost"], again["cost_details"]) == (before["cost"], before["cost_details"])
    assert len(rows(home, "SELECT * FROM price_history")) == 2


def test_only_what_was_asked_for_is_priced_again(home: Path) -> None:
    (home / "config.yaml").write_text(DEARER, encoding="utf-8")
    for name, value in {"--until": "2020-01-01", "--tag": "team=red", "--operation": "embeddings"}.items():
        done = spanledger(home, "reprice", name, value, "--json")
        assert json.loads(done.stdout)["written"] == 0, name
    assert spanledger(home, "reprice", "--no-such").returncode == 2


def test_settle_says_what_it_did(home: Path) -> None:
    done = spanledger(home, "settle")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 rows are no bills of their own")
    assert json.loads(spanledger(home, "settle", "--json").stdout) == {
        "retired": 0,
        "revived": 0,
        "named": 0,
        "contradictory": 0,
    }
