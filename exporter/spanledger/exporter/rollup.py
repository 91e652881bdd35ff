"""The rollup: what the calls of each hour or day add up to, by dimensions that are often asked for.

It is made a date at a time (`event_date`, which every version of a row keeps), from `llm_calls FINAL`, once nothing
has come for the date for a while. A date that has rows since then is *not covered*: it is read from `llm_calls` itself
until it is made anew. So answers are exact whatever comes, however late.

Each making of a date is a partition of its own, and `rollup_dates` says which one stands: one row replaces a date
whole.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple

from spanledger.exporter.client import Client
from spanledger.exporter.measures import MEASURES
from spanledger.exporter.queries import SNAPSHOT, expression


class Grain(NamedTuple):
    """Dimensions that sums are kept by.

    Attributes:
        hours: length of a slot; one of 24 is a day of UTC.
    """

    name: str
    dimensions: frozenset[str]
    hours: int = 1


GRAINS: Final = (
    Grain(
        "model",
        frozenset(
            [
                "provider",
                "operation",
                "model",
                "tier",
                "environment",
                "status",
                "error",
                "price_status",
                "usage_status",
                "currency",
            ]
        )
        | {SNAPSHOT},
    ),
    Grain("tenant", frozenset(("tenant", "environment", "status"))),
    Grain("feature", frozenset(("feature", "service", "prompt", "agent", "environment", "status"))),
    Grain("key", frozenset(("key", "provider", "environment", "status"))),
    Grain("user", frozenset(("user", "tenant", "environment")), hours=24),
    Grain("model, key", frozenset(("model", "provider", "key", "environment", "status"))),
    Grain("model, tenant", frozenset(("model", "provider", "tenant", "environment", "status"))),
    Grain("model, feature", frozenset(("model", "provider", "feature", "service", "environment", "status"))),
)
"""From few rows to many. Questions beyond all of them are asked of `llm_calls`."""

LATE_S = 60
"""ClickHouse stamps a row before it shows it: a row may appear so many seconds after its `ingested_at`."""

_FRESH = "ingested_at >= (SELECT max(at) FROM ledger_marks WHERE name = 'rollup') - {late:UInt32}"


@dataclass(frozen=True, slots=True)
class Covered:
    """The state of ledger and rollup at a moment.

    Attributes:
        generations: date that the rollup covers -> the partition that stands for it.
        state: another text whenever the ledger's rows, and so its answers, may be others.
    """

    generations: Mapping[date, int]
    state: str


@dataclass(frozen=True, slots=True)
class RolledUp:
    """What making the rollup did.

    Attributes:
        dates: that were made.
        waiting: dates that have changed and were not made: something came for them just now, or time was up.
    """

    dates: int
    waiting: int


def rolled_up(client: Client) -> Covered:
    """What the rollup covers now.

    Raises:
        ClickHouseError: refused, or not reached.
    """
    found = client.query(
        "WITH fresh AS (SELECT event_date, max(ingested_at) AS last, count() AS number FROM llm_calls"
        f" WHERE {_FRESH} GROUP BY event_date)"
        " SELECT groupArrayIf((event_date, generation), last < made_at - {late:UInt32}),"
        " concat(toString((SELECT (count(), max(last), sum(number)) FROM fresh)), ' ',"
        "  toString((SELECT count() FROM llm_calls)), ' ', toString(sum(cityHash64(event_date, generation))))"
        " FROM rollup_dates FINAL LEFT JOIN fresh USING event_date",
        {"late": LATE_S},
    )
    pairs, state = found.rows[0]
    return Covered(dict(pairs), state)


def roll_up(client: Client, quiet_s: float = LATE_S, seconds: float = 2.0) -> RolledUp:
    """Make the rollup of dates that have changed and are quiet.

    Parameters:
        client: a connection whose user may insert, and alter tables.
        quiet_s: so long nothing must have come for a date.
        seconds: begin no further date after so long.

    Raises:
        ClickHouseError: refused, or not reached; what was made stands.
    """
    began = time.monotonic()
    fresh = client.query(
        "SELECT event_date, toString(min(ingested_at)),"
        "  any(generation) != 0 AND max(ingested_at) < max(made_at) - {late:UInt32},"
        "  max(ingested_at) <= now64(3, 'UTC') - toIntervalMillisecond({quiet:UInt64})"
        f" FROM llm_calls LEFT JOIN (SELECT * FROM rollup_dates FINAL) AS made USING event_date WHERE {_FRESH}"
        " GROUP BY event_date ORDER BY event_date DESC",
        {"late": LATE_S, "quiet": int(quiet_s * 1000)},
    ).rows
    now = str(client.query("SELECT toString(now64(3, 'UTC'))").rows[0][0])
    made, waiting = 0, []
    for day, first, stands, quiet in fresh:
        if stands:
            continue
        if quiet and time.monotonic() - began < seconds:
            _make(client, day)
            made += 1
        else:
            waiting.append(str(first))
    if fresh:
        client.command(
            "INSERT INTO ledger_marks (name, at) VALUES ('rollup', toDateTime64({at:String}, 3, 'UTC'))",
            {"at": min([now, *waiting])},
            {"async_insert": 0},
        )
        _forget(client)
    return RolledUp(made, len(waiting))


def _make(client: Client, day: date) -> None:
    generation = time.time_ns() // 10**6 << 20 | secrets.randbits(20)
    made_at = client.query("SELECT toString(now64(3, 'UTC'))").rows[0][0]
    measures = ", ".join(measure.name for measure in MEASURES)
    sums = ", ".join(measure.of_calls for measure in MEASURES)
    for grain in GRAINS:
        names = sorted(grain.dimensions)
        columns = ", ".join(f"`{name}`" for name in names)
        dimensions = ", ".join(f"{expression(name, {})} AS d_{name}" for name in names)
        client.command(
            f"INSERT INTO llm_calls_rollup (event_date, generation, grain, slot, {columns}, base_currency, {measures})"
            " SELECT {day:Date}, {generation:UInt64}, {grain:String},"
            f" toStartOfInterval(toDateTime(start_time, 'UTC'), INTERVAL {grain.hours} HOUR) AS d_slot, {dimensions},"
            f" base_currency, {sums} FROM llm_calls FINAL WHERE event_date = {{day:Date}}"
            f" GROUP BY d_slot, {', '.join(f'd_{name}' for name in names)}, base_currency",
            {"generation": generation, "day": str(day), "grain": grain.name},
            {"async_insert": 0, "max_partitions_per_insert_block": 0},
        )
    client.command(
        "INSERT INTO rollup_dates (event_date, generation, made_at)"
        " VALUES ({day:Date}, {generation:UInt64}, toDateTime64({made_at:String}, 3, 'UTC'))",
        {"generation": generation, "day": str(day), "made_at": made_at},
        {"async_insert": 0},
    )


def _forget(client: Client) -> None:
    """Drop what stood for a date before; not what a query that runs just now may still read."""
    found = client.query(
        "SELECT DISTINCT event_date, generation FROM llm_calls_rollup"
        " LEFT JOIN (SELECT event_date, generation AS stands, made_at FROM rollup_dates FINAL) AS made USING event_date"
        " WHERE generation < stands AND made_at < now64(3, 'UTC') - {late:UInt32}",
        {"late": LATE_S},
    )
    for day, generation in found.rows:
        client.command(f"ALTER TABLE llm_calls_rollup DROP PARTITION ('{day}', {int(generation)})")
