"""From the journal to ClickHouse: a thread in the program, or whoever loads the journal for it.

With `SPANLEDGER_URL` the program's own thread sends its blocks there. Without it the program only appends and seals,
and knows nothing of ClickHouse; the command line and the service load the journal into embedded ClickHouse.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spanledger.exporter.journal import SEGMENT_BYTES, Journal, adopt, blocks, locked, read, reject
from spanledger.failures import internal_error
from spanledger.pricing import handoff
from spanledger.settings import settings

if TYPE_CHECKING:
    from spanledger.exporter.client import ClickHouseError, Client, Endpoint

logger = logging.getLogger("spanledger")

TABLE = "llm_calls"
EXIT_S = 3.0
"""So long at most does the end of a program wait for ClickHouse; what is not sent by then stays in the journal."""

_SAME_EXIT_S = 10.0
_MAX_BACKOFF_S = 60.0
_BLOCKS_PER_INTERVAL = 50
_MAX_SEAL_S = 600.0

# https://clickhouse.com/docs/reference/error-codes: what is wrong with these is the data, and stays wrong.
_CONTENT_CODES = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        25,  # CANNOT_PARSE_ESCAPE_SEQUENCE
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        32,  # ATTEMPT_TO_READ_AFTER_EOF
        33,  # CANNOT_READ_ALL_DATA
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        407,  # DECIMAL_OVERFLOW
        467,  # CANNOT_PARSE_BOOL
        469,  # VIOLATED_CONSTRAINT
    }
)


class FlushError(Exception):
    """Not everything that this process has recorded is in ClickHouse; the message says what waits, and why."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load of the journal did.

    Attributes:
        blocks: inserted now.
        rows: in these.
        waiting: segments with rows that were left: a running program still writes them, or another process has them.
        rejected: blocks that ClickHouse refused for their content; they are kept beside the journal's other files.
    """

    blocks: int = 0
    rows: int = 0
    waiting: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits in a journal.

    Attributes:
        segments: files with rows that are not in ClickHouse yet.
        rows: in these.
        bytes: their size.
        oldest_age_s: seconds since the oldest of them was last written to; 0 when there is none.
        rejected: files with rows that ClickHouse refused, or that were damaged.
        rejected_rows: in these.
        reasons: why, one a file.
    """

    segments: int = 0
    rows: int = 0
    bytes: int = 0
    oldest_age_s: float = 0.0
    rejected: int = 0
    rejected_rows: int = 0
    reasons: tuple[str, ...] = ()


def load_journal(home: Path, client: Client) -> Loaded:
    """Insert what waits in the journal of `home`, that of dead processes included; any number of processes may do so.

    Raises:
        ClickHouseError: ClickHouse is not reached, or takes no rows now; what was not inserted waits.
        OSError: a journal file cannot be read.
    """
    folder = home / "journal"
    adopt(folder)
    loaded = _deliver(client, blocks(folder))
    writing = sum(1 for path in folder.glob("*.open") if _length(path))
    return Loaded(loaded.blocks, loaded.rows, loaded.waiting + writing, loaded.rejected)


def pending(home: Path) -> Pending:
    """What waits in the journal of `home`."""
    folder = home / "journal"
    now = time.time()
    segments = rows = size = rejected = rejected_rows = 0
    oldest = 0.0
    reasons = []
    for path in sorted(folder.glob("*")):
        try:
            if path.suffix in (".open", ".block"):
                if length := _length(path):
                    segments += 1
                    size += length
                    rows += path.read_bytes().count(b"\n")
                    oldest = max(oldest, now - path.stat().st_mtime)
            elif path.suffix == ".rejected":
                rejected += 1
                rejected_rows += path.read_bytes().count(b"\n")
                reasons.append(f"{path.name}: {path.with_suffix('.reason').read_text(encoding='utf-8').strip()}")
        except FileNotFoundError:  # sent while we look
            continue
    return Pending(segments, rows, size, oldest, rejected, rejected_rows, tuple(reasons))


def flush(timeout: float = 10.0) -> None:
    """Wait until everything that this process has recorded so far is in ClickHouse.

    Spans that a BatchSpanProcessor has not exported yet are not recorded: flush the tracer provider first, where the
    ledger is only an exporter.

    Parameters:
        timeout: seconds to wait at most.

    Raises:
        FlushError: something is not there; it stays in the journal, and is sent later.
    """
    deadline = time.monotonic() + timeout
    for thread in list(handoff.working):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            raise FlushError("the results of a batch are still being read")
    if _shipper is not None:
        _shipper.flush(max(0.0, deadline - time.monotonic()))


async def aflush(timeout: float = 10.0) -> None:
    """`flush` for asyncio programs: the event loop goes on meanwhile."""
    import asyncio

    await asyncio.to_thread(flush, timeout)


