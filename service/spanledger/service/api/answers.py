"""Answers of the API: what the ledger says, as JSON and CSV. Amounts and quantities are decimal text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import orjson

from spanledger.exporter.measures import MEASURES, PARTS
from spanledger.exporter.stats import Answer, Group, Question
from spanledger.pricing.usage import TOKEN_PARTS
from spanledger.service.output import plain

PRICE_STATUSES = ("priced", "estimated", "unpriced", "usage_missing", "not_billed", "free")
TOKENS = ("input", "output", "total", "cache_read", "cache_write", "reasoning")
USAGE_STATUSES = ("reported", "estimated", "incomplete", "contradictory", "missing")
_ZERO = Decimal(0)


def to_json(value: object) -> bytes:
    """JSON without loss: Decimals as text."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


def _plain(value: object) -> object:
    shown = plain(value)
    return str(value) if shown is value else shown


def stats(question: Question, found: Answer, base_currency: str, as_of: datetime) -> dict[str, Any]:
    """The answer of `/api/v1/llm/stats`.

    Parameters:
        base_currency: of the totals where there are no calls.
        as_of: when the ledger was asked.
    """
    totals = found.totals or [Group({}, _nothing(), base_currency)]
    return {
        "as_of": as_of,
        "since": question.since,
        "until": question.until,
        "time_zone": question.time_zone,
        "group_by": [*([question.bucket] if question.bucket else []), *question.by],
        "more": found.more,
        "totals": [_group(each, question) for each in totals],
        "groups": [_group(each, question) for each in found.groups],
    }


def _nothing() -> dict[str, Any]:
    empty: dict[str, Any] = {measure.name: 0 for measure in MEASURES}
    empty |= {"duration": [None] * 3, "time_to_first_token": [None] * 3, "error_types": {}, "cost": _ZERO}
    empty |= {name: {} for name in PARTS}
    return empty


def _group(group: Group, question: Question) -> dict[str, Any]:
    figures = group.figures
    calls, errors, rows = figures["calls"], figures["errors"], figures["rows"]
    shown: dict[str, Any] = {
        "group": dict(group.values),
        "calls": calls,
        "rows": rows,
        "errors": errors,
        "error_rate": _share(errors, calls),
        "success_rate": _share(calls - errors, calls),
        "error_types": dict(sorted(figures["error_types"].items())),
        "tokens": {name: figures[f"{name}_tokens"] for name in TOKENS},
        "cost": {"currency": group.currency, "total": figures["cost"], "unknown_rows": figures["unknown_costs"]},
        "price_status": {name: figures[name] for name in PRICE_STATUSES},
        "usage_status": _usage_status(figures),
        "shares": {name: _share(figures[name], rows) for name in ("estimated", "unpriced", "usage_missing")},
    }
    if question.latency:
        shown["duration_ns"] = _quantiles(figures["duration"])
        shown["time_to_first_token_ns"] = _quantiles(figures["time_to_first_token"])
    if question.parts:
        shown["usage"] = {part: _short(quantity) for part, quantity in sorted(figures["usage"].items())}
        shown["cost"] |= _base_parts(group)
        shown["original_costs"] = _original_costs(figures)
    return shown


def _usage_status(figures: Mapping[str, Any]) -> dict[str, int]:
    known = {name: figures[f"usage_{name}"] for name in USAGE_STATUSES if name != "missing"}
    return {**known, "missing": figures["rows"] - sum(known.values())}


def _base_parts(group: Group) -> dict[str, Any]:
    """Costs by part in the base currency: those of prices in it, and the converted ones of others."""
    parts: dict[str, Decimal] = dict(group.figures["converted_parts"])
    for name, amount in group.figures["cost_parts"].items():
        currency, _, part = name.partition(":")
        if currency == group.currency:
            parts[part] = parts.get(part, _ZERO) + amount
    return {**_by_kind(parts), "parts": dict(sorted(parts.items()))}


def _original_costs(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    parts: dict[str, dict[str, Decimal]] = {currency: {} for currency in figures["costs"]}
    for name, amount in figures["cost_parts"].items():
        currency, _, part = name.partition(":")
        parts.setdefault(currency, {})[part] = amount
    return [
        {
            "currency": currency,
            "total": figures["costs"].get(currency),
            **_by_kind(parts[currency]),
            "parts": dict(sorted(parts[currency].items())),
        }
        for currency in sorted(parts)
    ]


def _by_kind(parts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """As the columns `cost_input`, `cost_output`, `cost_cache` and `cost_tools` are."""
    sums = dict.fromkeys(("input", "output", "cache", "tools"), _ZERO)
    for part, amount in parts.items():
        kind = part.partition("_")[0] if part in TOKEN_PARTS else "tools"
        sums[kind if kind in sums else "tools"] += amount
    return sums


def _quantiles(values: Sequence[int | None]) -> dict[str, int | None]:
    return dict(zip(("p50", "p95", "p99"), values, strict=True))


def _share(some: int, of: int) -> float | None:
    return some / of if of else None


def _short(quantity: Decimal) -> str:
    """A quantity without the zeros behind its point."""
    text = format(quantity, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def call(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `llm_calls` as `/api/v1/llm/calls` shows it."""
    shown = dict(row)
    shown["start_time"] = row["start_time"].replace(tzinfo=timezone.utc)
    if "usage" in row:
        shown["usage"] = {part: _short(quantity) for part, quantity in row["usage"].items()}
    return shown


def to_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as CSV: what is nested gets a column a leaf, `cost.total`; Decimals have all their digits."""
    flat = [dict(_flat(row)) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in flat:
        writer.writerow([_cell(row.get(name)) for name in columns])
    return text.getvalue().encode()


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, item in value.items():
        if isinstance(item, Mapping):
            found += _flat(item, "" if name == "group" and not before else f"{before}{name}.")
        elif name == "original_costs":
            for each in item:
                found += _flat({k: v for k, v in each.items() if k != "currency"}, f"original_cost.{each['currency']}.")
        else:
            found.append((f"{before}{name}", item))
    return found


def _cell(value: object) -> object:
    if value is None:
        return ""
    value = plain(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(value):
        return f"'{value}"  # a spreadsheet would run it
    return orjson.dumps(value).decode() if isinstance(value, (list, dict)) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
