"""The settings of budgets (the file's `settings.budgets`) and of alerts (`SPANLEDGER_ALERTS_*` over `settings.alerts`);
`docs/budgets.md` explains them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from spanledger.exporter.queries import DIMENSIONS
from spanledger.service.part_settings import Reader, chosen, count, flag, seconds
from spanledger.settings import Settings, SettingsError

VARIABLE = "SPANLEDGER_ALERTS"

EACH = "*"
"""As a value in a scope: each value has the budget for itself."""

SCOPES = ("tenant", "user", "feature", "key", "model", "service", "environment", "provider")
_WINDOWS = ("hour", "day", "month")
_ROLLING = re.compile(r"rolling (\d{1,3})([hd])")
_KEYS = ("amount", "currency", "window", "scope", "thresholds")


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent in a window of time.

    Attributes:
        amount: in `currency`, the base currency.
        window: `hour`, `day`, `month` (of UTC), or the length of a rolling one.
        scope: dimension or `tag:NAME` -> the value of the calls that count; `*`: each value for itself.
        thresholds: shares of the amount at which someone is told, ascending: 0.8 is 80 %.
    """

    name: str
    amount: Decimal
    currency: str
    window: str | timedelta
    scope: Mapping[str, str] = field(default_factory=dict)
    thresholds: tuple[Decimal, ...] = (Decimal("0.8"), Decimal(1))

    @property
    def window_text(self) -> str:
        if isinstance(self.window, str):
            return self.window
        hours = int(self.window.total_seconds()) // 3600
        return f"rolling {hours // 24}d" if hours % 24 == 0 else f"rolling {hours}h"


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Who is told, and of what.

    Attributes:
        enabled: false: nobody, budgets are only listed and checked.
        interval: seconds between two looks.
        webhook: URL that gets Slack's JSON.
        email_to: addresses; none: no e-mail.
        email_from: the sender.
        smtp: `smtp://user:password@host:587` (STARTTLS where the server has it) or `smtps://`.
        command: program and arguments; gets the alert as JSON on its standard input.
        anomaly_minimum: money above the usual that makes an hour worth telling; None: no such alerts.
        anomaly_deviations: median absolute deviations above the median that are unusual.
        anomaly_weeks: former weeks that an hour is compared with.
    """

    enabled: bool = True
    interval: float = 60.0
    webhook: str = field(default="", repr=False)
    email_to: tuple[str, ...] = ()
    email_from: str = "spanledger@localhost"
    smtp: str = field(default="smtp://localhost:25", repr=False)
    command: tuple[str, ...] = ()
    anomaly_minimum: Decimal | None = None
    anomaly_deviations: int = 5
    anomaly_weeks: int = 8


def budgets(now: Settings) -> tuple[Budget, ...]:
    """The budgets of the configuration.

    Raises:
        SettingsError: one is wrong; the message names its key and says what to do.
    """
    return tuple(_budget(str(name), given, now) for name, given in now.budgets.items())


def alerts(now: Settings, environ: Mapping[str, str]) -> AlertSettings:
    """What the configuration says of alerts.

    Raises:
        SettingsError: a setting is wrong.
    """
    return AlertSettings(**chosen("alerts", now.alerts, _READERS, now, environ, secret=("webhook", "smtp")))


def _budget(name: str, given: Any, now: Settings) -> Budget:
    where = f"{now.config}: settings.budgets.{name}"
    if not isinstance(given, Mapping):
        raise SettingsError(f"{where} is not a mapping: give it an amount and a window")
    for key in given:
        if key not in _KEYS:
            raise SettingsError(f"{where}.{key} is no setting; known: {', '.join(_KEYS)}")
    read: dict[str, Any] = {}
    for key, reader in (("amount", money), ("window", _window), ("scope", _scope), ("thresholds", _thresholds)):
        value = given.get(key)
        if value is None and key in ("amount", "window"):
            raise SettingsError(f"{where}.{key} is missing")
        if value is None:
            continue
        try:
            read[key] = reader(value)
        except ValueError as error:
            raise SettingsError(f"{where}.{key} is {value!r}: {error}") from None
    currency = given.get("currency", now.base_currency)
    if currency != now.base_currency:
        raise SettingsError(
            f"{where}.currency is {currency!r}: costs are summed in {now.base_currency}"
            " (settings.usage_logging.base_currency), so give the amount in that"
        )
    return Budget(name, currency=currency, **read)


def money(value: Any) -> Decimal:
    """An amount above 0; a float of the file is taken as it is written there."""
    try:
        number = Decimal(0) if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        number = Decimal(0)
    if not number.is_finite() or number <= 0 or number >= Decimal(10) ** 15:
        raise ValueError("use an amount above 0, as 49.90")
    return number


def _window(value: Any) -> str | timedelta:
    if value in _WINDOWS:
        return str(value)
    found = _ROLLING.fullmatch(str(value))
    if found is None or not int(found[1]):
        raise ValueError(f"use {', '.join(_WINDOWS)}, or rolling 30d, rolling 12h")
    return timedelta(hours=int(found[1])) * (24 if found[2] == "d" else 1)


def _scope(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("use a mapping, as {tenant: acme}")
    for name in value:
        if not (name in SCOPES or (str(name).startswith("tag:") and len(name) > 4)):
            raise ValueError(f"{name!r} is no scope: use {', '.join(SCOPES)} or tag:NAME")
        if isinstance(value[name], (Mapping, list)) or value[name] is None:
            raise ValueError(f"the value of {name} is not a text")
    assert set(SCOPES) <= set(DIMENSIONS)
    return {str(name): str(wanted) for name, wanted in value.items()}


def _thresholds(value: Any) -> tuple[Decimal, ...]:
    form = "use a list of percentages, as [50%, 80%, 100%]"
    if not isinstance(value, list) or not value:
        raise ValueError(form)
    found = []
    for each in value:
        text = str(each).strip()
        if not re.fullmatch(r"\d{1,4}(\.\d{1,4})?%", text) or not Decimal(text[:-1]):
            raise ValueError(f"{each!r}: {form}")
        found.append(Decimal(text[:-1]) / 100)
    return tuple(sorted(set(found)))


def _webhook(value: Any) -> str:
    parts = urlsplit(str(value))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("use a URL that begins with https://")
    return str(value)


def _smtp(value: Any) -> str:
    try:
        parts = urlsplit(str(value))
        usable = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("use smtp://user:password@host:587, or smtps:// for TLS from the start")
    return str(value)


def _address(value: Any) -> str:
    text = str(value).strip()
    if not re.fullmatch(r"[^@\s,<>]+@[^@\s,<>]+", text):
        raise ValueError(f"{text!r} is not an e-mail address")
    return text


def _addresses(value: Any) -> tuple[str, ...]:
    return tuple(_address(each) for each in (value if isinstance(value, list) else str(value).split(",")))


def _command(value: Any) -> tuple[str, ...]:
    words = tuple(map(str, value)) if isinstance(value, list) else tuple(shlex.split(str(value)))
    if not words or not words[0]:
        raise ValueError("use a program and its arguments")
    return words


_READERS: Mapping[str, Reader] = {
    "enabled": flag,
    "interval": seconds,
    "webhook": _webhook,
    "email_to": _addresses,
    "email_from": _address,
    "smtp": _smtp,
    "command": _command,
    "anomaly_minimum": money,
    "anomaly_deviations": count,
    "anomaly_weeks": count,
}
