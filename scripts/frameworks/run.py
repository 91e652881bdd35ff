"""Run a framework's program with the instrumentations that are asked for; its rows are in the journal when it ends.

Runs in the framework's own environment. The spans are also written down as the exporters would send them, one OTLP
request a span, each with its length before it, so that they can be brought to several collectors.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from spanledger.exporter import flush
from spanledger.exporter.install import install


class Written(SpanExporter):
    """Spans in a file, as OTLP."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            request = encode_spans([span]).SerializeToString()
            self._file.write(len(request).to_bytes(4, "big") + request)
        return SpanExportResult.SUCCESS


def switch_on(how: dict[str, Any], **known: Any) -> None:
    """An instrumentation, as frameworks.yaml describes it."""
    exec(how.get("setup", ""), known)
    for path in how.get("instrumentors", ()):
        module, _, name = path.partition(":")
        instrumentor = getattr(importlib.import_module(module), name)()
        instrumentor.instrument(tracer_provider=known["tracer_provider"], skip_dep_check=True)


def main() -> None:
    told = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.WARNING)
    warnings.simplefilter("ignore")
    provider = TracerProvider(sampler=ALWAYS_OFF if told["unsampled"] else ALWAYS_ON)
    processor = SimpleSpanProcessor(Written(Path(told["spans"])))
    provider.add_span_processor(processor)
    install(provider)
    trace.set_tracer_provider(provider)
    for how in told["instrumentations"]:
        switch_on(how, tracer_provider=provider, processor=processor)
    loop = asyncio.new_event_loop()  # one for all: clients keep their connections
    asyncio.set_event_loop(loop)
    program = importlib.import_module(told["program"])
    for name, case in program.CASES.items():
        done = case(f"case:{name} how is the weather?")
        if inspect.isawaitable(done):
            loop.run_until_complete(done)
    for how in told["instrumentations"]:
        exec(how.get("flush", ""))
    provider.shutdown()
    with contextlib.suppress(Exception):  # no ClickHouse here: sealing is what is wanted
        flush(1)
    versions = {}
    for package in told["packages"]:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    Path(told["versions"]).write_text(json.dumps(versions), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # whatever threads a framework leaves behind


if __name__ == "__main__":
    main()
