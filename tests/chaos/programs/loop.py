"""Calls on an event loop; says as JSON what our part of them did to the loop's thread.

python -m tests.chaos.programs.loop CALLS

Its segments are small and its interval short, so that the journal rotates and is shipped all the while, and now and
then a write to the journal takes 5 ms. The second client calls a provider whose price list its SDK does not bring.

Each time the SDK comes into our code, the processor time of the loop's thread is taken, and every system call of ours
that may wait is noted by Python's audit events. Processor time, since the clock on the wall also counts what the
thread waited for a processor or for the interpreter; what it misses, waiting, the events show.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from openai import AsyncOpenAI
from opentelemetry.sdk.trace import TracerProvider

from spanledger.exporter import journal, shipper
from spanledger.exporter.install import install
from spanledger.instrumentation import OpenAIInstrumentor
from spanledger.instrumentation.patches import base_client
from spanledger.instrumentation.stream import Watch
from spanledger.settings import settings
from tests.chaos import traffic

AT_ONCE = 8
SLOW_EVERY, SLOW_S = 50, 0.005
ANSWER_S = 0.02
WAITS = ("import", "open", "time.sleep")

inside = False
taken: list[tuple[str, int]] = []
waits: Counter[str] = Counter()
rows = [0, 0]
"""Writes of rows, and how many of them in the loop's thread."""


def timed(owner: Any, name: str) -> None:
    function = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        global inside
        if threading.current_thread() is not threading.main_thread():
            return function(*args, **kwargs)
        before, inside = inside, True
        began = time.thread_time_ns()
        try:
            return function(*args, **kwargs)
        finally:
            if not before:
                taken.append((name, time.thread_time_ns() - began))
            inside = before

    setattr(owner, name, wrapper)


def noted(event: str, args: tuple[Any, ...]) -> None:
    may_wait = event.startswith(("os.", "socket.", "fcntl.", "subprocess.")) or event in WAITS
    if may_wait and inside and threading.current_thread() is threading.main_thread():
        waits[event] += 1


def slowly(write: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
    def slow(descriptor: int, data: bytes) -> int:
        if data.startswith(journal.ROW_START):
            rows[0] += data.count(b"\n")
            rows[1] += inside and threading.current_thread() is threading.main_thread()
            if rows[0] % SLOW_EVERY == 0:
                threading.Event().wait(SLOW_S)
        return write(descriptor, data)

    return slow


async def answer(request: httpx2.Request) -> httpx2.Response:
    await asyncio.sleep(ANSWER_S)
    return await traffic._async_answer(request)


def client(url: str) -> AsyncOpenAI:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    return AsyncOpenAI(api_key="sk-chaos", base_url=url, max_retries=0, http_client=http)


async def calls(number: int) -> int:
    """Make them; how many of our steps the first call took."""
    openai, another = client("https://api.openai.com/v1"), client("https://openrouter.ai/api/v1")
    await traffic.async_plain(openai)
    first = len(taken)
    await traffic.async_plain(another)
    for start in range(0, number, AT_ONCE):
        works = (traffic.async_plain, traffic.async_stream)
        await asyncio.gather(*(works[each % 2](openai) for each in range(start, start + AT_ONCE)))
    return first


def main(number: int) -> None:
    chosen = settings()
    shipper._shipper = shipper.Shipper(chosen.home, chosen.url, interval=0.05, segment_bytes=32 * 2**10)
    provider = TracerProvider(shutdown_on_exit=False)
    install(provider)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    for name in ("_enter", "_failed", "_leave", "_returned", "_seen"):
        timed(base_client, name)
    timed(base_client.Patch, "_begin")
    for name in ("piece", "end", "broken", "closed"):
        timed(Watch, name)
    journal.os.write = slowly(os.write)
    sys.addaudithook(noted)
    gc.collect()
    gc.disable()  # a collection takes as long as the program is large, and comes to us by chance
    first = asyncio.run(calls(number))
    prices = [each.name for each in threading.enumerate() if each.name == "spanledger-prices"]
    shipper.flush(30)
    shipper.close()
    found: dict[str, Any] = {
        "first_us": max(ns for _, ns in taken[:first]) / 1000,
        "longest_us": [(name, ns / 1000) for name, ns in sorted(taken[first:], key=lambda each: -each[1])[:5]],
        "median_us": sorted(ns for _, ns in taken)[len(taken) // 2] / 1000,
        "steps": len(taken),
        "waits": waits,
        "rows": rows[0],
        "rows_in_loop": rows[1],
        "left": prices + [each.name for each in Path(chosen.journal).iterdir() if each.suffix != ".health"],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
