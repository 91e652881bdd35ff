"""From the journal to ClickHouse: each row arrives once, whatever is down, slow, cut off or started twice."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanledger.exporter import FlushError, aflush, flush, shipper
from spanledger.exporter.client import ClickHouseError, Client, Endpoint, connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.journal import Journal, blocks
from spanledger.exporter.shipper import Loaded, Shipper, load_journal, pending
from spanledger.settings import settings
from tests.conftest import free_port
from tests.exporter.conftest import row, wait
from tests.faults import FaultProxy, closes_after, only_inserts


@pytest.fixture
def endpoint(clickhouse: EmbeddedClickHouse) -> Endpoint:
    endpoint = clickhouse.endpoint()
    assert endpoint is not None
    return endpoint


def url(endpoint: Endpoint, port: int | None = None, password: str | None = None) -> str:
    word = endpoint.password if password is None else password
    return f"http://{endpoint.username}:{word}@127.0.0.1:{port or endpoint.port}/{endpoint.database}"


Make = Callable[..., Shipper]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Shipper] = []

    def make(to: str = "", interval: float = 0.05) -> Shipper:
        shipper = Shipper(tmp_path / "home", to, interval)
        made.append(shipper)
        return shipper

    yield make
    for each in made:
        each.close()


def stored(ledger: Client) -> list[str]:
    """Entry ids in the table as it lies on disk: without FINAL, so that a double shows."""
    return [line[0] for line in ledger.query("SELECT entry_id FROM llm_calls ORDER BY entry_id").rows]


def ids(*numbers: int) -> list[str]:
    return [f"entry-{number:06d}" for number in numbers]


def sealed(home: Path, *content: bytes) -> None:
    journal = Journal(home / "journal")
    for rows in content:
        journal.append(rows)
        journal.seal()
    journal.seal(last=True)


# ---- loading


def test_what_waits_is_loaded_and_gone(ledger: Client, tmp_path: Path) -> None:
    sealed(tmp_path, row(1) + row(2), row(3))
    assert pending(tmp_path).rows == 3
    assert load_journal(tmp_path, ledger) == Loaded(blocks=2, rows=3)
    assert stored(ledger) == ids(1, 2, 3)
    assert list((tmp_path / "journal").iterdir()) == []
    assert load_journal(tmp_path, ledger) == Loaded()


def test_the_same_block_again_inserts_nothing(ledger: Client, tmp_path: Path) -> None:
    sealed(tmp_path, row(1) + row(2))
    (block,) = blocks(tmp_path / "journal")
    copy = block.read_bytes()
    load_journal(tmp_path, ledger)
    block.write_bytes(copy)  # as after a crash between the insert and the deletion
    assert load_journal(tmp_path, ledger).blocks == 1
    assert stored(ledger) == ids(1, 2)


def test_a_block_whose_answer_was_lost_is_stored_once(ledger: Client, endpoint: Endpoint, tmp_path: Path) -> None:
    with FaultProxy(endpoint.port, only_inserts(closes_after)) as proxy:
        client = connect(url(endpoint, proxy.port))
        sealed(tmp_path, row(1))
        with pytest.raises(ClickHouseError) as caught:
            load_journal(tmp_path, client)
        client.close()
    assert caught.value.unreachable
    assert stored(ledger) == ids(1)  # the server had executed it
    assert pending(tmp_path).rows == 1

    assert load_journal(tmp_path, ledger).blocks == 1
    assert stored(ledger) == ids(1)


def test_loaders_share_the_work(ledger: Client, endpoint: Endpoint, tmp_path: Path) -> None:
    sealed(tmp_path, *[row(number) for number in range(40)])
    loaded: list[Loaded] = []

    def load() -> None:
        client = connect(endpoint)
        loaded.append(load_journal(tmp_path, client))
        client.close()

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.blocks for each in loaded) == 40
    assert sum(each.rows for each in loaded) == 40
    assert stored(ledger) == ids(*range(40))


def test_a_block_refused_for_its_content_is_put_aside_and_the_others_go_on(ledger: Client, tmp_path: Path) -> None:
    sealed(tmp_path, row(1), row(2).replace(b"2026-11-22", b"nonsense!!"), row(3))
    assert load_journal(tmp_path, ledger) == Loaded(blocks=2, rows=2, rejected=1)
    assert stored(ledger) == ids(1, 3)
    assert load_journal(tmp_path, ledger) == Loaded()  # it is not tried for ever
    found = pending(tmp_path)
    assert (found.segments, found.rejected, found.rejected_rows) == (0, 1, 1)
    assert re.search(r"\.rejected: .*Cannot parse", found.reasons[0])
    (aside,) = (tmp_path / "journal").glob("*.rejected")
    assert b"nonsense" in aside.read_bytes()


def test_a_column_that_the_table_lacks_is_no_reason_to_put_rows_aside(ledger: Client, tmp_path: Path) -> None:
    sealed(tmp_path, row(1, invented="1"))
    with pytest.raises(ClickHouseError, match="invented"):
        load_journal(tmp_path, ledger)
    assert pending(tmp_path).segments == 1
    assert pending(tmp_path).rejected == 0


def test_rows_of_a_running_program_are_said_to_wait(ledger: Client, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(row(1))
    assert load_journal(tmp_path, ledger) == Loaded(waiting=1)
    found = pending(tmp_path)
    assert (found.segments, found.rows, found.bytes) == (1, 1, len(row(1)))
    assert 0 <= found.oldest_age_s < 60
    journal.seal(last=True)


def test_a_wrong_password_is_an_error_that_does_not_show_it(endpoint: Endpoint) -> None:
    with pytest.raises(ClickHouseError, match="Authentication failed") as caught:
        connect(url(endpoint, password="hunter2-secret"))
    assert "hunter2-secret" not in str(caught.value)
    assert "hunter2-secret" not in repr(caught.value)


# ---- the thread


def test_the_thread_sends_rows_while_the_program_runs(ledger: Client, endpoint: Endpoint, make: Make) -> None:
    shipper = make(url(endpoint))
    for number in range(5):
        shipper.append(row(number))
        assert wait(lambda number=number: len(stored(ledger)) == number + 1)  # type: ignore[misc]
    assert stored(ledger) == ids(*range(5))


def test_clickhouse_down_then_up(
    ledger: Client, endpoint: Endpoint, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "spanledger")
    port = free_port()
    shipper = make(url(endpoint, port))
    for number in range(20):
        shipper.append(row(number))
        time.sleep(0.02)
    assert wait(lambda: shipper._failures >= 2)
    assert pending(tmp_path / "home").rows == 20

    proxy = FaultProxy(endpoint.port, port=port)
    assert wait(lambda: len(stored(ledger)) == 20, 30)
    assert stored(ledger) == ids(*range(20))
    assert wait(lambda: pending(tmp_path / "home").rows == 0)
    assert wait(lambda: len(caplog.records) >= 2)
    down, back = [record.getMessage() for record in caplog.records if record.name == "spanledger"]
    assert "Connection refused" in down
    assert "rows wait in" in down
    assert "is back; 20 rows" in back
    assert endpoint.password not in caplog.text
    assert [record.name for record in caplog.records if record.levelno > logging.INFO] == ["spanledger"] * 2
    proxy.close()


def test_the_journal_of_a_dead_process_is_sent_by_the_next(
    ledger: Client, endpoint: Endpoint, make: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "home" / "journal"
    folder.mkdir(parents=True)
    (folder / "host-1-1-1.open").write_bytes(row(1) + row(2)[:20])
    shipper = make(url(endpoint))
    shipper.append(row(3))
    assert wait(lambda: stored(ledger) == ids(1, 3))


def test_a_wrong_url_is_said_once_and_the_rows_wait(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipper = make("clickhouse.example:8123")
    shipper.append(row(1))
    assert wait(lambda: shipper._failures >= 1)
    assert "SPANLEDGER_URL" in caplog.text
    assert pending(tmp_path / "home").rows == 1


def test_without_a_url_files_stay_few(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "journal"
    folder.mkdir(parents=True)
    for number in range(500):
        (folder / f"host-1-1-{number}.block").touch()
    shipper = make(interval=1.0)
    assert shipper._seal_interval() == 11.0


def test_a_forked_child_has_a_thread_of_its_own(ledger: Client, endpoint: Endpoint, tmp_path: Path) -> None:
    code = """
        import os, sys, threading, time
        from pathlib import Path
        from spanledger.exporter.shipper import Shipper
        from tests.exporter.conftest import row
        shipper = Shipper(Path(sys.argv[1]), sys.argv[2], 0.05)
        shipper.append(row(1))
        shipper.flush(10)
        child = os.fork()
        if child == 0:
            assert shipper._thread is None
            assert [t.name for t in threading.enumerate() if t.name == "spanledger-shipper"] == []
            shipper.append(row(2))
            shipper.flush(10)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        shipper.append(row(3))
        shipper.flush(10)
    """
    _python(code, str(tmp_path / "home"), url(endpoint))
    assert stored(ledger) == ids(1, 2, 3)


# ---- flush


def test_flush_brings_rows_to_the_url(
    ledger: Client, endpoint: Endpoint, ledger_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANLEDGER_URL", url(endpoint))
    monkeypatch.setenv("SPANLEDGER_SHIP_INTERVAL", "1000")
    settings.cache_clear()
    flush()  # nothing is recorded
    shipper.current().append(row(1))
    flush()
    assert stored(ledger) == ids(1)
    shipper.current().append(row(2))
    asyncio.run(aflush())
    assert stored(ledger) == ids(1, 2)


def test_flush_brings_rows_to_the_running_embedded_clickhouse(clickhouse: EmbeddedClickHouse, ledger: Client) -> None:
    local = Shipper(clickhouse.home, "", 1000)
    local.append(row(1))
    local.flush(10)
    assert stored(ledger) == ids(1)
    local.close()


def test_flush_without_a_clickhouse_says_what_to_do(ledger_home: Path) -> None:
    shipper.current().append(row(1))
    with pytest.raises(FlushError, match=r"spanledger up.*SPANLEDGER_URL"):
        flush()
    assert pending(ledger_home).rows == 1


def test_flush_gives_up_after_its_bound(endpoint: Endpoint, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        shipper = make(url(endpoint, silent.getsockname()[1]), interval=1000)
        shipper.append(row(1))
        began = time.monotonic()
        with pytest.raises(FlushError, match="1 rows wait") as caught:
            shipper.flush(1.0)
        assert time.monotonic() - began < 4
        assert endpoint.password not in str(caught.value)
        assert {record.name for record in caplog.records} <= {"spanledger"}


def test_flush_tells_of_rows_that_clickhouse_refused(endpoint: Endpoint, make: Make, ledger: Client) -> None:
    shipper = make(url(endpoint), interval=1000)
    shipper.append(row(1).replace(b"2026-11-22", b"nonsense!!"))
    with pytest.raises(FlushError, match="refused"):
        shipper.flush(10)
    shipper.append(row(2))
    shipper.flush(10)
    assert stored(ledger) == ids(2)


def test_flush_tells_of_a_disk_that_takes_nothing(
    make: Make, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipper = make(url(endpoint), interval=1000)

    def broken(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", broken)
        shipper.append(row(1))
        with pytest.raises(FlushError, match="1 rows wait in memory"):
            shipper.flush(1)
    shipper.flush(10)


def test_flush_holds_while_the_thread_ships_too(ledger: Client, endpoint: Endpoint, make: Make) -> None:
    shipper = make(url(endpoint), interval=0.001)
    for number in range(60):
        shipper.append(row(number))
        shipper.flush(10)
        assert len(stored(ledger)) == number + 1


# ---- the end of a program


def _python(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


PROGRAM = """
    import sys, time
    from spanledger.exporter import shipper
    from tests.exporter.conftest import row
    shipper.current().append(row(1))
    print([name for name in ("clickhouse_connect", "chdb", "yaml") if name in sys.modules])
    print("ends at", time.monotonic())
