"""Seven questions to a ledger of all recorded calls: API, command line and `query()` say the same, and it is true."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from spanledger.exporter.reprice import _call
from spanledger.pricing import book as books
from spanledger.query import query
from spanledger.service.api import more
from spanledger.service.api.app import application
from spanledger.service.api.settings import ServeSettings
from spanledger.service.cli import cli
from spanledger.settings import Settings, settings
from tests import recordings
from tests.all_recordings import Everything, made_at

pytestmark = [pytest.mark.recordings, recordings.needed, pytest.mark.timeout(300)]


@pytest.fixture
def api(everything: Everything) -> Iterator[Callable[[str], Any]]:
    app = application(Settings(home=everything.home, url=everything.url), ServeSettings())
    with TestClient(app, base_url="http://localhost") as client:

        def get(path: str) -> Any:
            answer = client.get(f"/api/v1/llm/{path}")
            assert answer.status_code == 200, answer.text
            return answer.json()

        yield get
    app.state.ledger.close()


@pytest.fixture
def command(everything: Everything, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.setenv("SPANLEDGER_HOME", str(everything.home))
    monkeypatch.setenv("SPANLEDGER_URL", everything.url)
    settings.cache_clear()

    def run(*args: str) -> Any:
        done = CliRunner().invoke(cli, [*args, "--json"], prog_name="spanledger")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    yield run
    settings.cache_clear()


def truly(everything: Everything, **columns: Any) -> list[tuple[dict[str, Any], dict[str, Any] | None, Decimal | None]]:
    """The rows with these columns: each with its truth, and what the price book says the true usage costs."""
    truth = recordings.truth()
    found = []
    for row in everything.rows:
        if any(row[name] != value for name, value in columns.items()):
            continue
        entry = truth.get(row["tags"]["recording"])
        cost = None
        for parts in recordings.readings(entry) if entry and not row["line"] else ():
            if parts == {p: int(q) for p, q in row["usage"].items() if p != "grounded_request"}:
                usage = {part: Decimal(quantity) for part, quantity in parts.items()}
                if "grounded_request" in row["usage"]:
                    usage["grounded_request"] = Decimal(1)
                cost = books.default_book().price(_call({**row, "usage": usage, "start_time": made_at(row)})).cost_base
        found.append((row, entry, cost if entry and not row["line"] else row["cost_base"]))
    return found


def costs_by(rows: Any, name: str) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row, _, cost in rows:
        if cost is not None:
            sums[(row["response_model"] or row["request_model"]) if name == "model" else row[name]] += cost
    return {key: cost for key, cost in sums.items() if cost}


def amounts(rows: list[dict[str, Any]], name: str) -> dict[str, Decimal]:
    found = {}
    for row in rows:
        cost = row["cost"]["total"] if "group" in row else row["cost"]
        if cost is not None and Decimal(cost):
            found[row["group"][name] if "group" in row else row[name]] = Decimal(cost)
    return found


def test_the_ledger_has_all_recorded_calls(everything: Everything) -> None:
    assert len(everything.made) > 1800
    assert len(everything.rows) > 1700


def test_1_the_cost_of_yesterday_by_model(everything: Everything, api: Any, command: Any) -> None:
    days = {row["start_time"].date() for row in everything.rows}
    day = min(days)
    rows = [each for each in truly(everything) if each[0]["start_time"].date() == day]
    expected = costs_by(rows, "model")
    assert len(expected) > 50
    assert amounts(api(f"stats?group_by=model&since={day}&until={day}")["groups"], "model") == expected
    assert amounts(command("report", "--by", "model", "--since", str(day), "--until", str(day)), "model") == expected
    frame = query(
        "SELECT if(response_model != '', response_model, request_model) AS model, sum(cost_base) AS cost"
        " FROM llm_calls FINAL WHERE toDate(start_time) = {day:Date} GROUP BY model",
        {"day": str(day)},
    ).df()
    assert {row.model: row.cost for row in frame.itertuples() if row.cost} == expected


def test_2_the_cost_of_one_user_this_month(everything: Everything, api: Any, command: Any) -> None:
    since = min(row["start_time"].date() for row in everything.rows)
    (expected,) = costs_by(truly(everything, user_id="ann"), "user_id").values()
    (totals,) = api(f"stats?user=ann&since={since}&parts=false")["totals"]
    assert Decimal(totals["cost"]["total"]) == expected
    (row,) = command("report", "--by", "user", "--user", "ann", "--since", str(since))
    assert Decimal(row["cost"]) == expected
    assert row["calls"] == totals["calls"]


def test_3_the_cost_of_one_trace(everything: Everything, api: Any, command: Any) -> None:
    by_trace = costs_by(truly(everything), "trace_id")
    trace, expected = max(by_trace.items(), key=lambda item: item[1])
    assert Decimal(api(f"stats?trace={trace}")["totals"][0]["cost"]["total"]) == expected
    assert Decimal(command("report", "--by", "trace", "--trace", trace)[0]["cost"]) == expected
    assert sum(Decimal(call["cost_base"] or 0) for call in api(f"calls?trace={trace}")["calls"]) == expected


def test_4_the_share_of_cached_tokens_and_what_caching_saved(everything: Everything, api: Any, command: Any) -> None:
    rows = [row for row, _, _ in truly(everything)]
    read = sum(row["cache_read_tokens"] or 0 for row in rows)
    of = sum(row["input_tokens"] or 0 for row in rows)
    true = [entry for row, entry, _ in truly(everything) if entry and not row["line"]]
    assert read > 0
    assert read >= sum(
        quantity for entry in true for part, quantity in entry["parts"].items() if part.startswith("cache_read")
    )
    (totals,) = api("savings")["totals"]
    assert (totals["cache_read_tokens"], totals["input_tokens"]) == (read, of)
    assert totals["cache_read_share"] == read / of
    by_model = api("savings?group_by=model")["groups"]
    assert sum(Decimal(each["saved"]) for each in by_model) == Decimal(totals["saved"]) > 0
    told = {row["model"]: row["saved"] for row in command("report", "--savings")}
    assert told == {each["group"]["model"]: each["saved"] for each in by_model}


def test_5_the_calls_that_have_no_price(everything: Everything, api: Any, command: Any) -> None:
    unpriced = [row for row in everything.rows if row["price_status"] == "unpriced"]
    answer = api("unpriced")["unpriced"]
    assert sum(each["calls"] for each in answer) == len(unpriced) > 0
    assert answer == command("report", "--unpriced")
    assert api("stats")["totals"][0]["price_status"]["unpriced"] == len(unpriced)
    listed = api("calls?price_status=unpriced&limit=1000")["calls"]
    assert {call["entry_id"] for call in listed} == {row["entry_id"] for row in unpriced}


def test_6_the_slowest_model_at_p95(everything: Everything, api: Any, command: Any) -> None:
    durations: dict[str, list[int]] = defaultdict(list)
    for row in everything.rows:
        if row["line"] == 0 and row["status"] == "ok":
            durations[row["response_model"] or row["request_model"]].append(row["duration_ns"])
    found = api("stats?group_by=model&sort=-duration_p95&limit=10000")["groups"]
    told = {each["group"]["model"]: each["duration_ns"]["p95"] for each in found if each["duration_ns"]["p95"]}
    assert told.keys() == durations.keys()
    for model, values in durations.items():
        exact = sorted(values)[int((len(values) - 1) * 0.95)]
        above = sorted(values)[min(len(values) - 1, int((len(values) - 1) * 0.95) + 1)]
        assert exact * (1 - 1 / 128) - 1 <= told[model] <= above, model
    slowest = command("report", "--latency", "--limit", "5")
    assert [(row["model"], row["p95_ns"]) for row in slowest] == [
        (each["group"]["model"], each["duration_ns"]["p95"]) for each in found[:5]
    ]


def test_7_what_a_price_change_would_have_done(
    everything: Everything, api: Any, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("overlays: [{name: twice, provider: openai, mult: {'*': 2}}]\n", encoding="utf-8")
    dearer = books.load((file,))
    monkeypatch.setattr(books, "default_book", lambda: dearer)
    monkeypatch.setattr(more, "todays_book", lambda: dearer)
    answer = api("repricing?provider=openai")
    assert answer["looked_at"] == sum(row["provider"] == "openai" for row in everything.rows)
    before = sum(Decimal(each["before"] or 0) for each in answer["changes"])
    after = sum(Decimal(each["after"] or 0) for each in answer["changes"])
    assert after == sum(costs_by(truly(everything, provider="openai"), "provider").values()) == 2 * before
    told = command("reprice", "--provider", "openai", "--dry-run")
    assert told["changes"] == answer["changes"]
