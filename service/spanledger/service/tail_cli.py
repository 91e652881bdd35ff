"""`spanledger tail`: calls as they come, with what each cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from spanledger.service.report_cli import filters, tag_option

if TYPE_CHECKING:
    from spanledger.exporter.watching import Arrivals


@click.command()
@click.option("--lines", "-n", type=click.IntRange(0), default=10, show_default=True, help="First the last N calls.")
@click.option("--follow/--no-follow", default=True, help="Go on until Ctrl-C (the default), or end after these.")
@click.option("--interval", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Seconds between looks.")
@filters
@tag_option
@click.option("--json", "as_json", is_flag=True, help="JSON, one object a line.")
def tail(lines: int, follow: bool, interval: float, tag: dict[str, str], as_json: bool, **only: str | None) -> None:
    """Show calls as they come, with what each cost: the last ones first, then every new one until Ctrl-C.

    To follow, the ledger must be up (spanledger up, or SPANLEDGER_URL).

    \b
    Examples:
      spanledger tail
      spanledger tail --tenant acme --status error
      spanledger tail -n 100 --no-follow --json
    """
    from spanledger.exporter.watching import Arrivals
    from spanledger.service.ledger import opened, watched
    from spanledger.settings import settings

    where = {name: value for name, value in only.items() if value is not None} | tag
    if not follow:
        with opened(settings(), read_only=True) as client:
            _show(Arrivals(client, where).latest(lines), as_json)
        return
    with watched(settings()) as (client, settle):
        try:
            _follow(Arrivals(client, where), settle, lines, interval, as_json)
        except KeyboardInterrupt:
            return


def _follow(calls: Arrivals, settle: Callable[[], object], lines: int, interval: float, as_json: bool) -> None:
    from spanledger.exporter.client import ClickHouseError

    _show(calls.latest(lines), as_json)
    gone = False
    while True:
        time.sleep(interval)
        try:
            settle()
            _show(calls.new(), as_json)
            gone = False
        except ClickHouseError as error:
            if not error.unreachable:
                raise
            if not gone:
                click.echo(f"spanledger: {error}; calls are shown when it is back", err=True)
            gone = True


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    from spanledger.service import output

    if as_json:
        for row in rows:
            output.print_json_line(row)
        return
    terminal = output.console()
    for row in rows:
        terminal.print(_line(row), soft_wrap=True)
    terminal.file.flush()


def _line(row: Mapping[str, Any]) -> Any:
    from rich.text import Text

    from spanledger.service import output

    cost, style = output.cost_of(row)
    line = Text(output.when(row["start_ns"]), "dim")
    line.append(f"  {cost:>14}", style)
    line.append(f"  {row['provider']} ", "dim").append(f"{row['model'] or row['operation']}", "cyan")
    pieces = [output.tokens(row), output.seconds(row["duration_ns"]) if row["line"] == 0 else "of the call before"]
    pieces += [
        f"{name} {row[column]}"
        for name, column in _NAMES.items()
        if row[column] and not row[column].startswith(_UNNAMED)
    ]
    line.append("".join(f"  {piece}" for piece in pieces if piece))
    if row["status"] == "error":
        line.append(f"  {row['error_type'] or 'error'}", "red")
    return line.append(f"  {row['trace_id']}", "dim") if row["trace_id"] else line


_UNNAMED = "unknown_service"
"""What OpenTelemetry's SDK calls a service that has no name."""

_NAMES = {"service": "service_name", "tenant": "tenant", "user": "user_id", "feature": "feature"}
