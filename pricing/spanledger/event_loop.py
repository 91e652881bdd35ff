"""Whether an event loop runs in this thread: then all of its tasks wait for what is done here."""

from __future__ import annotations

import sys


def is_running() -> bool:
    """Whether an asyncio event loop runs in this thread; asks without importing asyncio."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None
