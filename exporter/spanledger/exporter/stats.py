"""What calls add up to, by any two dimensions and a time bucket: the question behind `/api/v1/llm/stats`.

Dates that have not changed since the rollup was made are read from it, the others from `llm_calls FINAL`, so that the
figures are those of `llm_calls FINAL` to the last digit, always. What the rollup does not have is asked of
`llm_calls` whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from spanledger.exporter.client import Client
from spanledger.exporter.measures import MEASURES, PARTS, Measure
from spanledger.exporter.queries import Table, bound, expression, having, within
from spanledger.exporter.rollup import GRAINS, Covered, Grain, rolled_up

BUCKETS: Final = {
    "hour": "toStartOfHour({at}, {zone})",
    "day": "toStartOfDay({at}, {zone})",
    "week": "toDateTime(toStartOfWeek({at}, 1, {zone}), {zone})",
    "month": "toDateTime(toStartOfMonth({at}, {zone}), {zone})",
}
"""Time bucket -> the local time it begins at; weeks begin on Mondays."""

_ORDERS: Final = {
    "cost": "cost",
    "calls": "calls",
    "errors": "errors",
    "error_rate": "errors / calls",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "total_tokens": "total_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "duration_p50": "duration[1]",
    "duration_p95": "duration[2]",
    "duration_p99": "duration[3]",
    "time_to_first_token_p50": "time_to_first_token[1]",
    "time_to_first_token_p95": "time_to_first_token[2]",
    "unpriced": "unpriced",
    "estimated": "estimated",
}
SORTS: Final = (*_ORDERS, "time", "group")
"""What groups can be sorted by."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        by: dimensions of `queries.DIMENSIONS`, or `tag:NAME`.
        bucket: one of `BUCKETS`, or None.
        time_zone: IANA name of the zone that days, weeks and months are of.
        since, until: calls that started from then on, and before.
        where: dimension or `tag:NAME` -> values of which the call must have one.
        sort: of `SORTS`; `-` before it is descending.
        limit: at most so many groups.
        parts: with tokens and costs by part.
        latency: with quantiles of durations, which are the dearest to add up.
    """

    by: tuple[str, ...] = ()
    bucket: str | None = None
    time_zone: str = "UTC"
    since: datetime | None = None
    until: datetime | None = None
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sort: str = "-cost"
    limit: int = 1000
    parts: bool = True
    latency: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """Calls that have the same values of the dimensions asked for, and the same base currency.

    Attributes:
        values: dimension or bucket -> value; empty for the totals.
        figures: name of a measure -> its figure; of quantiles a list in the order of `measures.QUANTILES`, ns,
            None where there is no such call.
        currency: the base currency that `cost` is in.
    """

    values: Mapping[str, Any]
    figures: Mapping[str, Any]
    currency: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Groups, and what they add up to.

    Attributes:
        groups: as sorted; `limit` of them at most.
        totals: over all groups, those beyond the limit too: one for each base currency, so usually one, and none
            where there are no calls.
        more: there are more groups than `limit`.
    """

    groups: list[Group]
    totals: list[Group]
    more: bool


