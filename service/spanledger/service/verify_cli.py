"""`spanledger verify`: recomputes every stored row from its own snapshot and usage."""

from __future__ import annotations

from datetime import datetime

import click

from spanledger.service.report_cli import since_option, until_option


@click.command()
@since_option
@until_option
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def verify(since: datetime | None, until: datetime | None, as_json: bool) -> None:
    """Recompute every row from its own price snapshot and usage, and list those that do not come out to the last
    digit.

    Today's price book has no part in it: a row proves itself. Exit code 1 if any row does not.

    \b
    Examples:
      spanledger verify
      spanledger verify --since 2026-11 --json
    """
    from spanledger.exporter.queries import count_rows, stored_rows
    from spanledger.service import output
    from spanledger.service.graphics import progress
    from spanledger.service.ledger import opened
    from spanledger.service.proof import COLUMNS, mismatches
    from spanledger.settings import settings

    checked = 0
    wrong = []
    with (
        opened(settings(), read_only=True) as client,
        progress("verifying rows", count_rows(client, since, until)) as done,
    ):
        for row in stored_rows(client, COLUMNS, since, until):
            checked += 1
            done(1)
            wrong += [
                {
                    "entry_id": row["entry_id"],
                    "line": row["line"],
                    "start_time": row["start_time"],
                    "model": row["response_model"] or row["request_model"],
                    "column": each.what,
                    "stored": each.stored,
                    "computed": each.computed,
                }
                for each in mismatches(row)
            ]
    rows_wrong = len({(each["entry_id"], each["line"]) for each in wrong})
    if as_json:
        output.print_json({"checked": checked, "wrong": rows_wrong, "mismatches": wrong})
    else:
        if wrong:
            output.print_table(list(wrong[0]), wrong)
        click.echo(f"{checked:,} rows recomputed, {rows_wrong:,} do not come out")
    click.get_current_context().exit(1 if wrong else 0)
