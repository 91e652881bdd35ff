"""The collector's front: opens the ports, and ends in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from spanledger.service import listening, presence
from spanledger.service.collector import metrics, otlp_grpc, otlp_http
from spanledger.service.collector.admission import Admission
from spanledger.service.collector.forward import Forwarder
from spanledger.service.collector.metrics import Counts
from spanledger.service.collector.pool import Pool
from spanledger.service.collector.receiver import Receiver
from spanledger.service.collector.running import CollectorError, Running, lock_file, now_ns
from spanledger.service.collector.settings import VARIABLE, CollectorSettings
from spanledger.service.collector.settling import keep_settled
from spanledger.service.part_settings import Address
from spanledger.settings import Settings

logger = logging.getLogger("spanledger")

ANSWER_S = 1.0
"""Seconds after the signal that requests which are being answered may take, over gRPC and over HTTP."""

FORWARD_S = 0.75
WORKERS_S = 2.0
_LOOK_S = 0.5
_WITHOUT = "`spanledger up --no-collector` does without"


async def serve(
    now: Settings, chosen: CollectorSettings, ready: Callable[[Running], None], stopping: asyncio.Event
) -> None:
    """Run the collector until `stopping` is set; then within 5 s.

    Parameters:
        ready: called when all ports are open.

    Raises:
        CollectorError, ListenError: it cannot start.
    """
    listening.check_tls(VARIABLE, chosen.tls_cert, chosen.tls_key, chosen.tls_client_ca)
    counts = Counts()
    admission = Admission(chosen, now.journal)
    pool = Pool(chosen)
    async with AsyncExitStack() as stack:
        try:
            say = stack.enter_context(presence.held(lock_file(now.home)))
        except presence.Taken:
            raise CollectorError(
                f"another collector runs for {now.home}: `spanledger status` shows where; one of `spanledger up` is"
                " left out by its option --no-collector"
            ) from None
        listener = listening.bind(chosen.http, f"{VARIABLE}_HTTP", _WITHOUT) if chosen.http else None
        if listener is not None:
            stack.callback(listener.close)
        probe = listening.bind(chosen.grpc, f"{VARIABLE}_GRPC", _WITHOUT) if chosen.grpc else None
        if probe is not None:
            probe.close()
        await pool.start()
        stack.push_async_callback(pool.close, WORKERS_S)
        forwarder = None
        if chosen.forward:
            forwarder = Forwarder(chosen)
            forwarder.start()
            stack.push_async_callback(forwarder.close, FORWARD_S)
        receiver = Receiver(admission, pool, counts, forwarder)
        _add_gauges(counts, receiver)
        grpc_port = await stack.enter_async_context(_grpc(receiver, chosen)) if chosen.grpc else None
        if listener is not None:
            tls = (chosen.tls_cert, chosen.tls_key, chosen.tls_client_ca)
            server = listening.Server(otlp_http.application(receiver, chosen), *tls)
            await stack.enter_async_context(listening.serving(server, listener, ANSWER_S))
        if chosen.metrics_url:
            stack.push_async_callback(asyncio.to_thread, metrics.send(counts, chosen.metrics_url))
        looking = asyncio.create_task(_look(admission))
        stack.callback(looking.cancel)
        if now.url:
            settling = asyncio.create_task(keep_settled(now.url, lambda: counts.rows))
            stack.callback(settling.cancel)
        running = Running(
            pid=os.getpid(),
            since_ns=now_ns(),
            grpc=str(Address(chosen.grpc.host, grpc_port)) if chosen.grpc and grpc_port else "",
            http=str(Address(chosen.http.host, listener.getsockname()[1])) if chosen.http and listener else "",
            tls=chosen.tls_cert is not None,
            token=bool(chosen.token),
            forward=chosen.forward,
        )
        _check_forward(running)
        say(running._asdict())
        ready(running)
        await stopping.wait()
        admission.draining = True


def run(now: Settings, chosen: CollectorSettings, ready: Callable[[Running], None], parent: int | None = None) -> None:
    """Run the collector in this process until SIGTERM or SIGINT.

    Parameters:
        parent: descriptor of a pipe from the process that started this one; its end ends the collector too.

    Raises:
        CollectorError, ListenError: it cannot start.
    """

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        if parent is not None:
            loop.add_reader(parent, stopping.set)
            stopping_seen = asyncio.create_task(stopping.wait())
            stopping_seen.add_done_callback(lambda _: loop.remove_reader(parent))
        await serve(now, chosen, ready, stopping)

    asyncio.run(main())


@asynccontextmanager
async def _grpc(receiver: Receiver, chosen: CollectorSettings) -> AsyncIterator[int]:
    made = otlp_grpc.server(receiver, chosen)
    assert chosen.grpc is not None
    try:
        port = otlp_grpc.listen(made, chosen.grpc, chosen)
    except RuntimeError as error:
        raise CollectorError(f"{VARIABLE}_GRPC={chosen.grpc}: {error}") from None
    await made.start()
    try:
        yield port
    finally:
        await made.stop(ANSWER_S)


def _check_forward(running: Running) -> None:
    parts = urlsplit(running.forward)
    if parts.hostname and Address(parts.hostname, 0).loopback:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if port in {int(address.rpartition(":")[2]) for address in (running.grpc, running.http) if address}:
            raise CollectorError(
                f"{VARIABLE}_FORWARD={running.forward} is this collector itself: spans would go in circles"
            )


def _add_gauges(counts: Counts, receiver: Receiver) -> None:
    admission, pool, forwarder = receiver.admission, receiver.pool, receiver.forwarder
    counts.gauge("requests_in_flight", "Requests that are being answered.", lambda: admission.requests)
    counts.gauge("held_bytes", "Bytes of requests that are being answered.", lambda: admission.held_bytes)
    counts.gauge("journal_bytes", "Bytes that wait for ClickHouse.", lambda: admission.journal_bytes)
    counts.gauge("workers", "Worker processes.", lambda: len(pool.pids))
    counts.gauge("workers_lost", "Worker processes that ended by themselves.", lambda: pool.lost, "counter")
    counts.gauge(
        "memory_bytes",
        "Resident memory of the collector's processes together.",
        lambda: metrics.memory_bytes([os.getpid(), *pool.pids]),
    )
    if forwarder is not None:
        counts.gauge("forward_sent_spans", "Spans sent on.", lambda: forwarder.sent, "counter")
        counts.gauge("forward_dropped_spans", "Spans that could not be sent on.", lambda: forwarder.dropped, "counter")
        counts.gauge("forward_queued_bytes", "Bytes that wait to be sent on.", lambda: forwarder.queued_bytes)


async def _look(admission: Admission) -> None:
    while True:
        admission.look_at_journal()
        await asyncio.sleep(_LOOK_S)
