"""Whether a stored row is what its own snapshot and usage come to, to the last digit."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from spanledger.pricing.inquiry import Mismatch, verify_row
from spanledger.pricing.usage import quantities, totals

COLUMNS = (
    "entry_id",
    "line",
    "start_time",
    "request_model",
    "response_model",
    "usage",
    "unmapped",
    "input_tokens",
    "output_tokens",
    "cost",
    "cost_input",
    "cost_output",
    "cost_cache",
    "cost_tools",
    "cost_details",
    "cost_base",
    "price_snapshot",
)
"""What `mismatches` reads of a row of `llm_calls`."""

_GROUPS = ("cost_input", "cost_output", "cost_cache", "cost_tools")


def mismatches(row: Mapping[str, Any]) -> list[Mismatch]:
    """Everything in a row that does not come out of its own snapshot and usage: amounts, their sums, token sums."""
    usage = quantities(row["usage"])
    found = verify_row(
        usage,
        quantities(row["unmapped"]),
        row["price_snapshot"],
        row["cost"],
        row["cost_base"],
        {part: value for part, value in row["cost_details"].items() if value},
    )
    whole = sum(row["cost_details"].values(), Decimal(0))
    groups = sum((row[group] for group in _GROUPS if row[group] is not None), Decimal(0))
    if groups != whole:
        found.append(Mismatch(" + ".join(_GROUPS), format(groups, "f"), format(whole, "f")))
    if row["input_tokens"] is not None:
        sums = totals(usage)
        for what, computed in (("input_tokens", sums.input_tokens), ("output_tokens", sums.output_tokens)):
            if row[what] != computed:
                found.append(Mismatch(what, str(row[what]), str(computed)))
    return found
