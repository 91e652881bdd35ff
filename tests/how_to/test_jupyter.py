"""docs/how-to/jupyter.md, its cells in a real kernel, and the notebook run as a program."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import nbformat

from spanledger.exporter.client import Client
from tests.how_to.conftest import Reader

LATER = """
import asyncio
from openai import AsyncOpenAI

async def ask():
    async with AsyncOpenAI() as other:
        await other.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi"}])

with attribute(feature="later"):
    await asyncio.gather(ask(), asyncio.create_task(ask()))
"""


def test_the_cells_of_the_page_and_the_notebook_as_a_program(
    reader: Callable[..., Reader], billed: Callable[..., list[tuple[Any, ...]]], ledger: Client
) -> None:
    page = reader("jupyter", SPANLEDGER_SHIP_INTERVAL="3600")
    page.write()
    cells = [page.take("python").text for _ in range(3)]
    first, *others = cells
    assert "spanledger up" in page.skip("spanledger up"), "the ledger is the shared ClickHouse"
    study = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (first, first, *others, LATER)])
    nbformat.write(study, page.folder / "study.ipynb")
    page.also("jupyter execute --inplace study.ipynb")
    shown = [cell.outputs for cell in nbformat.read(page.folder / "study.ipynb", 4).cells]
    ((total,),) = ledger.query("SELECT sum(cost) FROM llm_calls FINAL WHERE feature = 'labels'").rows
    told = re.fullmatch(r"\(Decimal\('(\S+)'\), 3, Decimal\('(\S+)'\)\)", shown[2][-1]["data"]["text/plain"])
    assert told
    assert 0 < Decimal(told[1]) < Decimal(told[2]) == Decimal(total)
    assert re.search(r"gpt-5-mini\S* +3 ", shown[3][-1]["data"]["text/plain"])
    assert "dataframe" in shown[3][-1]["data"]["text/html"]
    rows = [("churn-study", "", "later")] * 2 + [("churn-study", "ada", "labels")] * 3
    assert billed("service_name", "user_id", "feature", calls=5) == rows

    # As a program: no cell that starts spanledger.
    study.cells = [study.cells[2], study.cells[4]]
    nbformat.write(study, page.folder / "study.ipynb")
    page.env["OTEL_SERVICE_NAME"] = "a program"
    page.run("opentelemetry-instrument jupyter execute")
    program = [("a program", *row[1:]) for row in rows]
    assert billed("service_name", "user_id", "feature", calls=10) == program + rows
    report = page.run("spanledger report")
    assert all(word in report for word in ("churn-study", "labels"))
    page.done()
