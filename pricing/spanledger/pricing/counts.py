"""Counts out of provider JSON that may hold anything, and the tally that they make up.

A JSON object is a dict: asking for a Mapping instead takes several times as long.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from spanledger import kept
from spanledger.pricing.usage import (
    CONTRADICTORY,
    ESTIMATED,
    INCOMPLETE,
    MAX_QUANTITY,
    MISSING,
    REPORTED,
    Quantity,
    Usage,
)

_MAX_DEPTH = 4
_EARLIEST_S, _LATEST_S = 1_000_000_000, 10_000_000_000  # 2001 to 2286: what else stands there is no time


def count(value: object) -> int | None:
    """`value` as a count: a whole number from 0 to MAX_QUANTITY, also if it came as 12.0 or "12"; else None."""
    if type(value) is int:
        return value if 0 <= value <= MAX_QUANTITY else None
    if type(value) is float:
        return int(value) if value.is_integer() and 0 <= value <= MAX_QUANTITY else None
    if type(value) is str and len(value) <= 16 and value.isascii() and value.isdigit():
        return count(int(value))
    return None


def amount(value: object) -> Decimal | None:
    """`value` as a quantity or sum of money that is not negative, to the last digit that was sent; else None."""
    if type(value) is int:
        number = Decimal(value)
    elif type(value) is float or (type(value) is str and len(value) <= 40):
        try:
            number = Decimal(repr(value) if type(value) is float else str(value))
        except ArithmeticError:
            return None
    else:
        return None
    return number if number.is_finite() and 0 <= number <= MAX_QUANTITY else None


def text(value: object) -> str:
    """`value` if it is a string, else the empty string."""
    return value if isinstance(value, str) else ""


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is a mapping, else an empty one."""
    if type(value) is dict:
        return value
    return value if value and isinstance(value, Mapping) else {}


def sequence(value: object) -> Collection[Any]:
    """`value` if it is a list or tuple, else an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def time_ns(value: object) -> int | None:
    """A provider's Unix time in seconds, as ns since the epoch; None if it is none."""
    if type(value) is int:
        return value * 10**9 if _EARLIEST_S <= value < _LATEST_S else None
    seconds = amount(value)
    if seconds is None or not _EARLIEST_S <= seconds < _LATEST_S:
        return None
    return int(seconds * 10**9)


def error_of(value: object) -> tuple[str, str] | None:
    """(type, message) of a provider's error object; None where there is none.

    The type is the error's `code` if that is a word, else its `type`, else the code as text.
    """
    if not value:
        return None
    if not isinstance(value, dict):
        return ("error", text(value))
    code = value.get("code")
    kind = text(code) or text(value.get("type")) or (str(code) if type(code) is int else "error")
    return (kind, text(value.get("message")))


class Tally:
    """Collects one response's usage. What cannot be true is left out and becomes a reason; nothing is raised."""

    __slots__ = ("estimates", "parts", "reasons", "unmapped")

    def __init__(self) -> None:
        self.parts: dict[str, Quantity] = {}
        self.unmapped: dict[str, Quantity] = {}
        self.reasons: list[str] = []
        """Contradictions."""
        self.estimates: list[str] = []
        """What is only the likeliest reading."""

    def count(self, source: Mapping[str, Any], name: str) -> int | None:
        """The count in `source[name]`; None if it is absent, null or cannot be true."""
        value = source.get(name)
        if value is None or (type(value) is int and 0 <= value <= MAX_QUANTITY):
            return value
        number = count(value)
        if number is None:
            self.reasons.append(f"{kept.field(name)} is not a count")
        return number

    def first(self, source: Mapping[str, Any], names: Collection[str]) -> int | None:
        """The count under the first of `names` that is there: one quantity under several spellings."""
        for name in names:
            if name in source:
                number = self.count(source, name)
                if number is not None:
                    return number
        return None

    def add(self, part: str, quantity: Quantity) -> None:
        """Add to a part that several things are counted in."""
        quantity += self.parts.get(part, 0)
        if quantity > MAX_QUANTITY:
            self.reasons.append(f"{part} would be more than there can be")
        else:
            self.parts[part] = quantity

    def share(self, part: str, quantity: int | None, left: int | None, name: str) -> int | None:
        """Take a detail out of its parent and give back what is left of it.

        Parameters:
            quantity: the detail; None if it was not reported.
            left: what other details have left of the parent; None if the parent was not reported.
            name: the provider's name of the detail.
        """
        if quantity is None:
            return left
        if left is None:
            self.parts[part] = quantity
            return None
        if quantity > left:
            self.reasons.append(f"{name} is {quantity}, more than the {left} that is left of its total")
            quantity = left
        self.parts[part] = quantity
        return left - quantity

    def keep_unmapped(self, source: Mapping[str, Any], known: frozenset[str], path: str = "", depth: int = 0) -> None:
        """Keep every number above 0 in `source` whose name is not in `known`, under its dotted name."""
        if known.issuperset(source):
            return
        for name, value in source.items():
            if name in known or value is None:
                continue
            if isinstance(value, dict):
                if depth < _MAX_DEPTH:
                    self.keep_unmapped(value, known, f"{path}{kept.field(name)}.", depth + 1)
            elif type(value) is int or type(value) is float:
                number = amount(value)
                name = kept.field(name)
                if number is None:
                    self.reasons.append(f"{path}{name} is not a quantity")
                elif number:
                    self.unmapped[f"{path}{name}"] = int(number) if number == int(number) else number

    def usage(self, raw: object, *, complete: bool = True, why_missing: str = "it reports no usage") -> Usage:
        """The finished usage.

        Parameters:
            raw: the provider's own usage object, as sent.
            complete: False if the response broke off before the provider's last word on usage.
            why_missing: the reason to give where nothing was reported.
        """
        stated = raw if isinstance(raw, dict) else None
        if complete and self.parts and not self.reasons and not self.estimates:
            return Usage(self.parts, self.unmapped, REPORTED, (), stated)
        reasons = self.reasons + self.estimates
        if not self.parts and not self.unmapped:
            status = MISSING
            if not reasons:
                reasons.append(why_missing)
        elif not complete:
            status = INCOMPLETE
            reasons.append("the stream broke off before its end")
        elif self.reasons:
            status = CONTRADICTORY
        else:
            status = ESTIMATED if self.estimates else REPORTED
        return Usage(self.parts, self.unmapped, status, tuple(reasons), stated)
