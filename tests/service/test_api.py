"""The API: its published shape, what it refuses and why, who sees what."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import socket
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from starlette.testclient import TestClient

from spanledger.exporter import rollup
from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.service.api.app import application
from spanledger.service.api.settings import ServeSettings, load
from spanledger.service.listening import bind
from spanledger.service.part_settings import Address
from spanledger.settings import Settings, SettingsError, settings
from tests.exporter.test_rollup import row

SHAPES = Path(__file__).parent / "api_shapes"


def filled(ledger: Client) -> None:
    rows = [
        row(1, minute=10, tenant="acme", user_id="ann", tags={"team": "red"}, response_id="chatcmpl-C8rV2YkqYhSU0001"),
        row(2, minute=70, tenant="acme", user_id="bob", status="error", error_type="429", price_status="not_billed"),
        row(3, minute=1500, tenant="globex", trace_id="f" * 32, time_to_first_token_ns=10**8),
        row(4, minute=1510, tenant="globex", cost=None, cost_base=None, cost_details={}, price_status="unpriced"),
    ]
    block = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in rows)
    ledger.insert_block("llm_calls", block, hashlib.sha256(block).hexdigest())


@pytest.fixture
def ask(ledger: Client, clickhouse: EmbeddedClickHouse) -> Iterator[Any]:
    """Asks the API over a ledger of four calls: `ask(path, **settings)`."""
    filled(ledger)
    with_open: list[TestClient] = []

    budgets = {
        "all": {"amount": 10, "window": "rolling 366d"},
        "each tenant": {"amount": "0.5", "window": "rolling 366d", "scope": {"tenant": "*"}},
    }

    def get(path: str, headers: dict[str, str] | None = None, host: str = "localhost", **chosen: Any) -> Any:
        app = application(Settings(home=clickhouse.home, budgets=budgets), ServeSettings(**chosen))
        client = TestClient(app, base_url=f"http://{host}")
        client.__enter__()
        with_open.append(client)
        return client.get(path, headers=headers)

    yield get
    for client in with_open:
        client.app.state.ledger.close()  # type: ignore[attr-defined]
        client.__exit__(None, None, None)


def shape(value: Any) -> Any:
    """The names and kinds of an answer, without its values."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def lacks(released: Any, now: Any, at: str = "") -> list[str]:
    """What an answer had when it was released and has no more."""
    if isinstance(released, dict):
        if not isinstance(now, dict):
            return [at]
        found = [f"{at}.{name}" for name in released if name not in now]
        return found + [
            each for name in released if name in now for each in lacks(released[name], now[name], f"{at}.{name}")
        ]
    if isinstance(released, list) and released:
        return lacks(released[0], now[0], f"{at}[]") if isinstance(now, list) and now else [at]
    return (
        []
        if released == now or "NoneType" in (released, now) or isinstance(released, list)
        else [f"{at}: {released} -> {now}"]
    )


PINNED = {
    "stats": "/api/v1/llm/stats?group_by=day,model,tenant",
    "calls": "/api/v1/llm/calls",
    "call": "/api/v1/llm/calls/chatcmpl-C8rV2YkqYhSU0001",
    "savings": "/api/v1/llm/savings?group_by=model",
    "unpriced": "/api/v1/llm/unpriced",
    "repricing": "/api/v1/llm/repricing",
    "prices": "/api/v1/llm/prices?provider=openai&model=gpt-5-mini",
    "budgets": "/api/v1/llm/budgets",
    "settings": "/api/v1/settings",
}


@pytest.mark.parametrize("name", PINNED)
def test_the_released_shape_only_grows(ask: Any, name: str) -> None:
    """To release a field: add it to the file. Nothing is ever taken out of one."""
    answer = ask(PINNED[name])
    assert answer.status_code == 200, answer.text
    released = json.loads((SHAPES / f"{name}.json").read_text(encoding="utf-8"))
    assert lacks(released, shape(answer.json())) == []


def test_the_answer_is_what_its_schema_says(ask: Any) -> None:
    document = ask("/api/v1/openapi.json").json()
    for name in ("stats", "calls", "savings"):
        path = PINNED[name]
        schema = document["paths"][path.partition("?")[0]]["get"]["responses"]["200"]["content"]["application/json"]
        whole = {**schema["schema"], "components": document["components"]}
        jsonschema.validate(ask(path).json(), whole)


