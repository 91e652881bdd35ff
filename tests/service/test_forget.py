"""Forgetting and retention: bodies go, rows stay without names, costs as they were."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter import forget, rollup
from spanledger.exporter.client import Client
from spanledger.exporter.stats import Question, stats
from spanledger.service.upkeep import Upkeep
from spanledger.settings import Settings, SettingsError, load
from tests.exporter.test_queries import call, insert
from tests.service.conftest import call_once, spanledger

NOW = datetime.now(timezone.utc)

CALLS = """
    from spanledger.attribution import attribute
    for user in ("jane", "jane", "joe"):
        with attribute(tenant="acme", user=user, session=f"s-{user}", tags={"name": user}):
            client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi " + user}])
"""


@pytest.fixture
def captured(tmp_path: Path) -> dict[str, str]:
    return {
        "SPANLEDGER_CONTENT": f"file://{tmp_path}/content",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true",
        "SPANLEDGER_KEY_PEPPER": "pepper",
    }


def rows(home: Path, query: str) -> list[dict[str, Any]]:
    done = spanledger(home, "sql", query, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_user_is_forgotten(home: Path, tmp_path: Path, captured: dict[str, str]) -> None:
    body = "\n".join(line.removeprefix("    ") for line in CALLS.strip("\n").splitlines()).replace("\n", "\n    ")
    made = call_once(home, body, **captured)
    assert made.returncode == 0, made.stderr
    assert spanledger(home, "up", **captured).returncode == 0
    files = list((tmp_path / "content").rglob("*.gz"))
    assert len(files) == 6
    costs = "SELECT count() AS calls, toString(sum(cost_base)) AS cost FROM llm_calls FINAL"
    before = rows(home, costs)

    dry = spanledger(home, "forget", "--user", "jane", "--dry-run", "--json", **captured)
    assert json.loads(dry.stdout) == {"calls": 2, "bodies": 4, "rows_written": 0, "bodies_removed": 0}, dry.stderr
    asked = spanledger(home, "forget", "--user", "jane", **captured)
    assert asked.returncode == 1  # nobody answers
    assert len(list((tmp_path / "content").rglob("*.gz"))) == 6

    done = spanledger(home, "forget", "--user", "jane", "--yes", "--json", **captured)
    assert json.loads(done.stdout) == {"calls": 2, "bodies": 4, "rows_written": 2, "bodies_removed": 4}, done.stderr
    assert len(list((tmp_path / "content").rglob("*.gz"))) == 2
    assert rows(home, costs) == before
    for table in ("llm_calls", "llm_describers"):
        assert "jane" not in json.dumps(rows(home, f"SELECT * FROM {table}"))
    names = rows(home, "SELECT user_id, session_id, tenant, count() AS n FROM llm_calls FINAL GROUP BY ALL ORDER BY n")
    assert [(row["tenant"], int(row["n"])) for row in names] == [("acme", 1), ("acme", 2)]
    assert names[0]["user_id"] == "joe"
    assert names[1]["user_id"].startswith("forgotten-")
    assert names[1]["session_id"].startswith("forgotten-")
    again = spanledger(home, "forget", "--user", "jane", "--yes", "--json", **captured)
    assert json.loads(again.stdout)["calls"] == 0


@pytest.mark.parametrize(("who", "name"), [("user", "jane"), ("tenant", "acme")])
def test_nothing_in_the_ledger_has_the_name_any_more(
    ledger: Client, monkeypatch: pytest.MonkeyPatch, who: str, name: str
) -> None:
    monkeypatch.setattr(rollup, "LATE_S", 0)
    at = int(NOW.timestamp())
    for number, (tenant, user) in enumerate([("acme", "jane"), ("acme", "jane"), ("globex", "joe")]):
        insert(ledger, call(number, cost="1.5", at=at, tenant=f'"{tenant}"', user_id=f'"{user}"'))
    scopes = ("all calls", f"{who}={name}", f"feature=a, {who}={name}, model=b", f"{who}={name}2")
    for scope in scopes:
        ledger.command(
            "INSERT INTO budget_alerts (budget, scope, since, amount, threshold, channel, active)"
            " VALUES ('b', {scope:String}, 0, 1, 1, 'email', 1)",
            {"scope": scope},
        )
    ledger.command("SELECT sleep(0.01)")
    assert rollup.roll_up(ledger, 0, 30).dates == 1
    assert tables_with(ledger, name) >= {"llm_calls", "llm_calls_rollup", "budget_alerts"}
    before = sums(ledger, ())
    found = forget.find(ledger, who, name)
    assert forget.forget(ledger, who, name, found, b"pepper") == 2
    ledger.command("DELETE FROM budget_alerts WHERE scope = {scope:String}", {"scope": scopes[3]})
    assert tables_with(ledger, name) == set()
    assert sums(ledger, ()) == before
    pseudonym = forget.pseudonym(name, b"pepper")
    other = {"user": "joe", "tenant": "globex"}[who]
    expected = {(pseudonym,): Decimal(3), (other,): Decimal("1.5")}
    assert sums(ledger, (who,)) == expected
    ledger.command("SELECT sleep(0.01)")
    assert rollup.roll_up(ledger, 0, 30).dates == 1
    assert sums(ledger, (who,)) == expected
    told = {scope for (scope,) in ledger.query("SELECT scope FROM budget_alerts FINAL").rows}
    assert told == {"all calls", f"{who}={pseudonym}", f"feature=a, {who}={pseudonym}, model=b"}
    assert forget.forget(ledger, who, name, forget.find(ledger, who, name), b"pepper") == 0


def tables_with(client: Client, name: str) -> set[str]:
    """The tables of the ledger in whose rows a name is, former versions included."""
    found = set()
    for (table,) in client.query("SELECT name FROM system.tables WHERE database = currentDatabase()").rows:
        if name.encode() in client.text(f"SELECT * FROM {table}", "JSONEachRow"):
            found.add(table)
    return found


def sums(client: Client, by: tuple[str, ...]) -> dict[tuple[str, ...], Decimal]:
    answer = stats(client, Question(by=by, parts=False, latency=False))
    groups = answer.groups if by else answer.totals
    return {tuple(group.values[name] for name in by): group.figures["cost"] for group in groups}


def test_wrong_use_is_told(home: Path) -> None:
    for arguments in ((), ("--user", "a", "--tenant", "b")):
        done = spanledger(home, "forget", *arguments)
        assert done.returncode == 2
        assert "name one of --user, --session and --tenant" in done.stderr
    assert "SPANLEDGER_CONTENT" in spanledger(home, "content", "prune", "--older-than", "3d").stderr
    assert "'soon' is no number of days" in spanledger(home, "content", "prune", "--older-than", "soon").stderr


def test_the_service_removes_bodies_after_their_days(
    ledger: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    today = datetime.now(timezone.utc).date()
    for age in (0, 7, 8, 400):
        folder = tmp_path / "content" / (today - timedelta(days=age)).isoformat()
        folder.mkdir(parents=True)
        (folder / "x.gz").write_bytes(b"x")
    caplog.set_level(logging.INFO)
    for url, days, left in (
        (f"file://{tmp_path}/content", 0, 4),
        ("s4://nowhere", 7, 4),
        (f"file://{tmp_path}/content", 7, 2),
    ):
        upkeep = Upkeep(Settings(home=tmp_path, content=url, content_days=days))
        upkeep.keep(ledger)
        upkeep.keep(ledger)  # it is not due again
        if upkeep._bodies._thread is not None:
            upkeep._bodies._thread.join(30)
        assert len(list((tmp_path / "content").iterdir())) == left
    told = [record.getMessage() for record in caplog.records if "bodies" in record.getMessage()]
    assert told[0].startswith("old bodies could not be removed: SPANLEDGER_CONTENT: s4://nowhere: ")
    assert told[1:] == ["2 bodies of 2 days removed: they are kept 7 days"]
    with pytest.raises(SettingsError, match="SPANLEDGER_CONTENT_DAYS='soon' is not a whole number of days"):
        load({"SPANLEDGER_HOME": str(tmp_path), "SPANLEDGER_CONTENT_DAYS": "soon"})


def test_bodies_are_pruned_by_whole_days(home: Path, tmp_path: Path, captured: dict[str, str]) -> None:
    today = datetime.now(timezone.utc).date()
    for age in (0, 1, 2, 3, 40):
        folder = tmp_path / "content" / (today - timedelta(days=age)).isoformat()
        folder.mkdir(parents=True)
        (folder / "x.gz").write_bytes(b"x")
    (tmp_path / "content" / "not-a-day").mkdir()
    dry = spanledger(home, "content", "prune", "--older-than", "2d", "--dry-run", "--json", **captured)
    assert len(json.loads(dry.stdout)["days"]) == 2
    done = spanledger(home, "content", "prune", "--older-than", "2d", "--json", **captured)
    assert json.loads(done.stdout)["bodies_removed"] == 2
    left = sorted(path.name for path in (tmp_path / "content").iterdir())
    assert left == [*(str(today - timedelta(days=age)) for age in (2, 1, 0)), "not-a-day"]
