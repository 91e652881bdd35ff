"""Sampling: the ledger gets every call, the tracing backend what the sampler says, and both say the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, os, sys
sys.path.insert(0, {examples!r})
import openai
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from standin import StandIn

exported = InMemorySpanExporter()
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exported))
with StandIn() as server:
    client = openai.OpenAI(base_url=f"http://localhost:{{server.server_port}}/v1", api_key="sk-test")
    for _ in range(20):
        client.chat.completions.create(model="gpt-5-mini", messages=[{{"role": "user", "content": "hi"}}])
print(json.dumps([[f"{{s.context.span_id:016x}}", dict(s.attributes)] for s in exported.get_finished_spans()]))
"""


@pytest.mark.parametrize(
    ("sampler", "argument"),
    [("always_off", ""), ("parentbased_always_off", ""), ("traceidratio", "0.5"), ("always_on", "")],
)
def test_the_ledger_gets_every_call_and_the_exporter_what_the_sampler_says(tmp_path, sampler, argument):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPANLEDGER_", "LLM_USAGE_", "OTEL_"))}
    bin_ = Path(sys.executable).parent
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(examples=str(ROOT / "examples")))
    ran = subprocess.run(
        [str(bin_ / "opentelemetry-instrument"), sys.executable, str(program)],
        env={
            **kept,
            "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
            "NO_PROXY": "localhost",
            "no_proxy": "localhost",
            "SPANLEDGER_HOME": str(tmp_path / "home"),
            "SPANLEDGER_HOSTS": "localhost=openai",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_TRACES_SAMPLER": sampler,
            "OTEL_TRACES_SAMPLER_ARG": argument,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    exported = dict(json.loads(ran.stdout))
    lines = [line for file in (tmp_path / "home" / "journal").iterdir() for line in file.read_bytes().splitlines()]
    rows = {row["span_id"]: row for row in map(json.loads, lines)}
    assert len(rows) == len(lines) == 20

    trace_ids = {span_id: int(row["trace_id"], 16) for span_id, row in rows.items()}
    if sampler == "traceidratio":  # the SDK's rule: the lower 64 bits against the ratio
        wanted = {each for each, trace_id in trace_ids.items() if trace_id & (2**64 - 1) < round(0.5 * 2**64)}
    else:
        wanted = set(rows) if sampler == "always_on" else set()
    assert set(exported) == wanted
    for span_id, attributes in exported.items():
        row = rows[span_id]
        assert Decimal(attributes["spanledger.cost"]) == Decimal(row["cost"])
        assert attributes["spanledger.cost.currency"] == row["currency"]
        assert attributes["spanledger.cost.status"] == row["price_status"]
        assert attributes["spanledger.priced_model"] == row["priced_model"]
        assert attributes["gen_ai.usage.input_tokens"] == row["input_tokens"]
        assert attributes["gen_ai.usage.output_tokens"] == row["output_tokens"]
