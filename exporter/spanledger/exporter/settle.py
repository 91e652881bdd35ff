"""Settling: a call that several spans describe becomes one bill, whoever described it, wherever, in whatever order.

`FINAL` already joins rows of one key. What is left, and done here over the rows that came since the last time:

- one call on two dates, because its describers ended on either side of midnight;
- spans without a response id around or inside another span of the same call;
- names (tenant, user, agent, ...) that only a describer which lost has, or an agent or tool around the call.

Nothing is removed: a row that is no bill is written again as deleted, one that is given names is written again with
them, both with the next version. Settling twice, or from two places at once, changes nothing more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from spanledger.exporter.client import Client
from spanledger.exporter.dialects import SURROUNDINGS
from spanledger.exporter.rewrite import Key, pages, whole_rows, write
from spanledger.pricing.usage import CONTRADICTORY, MISSING, REPORTED

NAMES = (
    "environment",
    "tenant",
    "user_id",
    "session_id",
    "feature",
    "prompt_name",
    "agent_name",
    "api_key_hash",
    "api_key_alias",
)
"""Columns that a call is given where it lacks them, besides `tags`."""

_ALL_NAMES = (*NAMES, "tags", "given_names")

_AGAIN_S = 60
"""ClickHouse stamps a row before it shows it: rows this much older than the mark are looked at again."""

_WINDOW_DAYS = 35
"""A call's describers are looked for on dates this far apart: batches and polled responses take days."""

_SLICE_ROWS = 500_000

_SINCE = "ingested_at >= toDateTime64({since:String}, 3, 'UTC')"
_DATES = "event_date BETWEEN {first:Date} AND {last:Date}"
_FRESH_ENTRIES = (
    f"SELECT entry_id FROM llm_calls WHERE {_SINCE} AND line = 0"
    " AND cityHash64(entry_id) % {slices:UInt32} = {slice:UInt32}"
)


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling did.

    Attributes:
        retired: rows that turned out to be no bill of their own.
        revived: rows that are one after all, since the one that stood for them is none.
        named: rows that were given names.
        contradictory: rows whose call was reported with different usage by equals.
    """

    retired: int = 0
    revived: int = 0
    named: int = 0
    contradictory: int = 0


@dataclass(frozen=True, slots=True)
class Described:
    """A span's row, as far as settling looks at it.

    Attributes:
        above: ids of the spans that it lies in, nearest first.
        alive: it is a bill; else it was retired, or is an agent or the like.
        describes: the entry of the call that it describes, which the process that made it knows; it is no bill then.
        is_new: it came since the last time.
    """

    key: Key
    version: int
    alive: bool
    span_id: str
    above: tuple[str, ...]
    operation: str
    response_id: str
    usage_status: str
    tokens: tuple[int | None, int | None]
    names: Mapping[str, Any]
    describes: str = ""
    is_new: bool = True

    @property
    def is_call(self) -> bool:
        return self.operation not in SURROUNDINGS

    @property
    def may_be_a_bill(self) -> bool:
        return self.is_call and not self.describes

    @property
    def counted(self) -> bool:
        return self.usage_status != MISSING

    @property
    def source_rank(self) -> int:
        return self.version >> 48 & 0xFF


_Precedence = tuple[bool, int, int, str]
"""Whose names count first: a describer of the call by its rank, then what is around it, the nearest first."""


@dataclass(slots=True)
class _Changes:
    retired: set[Key] = field(default_factory=set)
    revived: set[Key] = field(default_factory=set)
    contradictory: set[Key] = field(default_factory=set)
    offers: dict[Key, tuple[Mapping[str, Any], list[tuple[_Precedence, Mapping[str, Any]]]]] = field(
        default_factory=dict
    )

    def offer(self, key: Key, has: Mapping[str, Any], precedence: _Precedence, names: Mapping[str, Any]) -> None:
        """Let a call have what `names` say and it does not say itself."""
        self.offers.setdefault(key, (has, []))[1].append((precedence, names))

    def names(self) -> dict[Key, dict[str, Any]]:
        """What each call is given."""
        found = {}
        for key, (has, several) in self.offers.items():
            several.sort(key=lambda each: each[0])
            given = given_names(has, [names for _, names in several])
            if given:
                found[key] = given
        return found


def settle(client: Client) -> Settled:
    """Make one bill of each call that several spans describe, as far as rows came since the last time.

    Parameters:
        client: a connection whose user may insert.

    Raises:
        ClickHouseError: refused, or not reached; the next time begins where this one did.
    """
    since, until, fresh, first, last = client.query(
        f"SELECT toString(greatest((SELECT max(at) FROM ledger_marks WHERE name = 'settled') - {_AGAIN_S}, "
        "toDateTime64(0, 3, 'UTC'))) AS since, toString(now64(3, 'UTC')), count(),"
        f" min(event_date) - {_WINDOW_DAYS}, max(event_date) + {_WINDOW_DAYS} FROM llm_calls"
        " WHERE ingested_at >= toDateTime64(since, 3, 'UTC') AND line = 0"
    ).rows[0]
    if not fresh:
        return Settled()
    changes = _Changes()
    slices = -(-fresh // _SLICE_ROWS)
    for number in range(slices):
        bound = {"since": since, "first": str(first), "last": str(last), "slices": slices, "slice": number}
        _two_dates(client, bound, changes)
        earlier = _nested(client, bound, changes)
        _describers(client, bound, changes, _FRESH_ENTRIES)
        for entries in pages(earlier):
            _describers(client, {**bound, "entries": entries}, changes, "SELECT arrayJoin({entries:Array(String)})")
    settled = _write(client, changes)
    client.command(
        "INSERT INTO ledger_marks (name, at) VALUES ('settled', toDateTime64({until:String}, 3, 'UTC'))",
        {"until": until},
        {"async_insert": 0},
    )
    return settled


def given_names(has: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that give a call the names it lacks: what it was given before counts as lacking.

    Parameters:
        has: `NAMES`, `tags` and `given_names` of the call.
        others: the same of those who may give, first first.

    Returns:
        Empty where nothing changes.
    """
    before = set(has["given_names"])
    own_tags = {tag: value for tag, value in has["tags"].items() if f"tags.{tag}" not in before}
    given: dict[str, Any] = {}
    tags: dict[str, str] = {}
    for other in others:
        for name in NAMES:
            if other[name] and (name in before or not has[name]):
                given.setdefault(name, other[name])
        for tag, value in other["tags"].items():
            if tag not in own_tags:
                tags.setdefault(tag, value)
    names = sorted(before | given.keys() | {f"tags.{tag}" for tag in tags})
    if all(has[name] == value for name, value in given.items()) and all(
        has["tags"].get(tag) == tags[tag] for tag in tags
    ):
        return {}
    return {**given, "tags": {**has["tags"], **tags}, "given_names": names}


