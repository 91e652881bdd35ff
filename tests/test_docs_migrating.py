"""docs/migrating: each attribute comes to the column that the page says, and each file and script works as printed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from spanledger.exporter import unlinked
from spanledger.exporter.client import Client
from spanledger.exporter.rows import encode
from spanledger.service.cli import cli
from tests.pages import ROOT, blocks, commands
from tests.service.collecting import Collector, collector

FOLDER = ROOT / "docs" / "migrating"
RESPONSE_ID = "chatcmpl-CfJZ0123456789abcdef"
GENAI = {"gen_ai.operation.name": "chat", "gen_ai.usage.output_tokens": 9}
SPANS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "openllmetry": ("opentelemetry.instrumentation.openai", GENAI),
    "openlit": ("openlit.instrumentation.openai", GENAI),
    "litellm": ("litellm", {**GENAI, "litellm.call_type": "acompletion", "gen_ai.request.model": "m"}),
    "langfuse": ("langfuse-sdk", {"langfuse.observation.type": "generation"}),
}
"""Page -> the scope of such a span, and what it has besides the attribute that is looked at."""

VALUES: Mapping[str, Any] = {
    "response_id": RESPONSE_ID,
    "reported_cost": 0.25,
    "cache_read_tokens": 5,
    "cache_write_tokens": 5,
    "reasoning_tokens": 5,
    "input_tokens": 77,
    "output_tokens": 77,
}
OF_TOKENS = {"gen_ai.usage.input_tokens": 50, "gen_ai.usage.output_tokens": 50}


def mapped() -> Iterator[tuple[str, str, str]]:
    """(page, attribute, column) of the tables `What becomes what`."""
    for page in SPANS:
        table = (FOLDER / f"{page}.md").read_text("utf-8").partition("## What becomes what")[2].partition("\n## ")[0]
        for line in table.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            column = re.match(r"`([a-z_.]+)`", cells[-1])
            if column:
                yield from ((page, attribute, column[1]) for attribute in re.findall(r"`([^`]+)`", cells[0]))


def row_of(scope: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    unlinked.of_another_process()
    (line,) = encode(
        ReadableSpan(
            "chat",
            context=SpanContext(5, 7, False, TraceFlags(1)),
            resource=Resource({}),
            attributes=attributes,
            instrumentation_scope=InstrumentationScope(scope, "1"),
            start_time=1_795_366_399_721_062_809,
            end_time=1_795_366_400_721_062_809,
        )
    ).splitlines()
    row: dict[str, Any] = json.loads(line)
    return row


def test_the_tables_are_found() -> None:
    found = list(mapped())
    assert {page for page, _, _ in found} == set(SPANS)
    assert len(found) > 45


@pytest.mark.parametrize(("page", "attribute", "column"), list(mapped()))
def test_the_attribute_comes_to_the_column(page: str, attribute: str, column: str, ledger_home: Path) -> None:
    scope, others = SPANS[page]
    value = VALUES.get(column, "openai" if column == "provider" else "the-value")
    if column in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens"):
        others = {**others, **OF_TOKENS}
    elif attribute == "gen_ai.usage.completion_tokens":
        others = {name: each for name, each in others.items() if name != "gen_ai.usage.output_tokens"}
    row: Any = row_of(scope, {**others, attribute: value})
    for name in column.split("."):
        row = row[name]
    assert (Decimal(row) if column == "reported_cost" else row) == value


def test_langfuses_json_comes_to_the_columns(ledger_home: Path) -> None:
    usage = {"input": 86, "input_cached_tokens": 1920, "output": 300}
    row = row_of(
        "langfuse-sdk",
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "gpt-5-mini",
            "langfuse.observation.usage_details": json.dumps(usage),
            "langfuse.observation.cost_details": '{"total": 0.25}',
        },
    )
    assert row["usage"] == {"input": 86, "cache_read": 1920, "output": 300}
    assert Decimal(row["reported_cost"]) == Decimal("0.25")
    assert (row["price_status"], row["cost_reasons"]) == ("unpriced", ["provider (none) is not in the price book"])


@pytest.mark.parametrize("page", sorted(path.name for path in FOLDER.glob("*.md")))
def test_its_queries_run(page: str, ledger: Client) -> None:
    for block in blocks(FOLDER / page):
        if block.language == "sh":
            for command in commands(block.text):
                if command.startswith("spanledger sql "):
                    ledger.query(shlex.split(command)[2])


def test_the_price_files_load_and_price_as_the_page_says(
    tmp_path: Path, ledger_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for page in ("llm-config.md", "litellm.md"):
        for block in blocks(FOLDER / page):
            if block.title:
                Path(block.title).write_text(block.text)
    run = CliRunner()
    assert run.invoke(cli, ["prices", "check", "prices.yaml"]).exit_code == 0
    printed = [
        line for block in blocks(FOLDER / "llm-config.md") for line in commands(block.text) if "spanledger" in line
    ]
    assert run.invoke(cli, shlex.split(printed[0])[1:]).exit_code == 0
    monkeypatch.setenv("SPANLEDGER_CONFIG", str(tmp_path / "llm_config.yaml"))
    costs = []
    for command in printed:
        if " prices try " in command:
            done = run.invoke(cli, [*shlex.split(command)[1:], "--json"])
            assert done.exit_code == 0, done.output
            costs.append(Decimal(json.loads(done.output)["cost"]))
    # 86 x 0.25 + 1920 x 0.025 + 300 x 2 = 669.5 millionths; 1000 x 0.5 + 500 x 1.5 = 1250: six places, half-even
    assert costs == [Decimal("0.000670"), Decimal("0.001250")]


LITELLM = {
    "request_id": RESPONSE_ID,
    "call_type": "acompletion",
    "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
    "spend": 0.00067,
    "total_tokens": 2306,
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "startTime": "2026-10-20T08:30:00.123",
    "endTime": "2026-10-20T08:30:02.5",
    "model": "gpt-5-mini",
    "custom_llm_provider": "openai",
    "user": "",
    "metadata": {
        "user_api_key_alias": "ci",
        "user_api_key_team_alias": "red",
        "usage_object": {"prompt_tokens": 2006, "prompt_tokens_details": {"cached_tokens": 1920}},
    },
    "cache_hit": "False",
    "team_id": "t-1",
    "end_user": "ann",
    "messages": {"text": "the words of the user"},
    "status": "success",
}
"""A row of `LiteLLM_SpendLogs` of litellm 1.106.2, as `row_to_json` gives it."""

LANGFUSE = {
    "id": "00f067aa0ba902b7",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "parent_observation_id": None,
    "type": "GENERATION",
    "environment": "production",
    "start_time": "2026-10-20 08:30:00.123000",
    "end_time": "2026-10-20 08:30:02.500000",
    "provided_model_name": "gpt-5-mini",
    "usage_details": {"input": 86, "input_cached_tokens": 1920, "output": 120, "output_reasoning_tokens": 180},
    "total_cost": 0.00067,
    "prompt_name": "greeting",
    "user_id": "ann",
    "session_id": "s1",
    "trace_name": "greet",
    "input": "the words of the user",
}
"""A line of the blob storage export, enriched observations."""

OTEL_TRACES = {
    "Timestamp": "2026-10-20 08:30:00.123456789",
    "TraceId": "0af7651916cd43dd8448eb211c80319c",
    "SpanId": "00f067aa0ba902b7",
    "ParentSpanId": "",
    "SpanName": "chat gpt-5-mini",
    "SpanKind": "Client",
    "ServiceName": "shop",
    "ResourceAttributes": {"service.name": "shop", "deployment.environment": "production"},
    "ScopeName": "openlit.instrumentation.openai",
    "ScopeVersion": "1.45.0",
    "SpanAttributes": {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.response.id": RESPONSE_ID,
        "gen_ai.request.is_stream": "false",
        "gen_ai.usage.input_tokens": "2006",
        "gen_ai.usage.cache_read.input_tokens": "1920",
        "gen_ai.usage.output_tokens": "300",
        "gen_ai.usage.cost": "0.00067",
    },
    "Duration": "2376543211",
    "StatusCode": "Unset",
}
"""A row as `FORMAT JSONEachRow` gives it."""

OTLP = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeSpans": [
                {
                    "scope": {"name": "opentelemetry.instrumentation.openai"},
                    "spans": [
                        {
                            "traceId": "0af7651916cd43dd8448eb211c80319c",
                            "spanId": "00f067aa0ba902b7",
                            "name": "chat",
                            "startTimeUnixNano": "1792485000123456789",
                            "endTimeUnixNano": "1792485002500000000",
                            "attributes": [
                                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                                {"key": "gen_ai.system", "value": {"stringValue": "openai"}},
                                {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-5-mini"}},
                                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "2006"}},
                                {"key": "gen_ai.usage.cache_read.input_tokens", "value": {"intValue": "1920"}},
                                {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "300"}},
                            ],
                        }
                    ],
                }
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def taking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collector(tmp_path_factory.mktemp("history") / "home") as made:
        yield made


@pytest.mark.parametrize(
    ("tool", "stored", "left_out", "columns"),
    [
        (
            "litellm",
            LITELLM,
            [{"cache_hit": "True"}, {"status": "failure"}],
            {"tenant": "red", "user_id": "ann", "api_key_alias": "ci", "response_id": RESPONSE_ID, "source": "litellm"},
        ),
        (
            "langfuse",
            LANGFUSE,
            [{"type": "SPAN"}, {"type": "EVENT"}],
            {"user_id": "ann", "session_id": "s1", "prompt_name": "greeting", "environment": "production"},
        ),
        ("otel-traces", OTEL_TRACES, [], {"service_name": "shop", "environment": "production", "source": "openlit"}),
        ("otlp", OTLP, [], {"service_name": "shop", "source": "traceloop"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_history_becomes_rows(
    taking: Collector, tool: str, stored: dict[str, Any], left_out: list[dict[str, Any]], columns: dict[str, str]
) -> None:
    before = len(taking.rows)
    lines = "".join(json.dumps(each) + "\n" for each in [stored, *({**stored, **other} for other in left_out)])
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "history.py"), tool, "--to", taking.http],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (row,) = taking.rows[before:]
    assert {name: row.get(name) for name in columns} == columns
    assert row["event_date"] == "2026-10-20"
    assert row["start_time"].startswith("1792485000.123")
    assert 2_376_000_000 < row["duration_ns"] < 2_378_000_000
    assert (row["price_status"], row["usage_status"]) == ("priced", "reported")
    assert Decimal(row["cost"]) == Decimal("0.0006695")
    assert tool == "otlp" or Decimal(row["reported_cost"]) == Decimal("0.00067")
    assert "words" not in json.dumps(row)


def test_a_stored_call_without_what_was_cached_is_estimated(taking: Collector) -> None:
    before = len(taking.rows)
    older = {**LITELLM, "request_id": f"{RESPONSE_ID}2", "metadata": '{"user_api_key_alias": "ci"}'}
    subprocess.run(
        [sys.executable, str(ROOT / "examples" / "history.py"), "litellm", "--to", taking.http],
        input=json.dumps(older),
        text=True,
        check=True,
    )
    (row,) = taking.rows[before:]
    assert row["usage_status"] == "estimated"
    assert row["cost_reasons"]


def test_every_tool_of_the_script_is_on_the_page() -> None:
    page = (FOLDER / "history.md").read_text("utf-8")
    asked = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "history.py"), "-h"], capture_output=True, text=True, check=True
    )
    tools = re.search(r"\{([\w,-]+)\}", asked.stdout)
    assert tools is not None
    assert set(tools[1].split(",")) == set(re.findall(r"`python history\.py ([\w-]+)", page))
