"""From the journal to ClickHouse: a thread in the program, or whoever loads the journal for it.

With `SPANLEDGER_URL` the program's own thread sends its blocks there. Without it the program only appends and seals,
and knows nothing of ClickHouse; the command line and the service load the journal into embedded ClickHouse.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spanledger.exporter.health import LOSSES
from spanledger.exporter.journal import NO_SYNC, SEGMENT_BYTES, Journal, adopt, blocks, bound
from spanledger.exporter.private import private_folder
from spanledger.failures import internal_error
from spanledger.settings import MAX_JOURNAL_BYTES, settings

if TYPE_CHECKING:
    from spanledger.exporter.client import Client, Endpoint

logger = logging.getLogger("spanledger")

EXIT_S = 3.0
"""So long at most does the end of a program wait for ClickHouse; what is not sent by then stays in the journal."""

_SAME_EXIT_S = 10.0
_MAX_BACKOFF_S = 60.0
_ANSWER_S = 30.0
_BOUND_S = 10.0
_BLOCKS_PER_INTERVAL = 50
_MAX_SEAL_S = 600.0


class FlushError(Exception):
    """Not everything that this process has recorded is in ClickHouse; the message says what waits, and why."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load of the journal did.

    Attributes:
        blocks: inserted now.
        rows: in these.
        waiting: segments with rows that were left: a running program still writes them, or another process has them.
        rejected: rows that ClickHouse refused for their content; they are kept beside the journal's other files.
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
        reasons: why, one a file; the first, where its rows have several.
    """

    segments: int = 0
    rows: int = 0
    bytes: int = 0
    oldest_age_s: float = 0.0
    rejected: int = 0
    rejected_rows: int = 0
    reasons: tuple[str, ...] = ()


def load_journal(
    home: Path, client: Client, through: Callable[[list[Path]], Iterable[Path]] = lambda waiting: waiting
) -> Loaded:
    """Insert what waits in the journal of `home`, that of dead processes included; any number of processes may do so.

    Parameters:
        through: is given the blocks and gives them on one by one, as a progress bar does.

    Raises:
        SchemaError: some blocks need a newer schema; they wait, the others are loaded.
        ClickHouseError: ClickHouse is not reached, or takes no rows now; what was not inserted waits.
        NotPrivate: the journal is another user's, or a symbolic link.
        OSError: a journal file cannot be read.
    """
    from spanledger.exporter.deliver import deliver, deliver_health

    folder = home / "journal"
    if not os.path.lexists(folder):
        return Loaded()
    private_folder(folder)
    try:
        adopt(folder)
    finally:  # what can be loaded makes room for what could not be mended
        try:
            loaded = deliver(client, through(blocks(folder)))
        finally:
            deliver_health(client, folder)
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
                reasons.append(f"{path.name}: {_first_reason(path)}")
        except FileNotFoundError:  # sent while we look
            continue
    return Pending(segments, rows, size, oldest, rejected, rejected_rows, tuple(reasons))


def _first_reason(rejected: Path) -> str:
    try:
        reasons = rejected.with_suffix(".reason").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return "nobody has written why"
    others = len(set(reasons)) - 1
    return (reasons[0] if reasons else "") + (f" (and {others} other reasons)" if others > 0 else "")


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
    handoff = sys.modules.get("spanledger.pricing.handoff")  # prices are not loaded where there are no calls
    for thread in list(handoff.working) if handoff else ():
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

    def __init__(
        self,
        home: Path,
        url: str = "",
        interval: float = 2.0,
        segment_bytes: int = SEGMENT_BYTES,
        *,
        sync: str = NO_SYNC,
        max_bytes: int = MAX_JOURNAL_BYTES,
        max_age_s: float = 0.0,
    ) -> None:
        """
        Parameters:
            home: the folder whose `journal` is written.
            url: ClickHouse to send to; empty: others load the journal.
            interval: seconds between sealing and sending.
            segment_bytes: rows of this size are sealed at once.
            sync: see `Journal`.
            max_bytes, max_age_s: see `journal.bound`.
        """
        self.journal = Journal(home / "journal", self._ring, segment_bytes, sync)
        self._home = home
        self._url = url
        self._interval = interval
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._losses_before = self.journal.health.total(*LOSSES)
        self._reset()
        _shippers.add(self)

    def _reset(self) -> None:
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._bell = threading.Event()
        self._ending = threading.Event()
        self._exit_deadline = -_SAME_EXIT_S
        self._seal_at = 0.0
        self._client: Client | None = None
        self._down: object = None
        self._behind = ""
        self._failures = 0
        self._retry_at = 0.0
        self._bound_at = 0.0
        self._disk_failed: set[str] = set()

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
        unwritten: OSError | None = None
        try:
            self.journal.write_held()
            self.journal.seal()
        except OSError as error:
            unwritten = error
        losses, before = self.journal.health.total(*LOSSES), self._losses_before
        self._losses_before = losses
        if losses > before:
            raise FlushError(f"{losses - before} rows are lost; the log and `spanledger doctor` say why")
        if unwritten is not None:
            raise FlushError(f"the journal cannot be written: {unwritten}") from unwritten
        if held := self.journal.held:
            raise FlushError(f"{held} rows wait in memory: {self.journal.folder} takes nothing, the disk may be full")
        waiting = self._waiting()
        if waiting:
            self._deliver_until(waiting, deadline)
        refused = sorted(name for name in self.journal.sealed if self._rejected(name))
        if refused:
            self.journal.sealed.difference_update(refused)
            raise FlushError(
                f"ClickHouse refused rows of {', '.join(refused)} for their content; see `spanledger doctor`"
            )

    def close(self) -> None:
        """Seal, send what can be sent within `EXIT_S` seconds, and end the thread; a later row starts it again.

        The end of a program closes several times (provider, exporter, exit): all of them share these seconds.
        """
        now = time.monotonic()
        if now > self._exit_deadline + _SAME_EXIT_S:
            self._exit_deadline = now + EXIT_S
        thread, self._thread = self._thread, None
        if thread is None:
            thread = self._begin(ending=True)
        self._ending.set()
        self._bell.set()
        if thread is not None:
            thread.join(max(0.0, self._exit_deadline - now))
        self._to_disk()  # what came meanwhile; what is not sent yet, the next program sends
        self._seal(last=True)
        if thread is None or not thread.is_alive():
            self._drop_client()

    def _ring(self) -> None:
        self._bell.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = self._begin()

    def _begin(self, ending: bool = False) -> threading.Thread | None:
        """A thread that ships until it is told to end; None where the interpreter ends and allows none."""
        self._ending = threading.Event()
        if ending:
            self._ending.set()
        thread = threading.Thread(target=self._run, args=(self._ending,), name="spanledger-shipper", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None
        return thread

    def _run(self, ending: threading.Event) -> None:
        last = False
        while not last:
            if not ending.is_set():
                self._bell.wait(self._interval)
            self._bell.clear()
            last = ending.is_set()
            try:
                self._tick(last)
            except Exception:
                _log_internal_error("shipper")

    def _tick(self, last: bool = False) -> None:
        self._to_disk()
        now = time.monotonic()
        if last or self._url or self.journal.urgent or now >= self._seal_at:
            self._seal(last)
            if not self._url:
                self._seal_at = now + self._seal_interval()
        if self._url and (last or time.monotonic() >= self._retry_at):
            self._ship(last)
        if now >= self._bound_at:
            self._bound_at = now + _BOUND_S
            self._bound()

    def _to_disk(self) -> None:
        """What waits in memory, and counts that have changed; with `SPANLEDGER_SYNC=batch`, past the kernel too."""
        self.journal.write_held()
        try:
            self.journal.sync()
            self.journal.health.save()
        except OSError as error:
            self._disk_trouble("write", error)
        else:
            self._disk_failed.discard("write")

    def _seal(self, last: bool) -> None:
        try:
            self.journal.seal(last)
        except OSError as error:
            self._disk_trouble("seal", error)
        else:
            self._disk_failed.discard("seal")

    def _disk_trouble(self, doing: str, error: OSError) -> None:
        if doing not in self._disk_failed:
            self._disk_failed.add(doing)
            logger.error("spanledger: cannot %s the journal in %s: %s", doing, self.journal.folder, error)

    def _bound(self) -> None:
        try:
            dropped = bound(self.journal.folder, self._max_bytes, self._max_age_s)
        except FileNotFoundError:  # nothing was written yet
            return
        except OSError as error:
            self._disk_trouble("tidy", error)
            return
        if dropped:
            logger.error(
                "spanledger: %d rows are dropped, the journal in %s has reached its bound"
                " (SPANLEDGER_JOURNAL_MAX_BYTES, SPANLEDGER_JOURNAL_MAX_DAYS) and ClickHouse does not take them",
                dropped,
                self.journal.folder,
            )
            self._to_disk()

    def _seal_interval(self) -> float:
        """Seconds to the next block where nobody here sends them: the more wait, the longer, so that files stay few."""
        waiting = blocks(self.journal.folder)
        self._forget_delivered()
        return min(self._interval * (1 + len(waiting) / _BLOCKS_PER_INTERVAL), _MAX_SEAL_S)

    def _ship(self, last: bool) -> None:
        from spanledger.exporter.client import ClickHouseError, UrlError
        from spanledger.exporter.deliver import deliver, deliver_health
        from spanledger.exporter.migrate import open_ledger

        folder = self.journal.folder
        try:
            adopt(folder)
            self._disk_failed.discard("mend")
        except OSError as error:  # a full disk mends nothing; what is shipped makes room
            self._disk_trouble("mend", error)
        waiting = blocks(folder)
        if not waiting and not any(folder.glob("*.health")) and not self.journal.health.changed:
            return
        patience = self._exit_deadline - time.monotonic() if last else EXIT_S
        if patience <= 0:
            return
        try:
            if self._client is None:
                self._client = open_ledger(self._url, patience, _ANSWER_S, current=False)
                self._say_behind(self._client.behind)
            try:
                loaded = deliver(self._client, waiting, self._exit_deadline if last else math.inf)
            finally:
                deliver_health(self._client, folder)
        except (ClickHouseError, UrlError) as error:
            self._went_down(error)
            return
        except OSError as error:
            self._disk_trouble("ship", error)
            return
        self._disk_failed.discard("ship")
        self._failures = 0
        self._forget_delivered()
        if self._down is not None:
            self._down = None
            logger.warning("spanledger: ClickHouse is back; %d rows that waited are there now", loaded.rows)

    def _went_down(self, error: Exception) -> None:
        state = (type(error), getattr(error, "code", None))
        if self._down != state:
            self._down = state
            logger.warning("spanledger: %s; rows wait in %s", error, self.journal.folder)
        self._drop_client()
        self._failures += 1
        backoff = min(self._interval * 2.0 ** min(self._failures, 10), _MAX_BACKOFF_S)
        self._retry_at = time.monotonic() + backoff * random.uniform(0.5, 1.0)

    def _say_behind(self, behind: str) -> None:
        if behind != self._behind:
            self._behind = behind
            if behind:
                logger.warning("spanledger: %s; rows that need none of it are sent all the same", behind)

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
        from spanledger.exporter.deliver import deliver
        from spanledger.exporter.migrate import open_ledger

        target = self._url or self._embedded()
        rows = sum(path.read_bytes().count(b"\n") for path in waiting if path.exists())
        reason = "another process has them"
        while True:
            left = deadline - time.monotonic()
            try:
                client = open_ledger(target, max(left, 0.1), max(left, 0.1), current=False)
                try:
                    deliver(client, waiting, deadline)
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
        made = Shipper(
            chosen.home,
            chosen.url,
            chosen.ship_interval,
            sync=chosen.sync,
            max_bytes=chosen.journal_max_bytes,
            max_age_s=chosen.journal_max_days * 86_400,
        )
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
