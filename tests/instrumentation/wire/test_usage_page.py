"""`docs/usage.md` names every part, status, operation and field that the readers know, and no other operation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spanledger.instrumentation.wire import anthropic_messages, endpoints, gemini_interactions, openai_usage
from spanledger.pricing import usage

PAGE = (Path(__file__).parents[3] / "docs" / "usage.md").read_text(encoding="utf-8")
STATUSES = (usage.REPORTED, usage.INCOMPLETE, usage.ESTIMATED, usage.CONTRADICTORY, usage.MISSING)


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            *usage.PARTS,
            *STATUSES,
            *openai_usage.INFORMATIONAL,
            *anthropic_messages.INFORMATIONAL,
            *gemini_interactions.INFORMATIONAL,
        }
    ),
)
def test_the_page_names_it(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_page_has_every_part_in_its_table_and_no_other() -> None:
    table = PAGE.partition("## The parts")[2].partition("    input_tokens")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", "".join(rows))) == usage.PARTS


def test_the_page_has_every_operation_and_no_other() -> None:
    rows = re.findall(r"^\| .*?\| `(\w+)` \| `\w+` \|$", PAGE, re.M)
    operations = {endpoint.operation for table in endpoints._POST.values() for endpoint in table.values()}
    assert set(rows) == operations
