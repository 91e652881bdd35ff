"""Write the Grafana dashboards in dashboards/ and the links in docs/grafana.md, out of dashboards/source.yaml.

python scripts/dashboards.py            # writes
python scripts/dashboards.py --check    # exits 1 if a file is out of date
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "dashboards"
PAGE = ROOT / "docs" / "grafana.md"

PLUGIN = "grafana-clickhouse-datasource"
PLUGIN_VERSION = "4.20.0"
DATASOURCE = {"type": PLUGIN, "uid": "ledger"}

_KINDS = {"stat": "stat", "time": "timeseries", "bars": "timeseries", "table": "table"}
_HEIGHTS = {"stat": 4, "time": 9, "bars": 9, "table": 10}
_UNITS = {"money": "currencyUSD", "count": "short", "share": "percentunit", "s": "s"}
_MONEY = ("cost", "spent", "amount")
_SERVERS = {"spanledger up": "http://127.0.0.1:18123", "compose.yaml": "http://127.0.0.1:8123"}


def source() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = yaml.safe_load((FOLDER / "source.yaml").read_text(encoding="utf-8"))
    return loaded


def sql(panel: Mapping[str, Any], filters: Mapping[str, str]) -> str:
    """A panel's SQL as Grafana sends it to the data source, before macros and variables."""
    conditions = [
        "$__timeFilter(start_time)",
        "event_date >= toDate($__fromTime) - 31",  # OpenAI keeps responses for 30 days: one may be fetched so late
        *(
            f"$__conditionalAll({column.replace(name, f'llm_calls.{name}') if column == name else column}"
            f" IN (${{{name}:sqlstring}}), ${name})"
            for name, column in filters.items()
        ),
    ]
    calls = "llm_calls FINAL\nWHERE " + "\n  AND ".join(conditions)
    text: str = panel["sql"].strip()
    return re.sub(r"\$calls( AND)?", lambda found: calls + ("\n  AND" if found[1] else ""), text)


def dashboard(name: str) -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    given = source()
    known, filters = given["dashboards"], given["filters"]
    return {
        "uid": f"spanledger-{name}",
        "title": known[name]["title"],
        "tags": ["spanledger"],
        "timezone": "utc",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-7d", "to": "now"},
        "links": [
            {"type": "dashboards", "title": "spanledger", "tags": ["spanledger"], "keepTime": True, "includeVars": True}
        ],
        "templating": {"list": [*(_variable(*each) for each in filters.items()), _JAEGER]},
        "panels": _placed([_panel(panel, filters) for panel in known[name]["panels"]]),
    }


_JAEGER = {
    "name": "jaeger",
    "label": "Jaeger",
    "type": "textbox",
    "query": "http://localhost:16686",
    "current": {"text": "http://localhost:16686", "value": "http://localhost:16686"},
    "options": [{"text": "http://localhost:16686", "value": "http://localhost:16686", "selected": True}],
}


def variable_sql(column: str) -> str:
    return (
        f"SELECT DISTINCT {column} AS value FROM llm_calls"
        " WHERE $__timeFilter(start_time) AND event_date >= toDate($__fromTime) - 31 ORDER BY value LIMIT 1000"
    )


