"""The journal is its owner's alone, and ClickHouse's password shows nowhere."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from spanledger.exporter import health
from spanledger.exporter.client import Client
from spanledger.exporter.journal import Journal, adopt, bound
from spanledger.exporter.private import NotPrivate
from spanledger.exporter.shipper import Loaded, load_journal
from tests import faults
from tests.exporter.conftest import row

PLANTED = "planted-p%40ss-9f3b"
MEANT = "planted-p@ss-9f3b"

PROGRAM = """
    import logging, sys, threading
    logging.basicConfig(level=logging.DEBUG)
    logging.raiseExceptions = True
    from spanledger.exporter import FlushError, flush, shipper
    from tests.exporter.conftest import row
    shipper._ANSWER_S = 1.0
    shipper.current().append(row(1))
    try:
        flush(1.0)
    except FlushError as error:
        print("flush:", error, repr(error), repr(error.__cause__))
    shipper.current()._ship(False)
    print(open("/proc/self/cmdline").read(), repr(shipper.current()._client), repr(shipper.current()))
    shipper.close()
    raise RuntimeError("the program crashes")
"""


@pytest.mark.parametrize(
    "fault",
    [
        None,  # the server itself refuses the password
        faults.answers(500, "Internal Server Error"),
        faults.answers(403, "Authentication failed", 516),
        faults.closes_before,
        faults.hangs,
    ],
)
def test_the_password_shows_in_no_output(ledger: Client, tmp_path: Path, fault: faults.Fault | None) -> None:
    with faults.FaultProxy(ledger.endpoint.port, fault) as proxy:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", textwrap.dedent(PROGRAM)],
            cwd=Path(__file__).parents[2],
            env={
                **os.environ,
                "SPANLEDGER_HOME": str(tmp_path),
                "SPANLEDGER_URL": f"http://spanledger:{PLANTED}@127.0.0.1:{proxy.port}/spanledger",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    output = done.stdout + done.stderr
    assert "flush: 1 rows wait" in output
    assert "the program crashes" in output
    written = b"".join(path.read_bytes() for path in (tmp_path / "journal").iterdir())
    assert b"entry-000001" in written
    for secret in (PLANTED, MEANT):
        assert secret not in output
        assert secret.encode() not in written


def test_no_process_is_started_with_a_secret_on_its_command_line() -> None:
    """Where the package starts processes, what it gives them is known: a URL is not among it."""
    root = Path(__file__).parents[2]
    starts = [
        call
        for folder in ("exporter", "service")
        for file in (root / folder).rglob("*.py")
        for call in re.findall(r"subprocess\.(?:Popen|run)\(\s*\[(.*?)\]", file.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(starts) >= 3
    for call in starts:
        assert not re.search(r"url|password|token|pepper|secret", call), call


def test_every_file_of_the_journal_is_its_owners_alone(ledger: Client, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        journal = Journal(tmp_path / "home" / "journal")
        journal.append(row(1) + row(2).replace(b"2026-11-22", b"nonsense!!"))
        journal.seal()
        load_journal(tmp_path / "home", ledger)
        journal.append(row(3))
        journal.seal()
        journal.append(row(4))
        journal.health.count(health.ROWS_LOST, 1, "a test")
        journal.health.save()
    finally:
        os.umask(before)
    files = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in journal.folder.iterdir()}
    assert files == dict.fromkeys([".rejected", ".reason", ".block", ".open", ".health"], 0o600)
    assert stat.S_IMODE(journal.folder.stat().st_mode) == 0o700
    journal.seal(last=True)


def test_a_link_among_the_files_is_left_alone(ledger: Client, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(row(1))
    folder = tmp_path / "journal"
    folder.mkdir(mode=0o700)
    for suffix in ("open", "new", "block", "rejected", "health"):
        (folder / f"host-1-1-1.{suffix}").symlink_to(elsewhere)
    assert adopt(folder) == []
    assert load_journal(tmp_path, ledger) == Loaded(waiting=2)
    assert bound(folder, 1, 1e-9) == 0
    assert elsewhere.read_bytes() == row(1)
    assert ledger.query("SELECT count() FROM llm_calls").rows == [(0,)]


def test_rows_are_not_put_aside_through_a_link(ledger: Client, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    journal = Journal(folder)
    journal.append(row(1).replace(b"2026-11-22", b"nonsense!!"))
    name = journal.seal(last=True)
    assert name is not None
    (folder / name).with_suffix(".rejected").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        load_journal(tmp_path, ledger)
    assert elsewhere.read_bytes() == b"mine"
    assert (folder / name).exists()  # the row waits


@pytest.mark.parametrize("trouble", ["another user's", "a link"])
def test_a_journal_that_is_not_this_users_is_not_loaded(
    trouble: str, ledger: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "real" / "journal")
    journal.append(row(1))
    journal.seal(last=True)
    home = tmp_path / "real"
    if trouble == "a link":
        home = tmp_path / "home"
        home.mkdir()
        (home / "journal").symlink_to(tmp_path / "real" / "journal")
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(NotPrivate, match="belongs to user|symbolic link"):
        load_journal(home, ledger)
    assert ledger.query("SELECT count() FROM llm_calls").rows == [(0,)]
