"""Sustained spans/s from OTLP over gRPC to rows in ClickHouse, with CPU and memory, and what happens at twice that.

A request is serialised once; ids and response ids are written into its bytes before each sending, so that the load
costs little. `accepted` is what senders were told is journaled. `to rows` is the rate at which rows came to ClickHouse:
all but the first that were seen there, over the time from these to the last. CPU is in cores over the whole time.

    python benchmarks/collector.py [--seconds 20] [--otelcol PATH]

With `--otelcol` (or `SPANLEDGER_BENCH_OTELCOL`), the path of an OpenTelemetry Collector with the contrib
`clickhouseexporter`, the same load goes through that one into the same ClickHouse.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanledger import attributes as names
from spanledger.exporter.client import Client, connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.service import daemon
from spanledger.service.collector.running import running

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
BATCH = 512  # of the SDK's BatchSpanProcessor
MIB = 2**20

USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 128,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
CALL: dict[str, Any] = {
    names.OPERATION: "chat",
    names.PROVIDER: "openai",
    names.REQUEST_MODEL: "gpt-4o",
    names.REQUEST_STREAM: False,
    names.SERVER_ADDRESS: "api.openai.com",
    names.API_KEY_HASH: "9a23ce29984712f8",
    names.TENANT: "acme",
    names.USAGE_STATUS: "reported",
    names.INPUT_TOKENS: 2006,
    names.OUTPUT_TOKENS: 300,
    names.CACHE_READ_TOKENS: 1920,
    names.REASONING_TOKENS: 128,
    names.USAGE_PARTS: json.dumps({"cache_read": 1920, "input": 86, "output_reasoning": 128, "output": 172}),
    names.USAGE_RAW: json.dumps(USAGE),
    names.RESPONSE_MODEL: "gpt-4o-2024-08-06",
    names.FINISH_REASONS: ("stop",),
    names.SERVICE_TIER: "default",
    names.COST_STATUS: "priced",
    names.PRICED_MODEL: "gpt-4o",
    names.COST: "0.005615",
    names.COST_CURRENCY: "USD",
}
"""What one of our own spans carries."""


class Load:
    """Requests whose spans are all different, from one that is serialised once."""

    def __init__(self, spans: int = BATCH) -> None:
        memory = InMemorySpanExporter()
        provider = TracerProvider(resource=Resource({"service.name": "shop"}))
        provider.add_span_processor(SimpleSpanProcessor(memory))
        tracer = provider.get_tracer("spanledger.openai", "0.1.0")
        for number in range(spans):
            with tracer.start_as_current_span("chat gpt-4o", attributes=CALL) as span:
                span.set_attribute(names.RESPONSE_ID, f"chatcmpl-{number:024x}")
        ended = memory.get_finished_spans()
        self._bytes = bytearray(encode_spans(ended).SerializeToString())
        self._places = [
            (
                self._bytes.index(span.context.trace_id.to_bytes(16, "big")),
                self._bytes.index(span.context.span_id.to_bytes(8, "big")),
                self._bytes.index(f"chatcmpl-{number:024x}".encode()) + len("chatcmpl-"),
            )
            for number, span in enumerate(ended)
        ]
        self._prefix = random.Random().getrandbits(32)
        self.rows = f"startsWith(response_id, 'chatcmpl-{self._prefix:08x}')"
        self._count = 0

    def next(self) -> bytes:
        body, count = self._bytes, self._count
        for trace, span, response in self._places:
            count += 1
            unique = (self._prefix << 32 | count).to_bytes(8, "big")
            body[trace : trace + 8] = body[span : span + 8] = unique
            body[response : response + 16] = unique.hex().encode()
        self._count = count
        return bytes(body)


@dataclass
class Sent:
    """What the senders did."""

    accepted: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


async def send(load: Load, target: str, senders: int, tasks_each: int, seconds: float, pace: float = 0.0) -> Sent:
    """Let each sender, a connection of its own, send for `seconds`; what is refused is sent again until it is taken.

    Parameters:
        tasks_each: requests that a sender has under way at most.
        pace: spans a second of all senders together; 0: each request follows the answer to the one before.
    """
    done = Sent()
    began = time.monotonic()
    end = began + seconds
    due = began

    async def sender(channel: grpc.aio.Channel) -> None:
        nonlocal due
        export = channel.unary_unary(EXPORT)
        while (now := time.monotonic()) < end:
            if pace:
                mine, due = due, due + BATCH / pace
                if mine > now:
                    await asyncio.sleep(mine - now)
            body = load.next()
            while True:
                try:
                    await export(body, timeout=60)
                    done.accepted += BATCH
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        done.failures[error.code().name] += 1
                        break
                    done.refused += BATCH
                    await asyncio.sleep(random.uniform(0.5, 1.5))  # RetryInfo says 1 s

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(target, options) for _ in range(senders)]
    await asyncio.gather(*(sender(channel) for channel in channels for _ in range(tasks_each)))
    done.seconds = time.monotonic() - began
    for channel in channels:
        await channel.close()
    return done


class Meter:
    """CPU time and memory of groups of processes while a block runs."""

    def __init__(self, groups: dict[str, Callable[[], list[int]]]) -> None:
        self._groups = groups
        self.cores: dict[str, float] = {}
        self.seconds = 0.0
        self.peak: dict[str, float] = dict.fromkeys(groups, 0.0)
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        import threading

        over = threading.Event()

        def look() -> None:
            while True:
                for name, pids in self._groups.items():
                    mib = sum(map(_resident, pids())) / MIB
                    self.first.setdefault(name, mib)
                    self.last[name] = mib
                    self.peak[name] = max(self.peak[name], mib)
                if over.wait(0.25):
                    return

        watching = threading.Thread(target=look)
        before = {name: {pid: _cpu(pid) for pid in pids()} for name, pids in self._groups.items()}
        began = time.monotonic()
        watching.start()
        try:
            yield
        finally:
            self.seconds = took = time.monotonic() - began
            over.set()
            watching.join()
            for name, pids in self._groups.items():
                self.cores[name] = sum(_cpu(pid) - before[name].get(pid, 0.0) for pid in pids()) / took


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


def _family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *map(int, children)]


@contextmanager
def ledger(home: Path) -> Iterator[tuple[str, Client]]:
    """`spanledger up` in `home`: where its collector listens, and a client of its ClickHouse."""
    os.environ |= {
        "SPANLEDGER_HOME": str(home),
        "SPANLEDGER_COLLECTOR_GRPC": "127.0.0.1:0",
        "SPANLEDGER_COLLECTOR_HTTP": "127.0.0.1:0",
    }
    daemon.start(home)
    try:
        here, endpoint = running(home), EmbeddedClickHouse(home).endpoint()
        assert here is not None
        assert endpoint is not None
        client = connect(endpoint)
        yield here.grpc, client
        client.close()
    finally:
        daemon.stop(home)


def rows(client: Client, table: str) -> int:
    return int(client.query(f"SELECT count() FROM {table}").rows[0][0])


class Arrivals:
    """Watches rows come to a table."""

    def __init__(self, client: Client, table: str) -> None:
        self._client, self._table = client, table
        self._before = rows(client, table)
        self.seen: list[tuple[float, int]] = []

    def look(self) -> int:
        count = rows(self._client, self._table) - self._before
        if count and (not self.seen or self.seen[-1][1] < count):
            self.seen.append((time.monotonic(), count))
        return count

    async def watch(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(0.1)

    def wait(self, wanted: int, patience: float = 180.0) -> None:
        deadline = time.monotonic() + patience
        while self.look() < wanted and time.monotonic() < deadline:
            time.sleep(0.1)

    @property
    def rate(self) -> float:
        """Rows a second, after those that came first."""
        (began, first), (ended, last) = self.seen[0], self.seen[-1]
        return (last - first) / (ended - began) if ended > began else 0.0


def measure(
    title: str,
    target: str,
    client: Client,
    groups: dict[str, Callable[[], list[int]]],
    table: str = "llm_calls",
    **how: Any,
) -> float:
    """Send, wait for the rows, and print what came; the rate of rows."""
    meter, load, arrivals = Meter(groups), Load(), Arrivals(client, table)

    async def run() -> Sent:
        watching = asyncio.create_task(arrivals.watch())
        done = await send(load, target, **how)
        watching.cancel()
        return done

    with meter.running():
        done = asyncio.run(run())
        arrivals.wait(done.accepted)
    calls = done.accepted
    if table == "llm_calls":
        calls = client.query(f"SELECT uniqExact(entry_id) FROM {table} WHERE {load.rows}").rows[0][0]
    lost = f"{done.accepted - calls} LOST" if calls != done.accepted else "none lost"
    print(title)
    print(f"  accepted  {done.accepted / done.seconds:8.0f} spans/s: {done.accepted} spans, {calls} calls, {lost}")
    print(f"  to rows   {arrivals.rate:8.0f} rows/s")
    if done.refused or done.failures:
        print(f"  refused   {done.refused} spans, sent again; failures: {dict(done.failures) or 'none'}")
    print(f"  cores     {', '.join(f'{name} {value:.2f}' for name, value in meter.cores.items())}")
    each = {name: value * meter.seconds * 1e6 / max(done.accepted, 1) for name, value in meter.cores.items()}
    print(f"  CPU/span  {', '.join(f'{name} {value:.0f} us' for name, value in each.items())}")
    for name in groups:
        if name not in ("load", "ClickHouse"):
            peak = f"{meter.first[name]:.0f} MiB -> {meter.last[name]:.0f}, {meter.peak[name]:.0f} at most"
            print(f"  memory    {name} {peak}", flush=True)
    return arrivals.rate


OTELCOL = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
processors: {{batch: {{timeout: 500ms, send_batch_size: 8192}}}}
exporters:
  clickhouse:
    endpoint: http://127.0.0.1:{http}
    username: {user}
    password: {password}
    database: {database}
    async_insert: false
    create_schema: false
    traces_table_name: otel_traces
    timeout: 30s
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], processors: [batch], exporters: [clickhouse]}}}}
"""

