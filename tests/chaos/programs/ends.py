"""A program that makes calls and then ends in the way that its argument names."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from spanledger.exporter import flush
from spanledger.exporter.install import install
from spanledger.exporter.spans import LedgerSpanExporter
from spanledger.instrumentation import OpenAIInstrumentor
from tests.chaos import traffic

HOME = Path(os.environ["SPANLEDGER_HOME"])


def main(way: str) -> None:
    provider = TracerProvider()
    if "EXPORTER_MODE" in os.environ:
        provider.add_span_processor(BatchSpanProcessor(LedgerSpanExporter()))
    else:
        install(provider)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    of, witness = traffic.client(), traffic.Witness(HOME / "witness")
    for _ in range(3):
        traffic.plain(of, witness)
        traffic.stream(of, witness)
    if way == "20 000 spans at once":
        tracer = provider.get_tracer("spanledger.openai")
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
        for _ in range(20_000):
            response_id = f"chatcmpl-{uuid.uuid4().hex}"
            tracer.start_span("chat", attributes=attributes | {"gen_ai.response.id": response_id}).end()
            witness.saw(response_id)
        return
    if way == "returns":
        return
    if way == "os._exit after a flush":
        flush()
        os._exit(0)
    if way == "os._exit":
        os._exit(0)
    if way == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
    if way == "SIGTERM, handled":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        os.kill(os.getpid(), signal.SIGTERM)
    if way == "SIGINT":
        os.kill(os.getpid(), signal.SIGINT)
    if way == "an exception":
        raise RuntimeError("not handled")
    if way == "a thread pool at work":
        pool = ThreadPoolExecutor(2)
        for _ in range(10):
            pool.submit(traffic.stream, of, witness)
        return
    if way == "a daemon thread at work":
        started = threading.Event()

        def work() -> None:
            while True:
                traffic.plain(of, witness)
                started.set()

        threading.Thread(target=work, daemon=True).start()
        started.wait()
        return
    if way == "cancelled tasks":
        asyncio.run(cancelled(witness))
    if way == "a stream left open":
        open_stream = iter(of.chat.completions.create(**traffic.ASK, stream=True))
        witness.saw(next(open_stream).id)
        globals()["kept"] = open_stream


async def cancelled(witness: traffic.Witness) -> None:
    of = traffic.async_client()
    stream = await of.chat.completions.create(**traffic.ASK, stream=True)
    seen = asyncio.Event()

    async def read() -> None:
        async for chunk in stream:
            witness.saw(chunk.id)
            seen.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await seen.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    main(sys.argv[1])