def test_the_documented_parameters_are_those_that_are_known(ask: Any) -> None:
    document = ask("/api/v1/openapi.json").json()
    for path, item in document["paths"].items():
        if "{" in path:
            continue
        (error,) = ask(f"{path}?nonsense=1").json()["errors"]
        assert error["field"] == "nonsense"
        named = {parameter["name"] for parameter in item["get"]["parameters"]}
        assert set(error.get("allowed", ())) == named, path


def test_groups_totals_and_amounts(ask: Any) -> None:
    found = ask("/api/v1/llm/stats?group_by=tenant&sort=group").json()
    assert [(each["group"], each["calls"], each["errors"]) for each in found["groups"]] == [
        ({"tenant": "acme"}, 2, 1),
        ({"tenant": "globex"}, 2, 0),
    ]
    (totals,) = found["totals"]
    assert totals["cost"]["total"] == format(Decimal(7919 * (1 + 2 + 3) + 3).scaleb(-18), "f")
    assert totals["cost"]["unknown_rows"] == 1
    assert totals["error_types"] == {"429": 1}
    assert totals["price_status"]["unpriced"] == 1
    assert totals["shares"]["unpriced"] == 0.25
    assert totals["usage"] == {"input": "10", "output": "4"}
    assert sum(Decimal(each["cost"]["total"]) for each in found["groups"]) == Decimal(totals["cost"]["total"])


def test_days_are_those_of_the_time_zone(ask: Any) -> None:
    found = ask("/api/v1/llm/stats?group_by=day&time_zone=America/New_York").json()["groups"]
    assert [each["group"]["day"] for each in found] == ["2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"]
    one = ask("/api/v1/llm/stats?since=2026-11-02&until=2026-11-02&time_zone=America/New_York").json()
    assert (one["since"], one["until"]) == ("2026-11-02T05:00:00Z", "2026-11-03T05:00:00Z")
    assert one["totals"][0]["calls"] == 2


@pytest.mark.parametrize(
    ("filters", "calls"),
    [
        ("tenant=acme", 2),
        ("tenant=acme&tenant=globex", 4),
        ("user=ann", 1),
        ("tag=team%3Dred", 1),
        ("tag=team=blue", 0),
        ("trace=" + "f" * 32, 1),
        ("status=error", 1),
        ("tenant=%27%20OR%201%3D1%20--", 0),
        ("user=", 2),
    ],
)
def test_filters(ask: Any, filters: str, calls: int) -> None:
    assert ask(f"/api/v1/llm/stats?{filters}").json()["totals"][0]["calls"] == calls


@pytest.mark.parametrize(
    ("query", "field", "allowed"),
    [
        ("group_by=modl", "group_by", "model"),
        ("group_by=model,tenant,user", "group_by", None),
        ("group_by=hour,day", "group_by", None),
        ("since=yesterdayish", "since", None),
        ("since=2026-11-02&until=2026-11-01", "until", None),
        ("time_zone=Mars/Olympus", "time_zone", None),
        ("time_zone=../../etc/passwd", "time_zone", None),
        ("limit=0", "limit", None),
        ("limit=1e3", "limit", None),
        ("limit=5&limit=6", "limit", None),
        ("sort=price", "sort", "-cost"),
        ("status=failed", "status", "error"),
        ("tag=team", "tag", None),
        ("format=xml", "format", "csv"),
        ("modell=x", "modell", "model"),
    ],
)
def test_bad_input_is_422_with_its_field_and_what_is_allowed(ask: Any, query: str, field: str, allowed: str) -> None:
    answer = ask(f"/api/v1/llm/stats?{query}")
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert allowed is None or allowed in error["allowed"]


def test_all_that_is_wrong_is_told_at_once(ask: Any) -> None:
    errors = ask("/api/v1/llm/stats?group_by=x&limit=0&foo=1").json()["errors"]
    assert [error["field"] for error in errors] == ["group_by", "limit", "foo"]


def test_calls_page_by_page_are_all_calls_once(ask: Any) -> None:
    for sort in ("-start_time", "cost", "-duration", "total_tokens"):
        seen, cursor = [], ""
        while cursor is not None:
            page = ask(f"/api/v1/llm/calls?limit=1&sort={sort}{cursor and f'&cursor={cursor}'}").json()
            seen += [call["entry_id"] for call in page["calls"]]
            cursor = page["next"]
        assert len(seen) == len(set(seen)) == 4, sort
    assert ask("/api/v1/llm/calls?cursor=abc").status_code == 422


