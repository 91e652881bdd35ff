"""docs/explanations: each number of the worked example comes out again."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from spanledger import attributes as names
from spanledger.exporter import journal, unlinked
from spanledger.exporter.client import Client
from spanledger.exporter.rows import encode
from spanledger.exporter.settle import settle
from spanledger.exporter.shipper import load_journal
from spanledger.instrumentation.wire import anthropic_messages, openai_chat
from spanledger.service.cli import cli
from spanledger.settings import MAX_JOURNAL_BYTES
from tests.pages import ROOT, Block, blocks

FOLDER = ROOT / "docs" / "explanations"
COUNTED, PRICED, BILLED, LOST = (
    (FOLDER / f"{name}.md").read_text("utf-8") for name in ("counted", "priced", "billed-once", "never-lost")
)
COST = Decimal("0.0006695")
RESPONSE_ID = "chatcmpl-CfJZ0123456789abcdef"
TRACE = 0x0AF7651916CD43DD8448EB211C80319C
START_NS = 1_795_366_399_721_062_809  # 2026-11-22T16:53:19Z
PARTS = {"input": 86, "cache_read": 1920, "output": 120, "output_reasoning": 180}


def block(page: str, title: str) -> Block:
    (found,) = (each for each in blocks(FOLDER / page) if each.title == title)
    return found


def rows(page: str) -> list[list[str]]:
    """The cells of the page's tables, without the marks of code."""
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]


def test_the_usage_becomes_these_parts_and_sums() -> None:
    said = json.loads(block("counted.md", "usage").text)
    read = openai_chat.read({"usage": said}, {}).usage
    assert read.status == "reported"
    table = {part: (int(quantity), how) for part, quantity, how in rows(COUNTED)[1:5]}
    assert {part: quantity for part, (quantity, _) in table.items()} == read.parts == PARTS
    for quantity, how in table.values():
        if how != "as stated":
            whole, share = map(int, how.split(" - "))
            assert whole - share == quantity
    assert "is 86 + 1920 = 2006" in COUNTED
    assert PARTS["input"] + PARTS["cache_read"] == said["prompt_tokens"] == 2006
    assert "is 120 + 180 = 300" in COUNTED
    assert PARTS["output"] + PARTS["output_reasoning"] == said["completion_tokens"] == 300


def test_anthropics_usage_of_the_same_call_comes_to_the_same_input() -> None:
    said = json.loads(block("counted.md", "usage of Anthropic").text)
    read = anthropic_messages.read({"usage": said}, {}).usage
    assert read.parts == {"input": 86, "cache_read": 1920, "output": 300}
    assert "`input` 86, `cache_read` 1920, `output` 300" in COUNTED


@pytest.mark.parametrize(
    "printed", [each for each in blocks(FOLDER / "priced.md") if each.language == "console"], ids=str
)
def test_the_price_is_tried_as_printed(printed: Block, ledger_home: Path) -> None:
    command, _, output = printed.text.partition("\n")
    assert command.startswith("$ spanledger ")
    done = CliRunner().invoke(cli, shlex.split(command)[2:], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    assert [line.rstrip() for line in done.output.splitlines()] == output.rstrip().splitlines()


def test_cached_tokens_counted_twice_would_cost_what_the_page_says() -> None:
    wrong = (2006 * Decimal("0.25") + 1920 * Decimal("0.025") + 300 * Decimal(2)) / 10**6
    assert f"would have cost {wrong.normalize():f}." in PRICED
    assert f"{COST}" in PRICED


def span(number: int, parent: int, scope: str, attributes: Mapping[str, Any]) -> bytes:
    """The row of a span as a process has it that knows no other spans."""
    unlinked.of_another_process()

    def context(span_id: int) -> SpanContext:
        return SpanContext(TRACE, span_id, False, TraceFlags(1))

    return encode(
        ReadableSpan(
            "chat",
            context=context(number),
            parent=context(parent) if parent else None,
            resource=Resource({"service.name": "shop"}),
            attributes=attributes,
            instrumentation_scope=InstrumentationScope(scope, "1"),
            start_time=START_NS,
            end_time=START_NS + 10**9,
        )
    )


OURS = {
    names.OPERATION: "chat",
    names.PROVIDER: "openai",
    names.REQUEST_MODEL: "gpt-5-mini",
    names.RESPONSE_MODEL: "gpt-5-mini-2025-08-07",
    names.USAGE_STATUS: "reported",
    names.USAGE_PARTS: json.dumps(PARTS),
    names.USAGE_RAW: json.dumps(json.loads(block("counted.md", "usage").text)),
}
LANGCHAINS = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-5-mini-2025-08-07",
    "llm.provider": "openai",
    "llm.token_count.prompt": 2006,
    "llm.token_count.prompt_details.cache_read": 1920,
    "llm.token_count.completion": 300,
    "llm.token_count.completion_details.reasoning": 180,
}
LITELLMS = {
    "gen_ai.operation.name": "chat",
    "litellm.call_type": "acompletion",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5-mini",
    "gen_ai.response.model": "gpt-5-mini-2025-08-07",
    "gen_ai.response.id": RESPONSE_ID,
    "gen_ai.usage.input_tokens": 2006,
    "gen_ai.usage.cache_read.input_tokens": 1920,
    "gen_ai.usage.output_tokens": 300,
    "litellm.team.alias": "red",
}


