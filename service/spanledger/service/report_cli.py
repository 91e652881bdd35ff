"""`spanledger report`: what calls cost, by model, tenant, feature, day, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, TypeVar

import click

from spanledger.exporter.queries import DIMENSIONS
from spanledger.service import times

Command = TypeVar("Command", bound=Callable[..., Any])

FILTERS = tuple(name for name in DIMENSIONS if name != "day")

SHOWN = {
    "calls": "calls",
    "errors": "errors",
    "input_tokens": "input",
    "cache_read_tokens": "cache read",
    "cache_write_tokens": "cache write",
    "output_tokens": "output",
    "cost": "cost",
    "unpriced": "unpriced",
    "estimated": "estimated",
}
"""Measures and their names in the table."""

WHERE_ANY = ("errors", "cache_read_tokens", "cache_write_tokens", "unpriced", "estimated")
"""Measures that the table leaves out where there are none."""

UNPRICED = ("provider", "model", "calls", "input_tokens", "output_tokens", "reason", "line")
"""The columns of `--unpriced`."""


def _since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    return _time(value, end=False)


def _until(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    return _time(value, end=True)


def _time(value: str | None, *, end: bool) -> datetime | None:
    try:
        return None if value is None else times.parse(value, datetime.now(timezone.utc), end=end)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _dimensions(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if name not in DIMENSIONS and not (name.startswith("tag:") and len(name) > 4):
            raise click.BadParameter(f"{name!r} is none: use {', '.join(DIMENSIONS)} or tag:NAME")
    return names


def _tags(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in value:
        name, equals, wanted = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE")
        found[f"tag:{name}"] = wanted
    return found


since_option = click.option("--since", callback=_since, metavar="TIME", help="Calls that started then or later.")
until_option = click.option(
    "--until", callback=_until, metavar="TIME", help="Calls that started before; a day or month is included whole."
)

tag_option = click.option(
    "--tag", callback=_tags, metavar="NAME=VALUE", multiple=True, help="Only calls with this tag; may be repeated."
)


def filters(command: Command) -> Command:
    """One option for each dimension: only calls that have this value."""
    for name in reversed(FILTERS):
        command = click.option(f"--{name.replace('_', '-')}", metavar="VALUE", help=f"Only this {name}.")(command)
    return command


@click.command()
@click.option(
    "--by",
    callback=_dimensions,
    metavar="NAMES",
    default="model",
    show_default=True,
    help="Group by these, comma-separated.",
)
@since_option
@until_option
@filters
@tag_option
@click.option("--limit", type=click.IntRange(1), help="At most so many rows, the dearest first.")
@click.option("--unpriced", is_flag=True, help="The models without a price, and the line that prices each.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def report(
    by: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    tag: dict[str, str],
    limit: int | None,
    unpriced: bool,
    form: str,
    as_json: bool,
    **only: str | None,
) -> None:
    """Show what calls cost, grouped by any of model, provider, operation, day, service, environment, tenant, user,
    session, feature, prompt, agent, key, tier, status, error, price_status, usage_status, currency, trace, tag:NAME.

    Times are a day (2026-11-01, today, yesterday), a month (2026-11), a time (2026-11-01T08:30, UTC unless it says
    otherwise) or an age (90m, 24h, 7d, 2w).

    Works without `spanledger up` too: it loads the journal into embedded ClickHouse for as long as it takes. The
    table rounds costs to 6 places; JSON and CSV have all 18, in JSON as text.

    \b
    Examples:
      spanledger report
      spanledger report --by tenant,feature --since 7d
      spanledger report --by day --since 2026-11 --until 2026-11 --provider openai
      spanledger report --by tag:team --tenant acme --format csv
      spanledger report --unpriced
    """
    if unpriced:
        _unpriced(since, until, only | tag, "json" if as_json else form)
        return
    from spanledger.exporter.queries import report as ask
    from spanledger.service import output
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    where = {name: value for name, value in only.items() if value is not None} | tag
    with opened(settings(), read_only=True) as client:
        found = ask(client, by, since, until, where, limit)
        totals = ask(client, (), since, until, where)
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    if as_json or form == "json":
        output.print_json(rows)
    elif form == "csv":
        output.print_csv(found.columns, rows)
    elif rows:
        _print(by, rows, [dict(zip(totals.columns, row, strict=True)) for row in totals.rows])
    else:
        click.echo("No calls" + (" match." if where or since or until else " yet."), err=True)


def _unpriced(since: datetime | None, until: datetime | None, where: Mapping[str, str | None], form: str) -> None:
    """The models that the price book did not know, with the line of a price file that would price each."""
    from spanledger.exporter.queries import unpriced_models
    from spanledger.pricing.book import default_book
    from spanledger.pricing.inquiry import price_line
    from spanledger.service import output
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    given = [f"--{name.partition(':')[0]}" for name, value in where.items() if value is not None]
    if given:
        raise click.UsageError(f"--unpriced goes with --since and --until only, not with {', '.join(given)}")
    with opened(settings(), read_only=True) as client:
        rows = unpriced_models(client, since, until)
    book = default_book()
    rows = [row | {"line": price_line(book, row["provider"], row["model"])} for row in rows]
    if form == "json":
        output.print_json(rows)
    elif form == "csv":
        output.print_csv(UNPRICED, rows)
    elif rows:
        output.print_table(list(UNPRICED), rows)
        click.echo("Put the lines into a file of settings.price_files; calls from then on are priced.", err=True)
    else:
        click.echo("No model is without a price.", err=True)


def _print(by: tuple[str, ...], rows: list[dict[str, Any]], totals: list[dict[str, Any]]) -> None:
    """The table, with a sum beneath it where all rows are of one currency."""
    from spanledger.service import output

    shown = {name: SHOWN[name] for name in SHOWN if name not in WHERE_ANY or any(row[name] for row in rows)}
    names = {name: name for name in by} | shown
    one = totals[0] if len(totals) == 1 else None
    if one is None:
        names["currency"] = "currency"
    else:
        names["cost"] = f"cost {one['currency']}"
    # A row's cost is NULL where nothing in it has a known one; calls of unknown cost are counted, never shown as 0.
    output.print_table(
        list(names.values()), [_renamed(row, names) for row in rows], footer=one and _renamed(one, names)
    )
    unknown = sum(row["unpriced"] for row in totals)
    if unknown:
        click.echo(f"The cost of {unknown} calls is unknown and not in these sums: spanledger doctor", err=True)


def _renamed(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    renamed = {shown: row.get(name) for name, shown in names.items()}
    for shown, value in renamed.items():
        if isinstance(value, Decimal) and not shown.startswith("cost"):
            renamed[shown] = int(value)
    return renamed