"""


def test_a_program_that_ends_has_sent_its_rows(ledger: Client, endpoint: Endpoint, tmp_path: Path) -> None:
    _python(PROGRAM, SPANLEDGER_HOME=str(tmp_path), SPANLEDGER_URL=url(endpoint))
    assert stored(ledger) == ids(1)
    assert pending(tmp_path).segments == 0


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_a_program_ends_in_time_when_clickhouse_is_dead(endpoint: Endpoint, tmp_path: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if kind == "silent" else free_port()
        output = _python(PROGRAM, SPANLEDGER_HOME=str(tmp_path), SPANLEDGER_URL=url(endpoint, port))
        ended = time.monotonic()
    assert ended - float(output.partition("ends at ")[2].split()[0]) < 5
    assert endpoint.password not in output
    assert pending(tmp_path).rows == 1


def test_a_program_without_a_url_seals_and_knows_nothing_of_clickhouse(tmp_path: Path, ledger: Client) -> None:
    output = _python(PROGRAM, SPANLEDGER_HOME=str(tmp_path), SPANLEDGER_URL="")
    assert output.startswith("[]\n")
    assert [path.suffix for path in (tmp_path / "journal").iterdir()] == [".block"]
    assert load_journal(tmp_path, ledger) == Loaded(blocks=1, rows=1)


def test_rows_that_come_after_the_end_began_are_kept(tmp_path: Path, ledger: Client) -> None:
    code = """
        import atexit
        from spanledger.exporter import shipper
        from tests.exporter.conftest import row
        atexit.register(lambda: shipper.current().append(row(2)))
        shipper.current().append(row(1))
        shipper.close()
    """
    _python(code, SPANLEDGER_HOME=str(tmp_path), SPANLEDGER_URL="")
    load_journal(tmp_path, ledger)
    assert stored(ledger) == ids(1, 2)
