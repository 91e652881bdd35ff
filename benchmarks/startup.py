"""What spanledger adds to the start of a program under `opentelemetry-instrument` that imports no provider SDK.

Runs OpenTelemetry's own initialisation in fresh interpreters, in turns: with our entry points and without them.

    python benchmarks/startup.py [--rounds 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

PROGRAM = """
import resource, sys, time
start = time.perf_counter()
from opentelemetry.instrumentation.auto_instrumentation import _load
if sys.argv[1] == "without":
    found = _load.entry_points
    _load.entry_points = lambda **which: [e for e in found(**which) if not e.value.startswith("spanledger.")]
from opentelemetry.instrumentation.auto_instrumentation import initialize
initialize(swallow_exceptions=False)
took = time.perf_counter() - start
print(took * 1000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def run(variant: str, home: str) -> tuple[float, float]:
    """(milliseconds, MB) of one start."""
    exporters = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    environ = os.environ | exporters | {"SPANLEDGER_HOME": home}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, variant], env=environ, capture_output=True, text=True, check=True
    )
    milliseconds, megabytes = done.stdout.split()
    return float(milliseconds), float(megabytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    results: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(rounds):
            for variant, seen in results.items():
                seen.append(run(variant, home))
    medians = {v: [statistics.median(column) for column in zip(*seen, strict=True)] for v, seen in results.items()}
    for variant, (milliseconds, megabytes) in medians.items():
        print(f"{variant:8} spanledger  {milliseconds:7.1f} ms {megabytes:7.1f} MB")
    added = [with_ - without for with_, without in zip(medians["with"], medians["without"], strict=True)]
    print(f"spanledger adds      {added[0]:7.1f} ms {added[1]:7.1f} MB")


if __name__ == "__main__":
    main()
