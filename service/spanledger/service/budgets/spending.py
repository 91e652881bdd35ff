"""What was spent of each budget, and whether an hour cost more than the same hours of former weeks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal
from statistics import median
from typing import Any

from spanledger.exporter.client import Client
from spanledger.exporter.queries import bound, expression, within
from spanledger.service.budgets.settings import EACH, AlertSettings, Budget, budgets
from spanledger.settings import Settings

_HOUR = timedelta(hours=1)
_WEEK = timedelta(days=7)
_FEWEST = 3
"""Former weeks without which nothing is called usual."""

_SIGMA = Decimal("1.4826")
"""Median absolute deviations of a normal distribution in its standard deviation."""

_FLOOR = Decimal("0.1")
"""An hour that costs the same each week has no deviation: then a tenth of the median counts as one."""


@dataclass(frozen=True, slots=True)
class Spending:
    """A budget and what was spent of it in its present window.

    Attributes:
        scope: dimension -> value; empty: all calls.
        since, until: the window, UTC; a rolling one ends now.
        spent: in the budget's currency, of the rows whose cost is known.
        calls: calls in the window.
        unpriced: rows whose cost is unknown, which `spent` therefore lacks.
    """

    budget: Budget
    scope: dict[str, str]
    since: datetime
    until: datetime
    spent: Decimal
    calls: int
    unpriced: int

    @property
    def share(self) -> Decimal:
        """Of the amount; 1 is all of it. To 6 places, rounded half-even."""
        return (self.spent / self.budget.amount).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)

    @property
    def exceeded(self) -> bool:
        return self.spent > self.budget.amount

    @property
    def crossed(self) -> tuple[Decimal, ...]:
        """The thresholds that were reached."""
        return tuple(each for each in self.budget.thresholds if self.spent >= each * self.budget.amount)

    @property
    def scope_text(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.scope.items()) or "all calls"

    def as_dict(self) -> dict[str, Any]:
        """For JSON and tables; money and shares are Decimals."""
        return {
            "budget": self.budget.name,
            "scope": self.scope,
            "window": self.budget.window_text,
            "since": self.since,
            "until": self.until,
            "amount": self.budget.amount,
            "spent": self.spent,
            "left": self.budget.amount - self.spent,
            "currency": self.budget.currency,
            "share": self.share,
            "calls": self.calls,
            "unpriced": self.unpriced,
            "thresholds": list(self.budget.thresholds),
            "crossed": list(self.crossed),
            "exceeded": self.exceeded,
        }


@dataclass(frozen=True, slots=True)
class Anomaly:
    """An hour that cost more than is usual.

    Attributes:
        hour: its begin, UTC.
        spent: in `currency`.
        usual: median of the same hour of former weeks.
        bound: what it would have had to stay below.
        weeks: how many it was compared with.
    """

    hour: datetime
    spent: Decimal
    usual: Decimal
    bound: Decimal
    weeks: int
    currency: str


def evaluate(client: Client, now: Settings, at: datetime | None = None) -> list[Spending]:
    """What was spent of each budget of the configuration, as the ledger says.

    Parameters:
        client: a connection that may read.
        at: the moment whose windows are looked at, with a time zone; now by default.

    Returns:
        One for each budget, in the configuration's order; of a budget with a `*` in its scope one for each value
        that has calls in the window, the one that spent most first.

    Raises:
        SettingsError: a budget of the configuration is wrong.
        ClickHouseError: refused, or not reached.
    """
    moment = (at or datetime.now(timezone.utc)).astimezone(timezone.utc)
    found: list[Spending] = []
    for budget in budgets(now):
        found += _spending(client, budget, moment)
    return found


def window(budget: Budget, at: datetime) -> tuple[datetime, datetime]:
    """Begin and end of the budget's window that `at`, in UTC, lies in."""
    if isinstance(budget.window, timedelta):
        return at - budget.window, at
    hour = at.replace(minute=0, second=0, microsecond=0)
    if budget.window == "hour":
        return hour, hour + _HOUR
    day = hour.replace(hour=0)
    if budget.window == "day":
        return day, day + timedelta(days=1)
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def _spending(client: Client, budget: Budget, at: datetime) -> list[Spending]:
    since, until = window(budget, at)
    parameters: dict[str, Any] = {}
    conditions = _during(since, until, parameters)
    each = []
    for name, value in budget.scope.items():
        if value == EACH:
            each.append(name)
        else:
            conditions.append(f"{expression(name, parameters)} = {bound(value, parameters)}")
    columns = [f"{expression(name, parameters)} AS by{i}" for i, name in enumerate(each)]
    conditions += [f"by{i} != ''" for i in range(len(each))]
    currency = bound(budget.currency, parameters)
    columns += [
        f"sumIf(cost_base, base_currency = {currency}) AS spent",
        "countIf(line = 0) AS calls",
        f"countIf(cost_base IS NULL OR base_currency != {currency}) AS unpriced",
    ]
    groups = f" GROUP BY {', '.join(f'by{i}' for i in range(len(each)))} ORDER BY spent DESC NULLS LAST" if each else ""
    found = client.query(
        f"SELECT {', '.join(columns)} FROM llm_calls FINAL WHERE {' AND '.join(conditions)}{groups}", parameters
    )
    return [
        Spending(
            budget,
            {**budget.scope, **dict(zip(each, map(str, row), strict=False))},
            since,
            until,
            row[-3] or Decimal(0),
            row[-2],
            row[-1],
        )
        for row in found.rows
    ]


