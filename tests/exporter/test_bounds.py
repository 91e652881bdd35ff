"""What the journal may take, and what becomes of what it cannot: bounded, counted, and told in the ledger."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import orjson
import pytest

from spanledger.exporter import health
from spanledger.exporter import journal as journal_module
from spanledger.exporter.client import Client
from spanledger.exporter.deliver import retry_rejected
from spanledger.exporter.journal import ALWAYS, BATCH, NO_SYNC, Journal, blocks, bound
from spanledger.exporter.shipper import FlushError, Loaded, Shipper, load_journal, pending
from tests.exporter.conftest import row, wait

NONSENSE = b"nonsense!!"


def bad(number: int) -> bytes:
    return row(number).replace(b"2026-11-22", NONSENSE)


def sealed(home: Path, *content: bytes) -> list[Path]:
    journal = Journal(home / "journal")
    for rows in content:
        journal.append(rows)
        journal.seal()
    journal.seal(last=True)
    return blocks(home / "journal")


def stored(ledger: Client) -> list[str]:
    return [line[0] for line in ledger.query("SELECT entry_id FROM llm_calls ORDER BY entry_id").rows]


def ids(*numbers: int) -> list[str]:
    return [f"entry-{number:06d}" for number in numbers]


def counted(ledger: Client) -> dict[str, int]:
    return dict(ledger.query("SELECT what, sum(count) FROM spanledger_health FINAL GROUP BY what").rows)


# ---- splitting


def test_bad_rows_stand_alone_and_the_rest_goes_in(ledger: Client, tmp_path: Path) -> None:
    bads = (0, 17, 18, 63)
    sealed(tmp_path, b"".join(bad(number) if number in bads else row(number) for number in range(64)))
    assert load_journal(tmp_path, ledger) == Loaded(blocks=1, rows=60, rejected=4)
    assert stored(ledger) == ids(*(number for number in range(64) if number not in bads))
    (aside,) = (tmp_path / "journal").glob("*.rejected")
    assert aside.read_bytes() == b"".join(map(bad, bads))
    reasons = aside.with_suffix(".reason").read_text().splitlines()
    assert len(reasons) == 4
    assert all("Cannot parse" in reason for reason in reasons)
    assert counted(ledger) == {"rows_rejected": 4, "blocks_split": 1}


def test_a_split_block_that_comes_again_inserts_nothing(
    ledger: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the inserts of its parts."""
    block = b"".join(bad(number) if number == 5 else row(number) for number in range(16))
    (path,) = sealed(tmp_path, block)
    inserts = 0
    real = Client.insert_block

    def dies(self: Client, table: str, rows: bytes, token: str) -> None:
        nonlocal inserts
        real(self, table, rows, token)
        inserts += 1
        if inserts == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Client, "insert_block", dies)
        with pytest.raises(KeyboardInterrupt):
            load_journal(tmp_path, ledger)
    assert 0 < len(stored(ledger)) < 15
    assert path.exists()
    assert load_journal(tmp_path, ledger) == Loaded(blocks=1, rows=15, rejected=1)
    assert stored(ledger) == ids(*(number for number in range(16) if number != 5))


def test_rejected_rows_are_sent_again_when_asked(ledger: Client, tmp_path: Path) -> None:
    sealed(tmp_path, row(1) + bad(2) + bad(3))
    load_journal(tmp_path, ledger)
    folder = tmp_path / "journal"
    (aside,) = folder.glob("*.rejected")
    aside.write_bytes(aside.read_bytes().replace(NONSENSE, b"2026-11-22", 1))  # the user mends the first
    assert retry_rejected(folder) == 2
    assert pending(tmp_path).rejected == 0
    assert load_journal(tmp_path, ledger) == Loaded(blocks=1, rows=1, rejected=1)
    assert stored(ledger) == ids(1, 2)
    assert pending(tmp_path).rejected_rows == 1