def one_bill(rows: Sequence[Described]) -> tuple[set[Key], dict[Key, list[tuple[_Precedence, Described]]]]:
    """Of the spans of one trace: which are no bills, and for each bill whose names it may take.

    So too for a span that describes a call in another trace: the names are the call's then.

    It does not matter what was decided before: only what the spans say counts.
    """
    by_span = {row.span_id: row for row in rows}
    around = {row.key: _around(row, by_span) for row in rows}
    inside: dict[str, list[Described]] = defaultdict(list)
    for row in rows:
        if row.may_be_a_bill:
            for each in around[row.key]:
                inside[each.span_id].append(row)
    no_bills = {row.key for row in rows if not row.may_be_a_bill}
    takes: dict[Key, list[Described]] = defaultdict(list)
    for outer in rows:
        if not outer.may_be_a_bill:
            for row in inside[outer.span_id]:
                takes[row.key].append(outer)
            if outer.describes:
                takes[outer.key] += [outer, *(each for each in around[outer.key] if not each.is_call)]
            continue
        for loser, winner in _losers(outer, inside[outer.span_id]):
            no_bills.add(loser.key)
            takes[winner.key].append(loser)
    found = {}
    for row in rows:
        if row.key in takes and (row.key not in no_bills or row.describes):
            nearness = {each.span_id: place for place, each in enumerate(around[row.key])}
            found[row.key] = [(_precedence(other, nearness), other) for other in takes[row.key]]
    return no_bills, found


def _precedence(other: Described, nearness: Mapping[str, int]) -> _Precedence:
    return (not other.is_call, -other.source_rank, nearness.get(other.span_id, -1), other.span_id)


def _losers(outer: Described, within: Sequence[Described]) -> Iterator[tuple[Described, Described]]:
    """Which of a call's span and the calls inside it are no bills, each with the one that is."""
    counted = [row for row in within if row.counted]
    if not within:
        return
    if not counted:
        if outer.counted:
            yield from ((row, outer) for row in within)
        elif not outer.response_id:
            yield from ((outer, row) for row in within)
        else:
            yield from ((row, outer) for row in within if not row.response_id)
    elif outer.response_id:
        for row in counted:
            if row.key.entry_id == outer.key.entry_id:
                continue
            if not row.response_id:
                yield row, outer
            elif outer.tokens == row.tokens:
                yield (row, outer) if outer.version > row.version else (outer, row)
    elif len(within) == 1 and not within[0].response_id and outer.version > within[0].version:
        yield within[0], outer
    else:
        yield from ((outer, row) for row in within)


