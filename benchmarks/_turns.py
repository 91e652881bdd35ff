"""Variants that take turns: how the benchmarks compare an SDK with and without instrumentation, in one run.

Machines are noisy, and a call pays for the caches that the one before it has emptied. So the variants alternate call
by call and chunk by chunk, in an order shuffled for each round, and a variant's figure is the median over all rounds
of its difference from the plain one of the same round.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any

PLAIN = "plain"

Times = dict[str, list[int]]


def take_turns(works: Mapping[str, Callable[[], Any]], times: Times) -> None:
    """Do each work once, in any order, and add the nanoseconds it took to `times`."""
    for name in random.sample(list(works), len(works)):
        work = works[name]
        start = perf_counter_ns()
        work()
        times[name].append(perf_counter_ns() - start)


def compare_chunks(streams: Mapping[str, Any], times: Times, chunks: int, skip: int = 20) -> None:
    """Read streams side by side and time the chunks in their middle.

    Parameters:
        chunks: how many a stream has at least; `skip` at both of its ends are not timed.
    """
    for each in streams.values():
        for _ in range(skip):
            next(each)
    works = {name: each.__next__ for name, each in streams.items()}
    for _ in range(chunks - 2 * skip):
        take_turns(works, times)
    for each in streams.values():
        for _ in each:
            pass


def added(times: Times) -> dict[str, float]:
    """Median microseconds of the plain variant, and of what each other variant adds to it."""
    plain = times[PLAIN]
    found = {PLAIN: statistics.median(plain)}
    for name, taken in times.items():
        if name != PLAIN:
            found[name] = statistics.median(t - p for t, p in zip(taken, plain, strict=True))
    return {name: ns / 1000 for name, ns in found.items()}
