"""A collector as a process of its own on free ports, OTLP receivers to send on to, and spans to send."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanledger import attributes as names
from spanledger.service.collector.running import Running, running
from tests.service.conftest import BIN, environment

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

CALL = {
    names.OPERATION: "chat",
    names.PROVIDER: "openai",
    names.REQUEST_MODEL: "gpt-4o",
    names.RESPONSE_MODEL: "gpt-4o-2024-08-06",
    names.USAGE_PARTS: '{"input":86,"cache_read":1920,"output":300}',
    names.USAGE_STATUS: "reported",
    names.FINISH_REASONS: ("stop",),
    names.REQUEST_STREAM: False,
    names.CREATED_NS: 1_790_000_000_000_000_000,
    names.TENANT: "acme",
}
"""Trap 1: 0.005615 USD."""


def spans(count: int = 1, scope: str = "spanledger.openai", **attributes: Any) -> tuple[ReadableSpan, ...]:
    """Ended spans of calls, each with a response id of its own; further attributes by their constants' names."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "deployment.environment.name": "test"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer(scope, "1.2")
    more = {getattr(names, name): value for name, value in attributes.items()}
    for _ in range(count):
        with tracer.start_as_current_span("chat gpt-4o", attributes={**CALL, **more}) as span:
            trace_id = span.get_span_context().trace_id
            span.set_attribute(names.RESPONSE_ID, f"chatcmpl-{trace_id:032x}")
    return memory.get_finished_spans()


def request(ended: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    return encode_spans(ended)


class Collector:
    """`spanledger collector` in a home of its own."""

    def __init__(self, home: Path, *args: str, **more: str) -> None:
        self.home = home
        ports = {"SPANLEDGER_COLLECTOR_GRPC": "127.0.0.1:0", "SPANLEDGER_COLLECTOR_HTTP": "127.0.0.1:0"}
        env = environment(home, **{**ports, **more})
        home.parent.mkdir(exist_ok=True)
        with (home.parent / "collector.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(BIN / "spanledger"), "collector", *args], env=env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = running(home)
        assert found is not None, self.log
        self.running: Running = found

    @property
    def log(self) -> str:
        return (self.home.parent / "collector.log").read_text()

    @property
    def http(self) -> str:
        return f"{'https' if self.running.tls else 'http'}://{self.running.http}"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What is in the journal at this moment."""
        files = [path for path in (self.home / "journal").glob("*") if path.suffix in (".open", ".block")]
        return [json.loads(line) for path in files for line in path.read_bytes().splitlines()]

    def post(self, body: bytes, kind: str = "application/x-protobuf", **headers: str) -> httpx.Response:
        sent = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return httpx.post(f"{self.http}/v1/traces", content=body, headers=sent, trust_env=False, timeout=60)

    def export(self, message: ExportTraceServiceRequest | bytes, **options: Any) -> ExportTraceServiceResponse:
        body = message if isinstance(message, bytes) else message.SerializeToString()
        with grpc.insecure_channel(self.running.grpc, [("grpc.max_send_message_length", -1)]) as channel:
            return ExportTraceServiceResponse.FromString(channel.unary_unary(EXPORT)(body, timeout=60, **options))

    def metric(self, name: str) -> float:
        """A number of `/metrics`; the sum over its labels."""
        text = httpx.get(f"{self.http}/metrics", trust_env=False).text
        lines = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name]
        assert lines, f"no metric {name} in {text}"
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def stop(self, how: int = signal.SIGTERM) -> float:
        """End it; the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return time.monotonic() - began


@contextmanager
def collector(home: Path, *args: str, **more: str) -> Iterator[Collector]:
    made = Collector(home, *args, **more)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.stop()


@contextmanager
def otlp_receiver(answer: Callable[[ExportTraceServiceRequest, Any], None]) -> Iterator[int]:
    """An OTLP/gRPC server, as Jaeger is one; `answer` sees each request and may abort it. Yields its port."""

    def export(message: bytes, context: Any) -> bytes:
        answer(ExportTraceServiceRequest.FromString(message), context)
        return b""

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    service, method = EXPORT[1:].split("/")
    handler = grpc.unary_unary_rpc_method_handler(export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None)


def eventually(look: Callable[[], Any], wanted: Any, seconds: float = 20.0) -> None:
    """Wait for what another process brings about."""
    deadline = time.monotonic() + seconds
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, f"{found!r} is not {wanted!r} after {seconds:g} s"
        time.sleep(0.02)
