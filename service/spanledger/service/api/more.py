"""Answers beside the figures: what caching saved, what has no price, today's prices, what is left of budgets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final

from spanledger.exporter import queries, reprice
from spanledger.exporter.client import Client
from spanledger.exporter.savings import Savings
from spanledger.exporter.stats import Question
from spanledger.pricing.book import PriceBook, default_book, load
from spanledger.pricing.inquiry import price_line
from spanledger.service.api.ledger import TooMuch
from spanledger.service.budgets.spending import evaluate
from spanledger.service.reprice_cli import by_model
from spanledger.settings import Settings, settings

MAX_REPRICED: Final = 100_000
"""Rows: some 10 s."""


def savings(
    question: Question, groups: Sequence[Savings], totals: Sequence[Savings], as_of: datetime
) -> dict[str, Any]:
    """The answer of `/api/v1/llm/savings`."""
    return {
        "as_of": as_of,
        "since": question.since,
        "until": question.until,
        "time_zone": question.time_zone,
        "totals": [_saved(each) for each in totals],
        "groups": [_saved(each) for each in groups],
    }


def _saved(each: Savings) -> dict[str, Any]:
    read = each.cache_read_tokens
    return {
        "group": dict(each.values),
        "currency": each.currency,
        "saved": each.saved,
        "input_tokens": each.input_tokens,
        "cache_read_tokens": read,
        "cache_write_tokens": each.cache_write_tokens,
        "cache_read_share": read / each.input_tokens if each.input_tokens and read is not None else None,
        "unknown_tokens": each.unknown_tokens,
    }


def unpriced(
    client: Client,
    since: datetime | None,
    until: datetime | None,
    where: queries.Where,
    limits: dict[str, Any],
    dates: Sequence[date],
) -> list[dict[str, Any]]:
    """The models without a price, each with the line of a price file that would price it."""
    book = default_book()
    rows = queries.unpriced_models(client, since, until, where, limits, dates)
    return [row | {"line": price_line(book, row["provider"], row["model"])} for row in rows]


def todays_book() -> PriceBook:
    """The price book as its files are now; the process's own stays as it is."""
    chosen = settings()
    return load(chosen.price_files, base_currency=chosen.base_currency, decimals=chosen.decimals)


def repricing(client: Client, since: datetime | None, until: datetime | None, where: queries.Where) -> dict[str, Any]:
    """What today's price book would make of stored calls; nothing is written. Price files are read anew.

    Raises:
        TooMuch: these are too many rows for an answer.
        PriceFileError: a price file is wrong.
    """
    book, looked_at = todays_book(), 0

    def count() -> None:
        nonlocal looked_at
        looked_at += 1
        if looked_at > MAX_REPRICED:
            raise TooMuch(f"these are more than {MAX_REPRICED:,} rows: ask for less time, or use spanledger reprice")

    found = list(reprice.changes(client, book, since, until, where, count))
    return {"looked_at": looked_at, "changed": len(found), "changes": by_model(found)}


def budgets(client: Client, now: Settings, tenant: str) -> list[dict[str, Any]]:
    """What was spent of each budget of the configuration.

    Parameters:
        tenant: only budgets of this one; empty: all.
    """
    found = [each.as_dict() for each in evaluate(client, now)]
    return [each for each in found if not tenant or each["scope"].get("tenant") == tenant]
