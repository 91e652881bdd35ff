"""The rollup: what the calls of each hour and day add up to, by dimensions that are often asked for.

It is made a date at a time (`event_date`, which every version of a row keeps), from `llm_calls FINAL`: once nothing has
come for the date for a while, and for a date of calls that keep coming, now and then. Calls that have come for a recent
date since then are *fresh*, and are added to its sums. A date of whose calls one was told anew, or an old one for which
any came, is *live*: it is read from `llm_calls` itself until it is made anew. So answers are exact whatever comes,
however late.

`rollup_dates` says which *generation* of a date's sums stands: one row replaces a date whole. Sums of old dates are
kept by month, so that a question reads few parts; those of the last days, which are made anew again and again, in
partitions of their own, which are dropped.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any, Final, NamedTuple

from spanledger.exporter.client import Client
from spanledger.exporter.measures import MEASURES
from spanledger.exporter.queries import SNAPSHOT, expression

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


class Grain(NamedTuple):
    """Dimensions that sums are kept by.

    Attributes:
        slots: of which lengths, the longest first; a day is one of UTC.
    """

    name: str
    dimensions: frozenset[str]
    slots: tuple[timedelta, ...] = (DAY, HOUR)


def _grain(name: str, dimensions: str, slots: tuple[timedelta, ...] = (DAY, HOUR)) -> Grain:
    return Grain(name, frozenset(dimensions.split()), slots)


_OF_MODEL: Final = (
    f"provider operation model tier environment status error price_status usage_status currency {SNAPSHOT}"
)
_OF_FEATURE: Final = "feature service prompt agent environment status"
GRAINS: Final = (
    _grain("model", _OF_MODEL),
    _grain("tenant", "tenant environment status"),
    _grain("feature", _OF_FEATURE),
    _grain("key", "key provider environment status"),
    _grain("tenant, model", f"tenant {_OF_MODEL}"),
    _grain("tenant, feature", f"tenant {_OF_FEATURE}", (DAY,)),
    _grain("model, key", "model provider key environment status", (DAY,)),
    _grain("model, feature", "model provider feature service environment status", (DAY,)),
    _grain("user", "user tenant environment", (DAY,)),
)
"""From few rows to many. Questions beyond all of them are asked of `llm_calls`."""

LATE_S = 60
"""ClickHouse stamps a row before it shows it: a row may appear so many seconds after its `ingested_at`."""

BUSY_S = 300
"""Seconds between makings of a date for which calls keep coming: few come in that time, and each making is another
generation, of which nobody has kept anything."""

_FRESH = (
    "ingested_at >= (SELECT max(at) FROM ledger_marks WHERE name = 'rollup' AND (SELECT count() FROM rollup_dates) > 0)"
    " - {late:UInt32}"
)
_RECENT_DAYS: Final = 2
"""Today and yesterday, which change again and again."""


class Made(NamedTuple):
    """What the rollup has of a date.

    Attributes:
        generation: of its sums.
        first, last: hours in which its first call and its last one began.
        recent: it may be made anew soon.
    """

    generation: int
    first: datetime
    last: datetime
    recent: bool = False

    def meets(self, since: datetime | None, until: datetime | None) -> bool:
        """Whether calls of the date may have begun from `since` on and before `until`."""
        return (until is None or self.first < until) and (since is None or since < self.last + HOUR)


@dataclass(frozen=True, slots=True)
class Covered:
    """The state of ledger and rollup at a moment.

    Attributes:
        dates: that are read from the rollup.
        live: dates that are read from `llm_calls`.
        state: another text whenever the ledger's rows, and so its answers, may be others.
        fresh: those of `dates` for which calls have come since, and the first and the last `ingested_at` of these, as
            text. What comes later may be a call of the sums that is told anew: it belongs to another state.
    """

    dates: Mapping[date, Made]
    live: Sequence[date]
    state: str
    fresh: Mapping[date, tuple[str, str]] = field(default_factory=dict)

    def unchanged(self, since: datetime | None, until: datetime | None) -> list[date]:
        """Dates for which nothing has come, and whose calls may have begun from `since` on and before `until`."""
        return [day for day, made in self.dates.items() if made.meets(since, until) and day not in self.fresh]

    @property
    def changed(self) -> list[date]:
        """All other dates."""
        return [*self.live, *self.fresh]


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What making the rollup did.

    Attributes:
        dates: that were made.
        waiting: dates that have changed and were not made: something came for them just now, or time was up.
    """

    dates: int
    waiting: int


def parts(client: Client) -> str:
    """The parts of the ledger's tables: another text after each insert, and after merges. Reads no row.

    Raises:
        ClickHouseError: refused, or not reached.
    """
    return str(
        client.query(
            "SELECT groupBitXor(cityHash64(name)) FROM (SELECT _part AS name FROM llm_calls GROUP BY _part"
            " UNION ALL SELECT _part FROM rollup_dates GROUP BY _part)"
        ).rows[0][0]
    )


