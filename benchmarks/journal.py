"""What the journal's append takes, by `SPANLEDGER_SYNC` and number of threads.

A row of ordinary size (1 900 bytes) goes into a journal of its own in each variant; the variants take turns, so that
they share the machine's noise. With `always` the disk decides: choose it with `--folder`.

    python benchmarks/journal.py [--folder DIR] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

from spanledger.exporter.journal import ALWAYS, BATCH, NO_SYNC, Journal

ROW = b'{"event_date":"2026-11-22","entry_id":"0123456789abcdef","raw_usage":"' + b"x" * 1830 + b'"}\n'


def calls(journal: Journal, threads: int, each: int) -> float:
    """Microseconds that a call of `append` takes, seen by its thread."""
    took: list[float] = []

    def work() -> None:
        began = time.perf_counter_ns()
        for _ in range(each):
            journal.append(ROW)
        took.append((time.perf_counter_ns() - began) / each / 1000)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    journal.seal(last=True)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="on the disk to measure; the system's folder for temporary files")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    found: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        for number in range(chosen.rounds):
            for sync, each in ((NO_SYNC, 2000), (BATCH, 2000), (ALWAYS, 100)):
                for threads in (1, 8):
                    journal = Journal(Path(folder) / f"{sync}-{threads}-{number}" / "journal", sync=sync)
                    found.setdefault((sync, threads), []).append(calls(journal, threads, each))
    for (sync, threads), took in found.items():
        rate = threads * 1e6 / statistics.median(took)
        print(
            f"{sync:<6} {threads} threads: {statistics.median(took):8.1f} us a call"
            f" ({min(took):.1f} to {max(took):.1f}), {rate:,.0f} rows a second"
        )


if __name__ == "__main__":
    main()