def test_calls_of_dates_that_are_rolled_up_come_in_order_with_the_others(
    ask: Any, ledger: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup, "LATE_S", 0)
    ledger.command("SELECT sleep(0.003)")
    assert rollup.roll_up(ledger, 0, 60).dates == 3
    ledger.insert_block("llm_calls", orjson.dumps(row(5, minute=40)) + b"\n", "one more")
    for sort in ("-start_time", "cost", "-duration", "total_tokens"):
        whole = [call["entry_id"] for call in ask(f"/api/v1/llm/calls?sort={sort}").json()["calls"]]
        first = ask(f"/api/v1/llm/calls?sort={sort}&limit=3").json()
        rest = ask(f"/api/v1/llm/calls?sort={sort}&limit=3&cursor={first['next']}").json()
        assert [call["entry_id"] for call in first["calls"] + rest["calls"]] == whole
        assert len(set(whole)) == 5


def test_a_call_is_explained(ask: Any) -> None:
    found = ask(PINNED["call"], trace_url="http://jaeger/trace/{trace_id}").json()
    assert found["trace_url"] == f"http://jaeger/trace/{0:032x}"
    assert found["rows"][0]["explanation"]["parts"]
    assert ask("/api/v1/llm/calls/nothing").status_code == 404


def test_csv_has_the_same_figures(ask: Any) -> None:
    as_json = ask("/api/v1/llm/stats?group_by=tenant").json()["groups"]
    for answer in (
        ask("/api/v1/llm/stats?group_by=tenant&format=csv"),
        ask("/api/v1/llm/stats?group_by=tenant", {"accept": "text/csv"}),
    ):
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [(r["tenant"], r["calls"], r["cost.total"]) for r in rows] == [
            (g["group"]["tenant"], str(g["calls"]), g["cost"]["total"] or "") for g in as_json
        ]


def test_csv_hands_no_formula_to_a_spreadsheet(ledger: Client, ask: Any) -> None:
    block = orjson.dumps(row(9, tenant="=HYPERLINK(1)")) + b"\n"
    ledger.insert_block("llm_calls", block, "formula")
    assert "'=HYPERLINK(1)" in ask("/api/v1/llm/stats?group_by=tenant&format=csv").text


TOKENS = {"all": "", "only-acme": "acme"}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_tenants_token_sees_that_tenant_only(ask: Any) -> None:
    def calls(path: str, token: str) -> Any:
        return ask(path, bearer(token), tokens=TOKENS)

    assert calls("/api/v1/llm/stats", "all").json()["totals"][0]["calls"] == 4
    assert calls("/api/v1/llm/stats", "only-acme").json()["totals"][0]["calls"] == 2
    assert {call["tenant"] for call in calls("/api/v1/llm/calls", "only-acme").json()["calls"]} == {"acme"}
    assert calls("/api/v1/llm/stats?tenant=globex", "only-acme").status_code == 422
    assert calls(f"/api/v1/llm/calls/{3:032x}", "only-acme").status_code == 404
    assert calls("/api/v1/llm/unpriced", "only-acme").json()["unpriced"] == []
    assert len(calls("/api/v1/llm/unpriced", "all").json()["unpriced"]) == 1
    assert calls("/api/v1/llm/repricing", "only-acme").json()["looked_at"] == 2
    assert calls("/api/v1/settings", "only-acme").json()["tenant"] == "acme"


@pytest.mark.parametrize("path", [*PINNED.values(), "/api/v1/openapi.json"])
def test_without_the_token_nothing_is_told(ask: Any, path: str) -> None:
    for headers in (None, bearer("wrong"), {"authorization": "Basic all"}):
        answer = ask(path, headers, tokens=TOKENS)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_without_tokens_only_loopback_is_served(ask: Any) -> None:
    assert ask("/api/v1/settings", host="evil.example").status_code == 421
    assert ask("/api/v1/settings", host="127.0.0.1:14319").status_code == 200


def test_pages_of_other_origins_may_not_ask_unless_they_are_named(ask: Any) -> None:
    origin = {"origin": "https://pages.example"}
    assert "access-control-allow-origin" not in ask("/api/v1/settings", origin).headers
    allowed = ask("/api/v1/settings", origin, cors_origins=("https://pages.example",))
    assert allowed.headers["access-control-allow-origin"] == "https://pages.example"


