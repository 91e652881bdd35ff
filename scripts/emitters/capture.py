"""Drive the recorded calls with one emitter installed, and write down the spans that it makes.

Runs in the emitter's own environment, where spanledger is not: only the replay, the SDKs and the emitter are there.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import distributions
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class Kept(SpanExporter):
    """The spans that ended since the last look."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS

    def take(self) -> list[dict[str, Any]]:
        spans, self.spans = self.spans, []
        return [_plain(span) for span in spans]


def _plain(span: ReadableSpan) -> dict[str, Any]:
    assert span.context is not None
    assert span.instrumentation_scope is not None
    return {
        "scope": span.instrumentation_scope.name,
        "scope_version": span.instrumentation_scope.version or "",
        "name": span.name,
        "status": span.status.status_code.name,
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else "",
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "attributes": dict(span.attributes or {}),
        "events": [event.name for event in span.events],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", help="folder with replay/ and recordings/")
    parser.add_argument("emitter", help="JSON: how the emitter is switched on")
    parser.add_argument("--limit", type=int, help="at most so many recordings of a provider")
    options = parser.parse_args()
    emitter = json.loads(options.emitter)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")  # some emitters print
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    kept = Kept()
    provider = TracerProvider()
    processor = SimpleSpanProcessor(kept)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    exec(emitter.get("setup", ""), {"tracer_provider": provider, "processor": processor})
    for path in emitter.get("instrumentors", ()):
        module, _, name = path.partition(":")
        getattr(importlib.import_module(module), name)().instrument(tracer_provider=provider)

    sys.path.insert(0, f"{options.shared}/replay")
    import drive
    from replay_server import ReplayServer, load

    if "client" in emitter:  # the emitter is a client of its own, or wraps one
        module, _, function = emitter["client"].partition(":")
        drive._Call.client = importlib.import_module(module).__dict__[function](drive._Call.client)

    versions = {each.metadata["Name"]: each.version for each in distributions()}
    out.write(json.dumps({"versions": versions}) + "\n")
    for name in emitter["providers"]:
        recordings = load(f"{options.shared}/recordings", name)[: options.limit]
        with ReplayServer(recordings) as server:
            for mode in ("sync", "async"):
                for recording in recordings:
                    outcome = drive.drive(recording, server, mode=mode)
                    status, streamed = outcome.status, outcome.streamed
                    error = type(outcome.error).__name__ if outcome.error else outcome.reason
                    del outcome
                    if "flush" in emitter:
                        exec(emitter["flush"])
                    if streamed and not kept.spans:
                        gc.collect()  # some end a stream's span only with the stream
                    line = {"provider": name, "id": recording["id"], "mode": mode, "stream": streamed}
                    line |= {"status": status, "error": error, "spans": kept.take()}
                    out.write(json.dumps(line, default=str) + "\n")
            drive.forget_clients()


if __name__ == "__main__":
    main()
