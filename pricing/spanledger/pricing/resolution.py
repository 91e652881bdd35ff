"""From a price row and a call's tier, modes and region to the rate of each part.

The steps are those of `docs/prices.md`: the row's rates, its context tier, modes, region, overlays; at each, `rates`
replaces a rate outright and `mult` multiplies. Parts without a rate fall back last, on the rates so found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from spanledger.pricing import globs
from spanledger.pricing.arithmetic import Rate
from spanledger.pricing.document import STANDARD, Json, mode_name
from spanledger.pricing.usage import PARTS, TOKEN_PARTS

_EXACT = {
    "output_reasoning": "output",
    "input_tool_use": "input",
    "input_image": "input",
    "input_video": "input",
    "input_document": "input",
    "cache_read_image": "cache_read",
    "cache_read_video": "cache_read",
    "cache_read_document": "cache_read",
    "cache_write_5m": "cache_write",
    "cache_write_30m": "cache_write",
}
"""Part -> the part at whose rate providers bill it."""

_ESTIMATED = {
    "cache_read_audio": "cache_read",
    "cache_read": "input",
    "cache_write_1h": "cache_write",
    "cache_write_12h": "cache_write",
    "cache_write": "input",
    "input_audio": "input",
    "output_audio": "output",
    "output_image": "output",
}
"""Part -> the part whose rate is the best guess."""

STANDARD_REGIONS = frozenset({"", "global", "default", "none", "not_available"})
"""Words for a region that carries no uplift."""


class Effective(NamedTuple):
    """Part or field -> rate after all multipliers, and why they may not be the provider's own."""

    rates: dict[str, Rate]
    reasons: list[str]


class Choice(NamedTuple):
    """What of a price row applies to a call, apart from the context tier.

    Attributes:
        row: the price row, additions included.
        context: the context tiers in force: the row's, or a mode's own.
        mode_context: whether they are a mode's own.
        modes: the active modes, in the row's order.
        region: the region's rule, if one applies.
        overlays: the overlays that apply, in file order.
        reasons: modes, tiers and regions that the row does not know.
    """

    row: Json
    context: Json
    mode_context: bool
    modes: tuple[tuple[str, Json], ...]
    region: Json | None
    region_name: str
    overlays: tuple[Json, ...]
    reasons: tuple[str, ...]


def choose(row: Json, model: str, service_tier: str, processing: str, region: str, overlays: Iterable[Json]) -> Choice:
    """Which modes, region and overlays of `row` a call falls under."""
    reasons: list[str] = []
    asked = {"service_tier": mode_name(service_tier), "processing": mode_name(processing)}
    known: Json = row.get("modes", {})
    active: list[tuple[str, Json]] = []
    excluded: set[str] = set()
    for dimension in [*known, *(d for d in asked if d not in known)]:
        mode = known.get(dimension, {}).get(asked[dimension])
        if mode is not None:
            active.append((dimension, mode))
            excluded.update(mode.get("excludes", ()))
    modes = tuple((d, m) for d, m in active if d not in excluded)
    applied = {d for d, _ in modes}
    if not row.get("free"):
        reasons += [
            f"{dimension} {name} is not in the price of {model}: at its standard rate"
            for dimension, name in asked.items()
            if name not in STANDARD and dimension not in applied and dimension not in excluded
        ]
    own = [mode["context"] for _, mode in modes if "context" in mode]
    context = own[-1] if own else row.get("context", {})
    rule = None
    regions = row.get("region", [])
    place = region.strip().lower()
    if regions and place not in STANDARD_REGIONS:
        rule = next((r for r in regions if any(globs.matches(place, w) for w in r["when"])), None)
        if rule is None:
            reasons.append(f"region {place} is not in the price of {model}: without an uplift")
    return Choice(row, context, bool(own), modes, rule, place, tuple(overlays), tuple(reasons))