def stats(
    client: Client,
    question: Question,
    covered: Covered | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Answer:
    """Answer a question.

    Parameters:
        covered: what the rollup has, as `rolled_up` tells; None: it is asked now.
        settings: ClickHouse's, limits of the query.

    Raises:
        QueryError: an unknown dimension.
        ClickHouseError: refused, not reached, or beyond a limit.
    """
    parameters: dict[str, Any] = {}
    if covered is None:
        covered = rolled_up(client)
    grain = _grain(question, covered)
    sources = [_of_rollup(question, covered, grain, parameters), *_of_calls(question, covered, grain, parameters)]
    partial = "\nUNION ALL\n".join(source for source in sources if source)
    groups = [f"by{i}" for i in range(len(question.by) + bool(question.bucket))]
    figures = ",\n  ".join(
        f"{measure.figure(f'm_{measure.name}')} AS {measure.name}" for measure in _measures(question)
    )
    names = [*groups, "in_currency"]
    sql = (
        f"SELECT {', '.join(names)}, {f'grouping({groups[0]})' if groups else '0'} AS is_total,\n  {figures}\n"
        f"FROM ({partial})\n"
        f"GROUP BY GROUPING SETS (({', '.join(names)}){', (in_currency)' if groups else ''})\n"
        f"ORDER BY is_total DESC, {_order(question, groups)}\n"
        f"LIMIT {bound(question.limit + 1 + _MAX_CURRENCIES, parameters)}"
    )
    found = client.query(sql, parameters, settings)
    return _answer(question, Table(found.columns, [tuple(row) for row in found.rows]))


_MAX_CURRENCIES = 8


def _answer(question: Question, table: Table) -> Answer:
    names = ([question.bucket] if question.bucket else []) + list(question.by)
    groups, totals = [], []
    zone = ZoneInfo(question.time_zone)
    for row in table.rows:
        named = dict(zip(table.columns, row, strict=True))
        values = {name: named[f"by{i}"] for i, name in enumerate(names)}
        if question.bucket:
            values[question.bucket] = _local(values[question.bucket], zone)
        figures = {measure.name: named[measure.name] for measure in MEASURES if measure.name in named}
        for name in ("duration", "time_to_first_token"):
            if name in figures:
                figures[name] = [None if value != value else round(value) for value in figures[name]]
        group = Group(values, figures, named["in_currency"])
        if not names or named["is_total"]:
            totals.append(Group({}, figures, group.currency))
        else:
            groups.append(group)
    return Answer(groups[: question.limit], totals, len(groups) > question.limit)


def _local(seconds: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc).astimezone(zone)


def _order(question: Question, groups: Sequence[str]) -> str:
    name = question.sort.removeprefix("-")
    down = " DESC NULLS LAST" if question.sort.startswith("-") else " NULLS LAST"
    first = []
    if name == "time" and question.bucket:
        first.append(f"by0{down}")
    elif name == "group":
        first += [f"{group}{down}" for group in groups[bool(question.bucket) :]]
    elif name in _ORDERS:
        expression = _ORDERS[name]
        first.append(f"ifNotFinite({expression}, NULL){down}" if "[" in expression else f"{expression}{down}")
    return ", ".join([*first, *groups, "in_currency"])


def _of_rollup(question: Question, covered: Covered, grain: Grain | None, parameters: dict[str, Any]) -> str:
    """The whole hours, or days, of dates that the rollup covers."""
    if grain is None:
        return ""
    parameters["generations"] = list(covered.generations.values())
    conditions = [
        f"grain = {bound(grain.name, parameters)}",
        "generation IN {generations:Array(UInt64)}",
        *(f"`{name}` IN {bound(list(values), parameters)}" for name, values in question.where.items()),
    ]
    first, last = _whole_slots(question, grain)
    if first is not None:
        conditions.append(f"slot >= {bound(first, parameters)}")
    if last is not None:
        conditions.append(f"slot < {bound(last, parameters)}")
    return _partial(
        question,
        "slot",
        lambda name: f"`{name}`",
        [(measure.name, measure.of_sums(measure.name)) for measure in _measures(question)],
        f"llm_calls_rollup WHERE {' AND '.join(conditions)}",
        parameters,
    )


def _of_calls(question: Question, covered: Covered, grain: Grain | None, parameters: dict[str, Any]) -> Iterator[str]:
    """What the rollup does not have: dates that have changed, the ends of the time asked for, and what is beyond it."""
    where = having(question.where, parameters)
    these = [*where, *within(question.since, question.until, parameters)]
    if grain is None:
        yield _live(question, these, parameters)
        return
    parameters["covered"] = [str(day) for day in covered.generations]
    yield _live(question, ["event_date NOT IN {covered:Array(Date)}", *these], parameters)
    for edge in _edges(question, grain):
        dates = (
            f"event_date IN (SELECT event_date FROM llm_calls_rollup WHERE grain = {bound(grain.name, parameters)}"
            f" AND slot = {bound(_floor(edge[0], grain), parameters)}"
            " AND generation IN {generations:Array(UInt64)})"
        )
        yield _live(question, [dates, *where, *within(*edge, parameters)], parameters)


def _live(question: Question, conditions: Sequence[str], parameters: dict[str, Any]) -> str:
    return _partial(
        question,
        "toDateTime(start_time, 'UTC')",
        lambda name: expression(name, parameters),
        [(measure.name, measure.of_calls) for measure in _measures(question)],
        "llm_calls FINAL" + (f" WHERE {' AND '.join(conditions)}" if conditions else ""),
        parameters,
    )


def _partial(
    question: Question,
    at: str,
    dimension: Callable[[str], str],
    measures: Sequence[tuple[str, str]],
    source: str,
    parameters: dict[str, Any],
) -> str:
    """Partial sums by the dimensions that are asked for."""
    groups = []
    if question.bucket:
        begins = BUCKETS[question.bucket].format(at=at, zone=bound(question.time_zone, parameters))
        groups.append(f"toUnixTimestamp({begins})")
    groups += [f"CAST({dimension(name)}, 'String')" for name in question.by]
    columns = [f"{group} AS by{i}" for i, group in enumerate(groups)]
    columns += ["CAST(base_currency, 'String') AS in_currency"]
    columns += [f"{sql} AS m_{name}" for name, sql in measures]
    names = [*(f"by{i}" for i in range(len(groups))), "in_currency"]
    return f"SELECT {', '.join(columns)} FROM {source} GROUP BY {', '.join(names)}"


def _measures(question: Question) -> list[Measure]:
    return [
        measure
        for measure in MEASURES
        if (question.parts or measure.name not in PARTS) and (question.latency or not measure.is_quantiles)
    ]


def _grain(question: Question, covered: Covered) -> Grain | None:
    """The smallest that has all that is asked for; None where none has, or nothing is covered."""
    if not covered.generations:
        return None
    names = {*question.by, *question.where}
    for grain in GRAINS:
        if names <= grain.dimensions and (question.bucket is None or _fits(question.bucket, question.time_zone, grain)):
            return grain
    return None


def _fits(bucket: str, time_zone: str, grain: Grain) -> bool:
    """Whether buckets begin where slots do."""
    if grain.hours == 1:
        return _whole_offsets(time_zone)
    return bucket != "hour" and time_zone == "UTC"


@lru_cache(maxsize=64)
def _whole_offsets(time_zone: str) -> bool:
    """Whether the zone's days begin at a whole hour of UTC: those of India, say, do not."""
    zone = ZoneInfo(time_zone)
    months = (datetime(year, month, 1, tzinfo=zone) for year in range(2015, 2040) for month in range(1, 13))
    return all((month.utcoffset() or _HOUR) % _HOUR == timedelta(0) for month in months)


_HOUR = timedelta(hours=1)


def _whole_slots(question: Question, grain: Grain) -> tuple[datetime | None, datetime | None]:
    """The first whole slot of the time that is asked for, and the one after its last."""
    since, until = question.since, question.until
    first = None if since is None else _ceiling(since, grain)
    return first, None if until is None else _floor(until, grain)


def _edges(question: Question, grain: Grain) -> list[tuple[datetime, datetime]]:
    """The parts of slots at both ends."""
    since, until = question.since, question.until
    first, last = _whole_slots(question, grain)
    if since is not None and until is not None and _floor(since, grain) == _floor(until, grain):
        return [(since, until)] if since < until else []
    edges = []
    if since is not None and first is not None and since < first:
        edges.append((since, first))
    if until is not None and last is not None and last < until:
        edges.append((last, until))
    return edges


def _floor(at: datetime, grain: Grain) -> datetime:
    at = at.astimezone(timezone.utc).replace(minute=0, second=0, microsecond=0)
    return at.replace(hour=0) if grain.hours == 24 else at


def _ceiling(at: datetime, grain: Grain) -> datetime:
    floor = _floor(at, grain)
    return floor if floor == at else floor + grain.hours * _HOUR
