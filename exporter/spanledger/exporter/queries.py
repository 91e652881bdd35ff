"""Questions to the ledger. Everything a user types is bound as a parameter, never put into the SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

from spanledger.exporter.client import Client

DIMENSIONS: Mapping[str, str] = {
    "model": "if(response_model != '', response_model, request_model)",
    "provider": "provider",
    "operation": "operation",
    "day": "toDate(start_time, 'UTC')",
    "service": "service_name",
    "environment": "environment",
    "tenant": "tenant",
    "user": "user_id",
    "session": "session_id",
    "feature": "feature",
    "prompt": "prompt_name",
    "agent": "agent_name",
    "key": "if(api_key_alias != '', api_key_alias, api_key_hash)",
    "tier": "service_tier",
    "status": "status",
    "error": "error_type",
    "price_status": "price_status",
    "usage_status": "usage_status",
    "currency": "currency",
    "trace": "trace_id",
}
"""What a report can be grouped and filtered by, besides `tag:NAME`."""

SNAPSHOT = "price_snapshot"
"""A dimension for questions of ours: all that a row was priced by."""

_MEASURES = """\
       countIf(line = 0) AS calls,
       countIf(line = 0 AND status = 'error') AS errors,
       sum(input_tokens) AS input_tokens,
       sum(output_tokens) AS output_tokens,
       sum(cache_read_tokens) AS cache_read_tokens,
       sum(cache_write_tokens) AS cache_write_tokens,
       sum(reasoning_tokens) AS reasoning_tokens,
       sum(cost_base) AS cost,
       base_currency AS currency,
       countIf(cost_base IS NULL) AS unpriced,
       countIf(price_status = 'estimated') AS estimated"""

MEASURES = (
    "calls",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost",
    "currency",
    "unpriced",
    "estimated",
)


_PAGE_ROWS = 50_000

Where = Mapping[str, str | Sequence[str]]


class QueryError(ValueError):
    """A report was asked for something it does not know; the message names it and what there is."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with the names of their columns."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def report(
    client: Client,
    by: Sequence[str] = ("model",),
    since: datetime | None = None,
    until: datetime | None = None,
    where: Where | None = None,
    limit: int | None = None,
) -> Table:
    """What calls cost, grouped by dimensions.

    Parameters:
        by: names from `DIMENSIONS`, or `tag:NAME`; none: one row a currency.
        since: calls that started then or later; without a time zone it is UTC.
        until: calls that started before.
        where: dimension -> the value it must have, or values of which it must have one.
        limit: at most so many rows, the dearest first (by day: the latest days).

    Returns:
        The dimensions, then `MEASURES`. `cost` is in `currency`, the ledger's base currency, a Decimal; None
        where no call of the group has a known cost. `unpriced` counts rows whose cost is unknown, and which `cost`
        therefore lacks; `estimated` counts rows whose cost is not exact. Token sums are None where no call
        reported any.

    Raises:
        QueryError: an unknown dimension.
        ClickHouseError: refused, or not reached.
    """
    parameters: dict[str, Any] = {}
    columns = [f"{expression(name, parameters)} AS {_alias(i)}" for i, name in enumerate(by)]
    conditions = having(where, parameters)
    conditions += within(since, until, parameters)
    groups = [_alias(i) for i in range(len(by))]
    latest = [_alias(i) + " DESC" for i, name in enumerate(by) if name == "day"]
    order = [*latest, "cost DESC NULLS LAST", "calls DESC", *groups]
    sql = "SELECT " + ",\n       ".join([*columns, _MEASURES.lstrip()]) + "\nFROM llm_calls FINAL"
    if conditions:
        sql += "\nWHERE " + "\n  AND ".join(conditions)
    sql += f"\nGROUP BY {', '.join([*groups, 'base_currency'])}\nORDER BY {', '.join(order)}"
    if limit is not None:
        sql += f"\nLIMIT {bound(limit, parameters)}"
    found = client.query(sql, parameters)
    return Table((*by, *MEASURES), [tuple(row) for row in found.rows])


def explain_row(client: Client, identifier: str) -> list[dict[str, Any]]:
    """The rows of one call, all columns, its `line` 0 first: found by entry id, response id or span id.

    Raises:
        ClickHouseError: refused, or not reached.
    """
    found = client.query(
        "SELECT * FROM llm_calls FINAL"
        " WHERE entry_id = {id:String} OR response_id = {id:String} OR span_id = {id:String}"
        " ORDER BY start_time, entry_id, line LIMIT 100",
        {"id": identifier},
    )
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


