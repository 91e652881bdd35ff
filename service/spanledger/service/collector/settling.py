"""The collector settles what it has shipped, where it writes to a ClickHouse server: nobody else may.

With embedded ClickHouse the background service does, when it loads the journal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from spanledger.exporter.client import Endpoint
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.settle import settle

logger = logging.getLogger("spanledger")

INTERVAL_S = 10.0
_SHARE = 20.0
"""Settling rests so many times as long as it took."""


async def keep_settled(url: str, rows: Callable[[], int], interval: float = INTERVAL_S) -> None:
    """Settle the ledger, in a thread, as long as rows come and once after; until cancelled.

    Parameters:
        rows: how many rows were journaled so far.
        interval: seconds between two times, at least.
    """
    settled, seen, trouble = 0, 0, ""
    while True:
        took = 0.0
        if seen != settled:
            began = time.monotonic()
            try:
                await asyncio.to_thread(_settle, url)
                settled, trouble = seen, ""
            except Exception as error:
                if str(error) != trouble:
                    trouble = str(error)
                    logger.error("the collector cannot settle, trying again: %s", trouble)
            took = time.monotonic() - began
        await asyncio.sleep(max(interval, _SHARE * took))
        seen = rows()


def _settle(url: Endpoint | str) -> None:
    client = open_ledger(url)
    try:
        settle(client)
    finally:
        client.close()
