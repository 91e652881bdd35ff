"""The journal: rows on disk, from the call until ClickHouse has them (`docs/decisions/0002-journal-segments.md`).

A process appends JSON lines to its own active segment, `HOST-PID-START-SEQ.open`, locked for as long as the process
lives. Sealing renames it to `.block`, which is sent to ClickHouse as it is, and then deleted. A `.open` without a lock
belongs to a dead process: whoever finds it cuts the line that was being written and seals it. A block that ClickHouse
refuses for its content becomes `.rejected`, with the reason in `.reason` beside it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path

from spanledger.exporter.private import home_folder, private_folder

logger = logging.getLogger("spanledger")

SEGMENT_BYTES = 4 * 2**20
"""A program's segment of this size is sealed at once: a block is one insert."""

HELD_BYTES = 16 * 2**20
"""So much waits in memory while the disk takes nothing; beyond it rows are lost, counted and said aloud."""

SLOW_NS = 1_000_000
"""A write that took longer blocks an event loop for too long: the shipper's thread writes until it is quick again."""

ROW_START = b'{"event_date":'
"""How every row begins; inside a row's strings the quotes are escaped, so it occurs nowhere else."""

_COMPLAIN_S = 60.0


class Segment:
    """The active segment of a process."""

    __slots__ = ("descriptor", "inflight", "path", "size", "torn")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.size = 0
        self.torn = False  # only the beginning of some write is on disk
        self.inflight: deque[None] = deque()  # one entry a thread that is writing


class Journal:
    """This process's part of a journal folder.

    Attributes:
        lost: rows that neither disk nor memory could take.
        sealed: names of the blocks that this process has sealed; whoever sees one gone removes it here.
    """

    def __init__(
        self, folder: Path, wake: Callable[[], None] = lambda: None, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        """
        Parameters:
            folder: made, mode 0700, on first use.
            wake: called when sealing or writing should not wait for the next interval; must not block.
            segment_bytes: a segment of this size is sealed at once.
        """
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.lost = 0
        self.sealed: set[str] = set()
        self._wake = wake
        self._segment: Segment | None = None
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._slow = False
        self._failing = False
        self._complained = -_COMPLAIN_S
        self._sequence = 0
        self._make_locks()
        _journals.add(self)

    def _make_locks(self) -> None:
        # None of them is held while a row is written.
        self._opening = threading.Lock()
        self._sealing = threading.Lock()
        self._holding = threading.Lock()

    def append(self, lines: bytes) -> None:
        """Put whole JSON lines, each with its line end, into the journal; a failing disk raises nothing.

        One `write` to a file opened with O_APPEND, and no lock: threads do not wait for each other.
        """
        if self._slow and self._held_bytes < HELD_BYTES // 2 and _in_event_loop():
            self._hold(lines)
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
        began = time.perf_counter_ns()
        try:
            written = os.write(segment.descriptor, lines)
        except OSError as error:
            written, failure = 0, error
        self._slow = time.perf_counter_ns() - began > SLOW_NS
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

    def write_held(self) -> None:
        """Write to disk what waits in memory, as far as it takes it."""
        while True:
            with self._holding:
                if not self._held:
                    return
                lines = self._held.popleft()
                self._held_bytes -= len(lines)
            if not self._write(lines):
                return

    @property
    def held(self) -> int:
        """Rows that wait in memory."""
        with self._holding:
            return sum(lines.count(b"\n") for lines in self._held)

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
            self._sequence += 1
            path = self.folder / f"{_owner()}-{self._sequence}.open"
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
            return Segment(path, descriptor)

    def _hold(self, lines: bytes) -> None:
        with self._holding:
            if self._held_bytes + len(lines) <= HELD_BYTES:
                self._held.append(lines)
                self._held_bytes += len(lines)
                return
        self.lost += lines.count(b"\n")
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


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()
_started_ns = time.time_ns()


def _after_fork() -> None:
    global _started_ns
    _started_ns = time.time_ns()
    for journal in list(_journals):
        journal._after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _owner() -> str:
    host = re.sub(r"[^A-Za-z0-9.]+", "_", os.uname().nodename) or "host"
    return f"{host[:100]}-{os.getpid()}-{_started_ns}"


def _in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def blocks(folder: Path) -> list[Path]:
    """Sealed blocks, oldest first."""
    return sorted(folder.glob("*.block"), key=_age)


def adopt(folder: Path) -> list[str]:
    """Seal the segments of dead processes; the names of the new blocks.

    Raises:
        OSError: a file cannot be read or renamed.
    """
    names = []
    for path in [*folder.glob("*.open"), *folder.glob("*.new")]:
        with locked(path) as descriptor:
            if descriptor is None:
                continue
            if path.suffix == ".new":  # nothing is written to a file before it has its name
                path.unlink()
                continue
            name = _seal(path, descriptor, check=True)
            if name is not None:
                names.append(name)
    return names


class locked:
    """`with locked(path) as descriptor`: holds the file's lock; None where somebody else has it, or it is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> int | None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
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


def reject(path: Path, rows: bytes, reason: str) -> None:
    """Put rows of the journal file `path` aside in `.rejected`, with the reason in `.reason`."""
    aside = path.with_suffix(".rejected")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with open(os.open(aside, flags, 0o600), "ab") as file:
        file.write(rows)
    with open(os.open(aside.with_suffix(".reason"), flags, 0o600), "a", encoding="utf-8") as file:
        file.write(reason + "\n")


def _seal(path: Path, descriptor: int, check: bool) -> str | None:
    """Make a block of a segment, without broken lines where `check` asks for it; None when nothing is left."""
    block = path.with_suffix(".block")
    if check:
        rows = read(descriptor)
        good, bad = _whole_rows(rows)
        if bad:
            reject(path, bad, "not a row")
        if good != rows:
            if good:
                mended = path.with_suffix(".mended")
                with open(os.open(mended, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                    file.write(good)
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
