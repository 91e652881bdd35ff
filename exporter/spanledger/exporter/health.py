"""What went wrong between a call and the ledger, counted; the counts reach the ledger too, table `spanledger_health`.

A process counts from its start. When its counts have changed it writes them, whole, to a file
`HOST-PID-START-N.health` of the journal, in place of the one before: so they survive the process, and go to ClickHouse
as blocks do. There the highest count of a process, kind and reason stands, and a file that is sent twice is no harm.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spanledger import failures
from spanledger.exporter import owner
from spanledger.exporter.private import home_folder, private_folder, write_private

if TYPE_CHECKING:
    from spanledger.exporter.client import Client

TABLE = "spanledger_health"

ROWS_LOST = "rows_lost"
"""Neither the disk nor memory could take them."""

ROWS_DROPPED = "rows_dropped"
"""They waited for ClickHouse, and the journal had reached its bound."""

ROWS_REJECTED = "rows_rejected"
"""Damaged, or refused by ClickHouse for their content; they are kept in `.rejected` files."""

BLOCKS_SPLIT = "blocks_split"
"""ClickHouse refused a block for the content of some of its rows, and took the others."""

INTERNAL_ERRORS = "internal_errors"
"""Errors of spanledger's own, by place."""

LOSSES = (ROWS_LOST, ROWS_DROPPED)


class Health:
    """The counts of this process for one journal folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], int] = {}
        self._changed = False
        self._errors_seen = sum(failures.counts.values())
        self._errors_before = dict(failures.counts)
        self._sequence = 0
        self._saved: Path | None = None

    def count(self, what: str, number: int, reason: str) -> None:
        """Add to a count.

        Parameters:
            what: one of the kinds above.
            reason: why, in one of a few fixed texts.
        """
        with self._lock:
            self._counts[what, reason] = self._counts.get((what, reason), 0) + number
            self._changed = True

    def total(self, *kinds: str) -> int:
        """The counts of these kinds, of this process."""
        with self._lock:
            return sum(number for (what, _), number in self._counts.items() if what in kinds)

    @property
    def changed(self) -> bool:
        """Something was counted that no file has."""
        return self._changed or sum(failures.counts.values()) != self._errors_seen

    def save(self) -> None:
        """Write the counts to a file, if they have changed.

        Raises:
            OSError: the disk takes nothing; the counts stay in memory.
        """
        if not self.changed:
            return
        rows = self.rows()
        self._sequence += 1
        path = self.folder / f"{owner.name()}-{self._sequence}.health"
        try:
            home_folder(self.folder.parent)
            private_folder(self.folder)
            write_private(path, rows)
        except OSError:
            self.unsaved()
            raise
        before, self._saved = self._saved, path
        if before is not None:
            before.unlink(missing_ok=True)  # what it says is in the new one

    def rows(self) -> str:
        """The counts as lines for ClickHouse; they count as saved."""
        import orjson

        with self._lock:
            self._changed = False
            self._errors_seen = sum(failures.counts.values())
            counts = dict(self._counts)
        for place, number in list(failures.counts.items()):
            if more := number - self._errors_before.get(place, 0):
                counts[INTERNAL_ERRORS, place] = more
        who = {"host": socket.gethostname()[:100], "pid": os.getpid(), "started_at": _moment(owner.started_ns)}
        at = _moment(time.time_ns())
        return "".join(
            orjson.dumps({**who, "what": what, "reason": reason, "count": number, "at": at}).decode() + "\n"
            for (what, reason), number in counts.items()
        )

    def unsaved(self) -> None:
        """The rows that were asked for last went nowhere."""
        self._changed = True


_known: dict[Path, Health] = {}


def of(folder: Path) -> Health:
    """This process's counts for the journal in `folder`."""
    return _known.get(folder) or _known.setdefault(folder, Health(folder))


def send(client: Client, rows: bytes) -> None:
    """Insert lines of counts.

    Raises:
        ClickHouseError: refused, or not reached.
    """
    from hashlib import sha256

    client.insert_block(TABLE, rows, sha256(rows).hexdigest())


def _moment(ns: int) -> str:
    digits = f"{ns:010d}"
    return f"{digits[:-9]}.{digits[-9:]}"


def _after_fork() -> None:
    for each in _known.values():
        each._reset()


os.register_at_fork(after_in_child=_after_fork)
