"""A call that came over the wire, priced on arrival: costs that others state are not taken for ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from spanledger import attributes as names
from spanledger import kept
from spanledger.masking import masked
from spanledger.pricing.book import default_book
from spanledger.pricing.call import Call
from spanledger.pricing.handoff import Priced
from spanledger.pricing.usage import (
    CONTRADICTORY,
    ESTIMATED,
    INCOMPLETE,
    MAX_QUANTITY,
    MISSING,
    REPORTED,
    Quantity,
)

MAX_ITEMS = 64
"""Lists and maps of a span are cut at so many items, their texts at `MAX_TEXT` characters."""

MAX_TEXT = 512

_STATUSES = frozenset({REPORTED, CONTRADICTORY, INCOMPLETE, ESTIMATED, MISSING})


def price(attributes: Mapping[str, Any], start_ns: int) -> list[Priced]:
    """The lines of a call, from its attributes in our own names."""
    get = attributes.get
    parts, unmapped, status, reasons = _usage(
        loads(get(names.USAGE_PARTS)),
        loads(get(names.USAGE_UNMAPPED)),
        get(names.USAGE_STATUS),
        get(names.USAGE_REASONS),
    )
    call = Call(
        provider=str(get(names.PROVIDER, "")),
        model=str(get(names.RESPONSE_MODEL) or get(names.REQUEST_MODEL) or ""),
        start_ns=start_ns,
        parts=parts,
        unmapped=unmapped,
        usage_status=status,
        usage_reasons=reasons,
        service_tier=str(get(names.SERVICE_TIER, "")),
        processing=str(get(names.PROCESSING, "")),
        region=str(get(names.REGION, "")),
        tenant=str(get(names.TENANT, "")),
        api_key=str(get(names.API_KEY_ALIAS) or get(names.API_KEY_HASH) or ""),
        request_model=str(get(names.REQUEST_MODEL, "")),
        failed=get(names.NOT_BILLED) is True,
    )
    calls = [call]
    lines = loads(get(names.LINES))
    for line in lines[:MAX_ITEMS] if isinstance(lines, list) else ():
        if isinstance(line, dict):
            parts, unmapped, status, reasons = _usage(
                line.get("parts"), line.get("unmapped"), line.get("status"), line.get("reasons")
            )
            calls.append(
                Call(
                    provider=call.provider,
                    model=str(line.get("model") or ""),
                    start_ns=start_ns,
                    parts=parts,
                    unmapped=unmapped,
                    usage_status=status,
                    usage_reasons=reasons,
                    service_tier=call.service_tier,
                    processing=call.processing,
                    region=call.region,
                    tenant=call.tenant,
                    api_key=call.api_key,
                )
            )
    book = default_book()
    return [Priced(each, book.price(each), number) for number, each in enumerate(calls)]


_KEPT: dict[str, Callable[[str], str]] = {
    names.OPERATION: kept.word,
    names.PROVIDER: kept.identifier,
    names.REQUEST_MODEL: kept.identifier,
    names.RESPONSE_MODEL: kept.identifier,
    names.RESPONSE_ID: kept.identifier,
    names.REGION: kept.word,
    names.SERVICE_TIER: kept.word,
    names.PROCESSING: kept.word,
    names.ERROR_TYPE: kept.word,
    names.ERROR_MESSAGE: masked,
}
"""What may be kept of the texts of a span that another process or another's instrumentation made."""


def reduced(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """`attributes`, in our own names, with what may hold content or secrets reduced."""
    found = dict(attributes)
    for name, keep in _KEPT.items():
        value = found.get(name)
        if value:
            found[name] = keep(value if isinstance(value, str) else str(value))
    reasons = found.get(names.FINISH_REASONS)
    if reasons:
        found[names.FINISH_REASONS] = [kept.word(reason) for reason in texts(reasons)]
    reasons = found.get(names.USAGE_REASONS)
    if reasons:
        found[names.USAGE_REASONS] = [masked(reason) for reason in texts(reasons)]
    raw = found.get(names.USAGE_RAW)
    if raw:
        usage = loads(raw)
        found[names.USAGE_RAW] = orjson.dumps(kept.usage(usage)).decode() if isinstance(usage, dict) else ""
    return found


def loads(value: Any) -> Any:
    """An attribute that holds JSON; None where it does not."""
    if not isinstance(value, str):
        return None
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return None


def texts(value: Any) -> list[str]:
    """An attribute that holds strings, within bounds."""
    items = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ()
    return [str(item)[:MAX_TEXT] for item in items[:MAX_ITEMS] if item is not None]


def quantity_text(value: Any) -> str | None:
    """A quantity as ClickHouse's Decimal(38, 9) reads it; None where it is none."""
    try:
        number = Decimal(str(value) if isinstance(value, float) else value)
        if not isinstance(value, bool) and number.is_finite() and 0 <= number <= MAX_QUANTITY:
            return f"{number:f}"[:64]
    except (InvalidOperation, TypeError, ValueError):
        pass
    return None


def _usage(
    parts: Any, unmapped: Any, stated: Any, reasons: Any
) -> tuple[dict[str, Quantity], dict[str, Quantity], str, tuple[str, ...]]:
    """Parts, unmapped fields, status and reasons; what is no quantity makes the usage contradictory."""
    good, doubts = _quantities(parts)
    others, more = _quantities(unmapped)
    if doubts or more:
        status = CONTRADICTORY
    elif stated in _STATUSES:
        status = stated
    else:
        status = REPORTED if good else MISSING
    return good, others, status, (*texts(reasons), *doubts, *more)


def _quantities(found: Any) -> tuple[dict[str, Quantity], list[str]]:
    """The quantities of a JSON object, and what is wrong with the others."""
    good: dict[str, Quantity] = {}
    doubts: list[str] = []
    for name, value in list(found.items())[:MAX_ITEMS] if isinstance(found, dict) else ():
        name = kept.field(name)
        if type(value) is int and 0 <= value <= MAX_QUANTITY:
            good[name] = value
        elif text := quantity_text(value):
            good[name] = Decimal(text)
        else:
            doubts.append(f"{name} is not a quantity")
    return good, doubts
