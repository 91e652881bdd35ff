"""Reports, the API's statistics, Grafana's panels, ready queries and metrics say the same of all recorded calls."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from spanledger.exporter.client import Client, connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.queries import report
from spanledger.exporter.stats import Question, stats
from tests import recordings
from tests.all_recordings import Everything
from tests.test_dashboards import QUERIES, SOURCE, expanded, panel_of

pytestmark = [pytest.mark.recordings, recordings.needed, pytest.mark.timeout(300)]

Row = Mapping[str, Any]
Figures = dict[tuple[str, ...], dict[str, Any]]
"""A group -> measure -> its sum; what is 0 or unknown is left out."""

GROUPS = {
    "model": lambda row: row["response_model"] or row["request_model"],
    "user": lambda row: row["user_id"],
    "key": lambda row: row["api_key_alias"] or row["api_key_hash"],
    "error": lambda row: row["error_type"],
    "day": lambda row: str(row["start_time"].date()),
    "month": lambda row: f"{row['start_time']:%Y-%m}",
}
"""Dimension -> its value in a row, where that is not the column of its name."""

MEASURES = {
    "calls": lambda row: int(row["line"] == 0),
    "rows": lambda row: 1,
    "errors": lambda row: int(row["line"] == 0 and row["status"] == "error"),
    "answered": lambda row: int(row["line"] == 0 and row["status"] == "ok"),
    "cost": lambda row: row["cost_base"],
    "unknown": lambda row: int(row["cost_base"] is None),
    "unpriced": lambda row: int(row["price_status"] == "unpriced"),
    "usage_missing": lambda row: int(row["price_status"] == "usage_missing"),
    "estimated": lambda row: int(row["price_status"] == "estimated"),
    "contradictory": lambda row: int(row["usage_status"] == "contradictory"),
    "untenanted": lambda row: None if row["tenant"] else row["cost_base"],
    **{
        name: lambda row, name=name: row[name]
        for name in (
            "input_tokens",
            "output_tokens",
            "total_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
            "reasoning_tokens",
        )
    },
    **{name: lambda row, name=name: row[name] for name in ("cost_input", "cost_cache", "cost_output", "cost_tools")},
}

DIMENSIONS = ((), ("model",), ("provider",), ("tenant",), ("user",), ("feature",), ("operation",), ("tenant", "model"))

PANELS = {
    "overview": {
        "Cost": ((), {"cost": "cost"}),
        "Calls": ((), {"calls": "calls"}),
        "Tokens": ((), {"tokens": "total_tokens"}),
        "Rows without a known cost": ((), {"unpriced": "unknown"}),
        "Cost by model": (("model",), {"cost": "cost"}),
        "Cost by provider": (("provider",), {"cost": "cost"}),
        "Cost by group of parts": (
            (),
            {"input": "cost_input", "cache": "cost_cache", "output": "cost_output", "tools": "cost_tools"},
        ),
        "Models": (
            ("provider", "model"),
            {
                "calls": "calls",
                "errors": "errors",
                "input_tokens": "input_tokens",
                "output_tokens": "output_tokens",
                "cost": "cost",
                "unpriced": "unknown",
            },
        ),
    },
    "tenants": {
        "Cost": ((), {"cost": "cost"}),
        "Cost of no tenant": ((), {"cost": "untenanted"}),
        "Cost by tenant": (("tenant",), {"cost": "cost"}),
        "Chargeback": (
            ("month", "tenant"),
            {
                "calls": "calls",
                "input_tokens": "input_tokens",
                "output_tokens": "output_tokens",
                "cost": "cost",
                "unpriced": "unknown",
            },
        ),
        "Features": (("tenant", "feature"), {"calls": "calls", "cost": "cost"}),
        "API keys": (("tenant", "key"), {"calls": "calls", "cost": "cost"}),
        "Users": (("tenant", "user"), {"calls": "calls", "tokens": "total_tokens", "cost": "cost"}),
    },
    "latency": {
        "Errors by kind": (("error",), {"calls": "errors"}),
        "Models": (("provider", "model"), {"calls": "calls", "errors": "errors"}),
    },
    "health": {
        "Rows without a price": ((), {"rows": "unpriced"}),
        "Rows without usage": ((), {"rows": "usage_missing"}),
        "Contradictory rows": ((), {"rows": "contradictory"}),
        "How rows are priced": (("price_status",), {"rows": "rows"}),
        "How usage is known": (("usage_status",), {"rows": "rows"}),
        "Models without a price": (("provider", "model"), {"rows": "unpriced"}),
    },
}
"""Dashboard -> panel -> its dimensions, and column -> measure. Every panel that sums calls, money or tokens."""

TOKENS = ("Tokens", ("input", "output", "cache_read", "cache_write", "reasoning"))
"""Of two panels with this title, the one over time, and its columns."""

READY = {
    "What did we spend this month, by day?": (("day",), {"calls": "calls", "cost": "cost", "unpriced": "unknown"}),
    "Which models cost most?": (
        ("provider", "model"),
        {"calls": "calls", "tokens": "total_tokens", "cost": "cost", "unpriced": "unknown"},
    ),
    "What does each tenant cost, month by month?": (
        ("month", "tenant"),
        {"calls": "calls", "cost": "cost", "unpriced": "unknown"},
    ),
    "Which users and features cost most?": (
        ("feature", "user_id"),
        {"calls": "calls", "cost": "cost", "unpriced": "unknown"},
    ),
    "What did one request of ours cost, with all calls in its trace?": (
        ("trace_id",),
        {"calls": "calls", "tokens": "total_tokens", "cost": "cost", "unpriced": "unknown"},
    ),
    "How much of the input comes from a cache?": (
        ("model",),
        {"input": "input_tokens", "read_from_cache": "cache_read_tokens", "written_to_cache": "cache_write_tokens"},
    ),
    "Which calls fail, and how?": (("provider", "model", "error_type"), {"failed": "errors"}),
    "How long do calls take?": (("model",), {"calls": "answered"}),
}
"""Question -> its dimensions, and column -> measure."""


@pytest.fixture(scope="module")
def reader(everything: Everything) -> Iterator[Client]:
    endpoint = EmbeddedClickHouse(everything.home).reader()
    assert endpoint is not None
    client = connect(endpoint)
    yield client
    client.close()


def summed(rows: Iterable[Row], by: tuple[str, ...], measures: Mapping[str, str]) -> Figures:
    """What rows add up to, added here; column -> measure."""
    return _sums(
        (
            tuple(GROUPS.get(name, lambda row, name=name: row[name])(row) for name in by),
            {column: MEASURES[measure](row) for column, measure in measures.items()},
        )
        for row in rows
    )


def answered(found: Any, by: tuple[str, ...], columns: Iterable[str]) -> Figures:
    """What an answer says, over all its intervals of time."""
    named = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    return _sums((tuple(_name(row[name]) for name in by), {name: row[name] for name in columns}) for row in named)


def _name(value: Any) -> str:
    return "" if value == "none" else str(value)


def _sums(lines: Iterable[tuple[tuple[str, ...], Mapping[str, Any]]]) -> Figures:
    sums: dict[tuple[str, ...], dict[str, Any]] = defaultdict(Counter)
    for group, values in lines:
        for name, value in values.items():
            sums[group][name] += value or 0
    known = {group: {name: value for name, value in figures.items() if value} for group, figures in sums.items()}
    return {group: figures for group, figures in known.items() if figures}


def test_the_recordings_have_something_of_everything(everything: Everything) -> None:
    figures = summed(everything.rows, (), {name: name for name in MEASURES})[()]
    assert figures.keys() >= MEASURES.keys() - {"untenanted"}
    for by in DIMENSIONS[1:]:
        assert len(summed(everything.rows, by, {"calls": "calls"})) > 2, by


@pytest.mark.parametrize("by", DIMENSIONS)
def test_reports_and_statistics(everything: Everything, reader: Client, by: tuple[str, ...]) -> None:
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    same = ("calls", "errors", "cost", *tokens)
    expected = summed(everything.rows, by, {name: name for name in same} | {"unpriced": "unknown"})
    assert answered(report(reader, by), by, (*same, "unpriced")) == expected
    found = stats(reader, Question(by=by, parts=False, latency=False, limit=10_000))
    groups = found.groups if by else found.totals
    told = (
        (
            tuple(group.values[name] for name in by),
            {name: group.figures[name] for name in same} | {"unpriced": group.figures["unknown_costs"]},
        )
        for group in groups
    )
    assert _sums(told) == expected


@pytest.mark.parametrize(
    ("dashboard", "title"), [(dashboard, title) for dashboard, panels in PANELS.items() for title in panels]
)
def test_panels(everything: Everything, reader: Client, dashboard: str, title: str) -> None:
    by, measures = PANELS[dashboard][title]
    wanted = {*by, *measures}
    titles = [(panel["title"], wanted <= set(panel["columns"])) for panel in SOURCE["dashboards"][dashboard]["panels"]]
    _, sql = panel_of(dashboard, titles.index((title, True)))
    assert _panel(reader, sql, by, measures) == summed(everything.rows, by, measures)


def test_the_panel_of_tokens(everything: Everything, reader: Client) -> None:
    title, columns = TOKENS
    titles = [(panel["title"], panel["columns"]) for panel in SOURCE["dashboards"]["overview"]["panels"]]
    number = next(i for i, (each, has) in enumerate(titles) if each == title and set(columns) <= set(has))
    measures = {name: f"{name}_tokens" for name in columns}
    assert _panel(reader, panel_of("overview", number)[1], (), measures) == summed(everything.rows, (), measures)


def _panel(reader: Client, sql: str, by: tuple[str, ...], columns: Iterable[str]) -> Figures:
    begin = datetime(2015, 1, 1, tzinfo=timezone.utc)  # partitions are by when the provider answered, long ago
    end = datetime.now(timezone.utc) + timedelta(minutes=1)
    return answered(reader.query(expanded(sql, None, begin, end)), by, columns)


@pytest.mark.parametrize("question", READY)
def test_ready_queries(everything: Everything, reader: Client, question: str) -> None:
    by, measures = READY[question]
    rows = everything.rows
    if "this month" in question:
        month = datetime.now(timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        rows = [row for row in rows if row["start_time"].replace(tzinfo=timezone.utc) >= month]
    sql = dict(QUERIES)[question]
    told = answered(reader.query(sql), by, measures)
    expected = summed(rows, by, measures)
    if "HAVING input > 0" in sql:
        expected = {group: figures for group, figures in expected.items() if figures.get("input")}
    if "LIMIT" in sql and len(told) < len(expected):
        assert sorted((figures.get("cost", 0) for figures in expected.values()), reverse=True)[: len(told)] == [
            figures.get("cost", 0) for figures in told.values()
        ]
        expected = {group: expected[group] for group in told}
    assert told == expected


def test_the_ready_query_of_parts(everything: Everything, reader: Client) -> None:
    sql = dict(QUERIES)["What is the money spent on: input, cache, output or tools?"]
    expected = _sums(
        ((row["currency"], part), {"cost_of_part": amount})
        for row in everything.rows
        for part, amount in row["cost_details"].items()
    )
    assert answered(reader.query(sql), ("currency", "part"), ["cost_of_part"]) == expected


def test_the_ready_query_of_what_is_missing(everything: Everything, reader: Client) -> None:
    sql = dict(QUERIES)["What is missing from the sums?"]
    unknown = [row for row in everything.rows if row["cost_base"] is None]
    by = ("price_status", "provider", "model")
    expected = summed(unknown, by, {"rows": "rows", "tokens": "total_tokens"})
    assert answered(reader.query(sql), by, ["rows", "tokens"]) == expected


def test_every_ready_query_is_compared() -> None:
    assert len(READY) + 2 == len(QUERIES)


# metrics, which are floats, and know neither tenants nor users


@pytest.fixture(scope="module")
def comparable(everything: Everything) -> list[Row]:
    """The rows that metrics see alike: all but those of models where several recorded answers have one id.

    Of such answers the ledger and a process keep one each, and which is chance where they differ.
    """
    answers = defaultdict(set)
    models = {}
    for made in everything.made.values():
        if made.truth and made.truth["response_id"]:
            answers[made.truth["response_id"]].add(str(sorted(made.truth["parts"].items())))
            models[made.truth["response_id"]] = made.truth["response_model"]
    unclear = {models[id_] for id_, different in answers.items() if len(different) > 1}
    rows = [row for row in everything.rows if row["response_model"] not in unclear]
    assert len(rows) > 0.9 * len(everything.rows)
    return rows


def points(everything: Everything, rows: list[Row], name: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Attributes and data point, of the models of the rows."""
    models = {row["response_model"] for row in rows}
    for point in everything.metrics[name]:
        if point.attributes.get("gen_ai.response.model", "") in models:
            yield dict(point.attributes), point


