"""What calls add up to, by any two dimensions and a time bucket: the question behind `/api/v1/llm/stats`.

Dates that have not changed since the rollup was made are read from it, the others from `llm_calls FINAL`, so that the
figures are those of `llm_calls FINAL` to the last digit, always. What the rollup does not have is asked of
`llm_calls` whole.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from spanledger.exporter.client import ClickHouseError, Client, External
from spanledger.exporter.measures import MEASURES, PARTS, Measure
from spanledger.exporter.queries import Table, bound, expression, having, of_dates, within
from spanledger.exporter.rollup import GRAINS, HOUR, Covered, Grain, Made, rolled_up

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

Span = tuple[datetime | None, datetime | None]
"""From then on, and before; None: always."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


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
    kept: Kept | None = None,
) -> Answer:
    """Answer a question.

    Parameters:
        covered: what the rollup has, as `rolled_up` tells; None: it is asked now.
        settings: ClickHouse's, limits of the query.
        kept: keeps what was read of the rollup for the next time.

    Raises:
        QueryError: an unknown dimension.
        ClickHouseError: refused, not reached, or beyond a limit.
    """
    parameters: dict[str, Any] = {}
    if covered is None:
        covered = rolled_up(client)
    if _grain(question)[0] is not None:
        settings = {"max_threads": 1, **(settings or {})}  # it is little work: the other cores are for other questions
    sources: list[str] = []
    data = b""
    for recent in (False, True):
        plan = _plan(question, covered, recent)
        found = None if kept is None else _kept(kept, client, question, plan, settings)
        if found is None:
            sources += _before(question, plan, parameters)
        else:
            data += found
    external = {"before": External(_structure(question), data)} if data else {}
    sources += [f"SELECT * FROM {name}" for name in external]
    sources += _since(question, covered, parameters)
    sources = sources or [_of_calls(question, ["false"], parameters)]
    groups = [f"by{i}" for i in range(len(question.by) + bool(question.bucket))]
    figures = ",\n  ".join(
        f"{measure.figure(f'm_{measure.name}')} AS {measure.name}" for measure in _measures(question)
    )
    names = [*groups, "in_currency"]
    sql = (
        f"SELECT {', '.join(names)}, {f'grouping({groups[0]})' if groups else '0'} AS is_total,\n  {figures}\n"
        f"FROM ({_union(sources)})\n"
        f"GROUP BY GROUPING SETS (({', '.join(names)}){', (in_currency)' if groups else ''})\n"
        f"ORDER BY is_total DESC, {_order(question, groups)}\n"
        f"LIMIT {bound(question.limit + 1 + _MAX_CURRENCIES, parameters)}"
    )
    answer = client.query(sql, parameters, settings, external)
    return _answer(question, Table(answer.columns, [tuple(row) for row in answer.rows]))


_MAX_CURRENCIES = 8


class Kept:
    """Partial sums of dates that the rollup covers, as ClickHouse told them, to be sent back to it: those of the same
    generations stay the same. What was asked for last is kept; threads may share it."""

    def __init__(self, most_bytes: int = 128 * 2**20) -> None:
        self._most = most_bytes
        self._size = 0
        self._found: OrderedDict[Hashable, bytes | None] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, ask: Callable[[], bytes | None]) -> bytes | None:
        """What `ask` tells, now or the last time; None is kept too."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        data = ask()
        with self._lock:
            for size in (len(self._found.pop(key, None) or b""), -len(data or b"")):
                self._size -= size
            self._found[key] = data
            while self._size > self._most or len(self._found) > _MOST_KEPT:
                self._size -= len(self._found.popitem(last=False)[1] or b"")
        return data


_MOST_KEPT = 4096
_MOST_GROUPS = 20_000
_TOO_MANY = 396


def _kept(
    kept: Kept, client: Client, question: Question, plan: _Plan, settings: Mapping[str, Any] | None
) -> bytes | None:
    """The partial sums of a plan; None where there are none, or they are too many to be sent to and fro."""
    parameters: dict[str, Any] = {}
    sql = _union(list(_before(question, plan, parameters)))
    if not sql:
        return None

    def ask() -> bytes | None:
        limited = {"max_result_rows": _MOST_GROUPS, "result_overflow_mode": "throw", **(settings or {})}
        try:
            return client.native(sql, parameters, limited)
        except ClickHouseError as error:
            if error.code == _TOO_MANY:
                return None
            raise

    ends = [made.generation for _, dates in plan.ends for made in dates.values()]
    return kept.get((sql, repr(parameters), tuple(ends)), ask)


def _structure(question: Question) -> str:
    """The columns of partial sums."""
    groups = ["UInt32"] * bool(question.bucket) + ["String"] * len(question.by)
    columns = [f"by{i} {kind}" for i, kind in enumerate(groups)]
    columns += ["in_currency String", *(f"m_{measure.name} {measure.type}" for measure in _measures(question))]
    return ", ".join(columns)


def _union(sources: Sequence[str]) -> str:
    return "\nUNION ALL\n".join(sources)


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


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where sums of dates that the rollup covers are read.

    Attributes:
        grain: of the rollup; None: it has none with all that is asked for.
        slots: lengths of slots, and the span of time for which they are read.
        generations: of the rollup.
        ends: spans of time at the ends, shorter than a slot; calls of which dates are read for each.
        fresh: what is none of these dates' sums, as `Covered` has it.
    """

    grain: Grain | None
    slots: Sequence[tuple[timedelta, Span]]
    generations: Sequence[int]
    ends: Sequence[tuple[Span, Mapping[date, Made]]]
    fresh: Mapping[date, tuple[str, str]]