LISTED = (
    "entry_id",
    "line",
    "start_time",
    "duration_ns",
    "time_to_first_token_ns",
    "trace_id",
    "span_id",
    "service_name",
    "environment",
    "source",
    "provider",
    "operation",
    "request_model",
    "response_model",
    "response_id",
    "service_tier",
    "stream",
    "status",
    "error_type",
    "error_message",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage_status",
    "cost",
    "currency",
    "cost_base",
    "base_currency",
    "price_status",
    "cost_estimated",
    "cost_reasons",
    "tenant",
    "user_id",
    "session_id",
    "feature",
    "prompt_name",
    "agent_name",
    "tags",
    "api_key_hash",
    "api_key_alias",
)
"""Columns of a call in a list."""

ORDERS: Mapping[str, tuple[str, str]] = {
    "start_time": ("toUnixTimestamp64Nano(start_time)", "Int64"),
    "cost": ("ifNull(cost_base, toDecimal128(-1, 18))", "Decimal(38, 18)"),
    "duration": ("duration_ns", "UInt64"),
    "total_tokens": ("ifNull(total_tokens, 0)", "UInt64"),
}
"""What lists of calls can be sorted by: SQL and type."""


def list_calls(
    client: Client,
    since: datetime | None = None,
    until: datetime | None = None,
    where: Where | None = None,
    sort: str = "-start_time",
    limit: int = 100,
    after: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    dates: Sequence[date] | None = None,
) -> list[dict[str, Any]]:
    """A page of calls, and one call more where there are more; `page` makes one of several.

    Parameters:
        where: dimension or `tag:NAME` -> values of which the call must have one.
        sort: one of `ORDERS`, `-` before it is descending.
        after: the end of the page before.
        settings: ClickHouse's, limits of the query.
        dates: `event_date`s that all these calls have; fewer rows are then looked at.

    Raises:
        QueryError: an unknown dimension, or `after` is from elsewhere.
        ClickHouseError: refused, or not reached.
    """
    order, kind = ORDERS[sort.removeprefix("-")]
    parameters: dict[str, Any] = {}
    conditions = [*of_dates(dates, parameters), *having(where, parameters), *within(since, until, parameters)]
    if after:
        if len(after) != 3 or not after[2].isdecimal():
            raise QueryError("it is not where a page ends")
        parameters |= {"value": after[0], "entry": after[1], "line": after[2]}
        than = "<" if sort.startswith("-") else ">"
        conditions.append(f"({order}, entry_id, line) {than} ({{value:{kind}}}, {{entry:String}}, {{line:UInt16}})")
    down = " DESC" if sort.startswith("-") else ""
    ordered = f"ORDER BY {order}{down}, entry_id{down}, line{down}"
    only = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    found = client.query(  # the keys first: of most rows, few columns are read
        f"SELECT {', '.join(LISTED)}, toString({order}) AS place FROM llm_calls FINAL"
        " WHERE (event_date, entry_id, line) IN (SELECT event_date, entry_id, line"
        f" FROM llm_calls FINAL{only} {ordered} LIMIT {bound(limit + 1, parameters)}) {ordered}",
        parameters,
        settings,
    )
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def page(rows: Iterable[Mapping[str, Any]], sort: str, limit: int) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """A page of calls, and its end; `()` where no more calls follow.

    Parameters:
        rows: of `list_calls`, asked several times for different dates.
        sort, limit: as they were asked with.
    """
    ordered = sorted(
        rows, key=lambda row: (Decimal(row["place"]), row["entry_id"], row["line"]), reverse=sort.startswith("-")
    )
    last = ordered[limit - 1] if len(ordered) > limit else None
    end = () if last is None else (last["place"], last["entry_id"], str(last["line"]))
    return [{name: row[name] for name in LISTED} for row in ordered[:limit]], end


def count_rows(
    client: Client,
    since: datetime | None = None,
    until: datetime | None = None,
    where: Mapping[str, str] | None = None,
) -> int:
    """How many rows `stored_rows` has.

    Raises:
        QueryError: an unknown dimension in `where`.
        ClickHouseError: refused, or not reached.
    """
    parameters: dict[str, Any] = {}
    conditions = [
        f"{expression(name, parameters)} = {bound(value, parameters)}" for name, value in (where or {}).items()
    ]
    conditions += within(since, until, parameters)
    only = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return int(client.query(f"SELECT count() FROM llm_calls FINAL{only}", parameters).rows[0][0])


