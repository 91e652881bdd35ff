"""Captured bodies are kept for as many days as the settings say, and removed by whoever serves the ledger."""

from __future__ import annotations

import logging
import threading
import time
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from spanledger.settings import Settings

if TYPE_CHECKING:
    from spanledger.instrumentation.content import Store

logger = logging.getLogger("spanledger")

_EVERY_S = 3600.0


def outdated(store: Store, days: int) -> list[date]:
    """The days in a store, the oldest first, that began more than so many whole days (UTC) ago."""
    first = datetime.now(timezone.utc).date() - timedelta(days=days)
    return sorted(day for day in store.days() if day < first)


class Retention:
    """Removes what is too old once an hour, in a thread of its own: a store may be slow."""

    def __init__(self, now: Settings) -> None:
        self._now = now
        self._at = 0.0
        self._thread: threading.Thread | None = None
        self._trouble = ""

    def keep(self) -> None:
        """Start removing if that is due; returns at once."""
        if not (self._now.content and self._now.content_days) or time.monotonic() < self._at:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._at = time.monotonic() + _EVERY_S
        self._thread = threading.Thread(target=self._prune, name="spanledger-retention", daemon=True)
        self._thread.start()

    def _prune(self) -> None:
        from spanledger.instrumentation.content import store_of

        trouble = ""
        try:
            store = store_of(self._now)
            days = outdated(store, self._now.content_days)
            removed = sum(store.remove_day(day) for day in days)
            if removed:
                logger.info(
                    "%d bodies of %d days removed: they are kept %d days", removed, len(days), self._now.content_days
                )
        except Exception as error:
            trouble = f"old bodies could not be removed: {error}"
        if trouble and trouble != self._trouble:
            logger.error("%s; trying again", trouble)
        self._trouble = trouble