def _plan(question: Question, covered: Covered, recent: bool) -> _Plan:
    """How recent dates, or the others, are read: whole days from slots of a day, what is left at the ends of the time
    asked for from slots of an hour, and what is left then from the calls."""
    grain, lengths = _grain(question)
    dates = {day: made for day, made in covered.dates.items() if made.recent == recent}
    if grain is None or not dates:
        return _Plan(None, (), (), (), {})
    slots: list[tuple[timedelta, Span]] = []
    left: list[Span] = [(question.since, question.until)]
    for length in lengths:
        cuts = [_cut(span, length) for span in left]
        slots += [(length, whole) for whole, _ in cuts if whole is not None]
        left = [end for _, ends in cuts for end in ends]
    generations = [made.generation for made in dates.values() if any(made.meets(*span) for _, span in slots)]
    ends = [(end, {day: made for day, made in dates.items() if made.meets(*end)}) for end in left]
    return _Plan(grain, slots, generations, [(end, some) for end, some in ends if some], covered.fresh)


def _grain(question: Question) -> tuple[Grain | None, list[timedelta]]:
    """The smallest grain that has all that is asked for, and those of its slots that buckets can be made of."""
    names = {*question.by, *question.where}
    for grain in GRAINS:
        lengths = [length for length in grain.slots if _fits(question, length)]
        if names <= grain.dimensions and lengths:
            return grain, lengths
    return None, []


def _fits(question: Question, length: timedelta) -> bool:
    """Whether buckets begin where slots do."""
    if question.bucket is None:
        return True
    if length == HOUR:
        return _whole_offsets(question.time_zone)
    return question.bucket != "hour" and question.time_zone == "UTC"


@lru_cache(maxsize=64)
def _whole_offsets(time_zone: str) -> bool:
    """Whether the zone's days begin at a whole hour of UTC: those of India, say, do not."""
    zone = ZoneInfo(time_zone)
    months = (datetime(year, month, 1, tzinfo=zone) for year in range(2015, 2040) for month in range(1, 13))
    return all((month.utcoffset() or HOUR) % HOUR == timedelta(0) for month in months)


def _cut(span: Span, length: timedelta) -> tuple[Span | None, list[Span]]:
    """The whole slots in a span, None where there are none, and what is left at its ends."""
    since, until = span
    first = None if since is None else _EPOCH - (_EPOCH - since) // length * length
    last = None if until is None else _EPOCH + (until - _EPOCH) // length * length
    if first is not None and last is not None and first >= last:
        return None, [span]
    return (first, last), [end for end in ((since, first), (last, until)) if end[0] != end[1]]


def _before(question: Question, plan: _Plan, parameters: dict[str, Any]) -> Iterator[str]:
    """Partial sums of the dates that the rollup covers."""
    if plan.grain is not None and plan.generations:
        generations = f"p{len(parameters)}"
        parameters[generations] = list(plan.generations)
        slots = [
            " AND ".join([f"hours = {length // HOUR}", *_during("slot", span, parameters)])
            for length, span in plan.slots
        ]
        conditions = [
            f"grain = {bound(plan.grain.name, parameters)}",
            f"generation IN {{{generations}:Array(UInt64)}}",
            f"({' OR '.join(slots)})",
            *(f"`{name}` IN {bound(list(values), parameters)}" for name, values in question.where.items()),
        ]
        yield _partial(
            question,
            "slot",
            lambda name: f"`{name}`",
            [(measure.name, measure.of_sums(measure.name)) for measure in _measures(question)],
            f"llm_calls_rollup WHERE {' AND '.join(conditions)}",
            parameters,
        )
    for end, dates in plan.ends:
        conditions = [*of_dates(list(dates), parameters), *within(*end, parameters)]
        conditions += [f"NOT ({_came(day, first)})" for day, (first, _) in plan.fresh.items() if day in dates]
        yield _of_calls(question, conditions, parameters)


def _since(question: Question, covered: Covered, parameters: dict[str, Any]) -> Iterator[str]:
    """Partial sums of calls that have come since, and of all calls of dates that are not read from the rollup."""
    asked = question.since, question.until
    rolled = _grain(question)[0] is not None
    if rolled and covered.fresh:
        fresh = " OR ".join(_came(day, first, last) for day, (first, last) in covered.fresh.items())
        yield _of_calls(question, within(*asked, parameters), parameters, f" PREWHERE {fresh}")
    dates = covered.live if rolled else [*covered.unchanged(*asked), *covered.changed]
    if dates:
        yield _of_calls(question, [*of_dates(dates, parameters), *within(*asked, parameters)], parameters)


def _came(day: date, first: str, last: str = "") -> str:
    """Rows of a date that came from a moment on, and until another one."""
    until = f" AND ingested_at <= '{last}'" if last else ""
    return f"event_date = '{day}' AND ingested_at >= '{first}'{until}"


def _during(column: str, span: Span, parameters: dict[str, Any]) -> list[str]:
    ends = [(sign, at) for sign, at in zip((">=", "<"), span, strict=True) if at is not None]
    return [f"{column} {sign} {bound(at, parameters)}" for sign, at in ends]


def _of_calls(question: Question, conditions: Sequence[str], parameters: dict[str, Any], only_keys: str = "") -> str:
    """Partial sums of calls.

    Parameters:
        only_keys: PREWHERE, which leaves all rows of a key or none.
    """
    conditions = [*conditions, *having(question.where, parameters)]
    return _partial(
        question,
        "toDateTime(start_time, 'UTC')",
        lambda name: expression(name, parameters),
        [(measure.name, measure.of_calls) for measure in _measures(question)],
        f"llm_calls FINAL{only_keys}" + (f" WHERE {' AND '.join(conditions)}" if conditions else ""),
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
