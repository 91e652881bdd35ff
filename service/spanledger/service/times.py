"""Points in time as one types them: `2026-11-01`, `2026-11`, `2026-11-01T08:30Z`, `7d`, `24h`, `today`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo

_AGO = re.compile(r"(\d{1,6})\s*([mhdw])")
_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MONTH = re.compile(r"\d{4}-\d{2}")

HELP = "a day (2026-11-01, today, yesterday), a month (2026-11), a time (2026-11-01T08:30, UTC) or an age (24h, 7d)"


def parse(text: str, now: datetime, *, end: bool = False, zone: tzinfo = timezone.utc) -> datetime:
    """The instant that `text` means, in UTC.

    Parameters:
        text: see `HELP`.
        now: what ages and `today` count from, with a time zone.
        end: a day or month means its end, so that `--until 2026-11-30` includes that day.
        zone: of days, months, and times without an offset; UTC, as the ledger's times are.

    Raises:
        ValueError: `text` is none of these; the message says what is.
    """
    word = text.strip().lower()
    now = now.astimezone(zone)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        if word == "now":
            return now.astimezone(timezone.utc)
        if word in ("today", "yesterday"):
            return (midnight - timedelta(days=(word == "yesterday") - end)).astimezone(timezone.utc)
        if ago := _AGO.fullmatch(word):
            return now.astimezone(timezone.utc) - int(ago[1]) * _UNITS[ago[2]]
        if _DAY.fullmatch(word):
            return _utc(word, zone, days=int(end))
        if _MONTH.fullmatch(word):
            first = datetime.fromisoformat(f"{word}-01")
            return _utc(((first + timedelta(days=31)).replace(day=1) if end else first).isoformat(), zone)
        return _utc(text.strip().replace("Z", "+00:00").replace("z", "+00:00"), zone)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time: use {HELP}") from None


def _utc(iso: str, zone: tzinfo, days: int = 0) -> datetime:
    when = datetime.fromisoformat(iso) + timedelta(days=days)
    return (when if when.tzinfo else when.replace(tzinfo=zone)).astimezone(timezone.utc)
