"""The snapshot of a charge: everything that its amounts were computed from, as compact JSON.

It holds no quantity, so that calls of one kind share one text. Amounts a unit are plain decimal digits, or a fraction
where the digits would not end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from spanledger.pricing.arithmetic import Bands, Rate, text_of

if TYPE_CHECKING:
    from spanledger.pricing.book import Vector, _Source
    from spanledger.pricing.model_list import Model
    from spanledger.pricing.resolution import Choice


@dataclass(frozen=True, slots=True)
class Terms:
    """A snapshot, read."""

    rates: Mapping[str, Rate]
    bands: Bands | None
    currency: str
    base_currency: str
    fx: Fraction | None
    fx_known: bool
    decimals: int | None
    raw: Mapping[str, Any]


def write(
    rates: Mapping[str, Rate],
    names: Sequence[str],
    choice: Choice,
    model: Model,
    source: _Source,
    vector: Vector,
    tier: int,
) -> str:
    """The snapshot of the charges that `vector` makes. The keys are described in `docs/prices.md`."""
    row = choice.row
    found: dict[str, Any] = {"file": model.file, "provider": model.provider, "model": model.id}
    price: dict[str, Any] = {}
    for key in ("from", "until"):
        if key in row:
            price[key] = instant(row[key])
    for key in ("source", "checked"):
        if key in row:
            price[key] = row[key]
    found["price"] = price
    declared = {*row.get("rates", {}), *names}
    found["rates"] = {name: text_of(rates[name].value) for name in sorted(rates) if name in declared}
    fees = {name: _fee(rates[name]) for name in found["rates"] if _fee(rates[name])}
    if fees:
        found["fees"] = fees
    if vector.bands is not None:
        found["bands"] = {
            "of": list(vector.bands.of),
            "edges": list(vector.bands.edges),
            "rates": [{p: text_of(v) for p, v in sorted(band.items())} for band in vector.bands.rates],
        }
    elif tier >= 0:
        found["over"] = choice.context["tiers"][tier]["over"]
        if "op" in choice.context:
            found["op"] = choice.context["op"]
    if choice.modes:
        found["modes"] = {dimension: mode["name"] for dimension, mode in choice.modes}
    if choice.region is not None:
        found["region"] = choice.region_name
    if choice.overlays:
        found["overlays"] = [overlay["name"] for overlay in choice.overlays]
    found["currency"] = vector.currency
    if vector.base != vector.currency:
        found["base"] = vector.base
        if source.fx is not None:
            found["fx"] = {"rate": source.fx["rate"], "from": instant(source.fx["from"])}
            if "source" in source.fx:
                found["fx"]["source"] = source.fx["source"]
    if vector.decimals is not None:
        found["decimals"] = vector.decimals
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False)


@lru_cache(maxsize=8192)
def read(text: str) -> Terms:
    """The terms in a snapshot.

    Raises:
        ValueError: it is not a snapshot of ours.
    """
    try:
        found = json.loads(text)
        fees = found.get("fees", {})
        rates = {name: _rate(value, fees.get(name, {})) for name, value in found["rates"].items()}
        bands = None
        if "bands" in found:
            of, edges = found["bands"]["of"], found["bands"]["edges"]
            values = [{p: Fraction(v) for p, v in band.items()} for band in found["bands"]["rates"]]
            bands = Bands(tuple(of), tuple(edges), tuple(values))
        currency = found["currency"]
        base = found.get("base", currency)
        fx = Fraction(found["fx"]["rate"]) if "fx" in found else None
        known = base == currency or fx is not None
        return Terms(rates, bands, currency, base, fx, known, found.get("decimals"), found)
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(f"not a price snapshot: {text[:80]!r}") from error


def _fee(rate: Rate) -> dict[str, str]:
    found = {}
    if rate.request:
        found["unit"] = "request"
    if rate.least is not None:
        found["min"] = text_of(rate.least)
    if rate.free is not None:
        found["free"] = text_of(rate.free)
    return found


def _rate(text: str, fee: Mapping[str, str]) -> Rate:
    return Rate(
        Fraction(text),
        request=fee.get("unit") == "request",
        least=Fraction(fee["min"]) if "min" in fee else None,
        free=Fraction(fee["free"]) if "free" in fee else None,
    )


def instant(ns: int) -> str:
    """An instant as price files write it: a day where it is the day's start."""
    moment = datetime.fromtimestamp(ns // 10**9, tz=timezone.utc)
    text = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return text.removesuffix("T00:00:00Z")
