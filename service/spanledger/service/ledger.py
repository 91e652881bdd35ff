"""How a command reaches the ledger: the ClickHouse of `SPANLEDGER_URL`, else embedded ClickHouse, running or not.

clickhouse-connect is imported here, so a command imports this module only when it needs the ledger.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from spanledger.exporter.client import ClickHouseError, Client, connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.private import home_folder
from spanledger.exporter.settle import settle
from spanledger.exporter.shipper import load_journal
from spanledger.service import daemon
from spanledger.settings import Settings


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
            load_journal(now.home, client)
            if settled:
                settle(client)
            if not read_only:
                yield client
                return
        with closing(connect(reader)) as client:
            yield client


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
        load_journal(home, client)
        if settled and not client.read_only:
            settle(client)
    except ClickHouseError as error:
        if error.unreachable:
            raise
        print(f"spanledger: what waits in {home / 'journal'} is not in this report: {error}", file=sys.stderr)
