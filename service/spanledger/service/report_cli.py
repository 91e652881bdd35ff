"""`spanledger report`: what calls cost, by model, tenant, feature, day, ..."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spanledger.exporter.queries import DIMENSIONS
from spanledger.service import times

if TYPE_CHECKING:
    from spanledger.exporter.queries import Table
    from spanledger.exporter.watching import Trend

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

SPARED = ("output_tokens", "input_tokens", "estimated", "cache_read_tokens", "cache_write_tokens")
"""Measures that a narrow terminal does without, the last first."""

FIGURES = {
    "p50_ns": "p50",
    "p95_ns": "p95",
    "p99_ns": "p99",
    "time_to_first_token_p95_ns": "first token p95",
    "input_tokens": "input",
    "cache_read_tokens": "cache read",
    "cache_write_tokens": "cache write",
    "unknown_tokens": "of unknown price",
}
"""The names of other figures in the table; those in ns are told in seconds."""

SHARE, TREND = "share", "trend"
"""The columns that are pictures: of the whole cost, and of time."""

BARS = 16
PICTURED = 500
"""Longer reports have no trend."""

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
            raise click.BadParameter(f"{name!r} is no dimension: use {', '.join(DIMENSIONS)}, or tag:{name} for a tag")
    return names


def _tags(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in value:
        name, equals, wanted = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE")
        found[f"tag:{name}"] = wanted
    return found


def _complete_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    done, comma, last = incomplete.rpartition(",")
    return [f"{done}{comma}{name}" for name in (*DIMENSIONS, "tag:") if name.startswith(last)]


by_option = click.option(
    "--by",
    callback=_dimensions,
    metavar="NAMES",
    default="model",
    show_default=True,
    shell_complete=_complete_names,
    help="Group by these, comma-separated.",
)

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
@by_option
@since_option
@until_option
@filters
@tag_option
@click.option("--limit", type=click.IntRange(1), help="At most so many rows, the dearest first.")
@click.option("--latency", is_flag=True, help="How long calls took, the slowest at p95 first.")
@click.option("--savings", is_flag=True, help="What caching saved, the most first.")
@click.option("--unpriced", is_flag=True, help="The models without a price, and the line that prices each.")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def report(
    by: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    tag: dict[str, str],
    limit: int | None,
    latency: bool,
    savings: bool,
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
      spanledger report --latency --since 7d
      spanledger report --savings --by model
    """
    if unpriced:
        _unpriced(since, until, only | tag, "json" if as_json else form)
        return
    if latency or savings:
        where = {name: value for name, value in only.items() if value is not None} | tag
        _figures(by, since, until, where, limit, "json" if as_json else form, savings)
        return
    from spanledger.exporter.queries import report as ask
    from spanledger.exporter.watching import trend
    from spanledger.service import output
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    where = {name: value for name, value in only.items() if value is not None} | tag
    form = "json" if as_json else form
    over_time = None
    with opened(settings(), read_only=True) as client:
        found = ask(client, by, since, until, where, limit)
        totals = ask(client, (), since, until, where)
        if form == "table" and "day" not in by and len(found.rows) <= PICTURED:
            groups = [row[: len(by)] for row in found.rows]
            over_time = trend(client, by, groups, BARS, since, until, where)
    rows = named(found)
    if form == "json":
        output.print_json(rows)
    elif form == "csv":
        output.print_csv(found.columns, rows)
    elif rows:
        _print(by, rows, named(totals), over_time)
    else:
        click.echo("No calls" + (" match." if where or since or until else " yet."), err=True)