def rolled_up(client: Client) -> Covered:
    """What the rollup covers now.

    Raises:
        ClickHouseError: refused, or not reached.
    """
    # In this order: the mark moves on after the dates that it tells of are made.
    fresh = client.query(
        "SELECT event_date, max(ingested_at), toString(max(ingested_at)), count(),"
        " sum(toUnixTimestamp64Milli(ingested_at)) FROM llm_calls"
        f" WHERE {_FRESH} GROUP BY event_date ORDER BY event_date",
        {"late": LATE_S},
    ).rows
    found = client.query(
        "SELECT event_date, generation, first, last, until, volume = generation, keys, toString(until)"
        " FROM rollup_dates FINAL ORDER BY event_date"
    ).rows
    came = {day: at for day, at, *_ in fresh}
    standing = {day for day, _, _, _, until, *_ in found if day not in came or came[day] < until}
    added = _only_added(
        client, {day: (keys, at) for day, *_, recent, keys, at in found if recent and day not in standing}
    )
    dates = {
        day: Made(generation, first.replace(tzinfo=timezone.utc), last.replace(tzinfo=timezone.utc), bool(recent))
        for day, generation, first, last, _, recent, *_ in found
        if day in standing or day in added
    }
    live = [day for day in came if day not in dates]
    last_of = {day: at for day, _, at, *_ in fresh}
    return Covered(
        dates,
        live,
        repr((fresh, [made.generation for made in dates.values()])),
        {day: (first_came, last_of[day]) for day, first_came in added.items()},
    )


def _only_added(client: Client, dates: Mapping[date, tuple[int, str]]) -> dict[date, str]:
    """Those of the dates whose sums still are of calls that stand: whose fresh rows have keys that none had before.

    Parameters:
        dates: date -> how many keys its sums are of, and the first `ingested_at` that is fresh.
    """
    if not dates:
        return {}
    of_date = " OR ".join(f"event_date = '{day}' AND ingested_at >= '{until}'" for day, (_, until) in dates.items())
    found = client.query(
        f"SELECT event_date, uniqExact(key), uniqExactIf(key, {of_date})"
        " FROM (SELECT event_date, ingested_at, cityHash64(entry_id, line) AS key FROM llm_calls"
        " WHERE event_date IN {days:Array(Date)}) GROUP BY event_date",
        {"days": [str(day) for day in dates]},
    )
    return {day: dates[day][1] for day, keys, fresh in found.rows if keys == dates[day][0] + fresh}


def roll_up(client: Client, quiet_s: float = LATE_S, seconds: float = 2.0, busy_s: float = BUSY_S) -> RolledUp:
    """Make the rollup of dates that have changed, and move those that have become old to their months.

    Parameters:
        client: a connection whose user may insert, and alter tables.
        quiet_s: so long nothing must have come for a date,
        busy_s: or so long it must not have been made, and 20 times as long as making it took.
        seconds: begin no further date after so long.

    Raises:
        ClickHouseError: refused, or not reached; what was made stands.
    """
    began = time.monotonic()
    fresh = client.query(
        "SELECT event_date, toString(min(ingested_at)),"
        "  any(generation) != 0 AND max(ingested_at) < any(until),"
        "  max(ingested_at) <= now64(3, 'UTC') - toIntervalMillisecond({quiet:UInt64}) OR greatest(any(made_at),"
        "   min(ingested_at)) <= now64(3, 'UTC') - toIntervalMillisecond(greatest({busy:UInt64}, 20 * any(took_ms)))"
        f" FROM llm_calls LEFT JOIN (SELECT * FROM rollup_dates FINAL) AS made USING event_date WHERE {_FRESH}"
        " GROUP BY event_date",
        {"late": LATE_S, "quiet": int(quiet_s * 1000), "busy": int(busy_s * 1000)},
    ).rows
    now, today = client.query("SELECT toString(now64(3, 'UTC')), toDate(now('UTC'))").rows[0]
    old = today - timedelta(days=_RECENT_DAYS)
    moving = client.query(
        "SELECT event_date FROM rollup_dates FINAL WHERE volume = generation AND event_date <= {old:Date}",
        {"old": str(old)},
    ).rows
    due = {day: (True, "") for (day,) in moving} | {
        day: (quiet, first) for day, first, stands, quiet in fresh if not stands
    }
    made, waiting = 0, []
    for day, (quiet, first) in sorted(due.items(), reverse=True):
        if quiet and time.monotonic() - began < seconds:
            _make(client, day, by_month=day <= old)
            made += 1
        elif first:
            waiting.append(first)
    if fresh:
        client.command(
            "INSERT INTO ledger_marks (name, at) VALUES ('rollup', toDateTime64({at:String}, 3, 'UTC'))",
            {"at": min([now, *waiting])},
            {"async_insert": 0},
        )
    if due:
        _forget(client)
    return RolledUp(made, len(waiting))


