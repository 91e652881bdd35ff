"""Re-pricing: what stored calls cost by today's price book, and the rows that say so.

A row that comes to another amount, status or snapshot is written again with the next price sequence in its `version`;
what it said before goes to `price_history`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from spanledger.exporter.client import Client
from spanledger.exporter.queries import Where, stored_rows
from spanledger.exporter.rewrite import Key, pages, whole_rows, write
from spanledger.exporter.rows import CHARGE_COLUMNS, add_charge
from spanledger.pricing.book import PriceBook
from spanledger.pricing.call import NOT_BILLED, Call, Charge
from spanledger.pricing.usage import REPORTED, quantities

_NEXT_PRICE = 1 << 8

_CALL_COLUMNS = (
    "start_time",
    "provider",
    "request_model",
    "response_model",
    "usage",
    "unmapped",
    "usage_status",
    "service_tier",
    "processing",
    "region",
    "tenant",
    "api_key_hash",
    "api_key_alias",
    "price_status",
    "cost_reasons",
)
_COMPARED = ("cost", "cost_base", "base_currency", "price_snapshot")


@dataclass(frozen=True, slots=True)
class Change:
    """A row whose price is another today.

    Attributes:
        model: the response's, else the request's.
        before, after: in `currency`, the ledger's base currency; None where unknown.
        reason: what changed: the status, or the amount, or only the snapshot.
    """

    key: Key
    line: int
    provider: str
    model: str
    before: Decimal | None
    after: Decimal | None
    currency: str
    reason: str


def changes(
    client: Client,
    book: PriceBook,
    since: datetime | None = None,
    until: datetime | None = None,
    where: Where | None = None,
    looked_at: Callable[[], object] = lambda: None,
) -> Iterator[Change]:
    """The rows that `book` prices otherwise than they are.

    Parameters:
        since, until, where: which rows, as in `queries.report`.
        looked_at: called for each row, for a progress bar.

    Raises:
        QueryError: an unknown dimension in `where`.
        ClickHouseError: refused, or not reached.
    """
    for row in stored_rows(client, (*_CALL_COLUMNS, *_COMPARED), since, until, where):
        looked_at()
        charge = book.price(_call(row))
        if all(_same(row, charge, name) for name in (*_COMPARED, "price_status")):
            continue
        yield Change(
            Key(row["event_date"], row["entry_id"]),
            row["line"],
            row["provider"],
            row["response_model"] or row["request_model"],
            row["cost_base"],
            charge.cost_base,
            charge.base_currency or row["base_currency"],
            _reason(row, charge),
        )


def apply(
    client: Client, book: PriceBook, found: list[Change], written: Callable[[int], object] = lambda _rows: None
) -> int:
    """Write the rows of `found` again, priced by `book`, and return how many; the former prices go to `price_history`.

    Parameters:
        written: called with the number of rows whenever some are, for a progress bar.

    Raises:
        ClickHouseError: refused, or not reached; what was written stays, and re-pricing again does the rest.
    """
    lines: dict[Key, set[int]] = defaultdict(set)
    for change in found:
        lines[change.key].add(change.line)
    done = 0
    for page in pages(sorted(lines)):
        keep = "entry_id, line, version, event_date, cost, cost_details, currency, cost_base, base_currency"
        keep += ", price_status, cost_reasons, priced_model, price_snapshot"
        client.command(
            f"INSERT INTO price_history ({keep}) SELECT {keep} FROM llm_calls FINAL"
            " WHERE (event_date, entry_id, line) IN {keys:Array(Tuple(Date, String, UInt16))}",
            {"keys": [(str(key.event_date), key.entry_id, line) for key in page for line in sorted(lines[key])]},
            {"async_insert": 0},
        )
        rows = []
        for key, row in whole_rows(client, page):
            if row["line"] in lines[key] and not row["is_deleted"]:
                row["version"] += _NEXT_PRICE
                charge = book.price(_call(row))
                row |= CHARGE_COLUMNS
                add_charge(row, charge)
                rows.append(row)
        write(client, rows)
        done += len(rows)
        written(len(rows))
    return done


def _call(row: Mapping[str, Any]) -> Call:
    """A stored row as the price book takes it."""
    reported = row["usage_status"] == REPORTED
    return Call(
        provider=row["provider"],
        model=row["response_model"] or row["request_model"],
        start_ns=_ns(row["start_time"]),
        parts=quantities(row["usage"]),
        unmapped=quantities(row["unmapped"]),
        usage_status=row["usage_status"],
        usage_reasons=() if reported else tuple(row["cost_reasons"]),
        service_tier=row["service_tier"],
        processing=row["processing"],
        region=row["region"],
        tenant=row["tenant"],
        api_key=row["api_key_alias"] or row["api_key_hash"],
        request_model=row["request_model"],
        failed=row["price_status"] == NOT_BILLED,
    )


def _ns(at: datetime | str) -> int:
    if isinstance(at, str):
        seconds, _, fraction = at.partition(".")
        whole = datetime.fromisoformat(seconds).replace(tzinfo=timezone.utc)
        return int(whole.timestamp()) * 10**9 + int(fraction.ljust(9, "0")[:9] or 0)
    since = at.replace(tzinfo=timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1_000


def _same(row: Mapping[str, Any], charge: Charge, column: str) -> bool:
    if column == "price_status":
        return bool(row[column] == charge.status)
    if column == "price_snapshot":
        return bool(row[column] == charge.snapshot)
    return bool(row[column] == getattr(charge, column))


def _reason(row: Mapping[str, Any], charge: Charge) -> str:
    if row["price_status"] != charge.status:
        return f"{row['price_status']} -> {charge.status}"
    if row["cost_base"] != charge.cost_base:
        return "another rate"
    return "the same amount from another price row"