def named(attributes: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    return tuple(attributes.get(name, "") for name in ("gen_ai.provider.name", "gen_ai.response.model", *names))


def test_metrics_of_costs(everything: Everything, comparable: list[Row]) -> None:
    by = ("provider", "response_model")
    told: dict[tuple[str, ...], float] = defaultdict(float)
    for attributes, point in points(everything, comparable, "spanledger.cost"):
        told[named(attributes)] += point.value
    expected = summed(comparable, by, {"cost": "cost"})
    assert told == {group: pytest.approx(float(figures["cost"]), rel=1e-9) for group, figures in expected.items()}
    assert sum(told.values()) > 1
    unpriced: Counter[tuple[str, ...]] = Counter()
    for attributes, point in points(everything, comparable, "spanledger.calls.unpriced"):
        unpriced[named(attributes, "spanledger.cost.status")] += point.value
    expected = summed(comparable, (*by, "price_status"), {"unpriced": "unknown"})
    assert unpriced == {group: figures["unpriced"] for group, figures in expected.items()}


def test_metrics_of_tokens(everything: Everything, comparable: list[Row]) -> None:
    told: Figures = defaultdict(Counter)
    for attributes, point in points(everything, comparable, "gen_ai.client.token.usage"):
        told[named(attributes)][attributes["gen_ai.token.type"]] += point.sum
    measures = {"input": "input_tokens", "output": "output_tokens"}
    assert told == summed(comparable, ("provider", "response_model"), measures)


def test_metrics_of_calls_and_errors(everything: Everything, comparable: list[Row]) -> None:
    told: Counter[tuple[str, ...]] = Counter()
    for attributes, point in points(everything, comparable, "gen_ai.client.operation.duration"):
        told[named(attributes, "gen_ai.operation.name", "gen_ai.request.model", "error.type")] += point.count
    by = ("provider", "response_model", "operation", "request_model", "error_type")
    assert told == {group: figures["calls"] for group, figures in summed(comparable, by, {"calls": "calls"}).items()}


def test_metrics_of_first_chunks(everything: Everything, comparable: list[Row]) -> None:
    told: Counter[tuple[str, ...]] = Counter()
    for attributes, point in points(everything, comparable, "gen_ai.client.operation.time_to_first_chunk"):
        told[named(attributes)] += point.count
    streams = Counter(
        (row["provider"], row["response_model"])
        for row in comparable
        if row["line"] == 0 and row["stream"] and row["time_to_first_token_ns"] is not None
    )
    assert told == streams
    assert sum(streams.values()) > 100


def test_money_is_exact(everything: Everything, reader: Client) -> None:
    (told,) = report(reader, ()).rows
    cost = told[report(reader, ()).columns.index("cost")]
    assert isinstance(cost, Decimal)
    assert cost == sum((row["cost_base"] for row in everything.rows if row["cost_base"] is not None), Decimal(0))