def _make(client: Client, day: date, by_month: bool) -> None:
    began = time.monotonic()
    generation = time.time_ns() // 10**6 << 20 | secrets.randbits(20)
    now, until = client.query(
        "SELECT toString(now64(3, 'UTC') AS now), toString(now - {late:UInt32})", {"late": LATE_S}
    ).rows[0]
    made = {
        "day": str(day),
        "generation": generation,
        "volume": f"{day:%Y%m}" if by_month else generation,
        "now": now,
        "until": until,
    }
    # The keys first: a call that is told anew from now on is then known to be none of those that are added.
    keys, first, last = client.query(
        "SELECT uniqExact(cityHash64(entry_id, line)), toUnixTimestamp(toStartOfHour(min(start_time))),"
        " toUnixTimestamp(toStartOfHour(max(start_time))) FROM llm_calls"
        " WHERE event_date = {day:Date} AND ingested_at < toDateTime64({until:String}, 3, 'UTC')",
        made,
    ).rows[0]
    client.command(_SUMS, made, {"async_insert": 0})
    client.command(
        "INSERT INTO rollup_dates (event_date, generation, volume, made_at, took_ms, until, keys, first, last)"
        " SELECT {day:Date}, {generation:UInt64}, {volume:UInt64}, toDateTime64({now:String}, 3, 'UTC'),"
        " {took:UInt64}, toDateTime64({until:String}, 3, 'UTC'), {keys:UInt64}, {first:UInt32}, {last:UInt32}",
        made | {"took": int((time.monotonic() - began) * 1000), "keys": keys, "first": first, "last": last},
        {"async_insert": 0},
    )


def _sums() -> str:
    """The statement that makes a date's sums, of all grains in one pass over its calls."""
    names = sorted(frozenset().union(*(grain.dimensions for grain in GRAINS)))
    slots = {DAY: "d_day", HOUR: "d_hour"}
    keys = [*slots.values(), *(f"d_{name}" for name in names), "d_base_currency"]
    sets = {
        (grain.name, slot): {slots[slot], "d_base_currency", *(f"d_{name}" for name in grain.dimensions)}
        for grain in GRAINS
        for slot in grain.slots
    }
    # `grouping` has a bit for each key, the first the highest: 1 where the key is not in the set.
    masks = [int("".join("01"[key not in chosen] for key in keys), 2) for chosen in sets.values()]
    grains = [grain for grain, _ in sets]
    hours = [slot // HOUR for _, slot in sets]
    groups = [f"({', '.join(sorted(chosen))})" for chosen in sets.values()]
    return (
        "INSERT INTO llm_calls_rollup (volume, event_date, generation, grain, hours, slot,"
        f" {', '.join(f'`{name}`' for name in names)}, base_currency, {', '.join(each.name for each in MEASURES)})"
        " SELECT {volume:UInt64}, {day:Date}, {generation:UInt64},"
        f" transform(grouping({', '.join(keys)}) AS mask, {masks}, {grains}, '') AS d_grain,"
        f" transform(mask, {masks}, {hours}, 0) AS d_hours, if(d_hours = 1, d_hour, d_day),"
        f" {', '.join(keys[len(slots) :])}, {', '.join(each.of_calls for each in MEASURES)}"
        " FROM (SELECT toStartOfDay(toDateTime(start_time, 'UTC')) AS d_day,"
        " toStartOfHour(toDateTime(start_time, 'UTC')) AS d_hour,"
        f" {', '.join(f'{expression(name, {})} AS d_{name}' for name in names)}, base_currency AS d_base_currency, *"
        " FROM llm_calls FINAL"
        " PREWHERE event_date = {day:Date} AND ingested_at < toDateTime64({until:String}, 3, 'UTC'))"
        f" GROUP BY GROUPING SETS ({', '.join(groups)})"
    )


_SUMS: Final = _sums()


def _forget(client: Client) -> None:
    """Drop the partitions of what stood for a recent date before."""
    for volume, generations in _replaced(client):
        if volume in generations:
            client.command(f"ALTER TABLE llm_calls_rollup DROP PARTITION {int(volume)}")


def tidy(client: Client) -> None:
    """Delete what stood for an old date before, and merge the parts of each month: a question then reads few.

    Raises:
        ClickHouseError: refused, or not reached; tidying again does the rest.
    """
    for volume, generations in _replaced(client):
        if volume not in generations:
            client.command(
                f"ALTER TABLE llm_calls_rollup DELETE IN PARTITION {int(volume)}"
                " WHERE generation IN {generations:Array(UInt64)}",
                {"generations": generations},
                {"mutations_sync": 1},
            )
    several = client.query(
        "SELECT volume FROM (SELECT volume, _part FROM llm_calls_rollup GROUP BY volume, _part)"
        " GROUP BY volume HAVING count() > 1"
    )
    for (volume,) in several.rows:
        client.command(f"OPTIMIZE TABLE llm_calls_rollup PARTITION {int(volume)} FINAL")


def _replaced(client: Client) -> Sequence[Sequence[Any]]:
    """Volumes, and their generations that stand no more; not those that a query that runs just now may still read."""
    return client.query(
        "SELECT volume, groupUniqArray(generation) FROM llm_calls_rollup"
        " LEFT JOIN (SELECT event_date, generation AS stands, made_at FROM rollup_dates FINAL) AS made USING event_date"
        " WHERE generation < stands AND made_at < now64(3, 'UTC') - {late:UInt32} GROUP BY volume",
        {"late": LATE_S},
    ).rows
