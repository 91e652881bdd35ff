"""The journal: rows on disk, from the call until ClickHouse has them (`docs/decisions/0002-journal-segments.md`).

A process appends JSON lines to its own active segment, `HOST-PID-START-SEQ.open`, locked for as long as the process
lives. Sealing renames it to `.block`, which is sent to ClickHouse as it is, and then deleted. A `.open` without a lock
belongs to a dead process: whoever finds it cuts the line that was being written and seals it. Rows that ClickHouse
refuses for their content go to `.rejected`, with the reason of each in `.reason` beside it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path

from spanledger import event_loop
from spanledger.exporter import health, owner
from spanledger.exporter.private import home_folder, private_folder

logger = logging.getLogger("spanledger")

SEGMENT_BYTES = 4 * 2**20
"""A program's segment of this size is sealed at once: a block is one insert."""

HELD_BYTES = 16 * 2**20
"""So much waits in memory while the disk takes nothing; beyond it rows are lost, counted and said aloud."""

SLOW_NS = 1_000_000
"""A write that took longer blocks an event loop for too long: from then on the shipper's thread writes."""

QUICK_AGAIN_NS = 10**8
"""It does so until no write has been slow for so long."""

NO_SYNC, BATCH, ALWAYS = "none", "batch", "always"
"""`SPANLEDGER_SYNC`: who waits for the disk to have a row: nobody, the shipper's thread, or the call itself."""

ROW_START = b'{"event_date":'
"""How every row begins; inside a row's strings the quotes are escaped, so it occurs nowhere else."""

_COMPLAIN_S = 60.0
_HELD_WRITE_BYTES = 2**20


class Segment:
    """The active segment of a process."""

    __slots__ = ("descriptor", "inflight", "path", "size", "synced", "syncing", "tickets", "torn")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = 0
        self.torn = False  # only the beginning of some write is on disk
        self.inflight: deque[None] = deque()  # one entry a thread that is writing
        self.tickets = count(1)  # one is drawn after each write, and before each sync
        self.synced = 0  # writes with a lower ticket are on the disk
        self.syncing = threading.Lock()

    def sync(self) -> None:
        """Return when all that this thread has written is on the disk; threads that wait share one `fdatasync`.

        Raises:
            OSError: the disk may not have it.
        """
        mine = next(self.tickets)
        with self.syncing:
            if mine < self.synced:
                return
            covered = next(self.tickets)
            os.fdatasync(self.descriptor)
            self.synced = covered


