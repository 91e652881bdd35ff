"""`spanledger content`: the store of captured bodies."""

from __future__ import annotations

import re

import click


@click.group()
def content() -> None:
    """The store of captured bodies."""


@content.command()
@click.option("--older-than", required=True, metavar="DAYS", help="Days, as 30d.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def prune(older_than: str, dry_run: bool, as_json: bool) -> None:
    """Remove the bodies of calls that began so many whole days (UTC) ago, or before.

    \b
    Example:
      spanledger content prune --older-than 30d
    """
    from spanledger.instrumentation.content import store_of
    from spanledger.service import output
    from spanledger.service.retention import outdated
    from spanledger.settings import settings

    number = re.fullmatch(r"(\d{1,5})d?", older_than.strip())
    if number is None:
        raise click.BadParameter(f"{older_than!r} is no number of days: 30d", param_hint="--older-than")
    store = store_of(settings())
    days = outdated(store, int(number[1]))
    removed = 0 if dry_run else sum(store.remove_day(day) for day in days)
    if as_json:
        output.print_json({"days": [day.isoformat() for day in days], "bodies_removed": removed})
    elif dry_run:
        click.echo(f"{len(days):,} days would be removed" + (f", {days[0]} to {days[-1]}" if days else ""))
    else:
        click.echo(f"{removed:,} bodies of {len(days):,} days removed")
