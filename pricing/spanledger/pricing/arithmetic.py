"""Exact amounts: quantities times rates, in units of 1e-18, from rationals alone.

The book's quick path multiplies ints; whatever is not an int (seconds, a rate such as 0.017 a minute, a minimum, a
marginal tier) is computed here. Recomputing a row from its snapshot uses these same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from spanledger.pricing.call import SCALE
from spanledger.pricing.usage import PARTS, Quantity

ONE = 10**SCALE
_MOST_PLACES = 40


class Rate(NamedTuple):
    """What a unit of a part costs.

    Attributes:
        value: amount per unit.
        request: billed once a request, however many units.
        least: units billed at least, where any were used.
        free: units of each request that cost nothing.
        quota: units that cost nothing in a period (`1500/day`); a single call cannot know whether they are used up.
    """

    value: Fraction
    request: bool = False
    least: Fraction | None = None
    free: Fraction | None = None
    quota: str = ""

    @property
    def plain(self) -> bool:
        """Whether the amount is simply an int rate in 1e-18 times the quantity."""
        return not self.request and self.least is None and self.free is None and ONE % self.value.denominator == 0

    def billed(self, quantity: Fraction) -> Fraction:
        """The units that are billed for `quantity` units used."""
        if self.request:
            quantity = Fraction(1)
        if self.free is not None:
            quantity = max(Fraction(0), quantity - self.free)
            if not quantity:
                return quantity
        if self.least is not None:
            quantity = max(self.least, quantity)
        return quantity


@dataclass(frozen=True, slots=True)
class Bands:
    """Marginal tiers: the share of the tokens that lies beyond each edge is billed at that tier's rates.

    Where several parts make up the measured tokens, each has the same share beyond an edge.

    Attributes:
        of: the parts whose sum is measured.
        edges: first edge is 0; a band reaches from its edge to the next.
        rates: part -> rate, for each band.
    """

    of: tuple[str, ...]
    edges: tuple[int, ...]
    rates: tuple[Mapping[str, Fraction], ...]

    def amount(self, part: str, quantity: Fraction, measured: Fraction) -> Fraction:
        if part not in self.of or not measured:
            return quantity * self.rates[0][part]
        total = Fraction(0)
        for i, edge in enumerate(self.edges):
            end = Fraction(self.edges[i + 1]) if i + 1 < len(self.edges) else measured
            width = min(measured, end) - edge
            if width > 0:
                total += quantity * width / measured * self.rates[i][part]
        return total


def fraction(quantity: Quantity) -> Fraction:
    """`quantity` exactly.

    Raises:
        ValueError: it is negative or no finite number.
    """
    if isinstance(quantity, float):
        quantity = Decimal(repr(quantity))
    if isinstance(quantity, Decimal):
        exponent = quantity.as_tuple().exponent
        if not isinstance(exponent, int) or not -_MOST_PLACES <= exponent <= _MOST_PLACES:
            raise ValueError(f"{quantity!r} is not a quantity")
    elif not isinstance(quantity, int):
        raise ValueError(f"{quantity!r} is not a quantity")
    value = Fraction(quantity)
    if value < 0:
        raise ValueError(f"{quantity!r} is negative")
    return value


def joined(parts: Mapping[str, Quantity], unmapped: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """All quantities that may have a rate; a provider's field that is called like a part is not that part."""
    return {**parts, **{name: quantity for name, quantity in unmapped.items() if name not in PARTS}}


def amounts(
    quantities: Mapping[str, Quantity], rates: Mapping[str, Rate], bands: Bands | None = None
) -> tuple[dict[str, int], list[str]]:
    """Part -> amount in 1e-18, half-even at the last place, and the parts whose quantity is no quantity.

    Parts without a rate and quantities of 0 have no amount.
    """
    found: dict[str, int] = {}
    bad: list[str] = []
    exact: dict[str, Fraction] = {}
    for part, quantity in quantities.items():
        try:
            exact[part] = fraction(quantity)
        except ValueError:
            bad.append(part)
    measured = sum((exact[p] for p in bands.of if p in exact), Fraction(0)) if bands else Fraction(0)
    for part, value in exact.items():
        rate = rates.get(part)
        if not value or rate is None:
            continue
        if bands and part in bands.rates[0]:
            found[part] = round(bands.amount(part, value, measured) * ONE)
        else:
            found[part] = round(rate.value * rate.billed(value) * ONE)
    return found, bad


def rounded(e18: Fraction | int, decimals: int | None) -> int:
    """`e18` half-even at `decimals` places; at 18 where None."""
    if decimals is None or decimals >= SCALE:
        return round(e18)
    step: int = 10 ** (SCALE - decimals)
    return round(Fraction(e18) / step) * step


def text_of(value: Fraction) -> str:
    """`value` in plain decimal digits where they end, else as `numerator/denominator`."""
    denominator = value.denominator
    twos = fives = 0
    while denominator % 2 == 0:
        denominator //= 2
        twos += 1
    while denominator % 5 == 0:
        denominator //= 5
        fives += 1
    if denominator != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(value.numerator * 10**places // value.denominator)
    if not places:
        return digits
    digits = digits.rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}"