class Shipper:
    """A process's journal, and the thread that seals and sends it; the thread starts with the first row."""

    def __init__(self, home: Path, url: str = "", interval: float = 2.0, segment_bytes: int = SEGMENT_BYTES) -> None:
        """
        Parameters:
            home: the folder whose `journal` is written.
            url: ClickHouse to send to; empty: others load the journal.
            interval: seconds between sealing and sending.
            segment_bytes: rows of this size are sealed at once.
        """
        self.journal = Journal(home / "journal", self._ring, segment_bytes)
        self._home = home
        self._url = url
        self._interval = interval
        self._lost_before = 0
        self._reset()
        _shippers.add(self)

    def _reset(self) -> None:
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._bell = threading.Event()
        self._closing = False
        self._exit_deadline = -_SAME_EXIT_S
        self._seal_at = 0.0
        self._seal_failed = False
        self._client: Client | None = None
        self._down = ""
        self._failures = 0
        self._retry_at = 0.0

    def append(self, rows: bytes) -> None:
        """Record whole JSON lines; never raises for a failing disk."""
        self.journal.append(rows)
        if self._thread is None:
            self._start()

    def put(self, rows: bytes) -> None:
        """`append` for those who can refuse: raises OSError unless the disk has taken all lines."""
        self.journal.put(rows)
        if self._thread is None:
            self._start()

    def flush(self, timeout: float) -> None:
        """See `spanledger.exporter.flush`."""
        deadline = time.monotonic() + timeout
        try:
            self.journal.write_held()
            self.journal.seal()
        except OSError as error:
            raise FlushError(f"the journal cannot be written: {error}") from error
        lost, self._lost_before = self.journal.lost - self._lost_before, self.journal.lost
        if lost:
            raise FlushError(f"{lost} rows are lost: the disk took nothing and memory was full")
        if held := self.journal.held:
            raise FlushError(f"{held} rows wait in memory: {self.journal.folder} takes nothing, the disk may be full")
        waiting = self._waiting()
        if waiting:
            self._deliver_until(waiting, deadline)
        refused = sorted(name for name in self.journal.sealed if self._rejected(name))
        if refused:
            self.journal.sealed.difference_update(refused)
            raise FlushError(f"ClickHouse refused {', '.join(refused)} for its content; see `spanledger doctor`")

    def close(self) -> None:
        """Seal, send what can be sent within `EXIT_S` seconds, and end the thread; a later row starts it again.

        The end of a program closes several times (provider, exporter, exit): all of them share these seconds.
        """
        now = time.monotonic()
        if now > self._exit_deadline + _SAME_EXIT_S:
            self._exit_deadline = now + EXIT_S
        thread = self._thread
        if thread is not None:
            self._closing = True
            self._bell.set()
            thread.join(max(0.0, self._exit_deadline - now))
            if thread.is_alive():  # it waits for ClickHouse; the rows are on disk
                self._seal(last=True)
                return
            self._closing = False
            self._thread = None
        self._tick(last=True)
        self._drop_client()

    def _ring(self) -> None:
        self._bell.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="spanledger-shipper", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending: `close` does what is left
                return
            self._thread = thread

    def _run(self) -> None:
        while not self._closing:
            self._bell.wait(self._interval)
            self._bell.clear()
            try:
                self._tick(last=self._closing)
            except Exception:
                _log_internal_error("shipper")

    def _tick(self, last: bool = False) -> None:
        self.journal.write_held()
        now = time.monotonic()
        if last or self._url or self.journal.urgent or now >= self._seal_at:
            self._seal(last)
            if not self._url:
                self._seal_at = now + self._seal_interval()
        if self._url and (last or time.monotonic() >= self._retry_at):
            self._ship(last)

    def _seal(self, last: bool) -> None:
        try:
            self.journal.seal(last)
        except OSError as error:
            if not self._seal_failed:
                logger.error("spanledger: cannot seal the journal in %s: %s", self.journal.folder, error)
            self._seal_failed = True
        else:
            self._seal_failed = False

    def _seal_interval(self) -> float:
        """Seconds to the next block where nobody here sends them: the more wait, the longer, so that files stay few."""
        waiting = blocks(self.journal.folder)
        self._forget_delivered()
        return min(self._interval * (1 + len(waiting) / _BLOCKS_PER_INTERVAL), _MAX_SEAL_S)

    def _ship(self, last: bool) -> None:
        from spanledger.exporter.client import ClickHouseError, UrlError

        adopt(self.journal.folder)
        waiting = blocks(self.journal.folder)
        if not waiting:
            return
        patience = self._exit_deadline - time.monotonic() if last else EXIT_S
        if patience <= 0:
            return
        try:
            if self._client is None:
                self._client = _open(self._url, connect_timeout=patience)
            loaded = _deliver(self._client, waiting)
        except (ClickHouseError, UrlError) as error:
            self._went_down(str(error))
            return
        self._failures = 0
        self._forget_delivered()
        if self._down:
            self._down = ""
            logger.warning("spanledger: ClickHouse is back; %d rows that waited are there now", loaded.rows)

    def _went_down(self, reason: str) -> None:
        self._drop_client()
        self._failures += 1
        backoff = min(self._interval * 2.0 ** min(self._failures, 10), _MAX_BACKOFF_S)
        self._retry_at = time.monotonic() + backoff * random.uniform(0.5, 1.0)
        if not self._down:
            self._down = reason
            logger.warning("spanledger: %s; rows wait in %s", reason, self.journal.folder)

    def _drop_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _waiting(self) -> list[Path]:
        """Blocks of this process that are not in ClickHouse yet."""
        paths = [self.journal.folder / name for name in self.journal.sealed]
        return [path for path in paths if path.exists()]

    def _forget_delivered(self) -> None:
        for name in list(self.journal.sealed):
            if not (self.journal.folder / name).exists() and not self._rejected(name):
                self.journal.sealed.discard(name)

    def _rejected(self, name: str) -> bool:
        return (self.journal.folder / name).with_suffix(".rejected").exists()

    def _deliver_until(self, waiting: list[Path], deadline: float) -> None:
        from spanledger.exporter.client import ClickHouseError, UrlError

        target = self._url or self._embedded()
        rows = sum(path.read_bytes().count(b"\n") for path in waiting if path.exists())
        reason = "another process has them"
        while True:
            left = deadline - time.monotonic()
            try:
                client = _open(target, connect_timeout=max(left, 0.1), timeout=max(left, 0.1))
                try:
                    _deliver(client, waiting)
                finally:
                    client.close()
            except (ClickHouseError, UrlError) as error:
                reason = str(error)
                if not getattr(error, "unreachable", False):
                    break
            waiting = [path for path in waiting if path.exists()]
            if not waiting:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        raise FlushError(f"{rows} rows wait in {self.journal.folder}: {reason}")

    def _embedded(self) -> Endpoint:
        from spanledger.exporter.embedded import EmbeddedClickHouse, EmbeddedError

        try:
            endpoint = EmbeddedClickHouse(self._home).endpoint()
        except EmbeddedError as error:
            raise FlushError(str(error)) from error
        if endpoint is None:
            raise FlushError(
                f"the rows wait in {self.journal.folder}, no ClickHouse is there to take them:"
                " run `spanledger up`, or set SPANLEDGER_URL"
            )
        return endpoint