def _around(row: Described, by_span: Mapping[str, Described]) -> list[Described]:
    """The spans that have rows and that a span lies in, nearest first."""
    found: dict[str, Described] = {}
    todo = list(row.above)
    for span_id in todo:
        each = by_span.get(span_id)
        if each is not None and span_id != row.span_id and span_id not in found:
            found[span_id] = each
            todo.extend(above for above in each.above if above not in todo)
    return list(found.values())


def _two_dates(client: Client, bound: Mapping[str, Any], changes: _Changes) -> None:
    """One call on several dates: the highest version stays, of equal ones the first date."""
    found = client.query(
        f"SELECT entry_id, event_date, version, {', '.join(_ALL_NAMES)} FROM llm_calls FINAL"
        f" WHERE line = 0 AND {_DATES} AND entry_id IN"
        f" (SELECT entry_id FROM llm_calls FINAL WHERE line = 0 AND {_DATES} AND entry_id IN"
        f"  ({_FRESH_ENTRIES})"
        "  GROUP BY entry_id HAVING count() > 1)"
        " ORDER BY entry_id, version DESC, event_date",
        bound,
    )
    for _, several in groupby(_dicts(found), key=lambda row: row["entry_id"]):
        stays, *others = several
        changes.retired.update(Key(row["event_date"], row["entry_id"]) for row in others)
        for other in others:
            precedence = (False, -(other["version"] >> 48 & 0xFF), -1, str(other["event_date"]))
            changes.offer(Key(stays["event_date"], stays["entry_id"]), stays, precedence, other)


def _nested(client: Client, bound: Mapping[str, Any], changes: _Changes) -> list[str]:
    """Spans inside others of the same trace; returns the entries that are offered names and are not new."""
    fresh = (
        f"SELECT trace_id FROM llm_calls WHERE {_SINCE} AND line = 0"
        " AND cityHash64(trace_id) % {slices:UInt32} = {slice:UInt32}"
    )
    found = client.query(
        "SELECT trace_id, event_date, entry_id, version, is_deleted, span_id, parent_span_id, ancestor_span_ids,"
        f" operation, response_id, usage_status, input_tokens, output_tokens, {', '.join(_ALL_NAMES)},"
        f" describes, {_SINCE} AS is_new FROM llm_calls WHERE line = 0 AND {_DATES} AND (trace_id IN"
        "  (SELECT trace_id FROM llm_calls ARRAY JOIN arrayPushFront(ancestor_span_ids, parent_span_id) AS above"
        f"  WHERE line = 0 AND {_DATES} AND trace_id IN ({fresh}) AND (trace_id, above) IN"
        f"   (SELECT trace_id, span_id FROM llm_calls WHERE line = 0 AND {_DATES} AND trace_id IN ({fresh})))"
        " OR trace_id IN"
        f"  (SELECT trace_id FROM llm_calls WHERE line = 0 AND {_DATES} AND describes != ''"
        f"   AND (trace_id IN ({fresh}) OR describes IN ({_FRESH_ENTRIES}))))"
        " ORDER BY trace_id, event_date, entry_id, version DESC, is_deleted DESC"
        " LIMIT 1 BY trace_id, event_date, entry_id",
        bound,
    )
    revived: set[Key] = set()
    earlier: set[str] = set()
    offers: list[tuple[Described, _Precedence, Mapping[str, Any]]] = []
    told: dict[str, list[tuple[_Precedence, Mapping[str, Any]]]] = defaultdict(list)
    for _, several in groupby(_dicts(found), key=lambda row: row["trace_id"]):
        rows = [_described(row) for row in several]
        no_bills, takes = one_bill(rows)
        changes.retired.update(row.key for row in rows if row.alive and row.key in no_bills)
        revived.update(row.key for row in rows if not row.alive and row.key not in no_bills)
        for row in rows:
            offers.extend((row, precedence, other.names) for precedence, other in takes.get(row.key, ()))
    elsewhere = _on_another_date(client, revived)
    changes.revived |= revived - elsewhere
    for row, precedence, names in offers:
        if row.describes:
            told[row.describes].append((precedence, names))
        elif row.key in elsewhere or row.key in changes.retired:
            told[row.key.entry_id].append((precedence, names))
        else:
            changes.offer(row.key, row.names, precedence, names)
            if not row.is_new:
                earlier.add(row.key.entry_id)
    for entries in pages(sorted(told)):
        calls = client.query(
            f"SELECT event_date, entry_id, {', '.join(_ALL_NAMES)} FROM llm_calls FINAL"
            f" WHERE line = 0 AND {_DATES} AND entry_id IN {{entries:Array(String)}}",
            {**bound, "entries": entries},
        )
        for call in _dicts(calls):
            key = Key(call["event_date"], call["entry_id"])
            if key not in changes.retired:
                earlier.add(key.entry_id)
                for precedence, names in told[key.entry_id]:
                    changes.offer(key, call, precedence, names)
    return sorted(earlier)