def test_too_many_requests_are_told_when_to_come_again(ledger: Client, clickhouse: EmbeddedClickHouse) -> None:
    app = application(Settings(home=clickhouse.home), ServeSettings(requests_per_minute=60))
    with TestClient(app, base_url="http://localhost") as client:
        answers = [client.get("/api/v1/settings") for _ in range(12)]
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_query_that_would_read_too_much_is_refused(ask: Any) -> None:
    answer = ask("/api/v1/llm/stats?group_by=session", max_query_rows=1)
    assert answer.status_code == 422
    assert "set since and until" in answer.json()["errors"][0]["message"]


def test_an_answer_is_new_as_soon_as_the_ledger_is(ledger: Client, clickhouse: EmbeddedClickHouse) -> None:
    app = application(Settings(home=clickhouse.home), ServeSettings())
    with TestClient(app, base_url="http://localhost") as client:
        for number in range(1, 4):
            block = orjson.dumps(row(number)) + b"\n"
            ledger.insert_block("llm_calls", block, f"new-{number}")
            for _ in range(2):
                assert client.get("/api/v1/llm/stats").json()["totals"][0]["calls"] == number
        app.state.ledger.close()


def test_beyond_loopback_a_token_is_needed(tmp_path: Path) -> None:
    now = Settings(home=tmp_path)
    with pytest.raises(SettingsError, match="is not loopback"):
        load(now, {"SPANLEDGER_SERVE_HTTP": "0.0.0.0:8080"})
    file = tmp_path / "tokens"
    file.write_text("# ours\naaa\nbbb acme corp\n", encoding="utf-8")
    file.chmod(0o600)
    found = load(now, {"SPANLEDGER_SERVE_HTTP": "0.0.0.0:8080", "SPANLEDGER_SERVE_TOKEN_FILE": str(file)})
    assert found.tokens == {"aaa": "", "bbb": "acme corp"}
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="others can read it"):
        load(now, {"SPANLEDGER_SERVE_TOKEN_FILE": str(file)})


def test_the_page_tells_every_path() -> None:
    from spanledger.service.api.openapi import document

    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`GET (/[^`]+)`", page))
    assert set(document()["paths"]) <= named


def test_budgets_say_what_was_spent_of_them_and_a_tenant_sees_its_own(ask: Any) -> None:
    total = ask("/api/v1/llm/stats").json()["totals"][0]["cost"]["total"]
    everything, *tenants = ask("/api/v1/llm/budgets").json()["budgets"]
    assert (everything["budget"], everything["scope"]) == ("all", {})
    assert Decimal(everything["spent"]) == Decimal(total)
    assert (everything["thresholds"], everything["crossed"]) == (["0.8", "1"], [])
    assert sorted(each["scope"]["tenant"] for each in tenants) == ["acme", "globex"]
    (token, tenant) = next((token, tenant) for token, tenant in TOKENS.items() if tenant)
    (only,) = ask("/api/v1/llm/budgets", bearer(token), tokens=TOKENS).json()["budgets"]
    assert only["scope"] == {"tenant": tenant}


def test_a_wrong_budget_is_told(clickhouse: EmbeddedClickHouse) -> None:
    app = application(Settings(home=clickhouse.home, budgets={"b": {"amount": -1, "window": "day"}}), ServeSettings())
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.get("/api/v1/llm/budgets")
    assert answer.status_code == 500
    assert "settings.budgets.b.amount is -1: use an amount above 0" in answer.json()["errors"][0]["message"]


def test_repricing_reads_price_files_anew(ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.yaml"
    monkeypatch.setenv("SPANLEDGER_CONFIG", str(file))

    def after(times: int) -> Decimal:
        file.write_text(f"overlays: [{{name: dearer, mult: {{'*': {times}}}}}]\n", encoding="utf-8")
        found = ask("/api/v1/llm/repricing").json()["changes"]
        return sum((Decimal(each["after"] or 0) for each in found), Decimal(0))

    file.write_text("overlays: [{name: dearer, mult: {'*': 1}}]\n", encoding="utf-8")
    settings.cache_clear()
    try:
        assert after(6) == 2 * after(3) > 0
        file.write_text("overlays: [{name: dearer, mult: {'*': -1}}]\n", encoding="utf-8")
        refused = ask("/api/v1/llm/repricing")
    finally:
        settings.cache_clear()
    assert refused.status_code == 500
    assert str(file) in refused.json()["errors"][0]["message"]


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """asyncio turns Nagle's algorithm off only for sockets that name their protocol."""
    with bind(Address("127.0.0.1", 0), "SPANLEDGER_SERVE_HTTP", "") as listener:
        assert listener.proto == socket.IPPROTO_TCP
