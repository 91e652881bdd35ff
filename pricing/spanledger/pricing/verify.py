"""Recomputes a stored charge from its own snapshot and usage, to the last digit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spanledger.pricing import arithmetic, snapshot
from spanledger.pricing.usage import Quantity


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a snapshot and a usage come to, in units of 1e-18.

    Attributes:
        cost_e18: total in `currency`.
        parts_e18: part -> amount in `currency`.
        cost_base_e18: total in `base_currency`; None where there was no exchange rate.
    """

    cost_e18: int
    parts_e18: Mapping[str, int] = field(default_factory=dict)
    currency: str = "USD"
    cost_base_e18: int | None = None
    base_currency: str = "USD"


def recompute(parts: Mapping[str, Quantity], unmapped: Mapping[str, Quantity], text: str) -> Amounts:
    """The amounts of a row from its usage and its snapshot `text`.

    Raises:
        ValueError: the snapshot cannot be read.
    """
    terms = snapshot.read(text)
    amounts, _ = arithmetic.amounts(arithmetic.joined(parts, unmapped), terms.rates, terms.bands)
    exact = sum(amounts.values())
    base: int | None = None
    if terms.fx is not None:
        base = arithmetic.rounded(exact * terms.fx, terms.decimals)
    elif terms.fx_known:
        base = arithmetic.rounded(exact, terms.decimals)
    return Amounts(arithmetic.rounded(exact, terms.decimals), amounts, terms.currency, base, terms.base_currency)