def _variable(name: str, column: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": variable_sql(column),
        "definition": variable_sql(column),
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panel(panel: Mapping[str, Any], filters: Mapping[str, str]) -> dict[str, Any]:
    kind, unit = panel["kind"], _UNITS[panel["unit"]]
    thresholds = [{"color": "green", "value": None}]
    thresholds += [
        {"color": color, "value": panel[key]} for key, color in (("warn", "orange"), ("bad", "red")) if key in panel
    ]
    if "bad" in panel and panel["bad"] == panel.get("warn"):
        del thresholds[1]
    defaults: dict[str, Any] = {"thresholds": {"mode": "absolute", "steps": thresholds}}
    overrides: list[dict[str, Any]] = []
    options: dict[str, Any] = {}
    if kind != "table":
        defaults["unit"] = unit
    if kind == "bars":
        defaults["custom"] = {"drawStyle": "bars", "fillOpacity": 80, "stacking": {"mode": "normal"}, "lineWidth": 0}
        options = {"legend": {"displayMode": "table", "placement": "right", "calcs": ["sum"]}, "tooltip": _TOOLTIP}
    elif kind == "time":
        defaults["custom"] = {"drawStyle": "line", "fillOpacity": 0, "lineWidth": 2, "showPoints": "never"}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": _TOOLTIP}
    elif kind == "stat":
        options = {"colorMode": "value" if len(thresholds) > 1 else "none", "graphMode": "none"}
        options["reduceOptions"] = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    else:
        overrides = [each for column in panel["columns"] if (each := _override(column, panel["unit"]))]
    return {
        "type": _KINDS[kind],
        "title": panel["title"],
        "description": panel.get("description", ""),
        "datasource": DATASOURCE,
        "gridPos": {"h": _HEIGHTS[kind], "w": panel["width"]},
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": options,
        "targets": [
            {
                "refId": "A",
                "datasource": DATASOURCE,
                "editorType": "sql",
                "pluginVersion": PLUGIN_VERSION,
                "queryType": "timeseries" if kind in ("time", "bars") else "table",
                "format": 0 if kind in ("time", "bars") else 1,
                "rawSql": sql(panel, filters),
            }
        ],
    }


_TOOLTIP = {"mode": "multi", "sort": "desc"}


def _override(column: str, unit: str) -> dict[str, Any] | None:
    """How a table shows a column: money and seconds with their unit, a trace as a link to Jaeger."""
    properties: list[dict[str, Any]] = []
    if column == "trace_id":
        link = {"title": "Trace in Jaeger", "url": "${jaeger}/trace/${__value.raw}", "targetBlank": True}
        properties = [{"id": "links", "value": [link]}]
    elif column in _MONEY:
        properties = [{"id": "unit", "value": _UNITS["money"]}]
    elif unit == "s" and column in ("p50", "p95", "p99", "seconds", "first_token"):
        properties = [{"id": "unit", "value": "s"}]
    return {"matcher": {"id": "byName", "options": column}, "properties": properties} if properties else None


def _placed(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Panels in rows of 24 columns, from left to right."""
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        place = panel["gridPos"]
        if x + place["w"] > 24:
            x, y, height = 0, y + height, 0
        place["x"], place["y"], panel["id"] = x, y, number
        x, height = x + place["w"], max(height, place["h"])
    return panels


def own_queries() -> list[dict[str, str]]:
    """Panels of ClickHouse's own /dashboard page: time as a whole number of seconds, then a series a column."""
    measures = {
        "Cost": "toFloat64(sum(cost_base)) AS cost",
        "Calls and errors": "countIf(line = 0) AS calls, countIf(line = 0 AND status = 'error') AS errors",
        "Tokens": "sum(input_tokens) AS input, sum(output_tokens) AS output",
        "Response time, seconds": "quantile(0.5)(duration_ns) / 1e9 AS p50, quantile(0.95)(duration_ns) / 1e9 AS p95",
        "Rows without a known cost": "countIf(cost_base IS NULL) AS rows",
    }
    return [
        {
            "title": title,
            "query": (
                "SELECT toStartOfInterval(start_time, INTERVAL {rounding:UInt32} SECOND)::INT AS t,"
                f" {columns}\nFROM spanledger.llm_calls FINAL\n"
                "WHERE event_date >= toDate(now() - {seconds:UInt32}) - 31 AND start_time >= now() - {seconds:UInt32}\n"
                "GROUP BY t ORDER BY t WITH FILL STEP {rounding:UInt32}"
            ),
        }
        for title, columns in measures.items()
    ]


def link(server: str) -> str:
    """The URL of ClickHouse's own page with our panels; the page asks for the password."""
    state = {
        "host": server,
        "user": "spanledger_reader",
        "queries": own_queries(),
        "params": {"rounding": "3600", "seconds": "604800"},
    }
    return f"{server}/dashboard#{base64.b64encode(json.dumps(state).encode()).decode()}"


def page() -> str:
    text = PAGE.read_text(encoding="utf-8")
    lines = "\n".join(f"- [with `{name}`]({link(server)})" for name, server in _SERVERS.items())
    begin, end = "<!-- links: written by scripts/dashboards.py -->\n", "<!-- links: end -->"
    return re.sub(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", lambda _: f"\n{lines}\n\n", text, flags=re.S)


def files() -> dict[Path, str]:
    """Every file that is written, as it must be."""
    found = {FOLDER / f"{name}.json": json.dumps(dashboard(name), indent=2) + "\n" for name in source()["dashboards"]}
    return {**found, PAGE: page()}


def main(arguments: list[str]) -> int:
    stale = [path for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: python scripts/dashboards.py", file=sys.stderr)
        return 1 if stale else 0
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
