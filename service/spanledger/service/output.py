"""What commands print: tables for people, JSON and CSV for programs.

Decimals leave as text with all their digits in JSON and CSV; only tables round.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]

NUMERIC = (int, Decimal)


def console(*, stderr: bool = False) -> Console:
    """A console on the stream of the moment: colours on a terminal, never with NO_COLOR."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    return Console(stderr=stderr, highlight=False, soft_wrap=False, width=width, emoji=False)


def plain(value: object) -> object:
    """`value` as JSON can hold it, without loss."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value


def print_json(value: object) -> None:
    print(json.dumps(plain(value), indent=2, ensure_ascii=False, default=str))


def print_csv(columns: Sequence[str], rows: Iterable[Row]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row[name] is None else _cell(row[name]) for name in columns])


def _cell(value: object) -> object:
    value = plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def print_table(
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    title: str = "",
    footer: Row | None = None,
    places: int = 6,
    right: Sequence[str] = (),
) -> None:
    """A table: numbers (and the columns `right`) to the right, Decimals rounded to `places`, None as a dash."""
    from rich import box
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, show_footer=footer is not None)
    for name in columns:
        numeric = name in right or any(isinstance(row[name], NUMERIC) for row in rows)
        foot = "" if footer is None or footer.get(name) is None else text(footer[name], places)
        # Keys and amounts are kept whole; a long text column wraps.
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, footer=Text(foot))
    for row in rows:
        table.add_row(*(Text(text(row[name], places)) for name in columns))
    terminal = console()
    # A number that does not fit must not be cut: the line then goes on beyond the edge.
    room = terminal.options.update(width=sum(map(len, columns)) + 10_000)
    terminal.width = max(terminal.width, Measurement.get(terminal, room, table).minimum)
    terminal.print(table, soft_wrap=False)


def text(value: object, places: int = 6) -> str:
    """`value` for a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return money(value, places)
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(plain(value), ensure_ascii=False)
    return str(value)


def money(value: Decimal, places: int = 6) -> str:
    """`value` rounded half-even to `places`; an amount too small for them keeps its first digits, never 0."""
    rounded = value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
    if rounded == 0 and value != 0:
        return f"{value.normalize():.2e}"
    return f"{rounded:,}"
