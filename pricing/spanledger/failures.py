"""The one place where an error of ours ends: logged once a place, never the user's problem.

`LLM_USAGE_FAIL_OPEN=false` turns it round, for those who must not run unlogged: then the error is raised.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback

logger = logging.getLogger("spanledger")

_QUIET_NS = 60 * 10**9
_last: dict[str, int] = {}
counts: dict[str, int] = {}
"""Place -> errors of ours in this process so far."""

fail_open = True


class Wanted(Exception):
    """An error that the program has asked for, as that of a budget: it is no failure, and reaches the program."""


def internal_error(place: str) -> None:
    """Report the exception being handled as ours; call it from an `except` block.

    Parameters:
        place: where it happened, in a few fixed words; never content, never a key.

    Raises:
        The exception itself when `LLM_USAGE_FAIL_OPEN` is false, or the program has asked for it.
    """
    if isinstance(sys.exc_info()[1], Wanted):
        raise
    counts[place] = counts.get(place, 0) + 1
    now = time.monotonic_ns()
    if now - _last.get(place, -_QUIET_NS) >= _QUIET_NS:
        _last[place] = now
        where = where_raised(sys.exc_info()[1])
        logger.warning("spanledger: %s failed; the program goes on (%d so far)\n%s", place, counts[place], where)
    if not fail_open:
        raise


def where_raised(error: BaseException | None) -> str:
    """The kind of an error and the lines that it went through, without its message: that may quote a prompt."""
    lines = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        lines.append(f"{type(error).__module__}.{type(error).__qualname__}")
        lines += [
            f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(lines)
