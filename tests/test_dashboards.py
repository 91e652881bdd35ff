"""Grafana's panels, ClickHouse's own page and the ready queries: each answers from a ledger, and adds up with it."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from spanledger.exporter.client import Client, connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.queries import report
from tests.exporter.conftest import row

ROOT = Path(__file__).parents[1]
NOW = datetime.now(timezone.utc).replace(microsecond=0)
SINCE, UNTIL = NOW - timedelta(days=7), NOW + timedelta(minutes=1)

_spec = importlib.util.spec_from_file_location("dashboards", ROOT / "scripts" / "dashboards.py")
assert _spec is not None
assert _spec.loader is not None
dashboards = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dashboards)

SOURCE = dashboards.source()
PANELS = [
    pytest.param(name, number, id=f"{name}: {panel['title']}")
    for name, dashboard in SOURCE["dashboards"].items()
    for number, panel in enumerate(dashboard["panels"])
]
QUERIES = re.findall(r"^## (.+?)\n.*?```sql\n(.*?)```", (ROOT / "docs" / "queries.md").read_text(), re.M | re.S)


def _rows() -> Iterator[bytes]:
    """Calls of the last week of every kind: priced, unpriced, free, failed, with several lines, in another currency."""
    models = [
        ("openai", "gpt-5"),
        ("anthropic", "claude-sonnet-4-6"),
        ("mistral_ai", "mistral-large"),
        ("openai", "new"),
    ]
    for number in range(400):
        provider, model = models[number % 4]
        start = NOW - timedelta(minutes=number * 25)
        known = model != "new"
        failed = number % 17 == 3
        silent = number % 50 == 12 and not failed
        euro = provider == "mistral_ai"
        cost = Decimal(0) if failed else Decimal(number * 1_000_000_007 + 1).scaleb(-12)
        values: dict[str, Any] = {
            "event_date": start.date().isoformat(),
            "start_time": f"{int(start.timestamp())}.000000001",
            "duration_ns": 10**9 + number * 7_000_001,
            "time_to_first_token_ns": 10**8 + number if number % 2 else None,
            "provider": provider,
            "request_model": model,
            "response_model": "" if failed else model,
            "status": "error" if failed else "ok",
            "error_type": "429" if failed else "",
            "operation": "chat",
            "environment": ("production", "staging")[number % 2],
            "service_name": ("shop", "help")[number % 3 == 0],
            "tenant": ("acme", "globex", "")[number % 3],
            "user_id": f"u-{number % 7}",
            "session_id": f"s-{number // 5}",
            "feature": ("chat", "search")[number % 2],
            "prompt_name": ("greet", "")[number % 2],
            "api_key_hash": "9f2c",
            "api_key_alias": ("billing", "")[number % 2],
            "tags": {"team": ("blue", "red")[number % 2]},
            "trace_id": f"{number // 3:032x}",
            "span_id": f"{number:016x}",
            "input_tokens": None if failed else 1000 + number,
            "output_tokens": None if failed else 100 + number,
            "total_tokens": None if failed else 1100 + 2 * number,
            "cache_read_tokens": None if failed else number,
            "cache_write_tokens": None if failed else 5,
            "reasoning_tokens": None if failed else 7,
            "usage_status": "contradictory" if number % 50 == 9 else "missing" if failed else "reported",
            "price_status": "not_billed"
            if failed
            else "usage_missing"
            if silent
            else "priced"
            if known
            else "unpriced",
            "cost_reasons": [] if known else ["unknown model"],
            "base_currency": "USD",
            "currency": "EUR" if euro else "USD",
        }
        if (known and not silent) or failed:
            values |= {"cost": cost, "cost_base": cost * 2 if euro else cost, "cost_input": cost / 4}
            values |= {"cost_output": cost / 2, "cost_cache": cost / 4, "cost_tools": Decimal(0)}
            values["cost_details"] = {"input": cost / 4, "cache_read": cost / 4, "output": cost / 2}
        text = {name: json.dumps(value, default=lambda money: format(money, "f")) for name, value in values.items()}
        event_date = text.pop("event_date")
        made = row(number, **text).replace(b'"event_date":"2026-11-22"', f'"event_date":{event_date}'.encode())
        yield made
        if number % 40 == 0 and not failed:  # replaced by the same again, and a further line
            yield made.replace(b'"version":1', b'"version":0').replace(b'"total_tokens":', b'"total_tokens":9')
            yield made.replace(b'"line":0', b'"line":1')


@pytest.fixture(scope="module")
def filled(clickhouse: EmbeddedClickHouse) -> Iterator[Client]:
    """The shared ClickHouse with these calls alone, as the user sees it who can only read."""
    endpoint, reader = clickhouse.endpoint(), clickhouse.reader()
    assert endpoint is not None
    assert reader is not None
    tables = ("llm_calls", "spanledger_health", "budget_alerts")
    writer = open_ledger(endpoint)
    for table in tables:
        writer.command(f"TRUNCATE TABLE {table}")
    block = b"".join(_rows())
    writer.insert_block("llm_calls", block, f"dashboards {NOW}")
    at = f"{int(NOW.timestamp())}.000"
    writer.insert_block(
        "spanledger_health",
        f'{{"host":"a","pid":1,"started_at":"{at}","what":"rows_lost","reason":"disk","count":3,"at":"{at}"}}\n'.encode(),
        f"health {NOW}",
    )
    writer.insert_block(
        "budget_alerts",
        f'{{"budget":"b","scope":"all calls","since":0,"amount":"1","threshold":"0.8","channel":"webhook","active":1,'
        f'"spent":"2","currency":"USD","at":"{at}"}}\n'.encode(),
        f"alerts {NOW}",
    )
    client = connect(reader)
    yield client
    client.close()
    for table in tables:
        writer.command(f"TRUNCATE TABLE {table}")
    writer.close()


def expanded(
    sql: str,
    chosen: Mapping[str, list[str]] | None = None,
    begin: datetime = SINCE,
    end: datetime = UNTIL,
) -> str:
    """SQL as the data source sends it, its macros and the variables of the dashboard replaced.

    The macros: https://grafana.com/grafana/plugins/grafana-clickhouse-datasource/
    """
    chosen = chosen or {}
    since, until = (f"toDateTime({int(moment.timestamp())})" for moment in (begin, end))

    def conditional(found: re.Match[str]) -> str:
        return found[1] if found[2] in chosen else "1=1"

    sql = re.sub(r"\$__conditionalAll\((.*), \$(\w+)\)", conditional, sql)
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 >= {since} AND \1 <= {until}", sql)
    sql = re.sub(r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 3600 second)", sql)
    sql = sql.replace("$__fromTime", since).replace("$__toTime", until)
    for name, values in chosen.items():
        quoted = ",".join("'" + value.replace("'", "''") + "'" for value in values)
        sql = sql.replace(f"${{{name}:sqlstring}}", quoted)
    assert "$" not in sql, sql
    return sql


def panel_of(name: str, number: int) -> tuple[Mapping[str, Any], str]:
    """A panel of the source, and the SQL that is in the file that Grafana reads."""
    written = json.loads((ROOT / "dashboards" / f"{name}.json").read_text())
    return SOURCE["dashboards"][name]["panels"][number], written["panels"][number]["targets"][0]["rawSql"]


def column_sum(found: Any, column: str) -> Any:
    if not found.rows:  # then ClickHouse's native format has no columns either
        return 0
    at = found.columns.index(column)
    return sum((line[at] for line in found.rows if line[at] is not None), Decimal(0))


@pytest.mark.parametrize(("name", "number"), PANELS)
def test_a_panel_has_its_columns_and_adds_up_with_the_ledger(filled: Client, name: str, number: int) -> None:
    panel, sql = panel_of(name, number)
    found = filled.query(expanded(sql))
    assert list(found.columns) == panel["columns"]
    assert found.rows
    for column, truth in panel.get("sums", {}).items():
        ((whole,),) = filled.query(f"SELECT {truth} FROM llm_calls FINAL").rows
        assert whole, f"nothing to compare {column} with"
        assert column_sum(found, column) == whole, column
    if panel["title"] == "Rows lost, dropped or rejected":
        assert [tuple(line) for line in found.rows] == [(3,)]


@pytest.mark.parametrize(("name", "number"), PANELS)
def test_a_panel_takes_the_variables(filled: Client, name: str, number: int) -> None:
    panel, sql = panel_of(name, number)
    if "$calls" not in panel["sql"]:
        pytest.skip("this panel is not of calls")
    assert all(f"${{{each}:sqlstring}}" in sql for each in SOURCE["filters"])
    some = expanded(sql, {"tenant": ["acme"], "environment": ["production", "it's"], "model": ["gpt-5"]})
    found = filled.query(some)
    for column, truth in panel.get("sums", {}).items():
        ((part,),) = filled.query(
            f"SELECT {truth} FROM llm_calls FINAL WHERE tenant = 'acme' AND environment = 'production'"
            " AND if(response_model != '', response_model, request_model) = 'gpt-5'"
        ).rows
        assert column_sum(found, column) == (part or 0), column
    nothing = filled.query(expanded(sql, {"service": ["nobody"], "provider": ["nobody"]}))
    assert len(nothing.rows) <= 1


def test_costs_agree_with_the_report(filled: Client) -> None:
    _, sql = panel_of("overview", 0)
    told = report(filled, ())
    assert filled.query(expanded(sql)).rows[0][0] == told.rows[0][told.columns.index("cost")]


@pytest.mark.parametrize("name", SOURCE["filters"])
def test_a_variable_lists_its_values(filled: Client, name: str) -> None:
    found = filled.query(expanded(dashboards.variable_sql(SOURCE["filters"][name])))
    assert list(found.columns) == ["value"]
    assert len(found.rows) >= 2


@pytest.mark.parametrize("name", SOURCE["dashboards"])
def test_a_dashboard_is_whole(name: str) -> None:
    written = json.loads((ROOT / "dashboards" / f"{name}.json").read_text())
    assert written["uid"] == f"spanledger-{name}"
    places = [panel["gridPos"] for panel in written["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one in places:
        for other in places:
            apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            apart |= one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert one is other or apart, "panels overlap"
    assert {variable["name"] for variable in written["templating"]["list"]} == {*SOURCE["filters"], "jaeger"}
    for panel in written["panels"]:
        columns = SOURCE["dashboards"][name]["panels"][panel["id"] - 1]["columns"]
        links = [
            link["url"]
            for override in panel["fieldConfig"]["overrides"]
            for each in override["properties"]
            if each["id"] == "links"
            for link in each["value"]
        ]
        assert links == (["${jaeger}/trace/${__value.raw}"] if "trace_id" in columns else [])


def test_the_files_are_what_the_source_says() -> None:
    script = str(ROOT / "scripts" / "dashboards.py")
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0


def test_compose_hands_the_dashboards_to_grafana() -> None:
    mounts = dict(
        volume.removesuffix(":ro").split(":")
        for volume in yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    )
    provided = ROOT / "deploy" / "grafana" / "dashboards"
    assert mounts["./deploy/grafana/dashboards"] == "/etc/grafana/provisioning/dashboards"
    (provider,) = yaml.safe_load((provided / "spanledger.yaml").read_text())["providers"]
    assert provider["options"]["path"] == mounts["./dashboards"]
    (ledger, _) = yaml.safe_load((ROOT / "deploy/grafana/datasources/spanledger.yaml").read_text())["datasources"]
    assert {"type": ledger["type"], "uid": ledger["uid"]} == dashboards.DATASOURCE


# ClickHouse's own page


@pytest.mark.parametrize("number", range(len(dashboards.own_queries())))
def test_a_panel_of_clickhouses_own_page_answers(filled: Client, number: int) -> None:
    each = dashboards.own_queries()[number]
    found = filled.query(each["query"], {"rounding": 3600, "seconds": 8 * 86400})
    assert found.columns[0] == "t"
    assert all(isinstance(line[0], int) for line in found.rows)
    assert any(line[1] for line in found.rows)


def test_the_links_open_the_page_with_our_panels() -> None:
    links = re.findall(r"\((http\S+?)/dashboard#(\S+)\)", (ROOT / "docs" / "grafana.md").read_text())
    assert [server for server, _ in links] == ["http://127.0.0.1:18123", "http://127.0.0.1:8123"]
    for server, state in links:
        told = json.loads(base64.b64decode(state))
        assert told["host"] == server
        assert told["queries"] == dashboards.own_queries()


# docs/queries.md


def test_there_are_ten_ready_queries() -> None:
    assert len(QUERIES) == 10


@pytest.mark.parametrize(("question", "sql"), QUERIES, ids=[question for question, _ in QUERIES])
def test_a_ready_query_answers(filled: Client, question: str, sql: str) -> None:
    found = filled.query(sql)
    assert found.rows, question
    if "cost" in found.columns and "LIMIT" not in sql and "WHERE" not in sql:
        ((whole,),) = filled.query("SELECT sum(cost_base) FROM llm_calls FINAL").rows
        assert column_sum(found, "cost") == whole
