"""Programs that are killed: each is a fork of this one, makes calls in several threads, and knows what it has had.

    python -m tests.chaos.programs.killed HOME SEED KILLS URL

A journal's segment is made so small, and shipping so frequent, that a kill often meets rotation or an insert.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider

from spanledger.exporter import rows as rows  # imported with the first row otherwise
from spanledger.exporter import shipper
from spanledger.exporter.install import install
from spanledger.exporter.migrate import open_ledger
from spanledger.instrumentation import OpenAIInstrumentor
from tests.chaos import traffic

SEGMENT_BYTES = 6_000
SHIP_INTERVAL_S = 0.003
LONGEST_LIFE_S = 0.25
LONGEST_SHIPPING_LIFE_S = 0.8


def main() -> None:
    home, seed, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    url = sys.argv[4]
    provider = TracerProvider(shutdown_on_exit=False)
    install(provider)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    if url:
        open_ledger(url).close()  # imports what takes longer than these programs live
    of = traffic.client()
    chance = random.Random(seed)
    longest = LONGEST_SHIPPING_LIFE_S if url else LONGEST_LIFE_S
    left = kills
    while left:  # two at a time: the living one finds the journal of the dead
        alive = [_start(home, url, of, chance.random()) for _ in range(min(2, left))]
        left -= len(alive)
        for process in alive:
            time.sleep(chance.uniform(0.0, longest))
            os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
                sys.exit(f"a program ended by itself, with status {status}")


def _start(home: Path, url: str, of: traffic.OpenAI, seed: float) -> int:
    process = os.fork()
    if process:
        return process
    try:
        own = shipper.Shipper(home, url, SHIP_INTERVAL_S, SEGMENT_BYTES)
        shipper._shipper = own
        witness = traffic.Witness(home / "witness")
        chance = random.Random(seed)
        for work in (_calls, _calls, _async_calls):
            threading.Thread(target=work, args=(of, witness, chance.random()), daemon=True).start()
        while True:  # now and then a program's end, or a flush, is what the kill meets
            time.sleep(chance.uniform(0.0, LONGEST_LIFE_S))
            own.close() if chance.random() < 0.5 else shipper.seal()
    finally:
        os._exit(1)


def _calls(of: traffic.OpenAI, witness: traffic.Witness, seed: float) -> None:
    chance = random.Random(seed)
    while True:
        kind = chance.random()
        if kind < 0.5:
            traffic.plain(of, witness)
        elif kind < 0.9:
            traffic.stream(of, witness)
        else:
            traffic.abandoned_stream(of)


def _async_calls(_: traffic.OpenAI, witness: traffic.Witness, seed: float) -> None:
    async def calls() -> None:
        chance, of = random.Random(seed), traffic.async_client()
        while True:
            work = traffic.async_plain if chance.random() < 0.5 else traffic.async_stream
            await asyncio.gather(work(of, witness), work(of, witness))

    asyncio.run(calls())


if __name__ == "__main__":
    main()
