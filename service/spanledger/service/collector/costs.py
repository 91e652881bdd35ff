"""What a call cost, put onto its OTLP span for those that the spans are sent on to (`docs/attributes.md`)."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

from spanledger import attributes as names
from spanledger.exporter.rows import Row

_OURS = frozenset({names.COST, names.COST_CURRENCY, names.COST_STATUS, names.COST_REASONS, names.PRICED_MODEL})


def of(rows: list[Row]) -> dict[str, Any]:
    """The cost attributes of a call: those that its rows say, all lines together."""
    first = rows[0]
    found: dict[str, Any] = {names.COST_STATUS: first["price_status"]}
    if reasons := first.get("cost_reasons"):
        found[names.COST_REASONS] = reasons
    if model := first.get("priced_model"):
        found[names.PRICED_MODEL] = model
    cost, currency = first["cost"], first["currency"]
    if len(rows) > 1:
        base = [row["cost_base"] for row in rows]
        currency = first["base_currency"]
        with localcontext() as context:
            context.prec = 60
            cost = None if None in base else f"{sum(map(Decimal, base)):f}"
    if cost is not None:
        found[names.COST] = cost.rstrip("0").rstrip(".") if "." in cost else cost
        found[names.COST_CURRENCY] = currency
    return found


def put(span: Any, rows: list[Row]) -> None:
    """Put them onto an OTLP span, in place of what its sender said; nothing where no row of the span is billed."""
    if not rows or not rows[0]["price_status"] or rows[0].get("is_deleted"):
        return
    kept = [pair for pair in span.attributes if pair.key not in _OURS]
    if len(kept) < len(span.attributes):
        kept = [type(pair).FromString(pair.SerializeToString()) for pair in kept]
        del span.attributes[:]
        span.attributes.extend(kept)
    for name, value in of(rows).items():
        target = span.attributes.add(key=name).value
        if isinstance(value, str):
            target.string_value = value
        else:
            for each in value:
                target.array_value.values.add(string_value=each)
