"""`spanledger retry`: rows that ClickHouse refused are sent again once their cause is mended."""

from __future__ import annotations

import json

from spanledger.exporter.journal import Journal
from tests.exporter.conftest import row
from tests.service.conftest import spanledger


def test_rows_are_refused_mended_and_sent_again(home):
    journal = Journal(home / "journal")
    journal.append(row(1) + row(2).replace(b"2026-11-22", b"nonsense!!"))
    journal.seal(last=True)
    assert spanledger(home, "up").returncode == 0
    assert spanledger(home, "settle").returncode == 0
    doctor = json.loads(spanledger(home, "doctor", "--json").stdout)
    (refused,) = (finding for finding in doctor if "refused rows" in finding["text"])
    assert "nonsense" in refused["text"] or "Cannot parse" in refused["text"]
    assert refused["todo"].endswith("spanledger retry")
    assert any("1 rows were refused in 30 days, in 1 process" in finding["text"] for finding in doctor)

    again = spanledger(home, "retry")
    assert again.returncode == 1
    assert "1 rows were tried again, 1 are refused" in again.stdout

    (aside,) = (home / "journal").glob("*.rejected")
    aside.write_bytes(aside.read_bytes().replace(b"nonsense!!", b"2026-11-22"))
    mended = spanledger(home, "retry", "--json")
    assert mended.returncode == 0, mended.stderr
    assert json.loads(mended.stdout) == {"tried": 1, "refused": 0}
    count = spanledger(home, "sql", "SELECT count() FROM llm_calls FINAL")
    assert "2" in count.stdout.split()
