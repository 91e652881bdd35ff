"""The journal: nothing that was appended is lost, damaged or doubled, whatever happens to process or disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from spanledger.exporter import journal as journal_module
from spanledger.exporter.journal import Journal, adopt, blocks
from spanledger.exporter.private import NotPrivate, home_folder, private_folder
from tests.exporter.conftest import row


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "journal"


@pytest.fixture
def journal(folder: Path) -> Journal:
    return Journal(folder)


def rows_in(folder: Path) -> list[str]:
    """Entry ids of all sealed rows; each line must be whole."""
    return [
        orjson.loads(line)["entry_id"] for block in blocks(folder) for line in block.read_bytes().split(b"\n") if line
    ]


def ids(*numbers: int) -> list[str]:
    return [f"entry-{number:06d}" for number in numbers]


@pytest.fixture
def writer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has appended rows 1 and 2, is in the middle of row 3, and lives."""
    code = """
        import os, sys
        from pathlib import Path
        from spanledger.exporter.journal import Journal
        from tests.exporter.conftest import row
        journal = Journal(Path(sys.argv[1]))
        journal.append(row(1))
        journal.append(row(2))
        os.write(journal._segment.descriptor, row(3)[:40])
        print("written", flush=True)
        sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    yield process
    process.kill()
    process.communicate()


def test_rows_are_on_disk_when_append_returns_and_a_block_when_sealed(journal: Journal, folder: Path) -> None:
    journal.append(row(1))
    journal.append(row(2) + row(3))
    (segment,) = folder.glob("*.open")
    assert segment.read_bytes() == row(1) + row(2) + row(3)

    name = journal.seal()
    assert [path.name for path in blocks(folder)] == [name]
    assert (folder / str(name)).read_bytes() == row(1) + row(2) + row(3)
    assert journal.seal() is None
    journal.append(row(4))
    journal.seal(last=True)
    assert rows_in(folder) == ids(1, 2, 3, 4)
    assert list(folder.glob("*.open")) == []


def test_nothing_is_made_before_the_first_row(journal: Journal, folder: Path) -> None:
    assert journal.seal(last=True) is None
    assert not folder.exists()


def test_only_the_owner_can_read_it(journal: Journal, folder: Path) -> None:
    before = os.umask(0)
    try:
        journal.append(row(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    (segment,) = folder.glob("*.open")
    assert stat.S_IMODE(segment.stat().st_mode) == 0o600


def test_a_link_in_place_of_the_folder_is_refused_and_the_rows_wait(
    journal: Journal, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotPrivate, match="symbolic link"):
        private_folder(folder)
    journal.append(row(1))
    journal.append(row(2))
    assert journal.held == 2
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "symbolic link" in caplog.text

    folder.unlink()
    journal.write_held()
    journal.seal()
    assert rows_in(folder) == ids(1, 2)


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    for check in (private_folder, home_folder):
        with pytest.raises(NotPrivate, match="belongs to user"):
            check(folder)


def test_a_home_that_is_there_stays_as_it_is(journal: Journal, folder: Path, tmp_path: Path) -> None:
    """It may be a folder with other things in it, or a link to a larger disk."""
    real = tmp_path / "disk"
    real.mkdir(mode=0o755)
    folder.parent.symlink_to(real)
    journal.append(row(1))
    journal.seal()
    assert stat.S_IMODE(real.stat().st_mode) == 0o755
    assert stat.S_IMODE((real / "journal").stat().st_mode) == 0o700
    assert rows_in(folder) == ids(1)


def test_a_file_in_place_of_the_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(NotPrivate, match="not a folder"):
        home_folder(tmp_path / "home")


def test_threads_append_while_segments_are_sealed(journal: Journal, folder: Path) -> None:
    def write(thread: int) -> None:
        for number in range(2000):
            journal.append(row(thread * 10_000 + number, raw_usage='"' + "x" * 300 + '"'))

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        journal.seal()
    journal.seal(last=True)
    found = rows_in(folder)
    assert len(found) == 12_000
    assert len(set(found)) == 12_000
    assert len(blocks(folder)) > 1


def test_the_segment_of_a_running_process_is_left_alone(writer: subprocess.Popen[str], folder: Path) -> None:
    assert adopt(folder) == []
    assert blocks(folder) == []


def test_the_segment_of_a_killed_process_is_adopted_without_its_torn_end(
    writer: subprocess.Popen[str], folder: Path
) -> None:
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    (name,) = adopt(folder)
    assert rows_in(folder) == ids(1, 2)
    assert (folder / name).read_bytes() == row(1) + row(2)
    assert sorted(path.suffix for path in folder.iterdir()) == [".block"]
    assert adopt(folder) == []


def test_only_one_of_many_adopts_a_segment(writer: subprocess.Popen[str], folder: Path) -> None:
    writer.kill()
    writer.wait()
    adopted: list[str] = []
    threads = [threading.Thread(target=lambda: adopted.extend(adopt(folder))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(adopted) == 1
    assert rows_in(folder) == ids(1, 2)


def test_leftovers_without_rows_go_away(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "host-1-1-1.new").touch()
    (folder / "host-1-1-2.open").touch()
    assert adopt(folder) == []
    assert list(folder.iterdir()) == []


def test_what_is_no_row_is_put_aside_and_the_rest_goes_on(folder: Path) -> None:
    folder.mkdir(parents=True)
    damaged = row(1) + b"\0" * 50 + b"\n" + row(2)[:30] + row(3) + b"garbage\n" + row(4)
    (folder / "host-1-1-1.open").write_bytes(damaged)
    adopt(folder)
    assert rows_in(folder) == ids(1, 3, 4)  # the beginning of row 2 is nobody's loss here: its writer holds it
    assert (folder / "host-1-1-1.rejected").read_bytes() == b"\0" * 50 + b"\ngarbage\n"
    assert (folder / "host-1-1-1.reason").read_text() == "not a row\nnot a row\n"


def test_a_short_write_damages_no_other_row(
    journal: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.write
    journal.append(row(1))
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:70]))
    journal.append(row(2) + row(3))  # only the beginning of row 2 reaches the disk
    monkeypatch.setattr(os, "write", real)
    journal.append(row(4))  # right behind it, on the same line
    assert journal.urgent
    assert journal.held == 2
    journal.write_held()
    journal.seal()
    assert sorted(rows_in(folder)) == ids(1, 2, 3, 4)
    assert "rows wait in memory" in caplog.text
    assert not journal.urgent


def test_a_full_disk_stops_nobody_and_loses_nothing(folder: Path) -> None:
    """RLIMIT_FSIZE lets the kernel cut and refuse writes as a full disk does."""
    code = """
        import resource, sys
        from pathlib import Path
        from spanledger.exporter.journal import Journal
        from tests.exporter.conftest import row
        journal = Journal(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        for number in range(500):
            journal.append(row(number))
        assert 300 < journal.held < 500, journal.held
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.write_held()
        assert journal.held == 0 and journal.lost == 0
        journal.seal(last=True)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    assert sorted(rows_in(folder)) == ids(*range(500))


def test_put_refuses_what_the_disk_does_not_take_and_damages_no_other_row(
    journal: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    journal.put(row(1))
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:70]))
    with pytest.raises(OSError, match="only a part"):
        journal.put(row(2) + row(3))
    monkeypatch.setattr(os, "write", real)
    assert journal.held == 0
    journal.put(row(4))  # right behind the beginning of row 2, on the same line
    journal.seal()
    assert rows_in(folder) == ids(1, 4)


