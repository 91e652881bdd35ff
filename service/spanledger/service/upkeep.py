"""What the ledger needs now and then: settling, the rollup, looks at budgets and bodies. Whoever serves it does it."""

from __future__ import annotations

import logging
import threading
import time

from spanledger.exporter.client import ClickHouseError, Client
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.rollup import roll_up, tidy
from spanledger.exporter.settle import settle
from spanledger.exporter.shipper import load_journal
from spanledger.service.budgets.watch import Watch
from spanledger.service.retention import Retention
from spanledger.settings import Settings

logger = logging.getLogger("spanledger")

_SHARE = 20.0
"""Each rests so many times as long as it took: with many rows it would else keep rows from being loaded."""

_LOOK_S = 10.0
"""Seconds between looks for rows that others brought, and for dates to roll up."""


_TIDY_S = 600.0
"""Seconds between looks for parts of the rollup to merge."""


class Upkeep:
    """Remembers when each was done."""

    def __init__(self, now: Settings) -> None:
        """
        Raises:
            SettingsError: a budget is wrong, or who is told of it.
        """
        self._now = now
        self._budgets = Watch(now)
        self._bodies = Retention(now)
        self._unsettled = True
        self._untidy = True
        self._settle_at = self._look_at = self._roll_at = self._tidy_at = 0.0

    def keep(self, client: Client, fresh: bool = False) -> None:
        """Do what is due.

        Parameters:
            client: a connection whose user may insert.
            fresh: rows have come since the last time.

        Raises:
            ClickHouseError: refused, or not reached.
        """
        began = time.monotonic()
        if began >= self._look_at:
            self._unsettled, self._look_at = True, began + _LOOK_S
        self._unsettled |= fresh
        if self._unsettled and began >= self._settle_at:
            settle(client)
            ended = time.monotonic()
            self._settle_at, self._unsettled = ended + _SHARE * (ended - began), False
        began = time.monotonic()
        if began >= self._roll_at:
            rolled = roll_up(client)
            ended = time.monotonic()
            self._roll_at = ended + (1.0 if rolled.dates else max(_LOOK_S, _SHARE * (ended - began)))
            self._untidy |= rolled.dates > 0
            if self._untidy and not rolled.dates and ended >= self._tidy_at:
                tidy(client)
                self._tidy_at = time.monotonic() + max(_TIDY_S, _SHARE * (time.monotonic() - ended))
                self._untidy = False
        self._budgets.keep(client.endpoint)
        self._bodies.keep()

    def run(self, stopping: threading.Event) -> None:
        """Do it for the ClickHouse of `SPANLEDGER_URL`, and load the journal of this home, until `stopping`."""
        client: Client | None = None
        trouble = ""
        while not stopping.is_set():
            try:
                client = client or open_ledger(self._now.url)
                if client.read_only:
                    logger.info("this user can only read: others settle and roll up")
                    break
                self.keep(client, load_journal(self._now.home, client).blocks > 0)
                trouble = ""
            except ClickHouseError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    logger.error("settling or rolling up failed, trying again: %s", trouble)
            stopping.wait(self._now.ship_interval)
        if client is not None:
            client.close()
