"""The one place where an error of ours ends: logged once a place, never the user's problem.

`LLM_USAGE_FAIL_OPEN=false` turns it round, for those who must not run unlogged: then the error is raised.
"""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("spanledger")

_QUIET_NS = 60 * 10**9
_last: dict[str, int] = {}
counts: dict[str, int] = {}
"""Place -> errors of ours in this process so far."""

fail_open = True


def internal_error(place: str) -> None:
    """Report the exception being handled as ours; call it from an `except` block.

    Parameters:
        place: where it happened, in a few fixed words; never content, never a key.

    Raises:
        The exception itself when `LLM_USAGE_FAIL_OPEN` is false.
    """
    counts[place] = counts.get(place, 0) + 1
    now = time.monotonic_ns()
    if now - _last.get(place, -_QUIET_NS) >= _QUIET_NS:
        _last[place] = now
        logger.warning("spanledger: %s failed; the program goes on (%d so far)", place, counts[place], exc_info=True)
    if not fail_open:
        raise
