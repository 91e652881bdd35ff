"""What one call consumed: disjoint parts, so that the bill is the plain sum of quantity x rate.

A part that the provider did not report is absent, not zero. `docs/usage.md` lists the parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

Quantity = int | Decimal
"""Tokens, calls, images and pages are ints; seconds may be a Decimal."""

REPORTED = "reported"
INCOMPLETE = "incomplete"
ESTIMATED = "estimated"
CONTRADICTORY = "contradictory"
MISSING = "missing"

INPUT_PARTS = ("input", "input_audio", "input_image", "input_video", "input_document", "input_tool_use")
CACHE_READ_PARTS = (
    "cache_read",
    "cache_read_audio",
    "cache_read_image",
    "cache_read_video",
    "cache_read_document",
)
CACHE_WRITE_PARTS = ("cache_write", "cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h")
OUTPUT_PARTS = ("output", "output_reasoning", "output_audio", "output_image", "output_video")
TOKEN_PARTS = frozenset(INPUT_PARTS + CACHE_READ_PARTS + CACHE_WRITE_PARTS + OUTPUT_PARTS)
FEE_PARTS = frozenset(
    {
        "web_search",
        "web_fetch",
        "maps_search",
        "file_search",
        "code_execution",
        "tool_call",
        "grounded_request",
        "search_unit",
        "image",
        "video_second",
        "audio_second",
        "character",
        "page",
    }
)
PARTS = TOKEN_PARTS | FEE_PARTS

MAX_QUANTITY = 10**15
"""A quantity above this cannot be real: a reader keeps it in the raw usage and marks the row contradictory."""


@dataclass(slots=True)
class Usage:
    """One response's usage.

    Attributes:
        parts: part -> quantity, in the part's own unit, disjoint and not negative.
        unmapped: provider fields that no part stands for, under the provider's own name.
        status: `reported`, `incomplete`, `estimated`, `contradictory` or `missing`.
        reasons: why the status is not plainly `reported`.
        raw: the provider's own usage object, as sent.
    """

    parts: dict[str, Quantity] = field(default_factory=dict)
    unmapped: dict[str, Quantity] = field(default_factory=dict)
    status: str = MISSING
    reasons: tuple[str, ...] = ()
    raw: Mapping[str, Any] | None = None


class Totals(NamedTuple):
    """Token totals of a row; each is the plain sum of its parts."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


FRESH, OUTPUT, READ, WRITTEN = range(4)
TOKEN_GROUPS = {
    **dict.fromkeys(INPUT_PARTS, FRESH),
    **dict.fromkeys(OUTPUT_PARTS, OUTPUT),
    **dict.fromkeys(CACHE_READ_PARTS, READ),
    **dict.fromkeys(CACHE_WRITE_PARTS, WRITTEN),
}
"""Token part -> what it is summed under."""


def totals(parts: Mapping[str, Quantity]) -> Totals:
    """The token totals of `parts`: input includes cached tokens, output includes reasoning."""
    sums = [0, 0, 0, 0]
    for part, quantity in parts.items():
        group = TOKEN_GROUPS.get(part)
        if group is not None:
            sums[group] += quantity if type(quantity) is int else int(quantity)
    fresh, output, read, written = sums
    return Totals(fresh + read + written, output, read, written, int(parts.get("output_reasoning", 0)))


def quantities(stored: Mapping[str, Decimal | str]) -> dict[str, Quantity]:
    """A map of quantities, as ClickHouse gives it, as the price book takes it: ints where they are whole."""
    found = {name: Decimal(value) for name, value in stored.items()}
    return {name: int(value) if value == int(value) else value.normalize() for name, value in found.items()}