def effective(choice: Choice, tier: int) -> Effective:
    """The rates with context tier number `tier` of the choice (-1: below the first)."""
    rates = {name: rate_of(item) for name, item in choice.row.get("rates", {}).items()}
    rates.update({name: rate_of(item) for name, item in choice.row.get("unmapped", {}).items()})
    reasons = [choice.row["estimated"]] if "estimated" in choice.row else []
    context = choice.context["tiers"][tier] if tier >= 0 else None
    if context is not None and not choice.mode_context:
        _change(rates, context, reasons)
    for _, mode in choice.modes:
        _change(rates, mode, reasons)
    if context is not None and choice.mode_context:
        _change(rates, context, reasons)
    if choice.region is not None:
        _change(rates, choice.region, reasons)
    for overlay in choice.overlays:
        _change(rates, overlay, reasons)
    return Effective(rates, reasons)


def rate_of(item: Sequence[object]) -> Rate:
    """A checked rate (`[text, per]` and what more a fee has) per unit."""
    text, per, *more = item
    value = Fraction(str(text)) / int(str(per))
    if not more:
        return Rate(value)
    extra: Mapping[str, str] = more[0]  # type: ignore[assignment]
    free = extra.get("free", "")
    quota = "/" in free
    return Rate(
        value,
        request=extra.get("unit") == "request",
        least=Fraction(extra["min"]) if "min" in extra else None,
        free=Fraction(free) if free and not quota else None,
        quota=free if quota else "",
    )


def fall_back(part: str, rates: Mapping[str, Rate]) -> tuple[Rate, str, bool] | None:
    """For a part without a rate: the rate it falls back to, whose that is, and whether providers bill so."""
    exact = True
    at = part
    while at not in rates:
        if at in _EXACT:
            at = _EXACT[at]
        elif at in _ESTIMATED:
            at = _ESTIMATED[at]
            exact = False
        else:
            return None
    return rates[at], at, exact


def with_additions(row: Json, additions: Iterable[Json]) -> Json:
    """The row with what it lacks of `additions`; what it says itself stands."""
    full = dict(row)
    for addition in additions:
        rates = dict(full.get("rates", {}))
        for part, item in addition.get("rates", {}).items():
            if part in rates or full.get("free"):
                continue
            if not isinstance(item, dict):
                rates[part] = item
            elif item["of"] in rates:
                text, per, *_ = rates[item["of"]]
                rates[part] = [str(Fraction(text) * Fraction(item["mult"])), per]
        full["rates"] = rates
        full["unmapped"] = {**addition.get("unmapped", {}), **full.get("unmapped", {})}
        modes = dict(full.get("modes", {}))
        for dimension, values in addition.get("modes", {}).items():
            modes[dimension] = {**values, **modes.get(dimension, {})}
        full["modes"] = modes
        for key in ("context", "region"):
            if key in addition:
                full.setdefault(key, addition[key])
    return full


def edges_of(context: Json) -> tuple[int, ...]:
    """The edges beyond which (`>`) the tiers begin; `gte 200000` is beyond 199 999, since tokens are whole."""
    less = 1 if context.get("op") == "gte" else 0
    return tuple(tier["over"] - less for tier in context.get("tiers", ()))


@lru_cache(maxsize=512)
def selects(selector: str, part: str) -> bool:
    """Whether a multiplier's selector (`tokens`, a glob over parts) means `part`."""
    if selector == "tokens":
        return part in TOKEN_PARTS or (part not in PARTS and part.endswith(("_tokens", "_token")))
    return globs.matches(part, selector)


def _change(rates: dict[str, Rate], change: Json, reasons: list[str]) -> None:
    """Apply one level: its `rates` replace outright, then its `mult` multiply."""
    for part, item in change.get("rates", {}).items():
        rates[part] = rate_of(item)
    for selector, text in change.get("mult", {}).items():
        if selector in PARTS and selector not in rates:
            found = fall_back(selector, rates)
            if found is not None and found[2]:
                rates[selector] = found[0]
        factor = Fraction(text)
        for part, rate in rates.items():
            if selects(selector, part):
                rates[part] = rate._replace(value=rate.value * factor)
    if "estimated" in change:
        reasons.append(change["estimated"])
