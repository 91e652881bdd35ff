"""Questions of those who watch: the latest calls, those that have just come, the calls of a trace, costs over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from spanledger.exporter.client import Client
from spanledger.exporter.queries import DIMENSIONS, bound, expression, within

CALL = (
    "start_ns",
    "entry_id",
    "line",
    "trace_id",
    "span_id",
    "parent_span_id",
    "ancestor_span_ids",
    "service_name",
    "duration_ns",
    "provider",
    "operation",
    "model",
    "status",
    "error_type",
    "input_tokens",
    "output_tokens",
    "cost_base",
    "base_currency",
    "price_status",
    "cost_reasons",
    "tenant",
    "user_id",
    "feature",
    "agent_name",
)
"""What these questions tell of a call: columns of `llm_calls`, its start in ns since the epoch, and `model`."""

_COMPUTED = {"start_ns": "toUnixTimestamp64Nano(start_time)", "model": DIMENSIONS["model"]}
_COLUMNS = ", ".join(f"{_COMPUTED[name]} AS {name}" if name in _COMPUTED else name for name in CALL)

_OVERLAP_MS = 10_000
"""An insert may become visible so long after another that began later."""

_WRITTEN_AGAIN = 2**47 - 1
"""These bits of a row's `version` are 0 until it is settled or re-priced."""

_NEWS_MS = 600_000
"""A row that is written again is news so long after the call's end: it may have been settled before it was seen."""

_REMEMBERED = 100_000

_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


@dataclass(frozen=True, slots=True)
class Trend:
    """Costs over time, in bars of equal width.

    Attributes:
        step_s: width of a bar in seconds.
        first_s: the first bar's start, seconds since the epoch.
        bars: (values of the dimensions, base currency) -> the cost in each bar; None: no call of a known cost.
    """

    step_s: int
    first_s: int
    bars: Mapping[tuple[Any, ...], Sequence[Decimal | None]]


class Arrivals:
    """The calls as they come to the ledger, each once; a call that is written again (settled, re-priced) is no news."""

    def __init__(self, client: Client, where: Mapping[str, str] | None = None) -> None:
        """
        Parameters:
            where: dimension or `tag:NAME` -> the value that a call must have.

        Raises:
            QueryError: an unknown dimension.
        """
        self._client = client
        self._where = dict(where or {})
        self._until_ms = 0
        self._seen: dict[tuple[str, int], None] = {}

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """The `limit` calls that started last, the oldest of them first; `new` goes on from here.

        Raises:
            ClickHouseError: refused, or not reached.
        """
        self._until_ms = int(self._client.query("SELECT toUnixTimestamp64Milli(now64(3))").rows[0][0])
        for row in self._come(self._until_ms - _OVERLAP_MS, {}):
            self._remember((row["entry_id"], row["line"]))
        parameters: dict[str, Any] = {}
        rows = _calls(
            self._client,
            _conditions(self._where, parameters),
            f"ORDER BY start_time DESC, entry_id, line LIMIT {bound(limit, parameters)}",
            parameters,
        )
        return rows[::-1]

    def new(self) -> list[dict[str, Any]]:
        """The calls that have come since the last time, in the order of their starts.

        Raises:
            ClickHouseError: refused, or not reached; they are told the next time.
        """
        fresh = []
        for row in self._come(self._until_ms - _OVERLAP_MS, self._where):
            key, at, original = (row["entry_id"], row["line"]), row.pop("ingested_ms"), row.pop("original")
            self._until_ms = max(self._until_ms, at)
            ended_ms = (row["start_ns"] + row["duration_ns"]) // 10**6
            if key not in self._seen and (original or at - ended_ms < _NEWS_MS):
                fresh.append(row)
            self._remember(key)
        return fresh

    def _remember(self, key: tuple[str, int]) -> None:
        self._seen.pop(key, None)
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def _come(self, since_ms: int, where: Mapping[str, str]) -> list[dict[str, Any]]:
        parameters: dict[str, Any] = {"since": since_ms}
        recent = (
            "SELECT event_date, entry_id, line FROM llm_calls"
            " WHERE ingested_at >= fromUnixTimestamp64Milli({since:Int64})"
        )
        return _calls(
            self._client,
            [f"(event_date, entry_id, line) IN ({recent})", *_conditions(where, parameters)],
            "ORDER BY start_time, entry_id, line",
            parameters,
            f", toUnixTimestamp64Milli(ingested_at) AS ingested_ms, bitAnd(version, {_WRITTEN_AGAIN}) = 0 AS original",
        )


def trace_calls(client: Client, trace_id: str) -> list[dict[str, Any]]:
    """The rows of a trace in the order of their starts, `CALL` of each.

    Raises:
        ClickHouseError: refused, or not reached.
    """
    return _calls(client, ["trace_id = {trace:String}"], "ORDER BY start_time, entry_id, line", {"trace": trace_id})


def trend(
    client: Client,
    by: Sequence[str],
    groups: Sequence[Sequence[object]],
    bars: int,
    since: datetime | None = None,
    until: datetime | None = None,
    where: Mapping[str, str] | None = None,
) -> Trend | None:
    """What groups of calls cost over time; None where there are no calls.

    Parameters:
        by: dimensions, as in `queries.report`.
        groups: their values in the groups that are asked for.
        bars: at most so many, over the time that has calls.
        since, until, where: which calls.

    Raises:
        QueryError: an unknown dimension.
        ClickHouseError: refused, or not reached.
    """
    parameters: dict[str, Any] = {}
    conditions = [*_conditions(where or {}, parameters), *within(since, until, parameters)]
    if by:
        texts = ", ".join(f"toString({expression(name, parameters)})" for name in by)
        wanted = ["\x1f".join(str(value) for value in group) for group in groups]
        conditions.append(f"arrayStringConcat([{texts}], '\\x1f') IN {bound(wanted, parameters)}")
    source = "FROM llm_calls FINAL" + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
    times = "toUnixTimestamp(start_time)"
    first, last, calls = client.query(f"SELECT min({times}), max({times}), count() {source}", parameters).rows[0]
    if not calls:
        return None
    step = _step(first, last, bars)
    columns = [*(f"{expression(name, parameters)}" for name in by), "base_currency", f"intDiv({times}, {step})"]
    names = [f"by{i}" for i in range(len(columns))]
    found = client.query(
        f"SELECT {', '.join(f'{column} AS {name}' for column, name in zip(columns, names, strict=True))},"
        f" sum(cost_base) {source} GROUP BY {', '.join(names)}",
        parameters,
    )
    costs: dict[tuple[Any, ...], list[Decimal | None]] = {}
    for *group, number, cost in found.rows:
        costs.setdefault(tuple(group), [None] * (last // step - first // step + 1))[number - first // step] = cost
    return Trend(step, first // step * step, costs)


def _step(first: int, last: int, bars: int) -> int:
    """The narrowest bar, in seconds, of which `bars` reach from `first` to `last`."""
    days = range(86_400, 86_400 * 100_000, 86_400)
    return next(step for each in (_STEPS_S, days) for step in each if last // step - first // step < bars)


def _conditions(where: Mapping[str, str], parameters: dict[str, Any]) -> list[str]:
    return [f"{expression(name, parameters)} = {bound(value, parameters)}" for name, value in where.items()]


def _calls(
    client: Client, conditions: Sequence[str], order: str, parameters: Mapping[str, Any], more: str = ""
) -> list[dict[str, Any]]:
    only = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    found = client.query(f"SELECT {_COLUMNS}{more} FROM llm_calls FINAL{only} {order}", parameters)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]
