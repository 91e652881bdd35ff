"""An async call's row is on disk before its program has the result, even where a slow disk makes a thread write it.

On an event loop a row that the disk would keep waiting is left to a thread. So the call, and no other, awaits it.
"""

from __future__ import annotations

import functools
from typing import Any

from spanledger.pricing import handoff


async def written() -> None:
    """Return when what event loops have left to a thread is on disk, or the disk does not take it; raises nothing."""
    import asyncio

    try:
        if handoff.write_held is not None:
            await asyncio.to_thread(handoff.write_held)
    except Exception:  # no thread is to be had: the ledger's own writes it
        pass


def durable(function: Any) -> Any:
    """The coroutine function `function`, whose result or error comes when the rows that ended meanwhile are written."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        before = handoff.held
        try:
            result = await function(*args, **kwargs)
        except Exception:
            if handoff.held != before:
                await written()
            raise
        if handoff.held != before:
            await written()
        return result

    return wrapper