def stored_rows(
    client: Client,
    columns: Sequence[str],
    since: datetime | None = None,
    until: datetime | None = None,
    where: Where | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows of the ledger in the order of its key, a page at a time, so that any number of them fits in memory.

    Parameters:
        columns: of `llm_calls`; names of the caller's own, not a user's words.
        since, until, where: as in `report`.

    Raises:
        QueryError: an unknown dimension in `where`.
        ClickHouseError: refused, or not reached.
    """
    wanted = dict.fromkeys((*columns, "event_date", "entry_id", "line"))
    after: tuple[Any, ...] | None = None
    while True:
        parameters: dict[str, Any] = {}
        conditions = having(where, parameters)
        conditions += within(since, until, parameters)
        if after is not None:
            parameters |= {"date": str(after[0]), "entry": after[1], "line": after[2]}
            conditions.append("(event_date, entry_id, line) > ({date:Date}, {entry:String}, {line:UInt16})")
        only = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        found = client.query(
            f"SELECT {', '.join(wanted)} FROM llm_calls FINAL{only}"
            f" ORDER BY event_date, entry_id, line LIMIT {_PAGE_ROWS}",
            parameters,
        )
        for row in found.rows:
            named = dict(zip(found.columns, row, strict=True))
            after = (named["event_date"], named["entry_id"], named["line"])
            yield named
        if len(found.rows) < _PAGE_ROWS:
            return


def unpriced_models(
    client: Client,
    since: datetime | None = None,
    until: datetime | None = None,
    where: Where | None = None,
    settings: Mapping[str, Any] | None = None,
    dates: Sequence[date] | None = None,
) -> list[dict[str, Any]]:
    """The models that the price book did not know, with their rows and tokens, the most tokens first.

    Parameters:
        since, until, where: as in `report`.
        settings, dates: as in `list_calls`.

    Raises:
        ClickHouseError: refused, or not reached.
    """
    parameters: dict[str, Any] = {}
    conditions = [*of_dates(dates, parameters), "price_status = 'unpriced'"]
    conditions += [*having(where, parameters), *within(since, until, parameters)]
    found = client.query(
        f"SELECT provider, {DIMENSIONS['model']} AS model, count() AS calls,"
        " sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,"
        " any(arrayElement(cost_reasons, 1)) AS reason"
        f" FROM llm_calls FINAL WHERE {' AND '.join(conditions)}"
        " GROUP BY provider, model ORDER BY sum(total_tokens) DESC NULLS LAST, calls DESC, provider, model",
        parameters,
        settings,
    )
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def run_sql(client: Client, sql: str, fmt: str = "PrettyCompact") -> bytes:
    """Run a user's own query, which can only read, and return the answer in a ClickHouse format.

    Parameters:
        client: for embedded ClickHouse, a connection of `EmbeddedClickHouse.reader()`.
        sql: one SELECT, SHOW or the like, without a FORMAT clause.
        fmt: any of ClickHouse's output formats.

    Raises:
        QueryError: the format is not a name.
        ClickHouseError: refused, or not reached.
    """
    if not fmt.isidentifier():
        raise QueryError(f"{fmt!r} is not a ClickHouse format: use PrettyCompact, JSON, CSVWithNames, ...")
    return client.text(sql.strip().rstrip(";"), fmt, {} if client.read_only else {"readonly": 2})


def having(where: Where | None, parameters: dict[str, Any]) -> list[str]:
    """Conditions for calls whose dimensions have these values, or one of several.

    Raises:
        QueryError: there is no such dimension.
    """
    return [
        f"{expression(name, parameters)} IN {bound([values] if isinstance(values, str) else list(values), parameters)}"
        for name, values in (where or {}).items()
    ]


def within(since: datetime | None, until: datetime | None, parameters: dict[str, Any]) -> list[str]:
    """Conditions for calls that started from `since` on and before `until`."""
    conditions = []
    if since is not None:
        conditions.append(f"start_time >= {bound(since, parameters)}")
    if until is not None:
        conditions.append(f"start_time < {bound(until, parameters)}")
    return conditions


def of_dates(dates: Sequence[date] | None, parameters: dict[str, Any]) -> list[str]:
    """Conditions for calls of these dates; None: of all."""
    if dates is None:
        return []
    name = f"p{len(parameters)}"
    parameters[name] = [str(day) for day in dates]
    return [f"event_date IN {{{name}:Array(Date)}}"]


def _alias(index: int) -> str:
    return f"by{index}"


def expression(name: str, parameters: dict[str, Any]) -> str:
    """The SQL of a dimension over a row of `llm_calls`.

    Raises:
        QueryError: there is no such dimension.
    """
    if name == SNAPSHOT:
        return name
    if name.startswith("tag:") and len(name) > 4:
        return f"tags[{bound(name[4:], parameters)}]"
    try:
        return DIMENSIONS[name]
    except KeyError:
        raise QueryError(f"cannot group or filter by {name!r}: use {', '.join(DIMENSIONS)} or tag:NAME") from None


def bound(value: str | int | datetime | list[str], parameters: dict[str, Any]) -> str:
    """A placeholder that the server replaces by `value`."""
    name = f"p{len(parameters)}"
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        parameters[name] = f"{moment.timestamp():.6f}"
        return f"toDateTime64({{{name}:String}}, 9, 'UTC')"
    parameters[name] = value
    kind = "UInt64" if isinstance(value, int) else "Array(String)" if isinstance(value, list) else "String"
    return f"{{{name}:{kind}}}"