class Journal:
    """This process's part of a journal folder.

    Attributes:
        lost: rows that neither disk nor memory could take.
        health: what this process counts.
        sealed: names of the blocks that this process has sealed; whoever sees one gone removes it here.
    """

    def __init__(
        self,
        folder: Path,
        wake: Callable[[], None] = lambda: None,
        segment_bytes: int = SEGMENT_BYTES,
        sync: str = NO_SYNC,
    ) -> None:
        """
        Parameters:
            folder: made, mode 0700, on first use.
            wake: called when sealing or writing should not wait for the next interval; must not block.
            segment_bytes: a segment of this size is sealed at once.
            sync: `none`: rows are the kernel's when written. `batch`: on the disk when `sync` or `seal` returns.
                `always`: on the disk when `append` or `put` returns, unless the disk takes nothing.
        """
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.lost = 0
        self.health = health.of(folder)
        self.sealed: set[str] = set()
        self._wake = wake
        self._segment: Segment | None = None
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._sync = sync
        self._always = sync == ALWAYS
        self._slow = False
        self._slow_until = 0
        self._failing = False
        self._complained = -_COMPLAIN_S
        self._make_locks()
        _journals.add(self)

    def _make_locks(self) -> None:
        # None of them is held while a row is written, but `_emptying` while rows that waited are.
        self._opening = threading.Lock()
        self._sealing = threading.Lock()
        self._holding = threading.Lock()
        self._emptying = threading.Lock()

    def append(self, lines: bytes) -> None:
        """Put whole JSON lines, each with its line end, into the journal; a failing disk raises nothing.

        One `write` to a file opened with O_APPEND, and no lock: threads do not wait for each other.
        """
        if self._slow and not self._always and event_loop.is_running():
            self._hold(lines)
            from spanledger.pricing import handoff  # loaded where there are rows, and not before

            handoff.write_held = self.write_held
            handoff.held += 1  # the call awaits it
            self._wake()
        else:
            self._write(lines)

    def put(self, lines: bytes) -> None:
        """`append` for those who can refuse: the lines are on disk when it returns, nothing is held in memory.

        Raises:
            OSError: the disk did not take them all. Lines that it took stay; the same lines once more are no harm.
        """
        self._write(lines, hold=False)

    def _write(self, lines: bytes, hold: bool = True) -> bool:
        """Write `lines`; whether the disk took all. What it did not take is held, or else it is an OSError."""
        began = time.perf_counter_ns()
        while True:
            segment = self._segment
            if segment is None:
                try:
                    segment = self._first_segment()
                except OSError as error:
                    if not hold:
                        raise
                    self._hold(lines)
                    self._complain(error)
                    return False
            segment.inflight.append(None)
            if segment is self._segment:
                break
            segment.inflight.pop()  # sealed in between
        failure = None
        try:
            written = os.write(segment.descriptor, lines)
            if self._always and written == len(lines):
                segment.sync()
        except OSError as error:
            written, failure = 0, error
        ended = time.perf_counter_ns()
        if ended - began > SLOW_NS:
            self._slow, self._slow_until = True, ended + QUICK_AGAIN_NS
        elif self._slow and ended > self._slow_until:
            self._slow = False
        segment.size += written
        if written < len(lines):
            segment.torn = True
        segment.inflight.pop()
        if written == len(lines):
            self._failing = False
            if segment.size >= self.segment_bytes:
                self._wake()
            return True
        failure = failure or OSError("the disk took only a part")
        if not hold:
            self._wake()
            raise failure
        self._hold(lines[lines.rfind(b"\n", 0, written) + 1 :])
        self._complain(failure)
        return False

    def seal(self, last: bool = False) -> str | None:
        """Turn the active segment into a block; its name, or None when it holds nothing.

        Parameters:
            last: nothing more is expected: open no next segment.

        Raises:
            OSError: the file cannot be renamed; its rows stay where they are.
        """
        with self._sealing:
            segment = self._segment
            if segment is None:
                return None
            if not last and not segment.inflight and os.fstat(segment.descriptor).st_size == 0:
                return None
            # The next one is there before this one goes, so that no call waits for it.
            self._segment = None if last else self._new_segment()
            while segment.inflight:  # a thread that saw this segment active is still writing
                time.sleep(0.0002)
            try:
                if self._sync != NO_SYNC:
                    self._sync_sealed(segment)
                name = _seal(segment.path, segment.descriptor, check=segment.torn)
            except FileNotFoundError:  # somebody deleted the folder: the rows are still in the open file
                rows = read(segment.descriptor)
                name = None
                if rows:
                    self._segment = None
                    self._write(rows)
            finally:
                # Unlock before closing: a process forked meanwhile may hold a copy of the descriptor.
                fcntl.flock(segment.descriptor, fcntl.LOCK_UN)
                os.close(segment.descriptor)
            if name is not None:
                self.sealed.add(name)
            return name

    def sync(self) -> None:
        """With `batch`: see to it that what was written is on the disk.

        Raises:
            OSError: the disk may not have it.
        """
        if self._sync != BATCH:
            return
        with self._sealing:  # so that nobody closes the file meanwhile
            segment = self._segment
            if segment is not None:
                segment.sync()

    def _sync_sealed(self, segment: Segment) -> None:
        try:
            os.fdatasync(segment.descriptor)
        except OSError as error:  # its rows are the kernel's, as without syncing; keeping the name helps nobody
            logger.error("spanledger: %s may not be on the disk: %s", segment.path, error)

    def write_held(self) -> None:
        """Write to disk what waits in memory, as far as it takes it; returns when no thread is writing such rows."""
        with self._emptying:
            while True:
                with self._holding:
                    pieces = []
                    size = 0
                    while self._held and size < _HELD_WRITE_BYTES:
                        pieces.append(self._held.popleft())
                        size += len(pieces[-1])
                    self._held_bytes -= size
                if not pieces or not self._write(b"".join(pieces)):
                    return

    @property
    def held(self) -> int:
        """Rows that wait in memory."""
        with self._holding:
            held = list(self._held)
        return sum(lines.count(b"\n") for lines in held)

    @property
    def urgent(self) -> bool:
        """The active segment is full, or damaged."""
        segment = self._segment
        return segment is not None and (segment.size >= self.segment_bytes or segment.torn)

    def _first_segment(self) -> Segment:
        with self._opening:
            if self._segment is None:
                self._segment = self._new_segment()
            return self._segment

    def _new_segment(self) -> Segment:
        home_folder(self.folder.parent)
        private_folder(self.folder)
        while True:
            path = self.folder / f"{owner.name()}-{next(_sequence)}.open"
            new = path.with_suffix(".new")
            descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                # Locked before it gets its name: a segment without a lock has a dead owner.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rename(new, path)
            except (BlockingIOError, FileNotFoundError):  # taken for a dead process's leftover in between
                os.close(descriptor)
                continue
            except BaseException:
                os.close(descriptor)
                raise
            if self._sync != NO_SYNC:
                _sync_folder(self.folder)
            return Segment(path, descriptor)

    def _hold(self, lines: bytes) -> None:
        with self._holding:
            if self._held_bytes + len(lines) <= HELD_BYTES:
                self._held.append(lines)
                self._held_bytes += len(lines)
                return
        rows = lines.count(b"\n")
        self.lost += rows
        self.health.count(health.ROWS_LOST, rows, "the disk takes nothing, and memory is full")
        if time.monotonic() - self._complained >= _COMPLAIN_S:
            self._complained = time.monotonic()
            logger.error("spanledger: %s takes no rows and memory is full: %d rows lost", self.folder, self.lost)

    def _complain(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            logger.error("spanledger: cannot write to %s (%s); rows wait in memory", self.folder, error)
        self._wake()

    def _after_fork(self) -> None:
        """In the child: the parent's segment, threads and waiting rows are the parent's."""
        segment, self._segment = self._segment, None
        if segment is not None:
            os.close(segment.descriptor)  # the lock stays with the parent's descriptor
        self._held = deque()
        self._held_bytes = 0
        self.sealed = set()
        self.lost = 0
        self._make_locks()


_sequence = count(1)  # of the process: two journals in one folder must not share a name
_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork() -> None:
    for journal in list(_journals):
        journal._after_fork()


os.register_at_fork(after_in_child=_after_fork)


def blocks(folder: Path) -> list[Path]:
    """Sealed blocks, oldest first."""
    return sorted(folder.glob("*.block"), key=_age)


def bound(folder: Path, max_bytes: int, max_age_s: float) -> int:
    """Delete the oldest blocks and refused rows beyond these bounds, and count their rows; how many.

    Nothing that ClickHouse has is in the journal: what goes here is lost.

    Parameters:
        max_bytes: of all files together; those that running programs write count, and stay.
        max_age_s: seconds since a file was last written to; 0: any.

    Raises:
        OSError: the folder cannot be read, or a file not be deleted.
    """
    size = 0
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # sent while we look
                continue
            size += found.st_size
            if entry.name.endswith((".block", ".rejected")):
                files.append((found.st_mtime, found.st_size, entry.name))
    now = time.time()
    rows = 0
    for written, length, name in sorted(files):
        old = bool(max_age_s) and now - written > max_age_s
        if size <= max_bytes and not old:
            break
        path = folder / name
        with locked(path) as descriptor:
            if descriptor is None:
                continue
            dropped = read(descriptor).count(b"\n")
            path.unlink()
        path.with_suffix(".reason").unlink(missing_ok=True)
        size -= length
        rows += dropped
        health.of(folder).count(health.ROWS_DROPPED, dropped, "age" if old else "size")
    return rows


def adopt(folder: Path) -> list[str]:
    """Seal the segments of dead processes; the names of the new blocks.

    Raises:
        OSError: a file cannot be read, mended or renamed; all others are sealed.
    """
    names = []
    trouble: OSError | None = None
    for path in [*folder.glob("*.open"), *folder.glob("*.new")]:
        try:
            with locked(path) as descriptor:
                if descriptor is None:
                    continue
                if path.suffix == ".new":  # nothing is written to a file before it has its name
                    path.unlink()
                    continue
                name = _seal(path, descriptor, check=True)
                if name is not None:
                    names.append(name)
        except OSError as error:
            trouble = error
    if trouble is not None:
        raise trouble
    return names


class locked:
    """`with locked(path) as descriptor`: holds the file's lock; None where somebody else has it, or it is gone.

    A symbolic link is nobody's journal file: None.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> int | None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == os.stat(self._path, follow_symlinks=False).st_ino:
                self._descriptor = descriptor
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)


def read(descriptor: int) -> bytes:
    """All of an open journal file, wherever its position is."""
    parts = []
    offset = 0
    while part := os.pread(descriptor, 2**20, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def reject(path: Path, rows: bytes, reasons: list[str]) -> None:
    """Put rows of the journal file `path` aside in `.rejected`, with the reason of each, a line each, in `.reason`."""
    aside = path.with_suffix(".rejected")
    _append(aside, rows)
    _append(aside.with_suffix(".reason"), "".join(f"{' '.join(reason.split())}\n" for reason in reasons).encode())


def _append(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """A file that was made there is there after a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _seal(path: Path, descriptor: int, check: bool) -> str | None:
    """Make a block of a segment, without broken lines where `check` asks for it; None when nothing is left."""
    block = path.with_suffix(".block")
    if check:
        rows = read(descriptor)
        good, bad = _whole_rows(rows)
        if bad:
            damaged = bad.count(b"\n")
            reject(path, bad, ["not a row"] * damaged)
            health.of(path.parent).count(health.ROWS_REJECTED, damaged, "not a row")
        if good != rows:
            if good:
                mended = path.with_suffix(".mended")
                mended.unlink(missing_ok=True)
                _append(mended, good)
                os.rename(mended, block)
            path.unlink()
            return block.name if good else None
    if os.fstat(descriptor).st_size == 0:
        path.unlink()
        return None
    os.rename(path, block)
    return block.name


def _whole_rows(content: bytes) -> tuple[bytes, bytes]:
    """The rows in `content`, and what is none.

    A row that was only begun is left out: its process has written it again elsewhere, or died writing it. What another
    thread appended behind such a beginning stands on the same line, and is good.
    """
    *lines, _end = content.split(b"\n")
    good, bad = [], []
    for line in lines:
        start = line.rfind(ROW_START)
        row = line[max(start, 0) :]
        if _is_object(row):
            good.append(row + b"\n")
        elif line:
            bad.append(line + b"\n")
    return b"".join(good), b"".join(bad)


def _is_object(line: bytes) -> bool:
    import orjson

    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _age(path: Path) -> tuple[int, int, str]:
    try:
        _, start, sequence = path.stem.rsplit("-", 2)
        return int(start), int(sequence), path.name
    except ValueError:
        return 0, 0, path.name
