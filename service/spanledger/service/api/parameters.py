"""A request's query string, checked: everything that is wrong with it is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from spanledger.exporter.queries import DIMENSIONS
from spanledger.exporter.stats import BUCKETS, SORTS, Question
from spanledger.service import times

FILTERS: Final = tuple(name for name in DIMENSIONS if name != "day")
"""Dimensions that calls can be filtered by, besides tags."""

STATUS: Final = {
    "status": ("ok", "error"),
    "price_status": ("priced", "estimated", "unpriced", "usage_missing", "not_billed", "free"),
    "usage_status": ("reported", "estimated", "incomplete", "contradictory", "missing"),
}
"""Dimensions whose values are known."""

MAX_LIMIT: Final = 10_000

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong with a request.

    Attributes:
        field: the parameter.
        allowed: what it may be, where that can be listed.
    """

    field: str
    message: str
    allowed: tuple[str, ...] = ()


class Unprocessable(Exception):
    """The request cannot be answered as it is."""

    def __init__(self, wrong: Sequence[Wrong]) -> None:
        super().__init__("; ".join(f"{each.field}: {each.message}" for each in wrong))
        self.wrong = tuple(wrong)


@dataclass(slots=True)
class Parameters:
    """Reads parameters one by one; `done` raises what was wrong with them.

    Attributes:
        items: names and values, as they came.
        now: what ages and `today` count from.
    """

    items: Sequence[tuple[str, str]]
    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    _wrong: list[Wrong] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)

    def all(self, name: str) -> list[str]:
        """The values of a parameter that may be repeated."""
        self._known.add(name)
        return [value for key, value in self.items if key == name]

    def one(self, name: str, read: Callable[[str], Value], default: Value, allowed: Sequence[str] = ()) -> Value:
        """The value of a parameter that is given once at most.

        Parameters:
            read: raises ValueError, which says what to use instead.
        """
        values = self.all(name)
        if len(values) > 1:
            self.wrong(name, f"it is given {len(values)} times: give it once")
        if not values:
            return default
        try:
            return read(values[0])
        except ValueError as error:
            self.wrong(name, str(error), allowed)
            return default

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        """One of a few words."""

        def read(value: str) -> str:
            if value not in allowed:
                raise ValueError(f"{value!r} is not known")
            return value

        return self.one(name, read, default, allowed)

    def wrong(self, name: str, message: str, allowed: Sequence[str] = ()) -> None:
        self._wrong.append(Wrong(name, message, tuple(allowed)))

    def done(self) -> None:
        """Raise what was wrong.

        Raises:
            Unprocessable: something was, or a parameter is not known.
        """
        for name in dict.fromkeys(key for key, _ in self.items):
            if name not in self._known:
                self.wrong(name, "there is no such parameter", sorted(self._known))
        if self._wrong:
            raise Unprocessable(self._wrong)

    def time_zone(self) -> str:
        def read(value: str) -> str:
            try:
                ZoneInfo(value)
            except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError
                raise ValueError(f"{value!r} is no time zone: use an IANA name, as Europe/Berlin or UTC") from None
            except KeyError:
                raise ValueError(f"{value!r} is no time zone: use an IANA name, as Europe/Berlin or UTC") from None
            return value

        return self.one("time_zone", read, "UTC")

    def span(self, time_zone: str) -> tuple[datetime | None, datetime | None]:
        """`since` and `until`; an age counts from the last whole minute: one answer serves all who ask in it."""
        zone = ZoneInfo(time_zone)
        minute = self.now.replace(second=0, microsecond=0)
        since = self.one("since", lambda text: times.parse(text, minute, zone=zone), None)
        until = self.one("until", lambda text: times.parse(text, self.now, end=True, zone=zone), None)
        if since is not None and until is not None and since >= until:
            self.wrong("until", f"{until.isoformat()} is not after since, {since.isoformat()}")
        return since, until

    def where(self, tenant: str) -> dict[str, list[str]]:
        """The filters.

        Parameters:
            tenant: the only one whose calls may be seen; empty: all.
        """
        found: dict[str, list[str]] = {}
        for name in FILTERS:
            values = self.all(name)
            for value in values:
                if name in STATUS and value not in STATUS[name]:
                    self.wrong(name, f"{value!r} is not known", STATUS[name])
            if values:
                found[name] = values
        for pair in self.all("tag"):
            name, equals, value = pair.partition("=")
            if not equals or not name:
                self.wrong("tag", f"{pair!r} is not NAME=VALUE")
            else:
                found.setdefault(f"tag:{name}", []).append(value)
        if tenant:
            if any(value != tenant for value in found.get("tenant", ())):
                self.wrong("tenant", "this token sees one tenant only", (tenant,))
            found["tenant"] = [tenant]
        return found

    def limit(self, default: int, most: int = MAX_LIMIT) -> int:
        return self.one("limit", lambda text: _whole(text, 1, most), default)


def question(parameters: Parameters, tenant: str, of_figures: bool = True) -> Question:
    """What `/api/v1/llm/stats` is asked; `done` is left to the caller.

    Parameters:
        of_figures: false: without `sort` and `parts`.
    """
    by: list[str] = []
    buckets: list[str] = []
    dimensions = (*(name for name in FILTERS if name != "trace"), "tag:NAME")
    for name in (piece.strip() for text in parameters.all("group_by") for piece in text.split(",")):
        if name in BUCKETS:
            buckets.append(name)
        elif name in dimensions[:-1] or (name.startswith("tag:") and len(name) > 4):
            by.append(name)
        else:
            parameters.wrong("group_by", f"{name!r} is not known", (*BUCKETS, *dimensions))
    if len(by) > 2 or len(buckets) > 1 or len(set(by)) < len(by):
        parameters.wrong("group_by", "use two different dimensions at most, and one of hour, day, week, month")
    time_zone = parameters.time_zone()
    since, until = parameters.span(time_zone)
    where = parameters.where(tenant)
    bucket = buckets[0] if buckets else None
    sorts = [f"{sign}{name}" for name in SORTS for sign in ("", "-")]
    sort = parameters.choice("sort", sorts, "time" if bucket else "-cost") if of_figures else "group"
    latency = of_figures and parameters.choice("latency", ("true", "false"), "true") == "true"
    if not latency and sort.lstrip("-").startswith(("duration", "time_to")):
        parameters.wrong("latency", f"sort={sort} needs it", ("true",))
    return Question(
        by=tuple(by[:2]),
        bucket=bucket,
        time_zone=time_zone,
        since=since,
        until=until,
        where=where,
        sort=sort,
        limit=parameters.limit(1000),
        parts=not of_figures or parameters.choice("parts", ("true", "false"), "true") == "true",
        latency=latency,
    )


def given(items: Sequence[tuple[str, str]]) -> Mapping[str, Any]:
    """Parameters as they came, to be shown again."""
    found: dict[str, list[str]] = {}
    for name, value in items:
        found.setdefault(name, []).append(value)
    return found


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
        raise ValueError(f"{text!r} is not a whole number from {least} to {most}")
    return int(text)