def test_garbage_that_is_sent_again_is_put_aside_again(ledger: Client, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "host-1-1-1.open").write_bytes(row(1) + b"\0" * 50 + b"\ngarbage\n" + row(2))
    assert load_journal(tmp_path, ledger).rows == 2
    assert retry_rejected(folder) == 2
    assert load_journal(tmp_path, ledger) == Loaded(rejected=2)
    assert stored(ledger) == ids(1, 2)


# ---- bounds


def test_at_its_size_the_oldest_blocks_go_and_are_counted(ledger: Client, tmp_path: Path) -> None:
    paths = sealed(tmp_path, *(row(2 * number) + row(2 * number + 1) for number in range(10)))
    for age, path in enumerate(reversed(paths)):
        os.utime(path, (time.time() - age, time.time() - age))
    folder = tmp_path / "journal"
    size = len(row(0) * 2)
    assert bound(folder, 10 * size, 0) == 0
    assert bound(folder, 4 * size, 0) == 12
    assert load_journal(tmp_path, ledger).rows == 8
    assert stored(ledger) == ids(*range(12, 20))
    assert counted(ledger) == {"rows_dropped": 12}


def test_rows_wait_for_ever_unless_days_are_set(tmp_path: Path) -> None:
    old, new = sealed(tmp_path, row(1), row(2))
    day = 86_400
    os.utime(old, (time.time() - 400 * day, time.time() - 400 * day))
    folder = tmp_path / "journal"
    assert bound(folder, 2**30, 0) == 0
    assert bound(folder, 2**30, 399 * day) == 1
    assert blocks(folder) == [new]
    assert health.of(folder).total(health.ROWS_DROPPED) == 1


def test_a_block_that_is_being_sent_is_not_dropped(tmp_path: Path) -> None:
    (path,) = sealed(tmp_path, row(1))
    with journal_module.locked(path):
        assert bound(tmp_path / "journal", 1, 0) == 0
    assert bound(tmp_path / "journal", 1, 0) == 1


def test_a_program_without_a_clickhouse_stays_within_the_bound(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = row(1, raw_usage='"' + "x" * 1000 + '"')
    shipper = Shipper(tmp_path, "http://127.0.0.1:1/nowhere", 0.01, 10_000, max_bytes=100_000)
    for _ in range(40):
        shipper._bound_at = 0.0
        for _ in range(10):
            shipper.append(line)
        time.sleep(0.005)
    shipper._bound_at = 0.0
    shipper.close()
    assert sum(path.stat().st_size for path in (tmp_path / "journal").iterdir()) <= 100_000 + 2 * 11_000
    dropped = shipper.journal.health.total(health.ROWS_DROPPED)
    assert dropped + pending(tmp_path).rows == 400
    assert dropped > 250
    assert "rows are dropped, the journal in" in caplog.text
    with pytest.raises(FlushError, match=f"{dropped} rows are lost"):
        shipper.flush(0.1)


# ---- counts


def test_counts_survive_the_process_and_are_stored_once(ledger: Client, tmp_path: Path) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from spanledger.exporter.shipper import Shipper
        shipper = Shipper(Path(sys.argv[1]))
        counts = shipper.journal.health
        counts.count("rows_lost", 2, "a test")
        shipper._to_disk()
        counts.count("rows_lost", 3, "a test")
        counts.count("rows_dropped", 1, "size")
        shipper._to_disk()
        os._exit(9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=False, timeout=60)
    (kept,) = (tmp_path / "journal").glob("*.health")
    assert kept.stat().st_mode & 0o777 == 0o600
    again = kept.read_bytes()
    assert {orjson.loads(line)["count"] for line in again.splitlines()} == {5, 1}
    load_journal(tmp_path, ledger)
    assert not kept.exists()
    kept.write_bytes(again)
    load_journal(tmp_path, ledger)
    assert counted(ledger) == {"rows_lost": 5, "rows_dropped": 1}


def test_a_count_that_grows_is_one_row_a_process(ledger: Client, tmp_path: Path) -> None:
    shipper = Shipper(tmp_path, f"http://{ledger.endpoint.username}:{ledger.endpoint.password}@127.0.0.1:"
                      f"{ledger.endpoint.port}/{ledger.endpoint.database}", 0.02)  # fmt: skip
    shipper.append(row(1))
    for total in range(1, 4):
        shipper.journal.health.count(health.ROWS_LOST, 1, "a test")
        assert wait(lambda total=total: counted(ledger) == {"rows_lost": total})  # type: ignore[misc]
    found = ledger.query("SELECT host, pid, reason, count FROM spanledger_health FINAL").rows
    assert [tuple(line) for line in found] == [(os.uname().nodename, os.getpid(), "a test", 3)]
    shipper.close()


def test_a_forked_child_counts_for_itself(tmp_path: Path) -> None:
    counts = health.of(tmp_path / "journal")
    counts.count(health.ROWS_LOST, 7, "a test")
    child = os.fork()
    if child == 0:
        os._exit(counts.total(health.ROWS_LOST))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert counts.total(health.ROWS_LOST) == 7


# ---- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    """A real file system of 256 KiB."""
    home = tmp_path / "disk"
    home.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(home)], capture_output=True)
    if made.returncode:
        pytest.skip("may not mount a tmpfs here")
    yield home
    subprocess.run(["umount", "-l", str(home)], check=True)