# https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/clickhouseexporter
OTEL_TRACES = """
CREATE TABLE otel_traces (
    Timestamp DateTime64(9) CODEC(Delta, ZSTD(1)), TraceId String CODEC(ZSTD(1)), SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)), TraceState String CODEC(ZSTD(1)), SpanName LowCardinality(String),
    SpanKind LowCardinality(String), ServiceName LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)), ScopeName String, ScopeVersion String,
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)), Duration UInt64 CODEC(ZSTD(1)),
    StatusCode LowCardinality(String), StatusMessage String CODEC(ZSTD(1)),
    Events Nested(Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String)),
    Links Nested(TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = MergeTree PARTITION BY toDate(Timestamp) ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
"""


@contextmanager
def otelcol(program: str, folder: Path, client: Client) -> Iterator[tuple[str, int]]:
    """An OpenTelemetry Collector that inserts into the same ClickHouse: where it listens, and its process."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    to = client.endpoint
    client.command(OTEL_TRACES)
    config = folder / "otelcol.yaml"
    values = {"http": to.port, "user": to.username, "password": to.password, "database": to.database, "port": port}
    config.touch(0o600)
    config.write_text(OTELCOL.format(**values))
    with (folder / "otelcol.log").open("wb") as log:
        process = subprocess.Popen([program, "--config", f"file:{config}"], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise SystemExit(f"{program} ended: {(folder / 'otelcol.log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--senders", default="1,4,16")
    parser.add_argument("--otelcol", default=os.environ.get("SPANLEDGER_BENCH_OTELCOL", ""))
    asked = parser.parse_args()
    print(
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {BATCH} spans a request, Python {sys.version[:6]}"
    )
    best = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder,
        ledger(Path(folder) / "home") as (target, client),
    ):
        home = Path(folder) / "home"
        here, service = running(home), daemon.running(home)
        assert here is not None
        assert service is not None
        engine = EmbeddedClickHouse(home).status().pid
        assert engine is not None
        groups: dict[str, Callable[[], list[int]]] = {
            "collector": lambda: _family(here.pid),
            "its front": lambda: [here.pid],
            "service": lambda: [service.pid],
            "ClickHouse": lambda: [engine],
            "load": lambda: [os.getpid()],
        }
        measure("warming up", target, client, groups, senders=4, tasks_each=2, seconds=2.0)
        for senders in map(int, re.split(r",\s*", asked.senders)):
            each = 2 if senders == 1 else 1
            title = f"{senders} sender{'s' if senders > 1 else ''}, each {each} at a time"
            best = max(
                best, measure(title, target, client, groups, senders=senders, tasks_each=each, seconds=asked.seconds)
            )
        measure(
            f"overload: 16 senders offer {2 * best:.0f} spans/s, twice the best",
            target,
            client,
            groups,
            senders=16,
            tasks_each=8,
            seconds=asked.seconds,
            pace=2 * best,
        )
        if not asked.otelcol:
            print("clickhouseexporter: not measured; --otelcol names an OpenTelemetry Collector that has it")
            return
        with otelcol(asked.otelcol, Path(folder), client) as (other, pid):
            groups = {"otelcol": lambda: [pid], "ClickHouse": lambda: [engine], "load": lambda: [os.getpid()]}
            measure(
                "clickhouseexporter, 4 senders: spans as they are, neither read nor priced",
                other,
                client,
                groups,
                table="otel_traces",
                senders=4,
                tasks_each=1,
                seconds=asked.seconds,
            )


if __name__ == "__main__":
    main()
