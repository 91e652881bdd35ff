"""`spanledger reprice`: stored calls by today's price book."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from spanledger.service.report_cli import filters, since_option, tag_option, until_option


@click.command()
@since_option
@until_option
@filters
@tag_option
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def reprice(
    since: datetime | None,
    until: datetime | None,
    tag: dict[str, str],
    dry_run: bool,
    as_json: bool,
    **only: str | None,
) -> None:
    """Price stored calls again, by today's price book, and show the difference by model.

    Each call is priced as of its own start. The former price stays in the table price_history.

    \b
    Examples:
      spanledger reprice --since 2026-10 --until 2026-10 --dry-run
      spanledger reprice --provider openai --model gpt-5-mini
    """
    from spanledger.exporter import reprice as repricing
    from spanledger.exporter.queries import count_rows
    from spanledger.pricing.book import default_book
    from spanledger.service import output
    from spanledger.service.graphics import progress
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    where = {name: value for name, value in only.items() if value is not None} | tag
    looked_at = 0
    with opened(settings()) as client:
        book = default_book()
        with progress("pricing rows", count_rows(client, since, until, where)) as done:

            def count() -> None:
                nonlocal looked_at
                looked_at += 1
                done(1)

            found = list(repricing.changes(client, book, since, until, where, count))
        with progress("writing rows", None if dry_run else len(found)) as done:
            written = 0 if dry_run else repricing.apply(client, book, found, done)
    rows = by_model(found)
    if as_json:
        output.print_json({"looked_at": looked_at, "changed": len(found), "written": written, "changes": rows})
        return
    if rows:
        output.print_table(list(rows[0]), rows)
    verb = "would change" if dry_run else "changed"
    click.echo(f"{looked_at:,} rows looked at, {len(found):,} {verb}")


def by_model(found: Iterable[Any]) -> list[dict[str, Any]]:
    """Changes summed by model and reason, the largest first. Unknown amounts are counted, and in no sum."""
    sums: dict[tuple[str, ...], dict[str, Any]] = {}
    for change in found:
        row = sums.setdefault(
            (change.provider, change.model, change.reason, change.currency),
            {
                "provider": change.provider,
                "model": change.model,
                "reason": change.reason,
                "rows": 0,
                "before": None,
                "after": None,
                "difference": None,
                "currency": change.currency,
            },
        )
        row["rows"] += 1
        for name, amount in (("before", change.before), ("after", change.after)):
            if amount is not None:
                row[name] = (row[name] or Decimal(0)) + amount
    for row in sums.values():
        if row["before"] is not None and row["after"] is not None:
            row["difference"] = row["after"] - row["before"]
    return sorted(sums.values(), key=lambda row: (-abs(row["difference"] or 0), row["provider"], row["model"]))
