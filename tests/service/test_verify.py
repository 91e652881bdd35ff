"""`spanledger verify` and `report --unpriced`, on a ledger of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spanledger.exporter.client import connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from tests.service.conftest import call_once, spanledger

CALLS = """
    ask = dict(messages=[{"role": "user", "content": "hi"}])
    client.chat.completions.create(model="gpt-5-mini", **ask)
    client.chat.completions.create(model="gpt-4o", **ask, stream=True).close()
    client.embeddings.create(model="text-embedding-3-small", input="hi")
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    done = call_once(tmp_path, "\n    ".join(line.strip() for line in CALLS.strip().splitlines()))
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_rows_prove_themselves_until_one_is_changed(home: Path) -> None:
    done = spanledger(home, "verify")
    assert (done.returncode, done.stdout.strip()) == (0, "3 rows recomputed, 0 do not come out")

    engine = EmbeddedClickHouse(home)
    client = connect(engine.start())
    client.command(
        "ALTER TABLE llm_calls UPDATE cost = cost + toDecimal128('0.000000000000000001', 18)"
        " WHERE request_model = 'gpt-5-mini' SETTINGS mutations_sync = 1"
    )
    client.command(
        "ALTER TABLE llm_calls UPDATE input_tokens = input_tokens + 1"
        " WHERE operation = 'embeddings' SETTINGS mutations_sync = 1"
    )
    client.close()
    engine.stop()

    done = spanledger(home, "verify", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["checked"], found["wrong"]) == (1, 3, 2)
    assert {(each["model"], each["column"]) for each in found["mismatches"]} == {
        ("gpt-5-mini-2025-08-07", "cost"),
        ("text-embedding-3-small", "input_tokens"),
    }
    done = spanledger(home, "verify")
    assert done.returncode == 1
    assert "3 rows recomputed, 2 do not come out" in done.stdout
    assert json.loads(spanledger(home, "verify", "--until", "2020-01-01", "--json").stdout)["checked"] == 0


def test_models_without_a_price_come_with_the_line_that_prices_them(home: Path, tmp_path: Path) -> None:
    unknown = {"SPANLEDGER_HOSTS": "localhost=azure.ai.openai"}
    body = 'client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hi"}])'
    call_once(home, body, **unknown)
    call_once(home, body, SPANLEDGER_HOSTS="")
    found = json.loads(spanledger(home, "report", "--unpriced", "--json").stdout)
    lines = {row["provider"]: row["line"] for row in found}
    assert lines["azure.ai.openai"].startswith("aliases: {'azure.ai.openai/gpt-9")
    assert lines["localhost"] == "providers: {localhost: NAME-OF-A-LISTED-PROVIDER}"
    assert all(row["calls"] == 1 and row["input_tokens"] > 0 and row["reason"] for row in found)

    prices = tmp_path / "prices.yaml"
    prices.write_text("\n".join(lines.values()).replace("NAME-OF-A-LISTED-PROVIDER", "openai"))
    assert spanledger(home, "prices", "check", str(prices)).returncode == 0

    done = spanledger(home, "report", "--unpriced", "--tenant", "acme")
    assert done.returncode == 2
    assert "--tenant" in done.stderr