def ranks(version: int) -> str:
    """Of the usage and of the source."""
    return f"{version >> 56}, {version >> 48 & 255}"


def cost(ledger: Client, final: str) -> tuple[int, Decimal]:
    ((count, total),) = ledger.query(f"SELECT count(), sum(cost_base) FROM llm_calls {final} WHERE is_deleted = 0").rows
    return count, total


def test_three_tell_of_a_call_and_it_is_billed_once(ledger: Client, ledger_home: Path) -> None:
    told = [
        span(1, 0, "openinference.instrumentation.langchain", LANGCHAINS),
        span(2, 1, "spanledger.openai", OURS | {names.RESPONSE_ID: RESPONSE_ID}),
        span(3, 2, "litellm", LITELLMS),
    ]
    for row, printed in zip(map(json.loads, told), rows(BILLED)[1:], strict=True):
        shown = [row.get("response_id") or "none", Decimal(row["cost_base"]), row["entry_id"], ranks(row["version"])]
        assert [printed[1], Decimal(printed[2]), printed[3], printed[4]] == shown
    for block, token in ((told[0], "a"), (told[1], "b"), (told[2], "c"), (told[2], "c")):
        ledger.insert_block("llm_calls", block, token)
    assert cost(ledger, "") == (3, 3 * COST)
    assert f"Added up, that is {3 * COST}." in BILLED
    assert cost(ledger, "FINAL") == (2, 2 * COST)
    assert f"Two rows are left: {2 * COST}." in BILLED
    settle(ledger)
    assert cost(ledger, "FINAL") == (1, COST)
    assert f"One row is left: {COST}." in BILLED
    (sql,) = (each.text for each in blocks(FOLDER / "billed-once.md") if each.language == "sql")
    assert ledger.query(sql).rows == [(rows(BILLED)[2][3], "spanledger", "red", ["tenant"], COST)]


@pytest.fixture
def killed(ledger_home: Path) -> bytes:
    """Three rows, in the journal of a process that was killed while it wrote a fourth."""
    written = b"".join(
        span(number, 0, "spanledger.openai", OURS | {names.RESPONSE_ID: f"{RESPONSE_ID}{number}"})
        for number in range(1, 4)
    )
    folder = ledger_home / "journal"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "host-1-1-1.open").write_bytes(written + written[:900])
    return written


def test_a_killed_programs_rows_arrive_once(ledger: Client, ledger_home: Path, killed: bytes) -> None:
    folder = ledger_home / "journal"
    (name,) = journal.adopt(folder)
    whole = (folder / name).read_bytes()
    assert whole == killed
    assert load_journal(ledger_home, ledger).rows == 3
    (folder / name).write_bytes(whole)  # the sender died before it could delete the file
    load_journal(ledger_home, ledger)
    assert cost(ledger, "") == (3, 3 * COST)
    assert f"3 x {COST} = {3 * COST}" in LOST


def test_the_journal_holds_as_long_as_the_page_says(killed: bytes) -> None:
    length = len(killed) / 3
    said = int(re.search(r"is some ([\d ]+) bytes", LOST)[1].replace(" ", ""))  # type: ignore[index]
    assert abs(said - length) < 100
    assert f"{MAX_JOURNAL_BYTES:,}".replace(",", " ") in LOST
    calls = MAX_JOURNAL_BYTES / said
    assert f"{calls / 10**6:.1f} million calls" in LOST
    assert f"At 10 calls a second that is {calls / 10 / 3600:.0f} hours" in LOST
    assert 7.75 < calls / 100 / 3600 < 8
