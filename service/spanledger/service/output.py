"""What commands print: tables for people, JSON and CSV for programs.

Decimals leave as text with all their digits in JSON and CSV; only tables round.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timezone
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table

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


def print_json_line(value: object) -> None:
    """`value` on a line of its own, at once: for those who read along."""
    print(json.dumps(plain(value), ensure_ascii=False, default=str), flush=True)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    title: str = "",
    footer: Row | None = None,
    places: int = 6,
    right: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> list[str]:
    """A table: numbers (and the columns `right`) to the right, Decimals rounded to `places`, None as a dash.

    Of the columns `optional`, the last are left out until it fits. Returns the columns that it has.
    """
    terminal = console()
    wanted = fitting(columns, rows, terminal.width, optional, footer=footer, places=places)
    longest = longest_word(terminal.width)
    made = table(wanted, rows, title=title, footer=footer, places=places, right=right, whole=optional, longest=longest)
    # A number that does not fit must not be cut: the line then goes on beyond the edge.
    terminal.width = max(terminal.width, _narrowest(made))
    terminal.print(made, soft_wrap=False)
    return wanted


def fitting(
    columns: Sequence[str],
    rows: Sequence[Row],
    width: int,
    optional: Sequence[str],
    *,
    footer: Row | None = None,
    places: int = 6,
) -> list[str]:
    """`columns` without the last of those that are `optional`, until a table of them is no wider than `width`."""
    wanted = list(columns)
    for name in reversed(optional):
        made = table(wanted, rows, footer=footer, places=places, whole=optional, longest=longest_word(width))
        if _narrowest(made) <= width:
            break
        wanted.remove(name)
    return wanted


def table(
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    title: str = "",
    footer: Row | None = None,
    places: int = 6,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    longest: int = 60,
) -> Table:
    """What `print_table` prints; the columns `whole` do not wrap, words longer than `longest` may be broken."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, show_footer=footer is not None)
    for name in columns:
        numeric = name in right or any(isinstance(row[name], NUMERIC) for row in rows)
        foot = "" if footer is None or footer.get(name) is None else text(footer[name], places)
        # Keys and amounts are kept whole; a long text column wraps.
        made.add_column(
            Text(name),
            justify="right" if numeric else "left",
            no_wrap=numeric or name in whole,
            overflow="fold",
            footer=Text(foot),
        )
    for row in rows:
        made.add_row(*(Text(text(row[name], places)) for name in columns))
    for column in made.columns:
        column.min_width = _whole_words(column, longest)
    return made


def longest_word(width: int) -> int:
    """Longer words may be broken in a table of this width."""
    return min(width * 2 // 5, 60)


def _whole_words(column: Column, longest: int) -> int:
    from rich.cells import cell_len

    cells = [str(cell) for cell in (column.header, *column.cells, column.footer)]
    if column.no_wrap:
        return max(map(cell_len, cells))
    return min(max((cell_len(word) for cell in cells for word in cell.split()), default=0), longest)


def _narrowest(made: Table) -> int:
    """The width of a table where no column is wider than it must be, with its borders."""
    return 1 + sum(3 + (column.min_width or 0) for column in made.columns)


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


def when(ns: int) -> str:
    """A moment, ns since the epoch, to the second in UTC."""
    return datetime.fromtimestamp(ns // 10**9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def seconds(ns: int) -> str:
    """A duration in ns, in seconds."""
    return f"{ns // 10**6 / 1000:,.2f} s"


def figure(name: str, value: object) -> object:
    """`value` for a table: a duration, whose name ends in `_ns`, in seconds."""
    return seconds(int(value)) if name.endswith("_ns") and isinstance(value, (int, float)) else value


def tokens(row: Row) -> str:
    """What a call took in and gave out, in tokens."""
    if row["input_tokens"] is None:
        return "tokens unknown" if row["status"] == "ok" else ""
    return f"{row['input_tokens']:,} in, {row['output_tokens'] or 0:,} out"


def cost_of(row: Row) -> tuple[str, str]:
    """A row's cost for people, and its style: what is unknown or not exact stands out."""
    if row["cost_base"] is None:
        return f"cost unknown ({row['price_status']})", "yellow"
    amount = f"{money(row['cost_base'])} {row['base_currency']}"
    return (f"{amount} (estimated)", "yellow") if row["price_status"] == "estimated" else (amount, "green")
