"""docs/how-to/langchain.md, as printed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from spanledger.exporter.client import Client
from tests.how_to.conftest import Reader
from tests.service.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts" / "frameworks"))

from answers import Answering

CACHED = """
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache

set_llm_cache(InMemoryCache())
for _ in range(2):
    translate.invoke({"text": "once"})
"""


def test_every_call_is_one_row(
    reader: Callable[..., Reader], billed: Callable[..., list[tuple[Any, ...]]], ledger: Client
) -> None:
    with Answering() as provider:  # it calls the tool that it is offered
        page = reader("langchain", OPENAI_BASE_URL=f"http://localhost:{provider.server_port}/v1")
        page.write()
        program = page.folder / "program.py"
        program.write_text(program.read_text() + CACHED)
        told = page.run("opentelemetry-instrument")
        rows = billed("tenant", "user_id", "feature", "agent_name", calls=8)
    mine = ("acme", "ada")
    assert rows == [
        ("", "", "", ""),  # the first of two for which there is a cache
        *[(*mine, "plan", "planner")] * 2,
        *[(*mine, "translate", "")] * 4,
        (*mine, "weather", "planner"),
    ]
    assert sorted(each.response_id for each in provider.given) == sorted(
        row[0] for row in ledger.query("SELECT response_id FROM llm_calls FINAL").rows
    )
    ((total,),) = ledger.query("SELECT sum(cost) FROM llm_calls FINAL WHERE tenant = 'acme'").rows
    said = re.search(r"^(\d+) calls, (\S+) USD, 0 of unknown cost$", told, re.M)
    assert said, told
    assert (said[1], Decimal(said[2])) == ("7", Decimal(total))
    report = page.run("spanledger report")
    assert all(word in report for word in ("translate", "weather", "plan"))
    page.done()