def _figures(
    by: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    where: Mapping[str, str],
    limit: int | None,
    form: str,
    savings: bool,
) -> None:
    """How long calls took, or what caching saved."""
    from spanledger.exporter.savings import savings as saved
    from spanledger.exporter.stats import Question, stats
    from spanledger.service import output
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    question = Question(
        by=by,
        since=since,
        until=until,
        where={name: [value] for name, value in where.items()},
        sort="-duration_p95",
        limit=limit or 10_000,
        parts=False,
    )
    rows: list[dict[str, Any]] = []
    with opened(settings(), read_only=True) as client:
        if savings:
            names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "saved", "currency", "unknown_tokens")
            groups, totals = saved(client, question)
            for each in groups if by else totals:
                rows.append({**each.values, **{name: getattr(each, name) for name in names}})
        else:
            found = stats(client, question)
            for group in found.groups if by else found.totals:
                p50, p95, p99 = group.figures["duration"]
                first = group.figures["time_to_first_token"][1]
                figures = {"calls": group.figures["calls"], "p50_ns": p50, "p95_ns": p95, "p99_ns": p99}
                rows.append({**group.values, **figures, "time_to_first_token_p95_ns": first})
    if form == "json":
        output.print_json(rows)
    elif form == "csv":
        output.print_csv(list(rows[0]) if rows else [], rows)
    elif rows:
        titles = {name: FIGURES.get(name, name) for name in rows[0]}
        shown = [{titles[name]: output.figure(name, value) for name, value in row.items()} for row in rows]
        output.print_table(list(titles.values()), shown, right=list(FIGURES.values()))
    else:
        click.echo("No calls match.", err=True)


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


def named(table: Table) -> list[dict[str, Any]]:
    """The rows of a table, by the names of its columns."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _print(
    by: tuple[str, ...], rows: list[dict[str, Any]], totals: list[dict[str, Any]], over_time: Trend | None
) -> None:
    """The table, with a sum beneath it where all rows are of one currency."""
    from spanledger.service import graphics, output

    shown = {name: SHOWN[name] for name in SHOWN if name not in WHERE_ANY or any(row[name] for row in rows)}
    columns, table_rows, pictures = with_pictures(by, shown, rows, totals, over_time)
    footer = None
    if len(totals) == 1:
        footer = _renamed(totals[0], {name: name for name in by} | _of_currency(shown, totals))
    spared = [shown[name] for name in SPARED if name in shown] if sys.stdout.isatty() else []
    printed = output.print_table(columns, table_rows, footer=footer, optional=[*spared, *pictures])
    if missing := [name for name in spared if name not in printed]:
        click.echo(f"Left out, since the terminal is narrow: {', '.join(missing)}", err=True)
    if over_time is not None and TREND in printed:
        click.echo(
            f"A bar of the trend is {graphics.span_of_time(over_time.step_s)},"
            f" the first begins {output.when(over_time.first_s * 10**9)} UTC",
            err=True,
        )
    unknown = sum(row["unpriced"] for row in totals)
    if unknown:
        click.echo(
            f"The cost of {unknown} call{'s' * (unknown != 1)} is unknown and not in these sums: spanledger doctor",
            err=True,
        )


def with_pictures(
    by: tuple[str, ...],
    shown: Mapping[str, str],
    rows: list[dict[str, Any]],
    totals: list[dict[str, Any]],
    over_time: Trend | None,
) -> tuple[list[str], list[dict[str, Any]], list[str]]:
    """Columns and rows of a table, and the names of the columns that are pictures of its costs.

    Parameters:
        shown: measures and their names.
        totals: a row a currency, that shares are of.
    """
    from spanledger.service import graphics

    names = {name: name for name in by} | _of_currency(shown, totals)
    renamed = [_renamed(row, names) for row in rows]
    pictures = [SHARE] if graphics.drawable() and len(rows) > 1 else []
    if graphics.drawable() and over_time is not None:
        pictures.append(TREND)
    wholes = {total["currency"]: total["cost"] for total in totals}
    for row, pictured in zip(rows, renamed, strict=True):
        pictured[SHARE] = graphics.share_bar(row["cost"], wholes.get(row["currency"]))
        bars = over_time.bars.get((*(row[name] for name in by), row["currency"]), ()) if over_time else ()
        pictured[TREND] = graphics.sparkline(bars)
    return [*names.values(), *pictures], renamed, pictures


def _of_currency(shown: Mapping[str, str], totals: list[dict[str, Any]]) -> dict[str, str]:
    """The names of measures: the cost's has the currency, where there is only one."""
    if len(totals) == 1:
        return {**shown, "cost": f"cost {totals[0]['currency']}"}
    return {**shown, "currency": "currency"}


def _renamed(row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    renamed = {shown: row.get(name) for name, shown in names.items()}
    for shown, value in renamed.items():
        if isinstance(value, Decimal) and not shown.startswith("cost"):
            renamed[shown] = int(value)
    return renamed