def test_a_full_disk_holds_rows_in_memory_until_there_is_room(
    small_disk: Path, ledger: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 200 * 1024)
    line = row(1, raw_usage='"' + "x" * 900 + '"')
    monkeypatch.setattr(journal_module, "HELD_BYTES", 100 * len(line))
    shipper = Shipper(small_disk / "home", "", 0.02)
    for number in range(300):
        shipper.append(line.replace(b"entry-000001", b"entry-%06d" % number))
    lost = shipper.journal.lost
    assert 100 < lost < 200  # some 45 on the disk, 100 in memory
    with pytest.raises(FlushError, match="rows are lost"):
        shipper.flush(0.1)
    assert "No space left on device" in caplog.text or "the disk took only a part" in caplog.text
    assert "memory is full" in caplog.text
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) <= 4

    ballast.unlink()
    assert wait(lambda: shipper.journal.held == 0)
    shipper.close()
    load_journal(small_disk / "home", ledger)
    assert len(stored(ledger)) == len(set(stored(ledger))) == 300 - lost
    assert counted(ledger) == {"rows_lost": lost}


def test_a_full_disk_is_emptied_by_shipping_and_told_while_it_is_full(
    tmp_path: Path, ledger: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A torn segment cannot be mended, refused rows cannot be put aside, counts cannot be saved: the rest goes on."""
    sealed(tmp_path, bad(20), *(row(number) for number in range(20)))
    (tmp_path / "journal" / "host-1-1-1.open").write_bytes(row(21) + row(22)[:30])
    monkeypatch.setattr(journal_module, "HELD_BYTES", 5 * len(row(100)))
    to = ledger.endpoint
    shipper = Shipper(tmp_path, f"http://{to.username}:{to.password}@127.0.0.1:{to.port}/{to.database}", 0.02)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        patched.setattr(journal_module, "_append", full)
        patched.setattr(health, "write_private", full)
        for number in range(100, 110):
            shipper.append(row(number))
        assert wait(lambda: len(stored(ledger)) == 20)
        assert wait(lambda: counted(ledger) == {"rows_lost": 5})  # from memory
        failing = [f"cannot {doing} the journal" for doing in ("mend", "ship")]
        assert wait(lambda: all(text in caplog.text for text in failing))
        tries: list[bool] = []
        real = shipper._ship
        patched.setattr(shipper, "_ship", lambda last: tries.append(last) or real(last))
        assert wait(lambda: len(tries) >= 10)
        for text in failing:
            assert caplog.text.count(text) == 1
    shipper.append(row(99))
    assert wait(lambda: len(stored(ledger)) == 27)
    assert wait(lambda: pending(tmp_path).rejected_rows == 1)
    assert stored(ledger) == ids(*range(20), 21, 99, *range(100, 105))
    shipper.close()


# ---- syncing


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the files at each fdatasync."""
    sizes: list[int] = []
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    return sizes


def test_always_a_row_is_on_the_disk_when_the_call_returns(tmp_path: Path, synced: list[int]) -> None:
    journal = Journal(tmp_path / "journal", sync=ALWAYS)
    journal.append(row(1))
    assert synced == [len(row(1))]
    journal.put(row(2))
    assert synced == [len(row(1)), 2 * len(row(1))]

    async def program() -> None:
        journal._slow = True
        journal.append(row(3))

    asyncio.run(program())  # on an event loop, and the disk is slow: it still waits
    assert len(synced) == 3
    journal.seal(last=True)


def test_threads_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is on its way, seven more threads write: one more is enough for them all."""
    journal = Journal(tmp_path / "journal", sync=ALWAYS)
    journal.append(row(0))
    began, go = threading.Event(), threading.Event()
    syncs = []

    def sync(descriptor: int) -> None:
        syncs.append(os.fstat(descriptor).st_size)
        began.set()
        assert go.wait(10)

    monkeypatch.setattr(os, "fdatasync", sync)
    threads = [threading.Thread(target=journal.append, args=(row(number),)) for number in range(1, 9)]
    threads[0].start()
    assert began.wait(10)
    for thread in threads[1:]:
        thread.start()
    assert journal._segment is not None
    tickets = journal._segment.tickets
    # Two a sync so far, and one a thread that has written and waits.
    assert wait(lambda: repr(tickets) == "count(12)")
    go.set()
    for thread in threads:
        thread.join()
    assert len(syncs) == 2
    assert syncs[1] == 9 * len(row(0))
    journal.seal(last=True)


def test_a_row_that_may_not_be_on_the_disk_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Client
) -> None:
    journal = Journal(tmp_path / "journal", sync=ALWAYS)

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", broken)
        with pytest.raises(OSError, match="Input/output"):
            journal.put(row(1))
        journal.append(row(2))
        assert journal.held == 1
    journal.seal()
    journal.write_held()
    journal.seal(last=True)
    load_journal(tmp_path, ledger)
    assert ledger.query("SELECT DISTINCT entry_id FROM llm_calls FINAL ORDER BY entry_id").rows == [
        (name,) for name in ids(1, 2)
    ]


def test_batch_syncs_before_sealing_and_every_interval(tmp_path: Path, synced: list[int]) -> None:
    journal = Journal(tmp_path / "journal", sync=BATCH)
    journal.append(row(1))
    journal.append(row(2))
    assert synced == []
    journal.sync()
    assert synced == [2 * len(row(1))]
    journal.append(row(3))
    journal.seal()
    assert synced == [2 * len(row(1)), 3 * len(row(1))]
    journal.seal(last=True)


def test_none_never_syncs(tmp_path: Path, synced: list[int]) -> None:
    journal = Journal(tmp_path / "journal", sync=NO_SYNC)
    journal.append(row(1))
    journal.sync()
    journal.seal(last=True)
    assert synced == []


# ---- a slow disk


def test_a_slow_disk_blocks_an_event_loop_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Client) -> None:
    """Every write takes 50 ms; only the first of the loop's appends waits for it."""
    real = os.write
    slow = {"now": False}
    waited: list[str] = []

    def write(descriptor: int, data: bytes) -> int:
        if slow["now"] and data.startswith(b'{"event_date"'):
            waited.append(threading.current_thread().name)
            time.sleep(0.05)
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    shipper = Shipper(tmp_path, "", 0.05)
    took: list[int] = []

    async def program() -> None:
        shipper.append(row(0))  # makes folder, file and thread
        slow["now"] = True
        for number in range(1, 200):
            began = time.perf_counter_ns()
            shipper.append(row(number))
            took.append(time.perf_counter_ns() - began)
            await asyncio.sleep(0.002)

    asyncio.run(program())
    slow["now"] = False
    shipper.close()
    assert waited.count("MainThread") == 1
    assert waited.count("spanledger-shipper") >= 3
    assert sorted(took)[len(took) // 2] < 1_000_000
    load_journal(tmp_path, ledger)
    assert stored(ledger) == ids(*range(200))
