"""A program with children: `family.py fork|spawn|forkserver`. Parents and children make calls, before and after."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

from tests.chaos import traffic

HOME = Path(os.environ["SPANLEDGER_HOME"])


def calls(number: int) -> None:
    of, witness = traffic.client(), traffic.Witness(HOME / "witness")
    for _ in range(number):
        traffic.plain(of, witness)
        traffic.stream(of, witness)


def main() -> None:
    context = multiprocessing.get_context(sys.argv[1])
    calls(2)
    children = [context.Process(target=calls, args=(2,)) for _ in range(2)]
    for child in children:
        child.start()
    calls(2)
    for child in children:
        child.join()
    with context.Pool(2, maxtasksperchild=1) as pool:  # its processes are ended by SIGTERM
        pool.map(calls, [1, 1, 1, 1], chunksize=1)
    calls(2)


if __name__ == "__main__":
    main()
