"""`spanledger forget` and `spanledger content prune`: bodies go, rows stay without names, costs as they were."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import call_once, spanledger

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


def test_wrong_use_is_told(home: Path) -> None:
    for arguments in ((), ("--user", "a", "--tenant", "b")):
        done = spanledger(home, "forget", *arguments)
        assert done.returncode == 2
        assert "name one of --user, --session and --tenant" in done.stderr
    assert "SPANLEDGER_CONTENT" in spanledger(home, "content", "prune", "--older-than", "3d").stderr
    assert "'soon' is no number of days" in spanledger(home, "content", "prune", "--older-than", "soon").stderr


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