_shippers: weakref.WeakSet[Shipper] = weakref.WeakSet()
_shipper: Shipper | None = None


def current() -> Shipper:
    """This process's shipper, as the settings have it.

    Raises:
        SettingsError: a setting is wrong.
    """
    global _shipper
    if _shipper is None:
        chosen = settings()
        made = Shipper(chosen.home, chosen.url, chosen.ship_interval)
        if _shipper is None:
            _shipper = made
            atexit.register(close)
    return _shipper


def close() -> None:
    """Close this process's shipper, if rows have made one."""
    if _shipper is not None:
        try:
            _shipper.close()
        except Exception:
            _log_internal_error("closing the journal")


def seal() -> None:
    """Seal this process's segment, if rows have made one, so that others can load it.

    Raises:
        OSError: the file cannot be renamed.
    """
    if _shipper is not None:
        _shipper.journal.write_held()
        _shipper.journal.seal()


def _after_fork() -> None:
    for each in list(_shippers):
        each._reset()


os.register_at_fork(after_in_child=_after_fork)


def _open(to: str | Endpoint, connect_timeout: float, timeout: float = 30.0) -> Client:
    from spanledger.exporter.migrate import open_ledger

    return open_ledger(to, connect_timeout, timeout)


def _deliver(client: Client, paths: Iterable[Path]) -> Loaded:
    """Insert blocks, each under its own lock, and delete those that ClickHouse has.

    Raises:
        ClickHouseError: ClickHouse is not reached, or takes nothing now.
    """
    from hashlib import sha256

    from spanledger.exporter.client import ClickHouseError

    inserted = rows = waiting = rejected = 0
    for path in paths:
        with locked(path) as descriptor:
            if descriptor is None:
                waiting += path.exists()
                continue
            block = read(descriptor)
            try:
                if block:
                    client.insert_block(TABLE, block, sha256(block).hexdigest())
            except ClickHouseError as error:
                if not _content_is_wrong(error):
                    raise
                reject(path, block, str(error))
                path.unlink()
                rejected += 1
                logger.error("spanledger: ClickHouse refused %s, kept as .rejected: %s", path.name, error)
                continue
            path.unlink()
            inserted += 1
            rows += block.count(b"\n")
    return Loaded(inserted, rows, waiting, rejected)


def _content_is_wrong(error: ClickHouseError) -> bool:
    # A column that the table lacks: its schema is older than the rows, and a migration helps.
    return error.code in _CONTENT_CODES and "Unknown field" not in str(error)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _log_internal_error(place: str) -> None:
    """In a thread of ours there is nobody to raise to."""
    try:
        internal_error(place)
    except Exception:
        pass