def anomaly(client: Client, now: Settings, alerts: AlertSettings, at: datetime | None = None) -> Anomaly | None:
    """The last full hour, if it cost more than the same hour of former weeks lets one expect.

    Usual is the median of these hours; the bound lies some median absolute deviations above it, and above the median
    by `anomaly_minimum` at least. A day on which the ledger has no call at all is a hole, not a day that cost
    nothing; an hour without calls on another day did cost nothing.

    Raises:
        ClickHouseError: refused, or not reached.
    """
    if alerts.anomaly_minimum is None:
        return None
    moment = (at or datetime.now(timezone.utc)).astimezone(timezone.utc)
    hour = moment.replace(minute=0, second=0, microsecond=0) - _HOUR
    spent, _ = _hour(client, hour, now.base_currency)
    former = [_hour(client, hour - week * _WEEK, now.base_currency) for week in range(1, alerts.anomaly_weeks + 1)]
    known = [cost for cost, recorded in former if recorded]
    if len(known) < _FEWEST:
        return None
    usual = median(known)
    deviation = max(_SIGMA * median([abs(cost - usual) for cost in known]), _FLOOR * usual)
    highest = usual + max(alerts.anomaly_deviations * deviation, alerts.anomaly_minimum)
    if spent <= highest:
        return None
    return Anomaly(hour, spent, usual, highest, len(known), now.base_currency)


def _hour(client: Client, hour: datetime, currency: str) -> tuple[Decimal, bool]:
    """What an hour cost, and whether the ledger has a call of its day."""
    day = hour.replace(hour=0)
    parameters: dict[str, Any] = {}
    inside = " AND ".join(within(hour, hour + _HOUR, parameters))
    conditions = _during(day, day + timedelta(days=1), parameters)
    found = client.query(
        f"SELECT sumIf(cost_base, {inside} AND base_currency = {bound(currency, parameters)}), count()"
        f" FROM llm_calls FINAL WHERE {' AND '.join(conditions)}",
        parameters,
    )
    cost, rows = found.rows[0]
    return cost or Decimal(0), rows > 0


def _during(since: datetime, until: datetime, parameters: dict[str, Any]) -> list[str]:
    """Conditions for calls that started in a time; `event_date`, of their ends, spares ClickHouse other partitions."""
    first = bound((since - timedelta(days=1)).date().isoformat(), parameters)
    return [*within(since, until, parameters), f"event_date >= toDate({first})"]
