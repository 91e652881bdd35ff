"""How a command reaches the ledger: the ClickHouse of `SPANLEDGER_URL`, else embedded ClickHouse, running or not.

clickhouse-connect is imported here, so a command imports this module only when it needs the ledger.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from spanledger.exporter.client import ClickHouseError, Client, connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.private import home_folder
from spanledger.exporter.settle import settle
from spanledger.exporter.shipper import load_journal
from spanledger.service import daemon
from spanledger.service.graphics import tracked
from spanledger.settings import Settings

_shown = tracked("loading the journal", few=20)
"""The blocks of a journal one by one, with a progress bar where they are many."""


@contextmanager
def opened(now: Settings, *, read_only: bool = False, settled: bool = True) -> Iterator[Client]:
    """A client of the ledger, once what waits in the journal of this home has been loaded into it.

    Parameters:
        read_only: log in to embedded ClickHouse as the user who can only read.
        settled: settle first what came since the last time.

    Raises:
        ClickHouseError, EmbeddedError, UrlError: there is no way to it; the message says why and what to do.
    """
    if now.url:
        with closing(open_ledger(now.url)) as client:
            _load(now.home, client, settled)
            yield client
        return
    with running_engine(now.home) as engine:
        writer = engine.endpoint()
        reader = engine.reader()
        if writer is None or reader is None:
            raise daemon.ServiceError("embedded ClickHouse was stopped meanwhile: run the command again")
        with closing(open_ledger(writer)) as client:
            load_journal(now.home, client, _shown)
            if settled:
                settle(client)
            if not read_only:
                yield client
                return
        with closing(connect(reader)) as client:
            yield client


@contextmanager
def watched(now: Settings) -> Iterator[tuple[Client, Callable[[], object]]]:
    """A client of a ledger that stays up, for those who ask again and again, and what settles the calls that have come.

    Raises:
        ServiceError: embedded ClickHouse is not up.
        ClickHouseError, EmbeddedError, UrlError: as `opened`.
    """
    if not now.url and not daemon.running(now.home):
        raise daemon.ServiceError("nothing is up that could be watched: run `spanledger up` first")
    with opened(now, read_only=True) as client:
        # The service settles embedded ClickHouse by itself.
        yield client, (lambda: settle(client)) if now.url and not client.read_only else (lambda: None)


@contextmanager
def running_engine(home: Path) -> Iterator[EmbeddedClickHouse]:
    """Embedded ClickHouse of `home`; without `spanledger up`, it is started for the duration of the block."""
    engine = EmbeddedClickHouse(home)
    if daemon.running(home):
        yield engine
        return
    with alone(home):
        if daemon.running(home):
            yield engine
            return
        engine.start()
        try:
            yield engine
        finally:
            if not daemon.running(home):
                engine.stop()


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One command at a time may start and stop embedded ClickHouse; others wait for it here."""
    home_folder(home)
    descriptor = os.open(home / "command.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _load(home: Path, client: Client, settled: bool) -> None:
    """Load what waits here, and settle, if this user may: one who can only read still gets the report."""
    try:
        load_journal(home, client, _shown)
        if settled and not client.read_only:
            settle(client)
    except ClickHouseError as error:
        if error.unreachable:
            raise
        print(f"spanledger: what waits in {home / 'journal'} is not in this report: {error}", file=sys.stderr)