def _on_another_date(client: Client, keys: set[Key]) -> set[Key]:
    """Those whose call has a bill on another date."""
    if not keys:
        return set()
    found = client.query(
        "SELECT entry_id FROM llm_calls FINAL WHERE line = 0 AND entry_id IN {entries:Array(String)}",
        {"entries": sorted({key.entry_id for key in keys})},
    )
    billed = {entry for (entry,) in found.rows}
    return {key for key in keys if key.entry_id in billed}


def _describers(client: Client, bound: Mapping[str, Any], changes: _Changes, entries: str) -> None:
    """Describers of one key: names of those who lost, and equals that report different usage.

    Parameters:
        entries: a query for the `entry_id` of those to look at.
    """
    found = client.query(
        "SELECT event_date, entry_id, version, usage_status, input_tokens, output_tokens,"
        f" {', '.join(_ALL_NAMES)}, other.* FROM llm_calls FINAL"
        f" INNER JOIN (SELECT entry_id, {', '.join(f'{name} AS other_{name}' for name in (*NAMES, 'tags'))},"
        "   scope AS other_scope, version AS other_version, usage_status AS other_usage_status,"
        "   input_tokens AS other_input_tokens, output_tokens AS other_output_tokens"
        f"  FROM llm_describers FINAL WHERE entry_id IN ({entries})) AS other USING (entry_id)"
        f" WHERE line = 0 AND {_DATES} AND entry_id IN ({entries}) AND (scope, version) != (other_scope, other_version)"
        " ORDER BY entry_id, event_date, other_version DESC, other_scope",
        bound,
    )
    for key, several in groupby(_dicts(found), key=lambda row: Key(row["event_date"], row["entry_id"])):
        for row in several:
            precedence = (False, -(row["other_version"] >> 48 & 0xFF), -1, row["other_scope"])
            changes.offer(key, row, precedence, {name: row[f"other_{name}"] for name in (*NAMES, "tags")})
            same_rank = row["version"] >> 48 == row["other_version"] >> 48
            tokens = (row["input_tokens"], row["output_tokens"])
            if (
                same_rank
                and row["usage_status"] == row["other_usage_status"] == REPORTED
                and tokens != (row["other_input_tokens"], row["other_output_tokens"])
            ):
                changes.contradictory.add(key)


def _write(client: Client, changes: _Changes) -> Settled:
    """Write the rows that change once more, with the next version."""
    counts = {"retired": 0, "revived": 0, "named": 0, "contradictory": 0}
    names = changes.names()
    keys = sorted(changes.retired | changes.revived | names.keys() | changes.contradictory)
    for page in pages(keys):
        rows = []
        for key, row in whole_rows(client, page):
            row["version"] += 1
            if key in changes.retired:
                row["is_deleted"] = 1
                counts["retired"] += 1
            else:
                row["is_deleted"] = 0
                counts["revived"] += key in changes.revived
                row |= names.get(key, {})
                counts["named"] += key in names
                if key in changes.contradictory:
                    row["usage_status"] = CONTRADICTORY
                    row["cost_estimated"] = True
                    row["cost_reasons"] = [*row["cost_reasons"], "the same response was reported with different usage"]
                    counts["contradictory"] += 1
            rows.append(row)
        write(client, rows)
    return Settled(**counts)


def _dicts(found: Any) -> Iterator[dict[str, Any]]:
    for row in found.rows:
        yield dict(zip(found.columns, row, strict=True))


def _described(row: Mapping[str, Any]) -> Described:
    return Described(
        key=Key(row["event_date"], row["entry_id"]),
        version=row["version"],
        alive=not row["is_deleted"],
        span_id=row["span_id"],
        above=tuple(dict.fromkeys((row["parent_span_id"], *row["ancestor_span_ids"]))),
        operation=row["operation"],
        response_id=row["response_id"],
        usage_status=row["usage_status"],
        tokens=(row["input_tokens"], row["output_tokens"]),
        names={name: row[name] for name in _ALL_NAMES},
        describes=row["describes"],
        is_new=bool(row["is_new"]),
    )
