"""Small pictures in text: sparklines, share bars, progress bars. Exact figures stand beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TypeVar

Item = TypeVar("Item")

_HEIGHTS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def drawable() -> bool:
    """Whether standard output can hold block characters."""
    try:
        (_HEIGHTS + _EIGHTHS).encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def sparkline(values: Sequence[Decimal | None]) -> str:
    """One character a value, as high as its share of the greatest; a space where there is none."""
    peak = max((value for value in values if value is not None), default=Decimal(0))
    return "".join(_height(value, peak) for value in values)


def _height(value: Decimal | None, peak: Decimal) -> str:
    if value is None:
        return " "
    return _HEIGHTS[min(int(value * 8 / peak), 7)] if peak > 0 and value > 0 else _HEIGHTS[0]


def share_bar(part: Decimal | None, whole: Decimal | None, width: int = 10) -> str:
    """A bar of `width` characters for the whole, its part filled to an eighth of a character, and per cent."""
    if part is None or not whole or whole < 0:
        return ""
    eighths = min(max(int(part * width * 8 / whole), 0), width * 8)
    full, rest = divmod(eighths, 8)
    bar = "█" * full + (_EIGHTHS[rest] if rest else "")
    return f"{bar:<{width}} {int(part * 100 / whole):>3}%"


def span_of_time(seconds: int) -> str:
    """`seconds`, a whole number of some unit, in the largest such unit: `15 min`, `2 h`, `3 d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


@contextmanager
def progress(what: str, total: int | None, few: int = 0) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr for the block, gone when it ends; gives a function that takes how many more are done.

    It is there on terminals only.

    Parameters:
        what: is being done.
        total: how many there are; None where that is unknown.
        few: of no more than so many no bar is shown.
    """
    if not sys.stderr.isatty() or (total is not None and total <= few):
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def tracked(what: str, few: int = 0) -> Callable[[list[Item]], Iterator[Item]]:
    """Gives the items of a list on one by one, with `progress`."""

    def through(items: list[Item]) -> Iterator[Item]:
        with progress(what, len(items), few) as done:
            for item in items:
                yield item
                done(1)

    return through
