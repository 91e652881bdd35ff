"""A span to its ledger rows: one row a call, and one more for each other model that the call bills.

A span around calls (an agent, a tool) makes a row too, deleted from the start: settling takes names from it.
`docs/ledger.md` explains the columns; most of those that are at their default are left out of the row. This runs
inside the user's call, hence its plain loops.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from spanledger import attributes as names
from spanledger.exporter import ancestors, unlinked
from spanledger.exporter.arrival import MAX_ITEMS, MAX_TEXT, loads, price, quantity_text, reduced, texts
from spanledger.exporter.dialects import OURS, SURROUNDINGS, Dialect, dialect_of
from spanledger.exporter.identity import entry_id
from spanledger.pricing import handoff
from spanledger.pricing.call import UNPRICED, Call, Charge, amount_text
from spanledger.pricing.usage import (
    CONTRADICTORY,
    ESTIMATED,
    INCOMPLETE,
    MAX_QUANTITY,
    MISSING,
    REPORTED,
    TOKEN_GROUPS,
)

Row = dict[str, Any]

_MAX_RAW = 64 * 2**10
_MAX_AMOUNT = 10**38 - 1
_MAX_NS = 2**63 - 1
_MAX_DATE_NS = 5_662_310_400 * 10**9  # ClickHouse's Date ends on 2149-06-06
_EARLIEST_NS = 1_420_070_400 * 10**9  # 2015-01-01: no provider's clock is that wrong
_DAY_NS = 86_400 * 10**9

_USAGE_RANK = {REPORTED: 5, CONTRADICTORY: 4, INCOMPLETE: 3, ESTIMATED: 2, MISSING: 1}

_TEXTS = (
    (names.PROVIDER, "provider"),
    (names.OPERATION, "operation"),
    (names.REQUEST_MODEL, "request_model"),
    (names.RESPONSE_MODEL, "response_model"),
    (names.RESPONSE_ID, "response_id"),
    (names.REGION, "region"),
    (names.SERVICE_TIER, "service_tier"),
    (names.PROCESSING, "processing"),
    (names.ERROR_TYPE, "error_type"),
    (names.ERROR_MESSAGE, "error_message"),
    (names.TENANT, "tenant"),
    (names.USER_ID, "user_id"),
    (names.SESSION_ID, "session_id"),
    (names.FEATURE, "feature"),
    (names.PROMPT_NAME, "prompt_name"),
    (names.AGENT_NAME, "agent_name"),
    (names.REQUEST_BODY_URI, "request_body_uri"),
    (names.RESPONSE_BODY_URI, "response_body_uri"),
    (names.API_KEY_HASH, "api_key_hash"),
    (names.API_KEY_ALIAS, "api_key_alias"),
)

_ERROR = StatusCode.ERROR  # a look into an enum is slow in Python 3.11

_TOOLS = len(set(TOKEN_GROUPS.values()))
"""The group of the costs that are not for tokens."""


def encode(span: ReadableSpan) -> bytes:
    """The rows of a span as JSON lines; empty where the span is no call that the ledger knows."""
    return lines(read(span))


def lines(rows: list[Row]) -> bytes:
    """Rows of a span as JSON lines, and those of former spans that came to be of the same call."""
    late = unlinked.late()
    if len(rows) == 1 and not late:
        return _line(rows[0])
    return b"".join([_line(row) for row in (*rows, *late)])


def read(span: ReadableSpan) -> list[Row]:
    """The rows of a span, column -> value; none where the span is no call that the ledger knows."""
    scope = span.instrumentation_scope
    context = span.context
    if scope is None or context is None:
        return []
    given: Any = span.attributes  # a MappingProxyType, made anew at each look
    dialect = dialect_of(scope.name, given, scope.version)
    if dialect is None:
        return []
    attributes = dialect.read(given.copy())
    if attributes is None:
        return []
    if context.span_id not in handoff.ending:
        attributes = reduced(attributes)
    get = attributes.get

    row = _template(span.resource, scope, dialect).copy()
    row["trace_id"] = trace_id = f"{context.trace_id:032x}"
    row["span_id"] = span_id = f"{context.span_id:016x}"
    parent = span.parent
    if parent is not None:
        row["parent_span_id"] = f"{parent.span_id:016x}"
    above = ancestors.of(span)
    if above:
        row["ancestor_span_ids"] = above

    end = span.end_time
    if end is None or not 0 <= end < _MAX_DATE_NS:
        end = time.time_ns()
    start = span.start_time
    if start is None or not 0 <= start <= end:
        start = end
    digits = str(start).zfill(10)
    row["start_time"] = f"{digits[:-9]}.{digits[-9:]}"
    row["duration_ns"] = end - start
    row["event_date"] = _date(_event_time(get(names.CREATED_NS), end))

    for attribute, column in _TEXTS:
        value = get(attribute)
        if value:
            if type(value) is not str:
                value = str(value)
            row[column] = value if len(value) <= MAX_TEXT else value[:MAX_TEXT]
    if get(names.REQUEST_STREAM) is True:
        row["stream"] = True
    value = get(names.RETRIES)
    if value:
        row["retries"] = _whole(value, 2**16 - 1) or 0
    value = get(names.TIME_TO_FIRST_TOKEN_NS)
    if value is not None:
        row["time_to_first_token_ns"] = _whole(value, _MAX_NS)
    value = get(names.TAGS)
    if value:
        row["tags"] = _tags(value)
    if span.status.status_code is _ERROR or "error_type" in row:
        row["status"] = "error"
    if row["operation"] in SURROUNDINGS:
        row["entry_id"] = entry_id("", "", trace_id, span_id)
        return [_surrounding(row, attributes)]
    row["entry_id"] = entry_id(row["provider"], row["response_id"], trace_id, span_id)

    shares = handoff.ending.get(context.span_id) or price(attributes, start)
    rows = [row]
    for _ in shares[1:]:
        rows.append(row.copy())
    for line, share in zip(rows, shares):  # noqa: B905 - one for each
        if share.line:
            line["line"] = share.line
            line["response_model"] = str(share.call.model)[:MAX_TEXT]
        _add_usage(line, share.call, share.charge.left_out)
        line["version"] = version(line["usage_status"], dialect.rank, unpriced=share.charge.status == UNPRICED)
        add_charge(line, share.charge)

    value = get(names.FINISH_REASONS)
    if value:
        row["finish_reasons"] = texts(value)
    value = get(names.USAGE_RAW)
    if value:
        row["raw_usage"] = str(value)[:_MAX_RAW]
    value = get(names.REPORTED_COST)
    if value:
        row["reported_cost"] = _amount(value)
    identified = dialect.rank == OURS or row["response_id"]
    if not identified and ancestors.described(span_id):
        for line in rows:
            line["is_deleted"] = 1
    elif row["usage_status"] != MISSING:
        (unlinked.call if identified else unlinked.tale)(row, start, end, dialect.rank)
        if above and identified:
            ancestors.describe(above)
    return rows


def _surrounding(row: Row, attributes: Mapping[str, Any]) -> Row:
    """A row that no report shows: settling gives its names to the calls inside the span."""
    row["is_deleted"] = 1
    around = {
        tag: str(attributes[name])[:MAX_TEXT]
        for name, tag in ((names.WORKFLOW_NAME, "workflow"), (names.TOOL_NAME, "tool"))
        if attributes.get(name)
    }
    if around:
        row["tags"] = row.get("tags", {}) | around
    return row


def version(usage_status: str, source_rank: int, price_sequence: int = 0, *, unpriced: bool = False) -> int:
    """Which of two rows of one call stands: the better usage, then the better source, then a price, then the later one.

    The lowest 8 bits are free: settling adds to them.
    """
    return _USAGE_RANK[usage_status] << 56 | source_rank << 48 | (not unpriced) << 47 | price_sequence << 8


_templates: dict[tuple[int, int, str], tuple[Row, object, object]] = {}


def _template(resource: Any, scope: Any, dialect: Dialect) -> Row:
    """What the rows of a resource and a scope share, with a place for what every row has."""
    key = (id(resource), id(scope), dialect.source)
    try:
        return _templates[key][0]
    except KeyError:
        pass
    get = resource.attributes.get
    row: Row = {
        "event_date": "",  # first: journal.ROW_START
        "entry_id": "",
        "line": 0,
        "version": 0,
        "trace_id": "",
        "span_id": "",
        "service_name": str(get("service.name") or "")[:MAX_TEXT],
        "environment": str(get("deployment.environment.name") or get("deployment.environment") or "")[:MAX_TEXT],
        "scope": scope.name[:MAX_TEXT],
        "scope_version": (scope.version or "")[:MAX_TEXT],
        "source": dialect.source,
        "start_time": "",
        "duration_ns": 0,
        "provider": "",
        "operation": "",
        "request_model": "",
        "response_model": "",
        "response_id": "",
        "status": "ok",
        "input_tokens": None,
        "output_tokens": None,
        "total_tokens": None,
        "cache_read_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
        "usage_status": "",
        "cost": None,
        "cost_input": None,
        "cost_output": None,
        "cost_cache": None,
        "cost_tools": None,
        "currency": "",
        "cost_base": None,
        "base_currency": "",
        "price_status": "",
    }
    if len(_templates) >= 100:
        _templates.clear()
    _templates[key] = (row, resource, scope)  # kept, so that their ids stay theirs
    return row


def _add_usage(row: Row, call: Call, left_out: tuple[str, ...]) -> None:
    status = call.usage_status
    sums = [0, 0, 0, 0]
    usage: dict[str, Any] = {}
    for part, quantity in call.parts.items():
        if type(quantity) is int and 0 <= quantity <= MAX_QUANTITY:
            usage[part] = quantity
            if part in TOKEN_GROUPS:
                sums[TOKEN_GROUPS[part]] += quantity
            continue
        text = quantity_text(quantity)
        if text is None:
            status = CONTRADICTORY
            continue
        usage[part] = text
        if part in TOKEN_GROUPS:
            sums[TOKEN_GROUPS[part]] += int(quantity)
    if usage or status != MISSING:
        fresh, output, read, written = sums
        row["input_tokens"] = prompt = fresh + read + written
        row["output_tokens"] = output
        row["total_tokens"] = prompt + output
        row["cache_read_tokens"] = read
        row["cache_write_tokens"] = written
        row["reasoning_tokens"] = int(usage.get("output_reasoning", 0))
    for part in left_out:
        usage.pop(part, None)
    if usage:
        row["usage"] = usage
    if call.unmapped:
        row["unmapped"] = {
            name[:MAX_TEXT]: text
            for name, quantity in list(call.unmapped.items())[:MAX_ITEMS]
            if name not in left_out and (text := quantity_text(quantity)) is not None
        }
    row["usage_status"] = status if status in _USAGE_RANK else MISSING


CHARGE_COLUMNS: Row = {
    "cost": None,
    "cost_input": None,
    "cost_output": None,
    "cost_cache": None,
    "cost_tools": None,
    "cost_details": {},
    "cost_base": None,
    "cost_estimated": False,
    "cost_reasons": [],
    "priced_model": "",
    "price_snapshot": "",
}
"""What `add_charge` leaves out, or leaves as it is, where a charge does not have it."""


def add_charge(row: Row, charge: Charge) -> None:
    """Write a charge into a row.

    Parameters:
        row: with the columns of cost as a fresh row, or `CHARGE_COLUMNS`, has them.
    """
    row["price_status"] = charge.status
    row["currency"] = charge.currency
    row["base_currency"] = charge.base_currency
    if charge.estimated:
        row["cost_estimated"] = True
    if charge.reasons:
        row["cost_reasons"] = texts(charge.reasons)
    if charge.priced_model:
        row["priced_model"] = charge.priced_model[:MAX_TEXT]
    if charge.snapshot:
        row["price_snapshot"] = charge.snapshot
    cost = charge.cost_e18
    if cost is None:
        return
    if not -_MAX_AMOUNT <= cost <= _MAX_AMOUNT:
        row["price_status"] = UNPRICED
        row["cost_estimated"] = True
        row["cost_reasons"] = [*row.get("cost_reasons", ()), "the amount is larger than the ledger can hold"]
        return
    row["cost"] = text = amount_text(cost)
    base = charge.cost_base_e18
    if base == cost:
        row["cost_base"] = text
    elif base is not None and -_MAX_AMOUNT <= base <= _MAX_AMOUNT:
        row["cost_base"] = amount_text(base)
    sums = [0, 0, 0, 0, 0]
    details = {}
    for part, amount in charge.parts_e18.items():
        if amount:
            details[part] = amount_text(amount)
            sums[TOKEN_GROUPS.get(part, _TOOLS)] += amount
    fresh, output, read, written, tools = sums
    cache = read + written
    if details:
        row["cost_details"] = details
    row["cost_input"] = amount_text(fresh) if fresh else "0"
    row["cost_output"] = amount_text(output) if output else "0"
    row["cost_cache"] = amount_text(cache) if cache else "0"
    row["cost_tools"] = amount_text(tools) if tools else "0"


def _line(row: Row) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a string with a lone surrogate, a key that is no string
        return orjson.dumps(_clean(row), option=orjson.OPT_APPEND_NEWLINE)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _event_time(created: Any, end: int) -> int:
    """The provider's own time of the response, where it is plausible, else the span's end."""
    if type(created) is int and _EARLIEST_NS <= created <= end + _DAY_NS and created < _MAX_DATE_NS:
        return created
    return end


_dates: dict[int, str] = {}


def _date(at_ns: int) -> str:
    day = at_ns // _DAY_NS
    try:
        return _dates[day]
    except KeyError:
        if len(_dates) >= 1000:
            _dates.clear()
        return _dates.setdefault(day, time.strftime("%Y-%m-%d", time.gmtime(day * 86_400)))


def _whole(value: Any, most: int) -> int | None:
    return min(value, most) if type(value) is int and value >= 0 else None


def _amount(value: Any) -> str | None:
    """An amount that a provider states, as ClickHouse's Decimal(38, 18) reads it; None where it is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return f"{number:.18f}" if number.is_finite() and abs(number) < Decimal(10) ** 20 else None


def _tags(value: Any) -> dict[str, str]:
    found = loads(value)
    if not isinstance(found, dict):
        return {}
    return {
        name[:MAX_TEXT]: (item if isinstance(item, str) else str(item))[:MAX_TEXT]
        for name, item in list(found.items())[:MAX_ITEMS]
    }