def test_memory_is_bounded_and_a_loss_is_counted_and_said(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(descriptor: int, data: bytes) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", broken)
    monkeypatch.setattr(journal_module, "HELD_BYTES", 10 * len(row(1)))
    for number in range(15):
        journal.append(row(number))
    assert journal.held == 10
    assert journal.lost == 5
    messages = [record.getMessage() for record in caplog.records]
    assert sum("Input/output error" in message for message in messages) == 1
    assert sum("rows lost" in message for message in messages) == 1


def test_a_deleted_folder_takes_no_rows_with_it(journal: Journal, folder: Path) -> None:
    journal.append(row(1))
    shutil.rmtree(folder)
    journal.append(row(2))
    assert journal.seal() is None  # its rows are in a new segment
    journal.append(row(3))
    journal.seal()
    assert rows_in(folder) == ids(1, 2, 3)


def test_two_journals_of_a_process_share_a_folder(folder: Path) -> None:
    first, second = Journal(folder), Journal(folder)
    for number, journal in enumerate((first, second, first, second)):
        journal.append(row(number))
        journal.seal(last=True)
    assert sorted(rows_in(folder)) == ids(0, 1, 2, 3)


def test_a_forked_child_writes_a_segment_of_its_own(folder: Path) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from spanledger.exporter.journal import Journal, adopt
        from tests.exporter.conftest import row
        journal = Journal(Path(sys.argv[1]))
        journal.append(row(1))
        child = os.fork()
        if child == 0:
            journal.append(row(2))
            os._exit(0)   # as multiprocessing's children do: no exit handlers
        os.waitpid(child, 0)
        journal.append(row(3))
        (name,) = adopt(journal.folder)   # the child's, and not ours
        assert (journal.folder / name).read_bytes() == row(2)
        assert (journal.folder / journal.seal()).read_bytes() == row(1) + row(3)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert sorted(rows_in(folder)) == ids(1, 2, 3)


def test_a_block_can_be_locked_while_a_child_forked_during_sealing_lives(journal: Journal, folder: Path) -> None:
    """The child inherits a copy of the descriptor that no handler knows of: the lock must go with the parent's."""
    journal.append(row(1))
    segment = journal._segment
    assert segment is not None
    copy = os.dup(segment.descriptor)  # stands for the child's
    name = journal.seal()
    with journal_module.locked(folder / str(name)) as descriptor:
        assert descriptor is not None
    os.close(copy)


def test_on_an_event_loop_a_slow_disk_is_left_to_the_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[bool] = []
    journal = Journal(folder, wake=lambda: rung.append(True))
    monkeypatch.setattr(journal_module, "SLOW_NS", -1)  # every write is too slow
    journal.append(row(1))

    async def program() -> None:
        journal.append(row(2))

    asyncio.run(program())
    assert journal.held == 1
    assert rung
    journal.append(row(3))  # no event loop here: written in place
    monkeypatch.setattr(journal_module, "SLOW_NS", 10**12)
    journal.write_held()
    asyncio.run(program())  # one quick write is no quick disk yet
    assert journal.held == 1
    monkeypatch.setattr(journal, "_slow_until", 0)
    journal.write_held()
    asyncio.run(program())  # the disk is quick again
    assert journal.held == 0
    journal.seal()
    assert rows_in(folder) == ids(1, 3, 2, 2, 2)


def test_a_full_segment_rings_for_the_thread(folder: Path) -> None:
    rung: list[bool] = []
    journal = Journal(folder, wake=lambda: rung.append(True), segment_bytes=3 * len(row(1)))
    journal.append(row(1))
    journal.append(row(2))
    assert not rung
    journal.append(row(3))
    assert rung
    assert journal.urgent


def test_blocks_come_oldest_first(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("b.c-9-100-2", "b.c-9-100-10", "a-9-99-11", "z-1-1000-1"):
        (folder / f"{name}.block").touch()
    assert [path.stem for path in blocks(folder)] == ["a-9-99-11", "b.c-9-100-2", "b.c-9-100-10", "z-1-1000-1"]
