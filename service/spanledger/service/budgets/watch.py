"""One look at all budgets: whoever is to be told is told, once a threshold and window; the ledger remembers it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from typing import Any

import orjson

from spanledger.exporter.client import Client, Endpoint, connect
from spanledger.service import output
from spanledger.service.budgets.settings import AlertSettings, alerts, budgets
from spanledger.service.budgets.spending import Anomaly, Spending, anomaly, evaluate
from spanledger.service.budgets.telling import Alert, NotTold, channels
from spanledger.settings import Settings

logger = logging.getLogger("spanledger")

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LONGEST = timedelta(days=32)
"""No window but a rolling one is longer."""

_SHARE = 20.0
"""Looks rest so many times as long as they took."""


@dataclass(frozen=True, slots=True)
class _Event:
    """Something to tell; its key is what is told once."""

    budget: str
    scope: str
    since: datetime
    amount: Decimal
    threshold: Decimal
    spent: Decimal
    currency: str
    alert: Alert
    reached: bool = True

    @property
    def key(self) -> tuple[Any, ...]:
        return self.budget, self.scope, self.since, self.amount, self.threshold


def look(client: Client, now: Settings, settings: AlertSettings, at: datetime | None = None) -> list[str]:
    """Evaluate all budgets and tell what was not told yet.

    Parameters:
        client: a connection whose user may insert.
        at: the moment; now by default.

    Returns:
        What could not be told, in words; it is told at the next look.

    Raises:
        SettingsError: a budget is wrong.
        ClickHouseError: refused, or not reached.
    """
    moment = (at or datetime.now(timezone.utc)).astimezone(timezone.utc)
    events = [event for spending in evaluate(client, now, moment) for event in _thresholds(spending)]
    unusual = anomaly(client, now, settings, moment)
    if unusual is not None:
        events.append(_unusual(unusual))
    told = _told(client, moment)
    failures: list[str] = []
    changes: list[dict[str, Any]] = []
    for channel, tell in channels(settings).items():
        mine = [event for event in events if event.reached and (*event.key, channel) not in told]
        failed = _tell(_highest(mine), tell)
        failures += failed.values()
        changes += [_row(event, channel, 1) for event in mine if event.key[:-1] not in failed]
        over = [event for event in events if not event.reached and (*event.key, channel) in told]
        changes += [_row(event, channel, 0) for event in over]
    if changes:
        block = b"".join(orjson.dumps(row) + b"\n" for row in changes)
        client.insert_block("budget_alerts", block, sha256(block).hexdigest())
    return failures


def _tell(events: Iterable[_Event], tell: Callable[[Alert], None]) -> dict[tuple[Any, ...], str]:
    """The budgets of which an alert was not taken, and why."""
    failed = {}
    for event in events:
        try:
            tell(event.alert)
        except NotTold as error:
            failed[event.key[:-1]] = str(error)
    return failed


def _highest(events: Iterable[_Event]) -> list[_Event]:
    """Of several thresholds that a budget has passed at once, the highest alone."""
    return list({event.key[:-1]: event for event in sorted(events, key=lambda event: event.threshold)}.values())


def _thresholds(spending: Spending) -> list[_Event]:
    budget = spending.budget
    rolling = isinstance(budget.window, timedelta)
    return [
        _Event(
            budget.name,
            spending.scope_text,
            _EPOCH if rolling else spending.since,
            budget.amount,
            threshold,
            spending.spent,
            budget.currency,
            _alert(spending, threshold),
            threshold in spending.crossed,
        )
        for threshold in budget.thresholds
    ]


def _alert(spending: Spending, threshold: Decimal) -> Alert:
    budget = spending.budget
    percent = f"{(threshold * 100).normalize():f} %"
    places = 2 if budget.amount >= 1 else 6
    unpriced = ""
    if spending.unpriced:
        unpriced = f"; {spending.unpriced:,} row{'s have' if spending.unpriced > 1 else ' has'} no known cost"
    text = (
        f"Budget {budget.name} ({spending.scope_text}, {budget.window_text}): {percent} reached,"
        f" {output.money(spending.spent, places)} of {output.money(budget.amount, places)} {budget.currency}{unpriced}"
    )
    facts = {
        "budget": budget.name,
        "scope": spending.scope_text,
        "window": budget.window_text,
        "since": spending.since.isoformat(),
        "threshold": percent,
        "spent": format(spending.spent, "f"),
        "amount": format(budget.amount, "f"),
        "currency": budget.currency,
        "calls": spending.calls,
        "unpriced": spending.unpriced,
    }
    return Alert(text, facts, threshold >= 1)


def _unusual(found: Anomaly) -> _Event:
    facts = {
        "hour": found.hour.isoformat(),
        "spent": format(found.spent, "f"),
        "usual": format(found.usual, "f"),
        "bound": format(found.bound, "f"),
        "weeks": found.weeks,
        "currency": found.currency,
    }
    text = (
        f"Unusual spend: {output.money(found.spent, 2)} {found.currency} in the hour from"
        f" {found.hour:%Y-%m-%d %H:%M} UTC,"
        f" usually {output.money(found.usual, 2)} (median of {found.weeks} weeks)"
    )
    alert = Alert(text, facts, True)
    return _Event("", "anomaly", found.hour, Decimal(0), Decimal(0), found.spent, found.currency, alert)


def _told(client: Client, at: datetime) -> set[tuple[Any, ...]]:
    """The keys of what was told in windows that may still last."""
    found = client.query(
        "SELECT budget, scope, toUnixTimestamp(since), amount, threshold, channel FROM budget_alerts FINAL"
        " WHERE active AND (since = toDateTime(0) OR since >= toDateTime({oldest:UInt32}))",
        {"oldest": int((at - _LONGEST).timestamp())},
    )
    return {
        (budget, scope, datetime.fromtimestamp(since, timezone.utc), amount, threshold, channel)
        for budget, scope, since, amount, threshold, channel in found.rows
    }


def _row(event: _Event, channel: str, active: int) -> dict[str, Any]:
    milliseconds = time.time_ns() // 10**6
    return {
        "budget": event.budget,
        "scope": event.scope,
        "since": int(event.since.timestamp()),
        "amount": format(event.amount, "f"),
        "threshold": format(event.threshold, "f"),
        "channel": channel,
        "active": active,
        "spent": format(event.spent, "f"),
        "currency": event.currency,
        "at": f"{milliseconds // 1000}.{milliseconds % 1000:03d}",
    }


class Watch:
    """Looks at the budgets every so often, in a thread of its own: a mail server may be slow."""

    def __init__(self, now: Settings) -> None:
        """
        Raises:
            SettingsError: a setting of alerts or a budget is wrong.
        """
        self._now = now
        self._settings = alerts(now, os.environ)
        wanted = bool(budgets(now)) or self._settings.anomaly_minimum is not None
        self.active = self._settings.enabled and wanted and bool(channels(self._settings))
        self._at = 0.0
        self._thread: threading.Thread | None = None
        self._trouble: list[str] = []

    def keep(self, endpoint: Endpoint) -> None:
        """Start a look if one is due; returns at once."""
        if not self.active or time.monotonic() < self._at or (self._thread is not None and self._thread.is_alive()):
            return
        self._at = time.monotonic() + self._settings.interval
        self._thread = threading.Thread(target=self._look, args=(endpoint,), name="spanledger-budgets", daemon=True)
        self._thread.start()

    def _look(self, endpoint: Endpoint) -> None:
        began = time.monotonic()
        try:
            client = connect(endpoint)
            try:
                trouble = look(client, self._now, self._settings)
            finally:
                client.close()
        except Exception as error:
            trouble = [f"budgets could not be looked at: {error}"]
        if trouble != self._trouble:
            for each in trouble:
                logger.error("%s; trying again", each)
            self._trouble = trouble
        ended = time.monotonic()
        self._at = max(self._at, ended + _SHARE * (ended - began))
