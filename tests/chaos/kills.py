"""Kills real programs, and a real ClickHouse, at random moments, and compares what they had with the ledger."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.shipper import load_journal

ROOT = Path(__file__).parents[2]
START_S = 4.0
"""Embedded ClickHouse is there, and has loaded the journal, after about so long."""


@dataclass(frozen=True)
class Outcome:
    """What came of one kind of trouble.

    Attributes:
        tried: how often there was trouble.
        survived: calls that the program had the result of, and that are in the ledger once.
        unseen: calls in the ledger whose result the program did not live to see, or did not look at.
    """

    name: str
    tried: int
    survived: int
    lost: int
    doubled: int
    unseen: int = 0

    @property
    def good(self) -> bool:
        return self.survived > 0 and self.lost == self.doubled == 0

    def __str__(self) -> str:
        return f"{self.name:44}{self.tried:>8}{self.survived:>10}{self.lost:>6}{self.doubled:>9}{self.unseen:>8}"


HEADER = f"{'':44}{'tried':>8}{'survived':>10}{'lost':>6}{'doubled':>9}{'unseen':>8}"


def compared(name: str, tried: int, had: list[str], client: Client) -> Outcome:
    """What the programs `had`, beside the calls in the ledger."""
    billed = Counter(str(row[0]) for row in client.query("SELECT response_id FROM llm_calls FINAL WHERE line = 0").rows)
    lost = sum(each not in billed for each in had)
    doubled = sum(count > 1 for count in billed.values())
    return Outcome(name, tried, len(had) - lost, lost, doubled, len(billed) - len(had) + lost)


def kill_programs(home: Path, seed: int, kills: int, url: str = "") -> None:
    """Run and kill so many programs; what they had is in `home/witness`.

    Parameters:
        url: a ClickHouse that they ship to meanwhile.
    """
    home.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.chaos.programs.killed",
            str(home),
            str(seed),
            str(kills),
            url,
        ],
        cwd=ROOT,
        env={**os.environ, "SPANLEDGER_HOME": str(home)},
        check=True,
        timeout=600,
    )


def kill_starts(home: Path, seed: int, kills: int) -> None:
    """Kill what starts embedded ClickHouse and loads the journal into it, often with the server; then let it be."""
    chance = random.Random(seed)
    for number in range(kills):
        kill_programs(home, seed + number, 2)
        loader = _load(home)
        time.sleep(chance.uniform(0.0, START_S))
        server = EmbeddedClickHouse(home).status().pid
        loader.kill()
        loader.wait()
        if server is not None and chance.random() < 0.7:
            try:
                os.kill(server, signal.SIGKILL)
            except ProcessLookupError:
                pass
    loader = _load(home)
    assert loader.wait(120) == 0, "embedded ClickHouse does not start after all these kills"


def all_loaded(home: Path, client: Client) -> None:
    """Load what the killed programs left."""
    loaded = load_journal(home, client)
    assert (loaded.waiting, loaded.rejected) == (0, 0), loaded
    assert not list((home / "journal").glob("*.rejected"))


def _load(home: Path) -> subprocess.Popen[bytes]:
    code = """
import sys
from pathlib import Path
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.shipper import load_journal
home = Path(sys.argv[1])
client = open_ledger(EmbeddedClickHouse(home).start())
load_journal(home, client)
"""
    return subprocess.Popen([sys.executable, "-c", code, str(home)], cwd=ROOT)
