"""`opentelemetry-instrument python app.py`, in a process of its own: every call is one row, whatever the exporters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.instrumentation.test_openai_calls import ASK, CHAT, EVENTS
from tests.provider import Answer, Provider, stream

APP = f"""
import asyncio, gc, os, sys
from openai import AsyncOpenAI, OpenAI

ask = {ASK!r}
where = dict(api_key="sk-test-0123456789", base_url=os.environ["BASE"], max_retries=0)
client = OpenAI(**where)
client.chat.completions.create(**ask)
for _ in client.chat.completions.create(**ask, stream=True):
    pass

async def main():
    async with AsyncOpenAI(**where) as client:
        await client.chat.completions.create(**ask)

asyncio.run(main())
left_open = client.chat.completions.create(**ask, stream=True)
next(iter(left_open))
"""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


def answers(count: int) -> list[Answer]:
    def named(number: int) -> dict[str, Any]:
        return {"id": f"chatcmpl-{number:024d}"}

    streamed = stream(*[event | named(1) for event in EVENTS])
    unended = stream(*[event | named(3) for event in EVENTS[:1]], done=False)
    return [Answer(CHAT | named(0)), streamed, Answer(CHAT | named(2)), unended][:count]


def run(provider: Provider, tmp_path: Path, app: str = APP, **environ: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "app.py").write_text(app)
    nothing_listens = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    return subprocess.run(
        [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, "app.py"],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANLEDGER_"))},
            "SPANLEDGER_HOME": str(tmp_path / "home"),
            "SPANLEDGER_HOSTS": f"{provider.host}=openai",
            "BASE": provider.url,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            **nothing_listens,
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


def rows(home: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted((home / "journal").glob("*"))
        if file.suffix in (".block", ".open")
        for line in file.read_text().splitlines()
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "spanledger"},
        {"OTEL_TRACES_EXPORTER": "otlp,spanledger"},
        {},
        {"OTEL_TRACES_EXPORTER": "spanledger", "OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.0"},
    ],
    ids=["no exporter", "spanledger", "otlp,spanledger", "default", "always_off", "ratio 0"],
)
def test_every_call_is_one_row(provider: Provider, tmp_path: Path, environ: dict[str, str]) -> None:
    provider.say(*answers(4))
    done = run(provider, tmp_path, **environ)
    assert done.returncode == 0, done.stderr
    written = rows(tmp_path / "home")
    assert [row["response_id"] for row in written] == [f"chatcmpl-{number:024d}" for number in range(4)]
    assert [row["usage_status"] for row in written] == ["reported", "reported", "reported", "missing"]
    assert [row.get("stream", False) for row in written] == [False, True, False, True]
    assert [row["cost"] for row in written[:3]] == ["0.005615000000000000"] * 3
    assert written[3]["cost"] is None
    assert len({row["entry_id"] for row in written}) == 4


def test_an_instrumentation_is_disabled_by_its_name(provider: Provider, tmp_path: Path) -> None:
    provider.say(*answers(4))
    off = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "spanledger-openai", "OTEL_TRACES_EXPORTER": "none"}
    assert run(provider, tmp_path, **off).returncode == 0
    assert rows(tmp_path / "home") == []


def test_turned_off_it_leaves_no_file(provider: Provider, tmp_path: Path) -> None:
    provider.say(*answers(4))
    done = run(provider, tmp_path, LLM_USAGE_LOGGING_ENABLED="false", OTEL_TRACES_EXPORTER="spanledger")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("wrong", [{"SPANLEDGER_STREAM_USAGE": "always"}, {"SPANLEDGER_CONFIG": "/no/such/file"}])
def test_a_wrong_setting_is_said_once_and_the_program_runs(
    provider: Provider, tmp_path: Path, wrong: dict[str, str]
) -> None:
    provider.say(*answers(4))
    done = run(provider, tmp_path, OTEL_TRACES_EXPORTER="none", **wrong)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(next(iter(wrong))) == 1
    assert "Traceback" not in done.stderr
    assert len(provider.requests) == 4


def test_a_program_that_must_not_run_unlogged_does_not_start(provider: Provider, tmp_path: Path) -> None:
    provider.say(*answers(4))
    wrong = {"SPANLEDGER_STREAM_USAGE": "always", "LLM_USAGE_FAIL_OPEN": "false", "OTEL_TRACES_EXPORTER": "none"}
    done = run(provider, tmp_path, **wrong)
    assert done.returncode == 1
    assert "SPANLEDGER_STREAM_USAGE" in done.stderr
    assert provider.requests == []


FIRST_SHAPE = """
models:
  gpt-5-mini:
    provider: 'openai'
    pricing:
      currency: USD
      input: {cost_per_1k: 0.15}
      output: {cost_per_1k: 0.60}
      extras:
        reasoning_token: {cost_per_1k: 2.40}
        cache_write_token: {cost_per_1k: 1.25}
      key_aliases: {reasoning_tokens: reasoning_token, prompt_tokens: input_tokens, completion_tokens: output_tokens}
      context_tiers: [{max_context: 128000, multiplier: 1.0}, {max_context: 1000000, multiplier: 1.5}]
      rounding: {decimals: 6}
      extras_policy: {passthrough_unpriced: true}
settings:
  usage_logging: {enabled: true, base_currency: USD, fail_open: true, default_rounding_decimals: 6}
"""
SECOND_SHAPE = """
gpt-5-mini:
  input_cost_per_million: 2.5
  output_cost_per_million: 10.0
"""


@pytest.mark.parametrize(("config", "cost"), [(FIRST_SHAPE, "0.81"), (SECOND_SHAPE, "0.0075")])
def test_a_file_that_a_team_has_already_prices_the_row_and_the_span(
    provider: Provider, tmp_path: Path, config: str, cost: str
) -> None:
    (tmp_path / "llm_config.yaml").write_text(config)
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 500,
        "total_tokens": 1500,
        "completion_tokens_details": {"reasoning_tokens": 200},
    }
    provider.say(Answer(CHAT | {"model": "gpt-5-mini-2025-08-07", "usage": usage}))
    app = """
import os
from openai import OpenAI
from opentelemetry import trace
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
OpenAI(api_key="k", base_url=os.environ["BASE"]).chat.completions.create(model="gpt-5-mini", messages=[])
"""
    done = run(provider, tmp_path, app, SPANLEDGER_CONFIG="llm_config.yaml", OTEL_TRACES_EXPORTER="none")
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path / "home")
    assert Decimal(row["cost"]) == Decimal(row["cost_base"]) == Decimal(cost)
    assert (row["price_status"], row["priced_model"]) == ("priced", "gpt-5-mini")
    assert json.loads(done.stdout)["attributes"]["spanledger.cost"] == cost
