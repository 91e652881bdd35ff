"""Who may send, and how much at a time: beyond it requests are refused, and their senders send them again later."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spanledger.service.collector.settings import CollectorSettings


class Refused(Exception):
    """Not now: the same request may be sent again.

    Attributes:
        retry_after: whole seconds after which it may.
    """

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Admission:
    """Counts what is being answered.

    Attributes:
        requests: that are being answered.
        held_bytes: of these, as they came.
        journal_bytes: that wait for ClickHouse, when last looked at.
        draining: the collector ends: nothing more is taken.
        failing: why the journal takes nothing; empty while it does.
    """

    def __init__(self, settings: CollectorSettings, journal: Path) -> None:
        self._settings = settings
        self._journal = journal
        self._token = settings.token.encode()
        self.requests = 0
        self.held_bytes = 0
        self.journal_bytes = 0
        self.draining = False

    def knows(self, authorization: str | None) -> bool:
        """Whether the sender may send, by its `authorization` header."""
        if not self._token:
            return True
        kind, _, token = (authorization or "").partition(" ")
        return hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._token) and kind.lower() == "bearer"

    @contextmanager
    def request(self) -> Iterator[None]:
        """For as long as a request is being answered, before its first byte is read.

        Raises:
            Refused: there is no room.
        """
        if refusal := self.refusal():
            raise refusal
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def holding(self, body: bytes) -> Iterator[None]:
        """For as long as a request's body is in memory."""
        self.held_bytes += len(body)
        try:
            yield
        finally:
            self.held_bytes -= len(body)

    def refusal(self) -> Refused | None:
        """Why no request is taken now; None where one is."""
        limits = self._settings
        if self.draining:
            return Refused("the collector is stopping", 5)
        if self.journal_bytes >= limits.max_journal_bytes:
            return Refused(f"{self.journal_bytes} bytes wait for ClickHouse, max_journal_bytes is reached", 5)
        if self.requests >= limits.max_requests:
            return Refused(f"{self.requests} requests are being answered, max_requests is reached")
        if self.held_bytes >= limits.max_held_bytes:
            return Refused(f"{self.held_bytes} bytes are being read, max_held_bytes is reached")
        return None

    def look_at_journal(self) -> None:
        """Measure what waits for ClickHouse."""
        size = 0
        try:
            with os.scandir(self._journal) as entries:
                for entry in entries:
                    if entry.name.endswith((".open", ".block")):
                        try:
                            size += entry.stat().st_size
                        except FileNotFoundError:  # sent while we look
                            continue
        except FileNotFoundError:
            pass
        self.journal_bytes = size
