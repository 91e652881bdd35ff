"""What caching saved: what the tokens that were read from a cache would have cost without one, less what they cost,
less what writing them cost beyond reading them afresh. By the rates that each row was priced with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from spanledger.exporter.client import Client
from spanledger.exporter.queries import SNAPSHOT
from spanledger.exporter.rollup import Covered
from spanledger.exporter.stats import Kept, Question, stats
from spanledger.pricing import snapshot
from spanledger.pricing.call import amount
from spanledger.pricing.usage import CACHE_READ_PARTS, CACHE_WRITE_PARTS

_MOST: Final = 200_000
"""Groups by snapshot; there are few snapshots a model."""


@dataclass(slots=True)
class Savings:
    """What caching did for a group of calls.

    Attributes:
        values: dimension or bucket -> value; empty for the totals.
        currency: the base currency, which `saved` is in.
        input_tokens: those of the cache included; None where no call reported any.
        cache_read_tokens, cache_write_tokens: of these.
        saved: negative where writing cost more than reading saved.
        unknown_tokens: cached tokens that `saved` lacks: their rate, or that of fresh input, is not known.
    """

    values: Mapping[str, Any]
    currency: str
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    saved: Decimal = Decimal(0)
    unknown_tokens: int = 0


def savings(
    client: Client,
    question: Question,
    covered: Covered | None = None,
    settings: Mapping[str, Any] | None = None,
    kept: Kept | None = None,
) -> tuple[list[Savings], list[Savings]]:
    """What caching saved by group, the most first, and in total (one item a base currency).

    Parameters:
        covered, settings, kept: as of `stats`.

    Raises:
        QueryError, ClickHouseError: as `stats` does.
    """
    asked = replace(question, by=(*question.by, SNAPSHOT), limit=_MOST, parts=True, latency=False, sort="group")
    groups: dict[tuple[Any, ...], Savings] = {}
    totals: dict[str, Savings] = {}
    for found in stats(client, asked, covered, settings, kept).groups:
        values = {name: value for name, value in found.values.items() if name != SNAPSHOT}
        saved, unknown = _saved(found.values[SNAPSHOT], found.figures["usage"])
        for each in (
            groups.setdefault((*values.values(), found.currency), Savings(values, found.currency)),
            totals.setdefault(found.currency, Savings({}, found.currency)),
        ):
            for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens"):
                if (number := found.figures[name]) is not None:
                    setattr(each, name, (getattr(each, name) or 0) + number)
            each.saved += saved
            each.unknown_tokens += unknown
    if not (question.by or question.bucket):
        return [], list(totals.values())
    ordered = sorted(groups.values(), key=lambda each: -each.saved)
    return ordered[: question.limit], list(totals.values())


def _saved(text: str, usage: Mapping[str, Decimal]) -> tuple[Decimal, int]:
    """What was saved in the base currency, and tokens of which it is not known."""
    total, unknown = Fraction(0), 0
    for part, quantity in usage.items():
        if part in CACHE_READ_PARTS or part in CACHE_WRITE_PARTS:
            each = _each(text, part)
            if each is None:
                unknown += int(quantity)
            else:
                total += each * Fraction(quantity)
    return amount(round(total * 10**18)), unknown


@lru_cache(maxsize=4096)
def _each(text: str, part: str) -> Fraction | None:
    """What a token of `part` costs less than a fresh one."""
    if not text:
        return None
    terms = snapshot.read(text)
    rates = terms.rates
    modality = part.removeprefix("cache_read").removeprefix("_")
    fresh = rates.get(f"input_{modality}") if modality and part in CACHE_READ_PARTS else None
    fresh, cached = fresh or rates.get("input"), rates.get(part) or rates.get("_".join(part.split("_")[:2]))
    if fresh is None or cached is None or terms.bands is not None or not terms.fx_known:
        return None
    return (fresh.value - cached.value) * (terms.fx if terms.fx is not None else 1)
