"""`spanledger top`: what calls cost just now, by model, tenant, ..., drawn again every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from spanledger.service import times
from spanledger.service.report_cli import (
    FIGURES,
    SHOWN,
    SPARED,
    WHERE_ANY,
    by_option,
    filters,
    named,
    tag_option,
    with_pictures,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from spanledger.exporter.client import Client


def _age(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        times.parse(value, datetime.now(timezone.utc))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


@click.command()
@by_option
@click.option(
    "--since", callback=_age, metavar="TIME", default="1h", show_default=True, help="How far back; as in report."
)
@filters
@tag_option
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many rows.")
@click.option("--interval", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Seconds between looks.")
@click.option("--count", type=click.IntRange(1), help="End after so many looks; one where this is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="JSON, one object a look.")
def top(
    by: tuple[str, ...],
    since: str,
    tag: dict[str, str],
    limit: int,
    interval: float,
    count: int | None,
    as_json: bool,
    **only: str | None,
) -> None:
    """Show what calls cost now, the dearest first, until Ctrl-C.

    The ledger must be up (spanledger up, or SPANLEDGER_URL).

    \b
    Examples:
      spanledger top
      spanledger top --by tenant,model --since 15m
      spanledger top --count 1 --json
    """
    from spanledger.service import output
    from spanledger.service.ledger import watched
    from spanledger.settings import settings

    where = {name: value for name, value in only.items() if value is not None} | tag
    looks = count or (None if sys.stdout.isatty() else 1)
    with watched(settings()) as (client, settle):

        def frames() -> Iterator[dict[str, Any]]:
            left = looks
            while True:
                settle()
                yield _look(client, by, since, where, limit)
                left = left and left - 1
                if left == 0:
                    return
                time.sleep(interval)

        try:
            if as_json:
                for look in frames():
                    output.print_json_line({name: value for name, value in look.items() if name != "trend"})
            elif sys.stdout.isatty() and looks != 1:
                _live(frames(), by)
            else:
                terminal = output.console()
                for look in frames():
                    terminal.print(_drawn(look, by, terminal.width))
        except KeyboardInterrupt:
            return


def _live(frames: Iterator[dict[str, Any]], by: tuple[str, ...]) -> None:
    from rich.live import Live

    from spanledger.service import output

    with Live(console=output.console(), screen=True, auto_refresh=False) as screen:
        for look in frames:
            screen.update(_drawn(look, by, screen.console.width), refresh=True)


def _look(client: Client, by: tuple[str, ...], since: str, where: Mapping[str, str], limit: int) -> dict[str, Any]:
    from spanledger.exporter.queries import report
    from spanledger.exporter.stats import Question, stats
    from spanledger.exporter.watching import trend

    now = datetime.now(timezone.utc)
    first = times.parse(since, now)
    found = report(client, by, first, None, where, limit)
    totals = named(report(client, (), first, None, where))
    only = {name: [value] for name, value in where.items()}
    answer = stats(client, Question(by=by, since=first, where=only, limit=_ALL, parts=False))
    groups = named(found)
    for rows, told in ((groups, answer.groups if by else answer.totals), (totals, answer.totals)):
        p95 = {(*map(str, each.values.values()), each.currency): each.figures["duration"][1] for each in told}
        for row in rows:
            key = (*(str(row[name]) for name in by if rows is groups), row["currency"])
            row[P95] = p95.get(key)
    return {
        "at": now,
        "since": first,
        "groups": groups,
        "totals": totals,
        "trend": trend(client, by, [row[: len(by)] for row in found.rows], 20, first, None, where),
    }


def _drawn(look: Mapping[str, Any], by: tuple[str, ...], width: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from spanledger.service import output

    totals = look["totals"]
    hours = Decimal(max((look["at"] - look["since"]) // timedelta(seconds=1), 1)) / 3600
    head = Text(f"{look['at']:%Y-%m-%d %H:%M:%S} UTC, since {look['since']:%Y-%m-%d %H:%M:%S}")
    for each in totals:
        if each["cost"] is not None:
            amount = f"{output.money(each['cost'])} {each['currency']}"
            head.append(f"  {amount}", "bold").append(f", {output.money(each['cost'] / hours)} an hour")
    for name, style in (("calls", ""), ("errors", "red"), ("unpriced", "yellow")):
        number = sum(each[name] for each in totals)
        if number or name == "calls":
            head.append(f"  {number:,} {name}", style or None)
    rows = look["groups"]
    if not rows:
        return Group(head, Text("No calls."))
    shown = {name: SHOWN[name] for name in SHOWN if name not in WHERE_ANY or any(row[name] for row in rows)}
    shown[P95] = FIGURES[P95]
    rows = [row | {P95: output.figure(P95, row[P95])} for row in rows]
    columns, table_rows, pictures = with_pictures(by, shown, rows, totals, look["trend"])
    optional = [*pictures, *(shown[name] for name in SPARED if name in shown)]
    if "unpriced" in shown:  # the first line has their sum
        optional.insert(0, shown["unpriced"])
    columns = output.fitting(columns, table_rows, width, optional)
    longest = output.longest_word(width)
    return Group(
        head, output.table(columns, table_rows, right=[FIGURES[P95]], whole=[*optional, FIGURES[P95]], longest=longest)
    )


P95 = "p95_ns"
_ALL = 100_000
