"""The OpenAPI document of the API, made from the same names as the answers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from spanledger.exporter.queries import LISTED, ORDERS
from spanledger.exporter.stats import SORTS
from spanledger.service.api.answers import PRICE_STATUSES, TOKENS, USAGE_STATUSES
from spanledger.service.api.parameters import FILTERS, MAX_LIMIT, STATUS
from spanledger.version import __version__

Json = dict[str, Any]

TIME = "A day (2026-11-01, today, yesterday), a month (2026-11), a time (2026-11-01T08:30) or an age (24h, 7d)."

_AMOUNT: Json = {"type": ["string", "null"], "format": "decimal", "examples": ["0.005615000000000000"]}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TOKENS: Json = {"type": ["integer", "null"], "minimum": 0, "description": "null: no call of the group reported any."}
_SHARE: Json = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_NS: Json = {"type": ["integer", "null"], "description": "ns, at most 0.8 % too low; null: no such call."}


def _object(properties: Json, description: str = "") -> Json:
    found: Json = {"type": "object", "properties": properties, "required": list(properties)}
    return {"description": description, **found} if description else found


def _list(of: Json) -> Json:
    return {"type": "array", "items": of}


def _map(of: Json) -> Json:
    return {"type": "object", "additionalProperties": of}


_BY_KIND = dict.fromkeys(("input", "output", "cache", "tools"), _AMOUNT)

_ASKED_FOR = ("usage", "original_costs", "duration_ns", "time_to_first_token_ns")

GROUP: Json = {
    "type": "object",
    "properties": {
        "group": {**_map({"type": "string"}), "description": "Dimension or time bucket -> value; {} in totals."},
        "calls": _COUNT,
        "rows": {**_COUNT, "description": "Ledger rows: a call that bills several models has several."},
        "errors": _COUNT,
        "error_rate": _SHARE,
        "success_rate": _SHARE,
        "error_types": {**_map(_COUNT), "description": "Failed calls by error type."},
        "tokens": _object(dict.fromkeys(TOKENS, _TOKENS)),
        "cost": {
            **_object({"currency": {"type": "string"}, "total": _AMOUNT, "unknown_rows": _COUNT}),
            "description": "In the base currency. `unknown_rows` have no known cost and are not in it. The kinds and"
            " parts are there with parts=true; converted parts are cut at 18 places, the total is exact.",
        },
        "price_status": _object(dict.fromkeys(PRICE_STATUSES, _COUNT), "Rows by price status."),
        "usage_status": _object(dict.fromkeys(USAGE_STATUSES, _COUNT), "Rows by usage status."),
        "shares": _object(dict.fromkeys(("estimated", "unpriced", "usage_missing"), _SHARE), "Of all rows."),
        "duration_ns": _object(dict.fromkeys(("p50", "p95", "p99"), _NS), "Of calls that went well; latency=true."),
        "time_to_first_token_ns": _object(dict.fromkeys(("p50", "p95", "p99"), _NS), "Of streams; with latency=true."),
        "usage": {**_map({"type": "string"}), "description": "Quantity by part; with parts=true."},
        "original_costs": {
            "type": "array",
            "description": "Costs in the currencies of their prices; with parts=true.",
            "items": _object({"currency": {"type": "string"}, "total": _AMOUNT, **_BY_KIND, "parts": _map(_AMOUNT)}),
        },
    },
}
GROUP["properties"]["cost"]["properties"] |= {**_BY_KIND, "parts": _map(_AMOUNT)}
GROUP["required"] = [name for name in GROUP["properties"] if name not in _ASKED_FOR]

SAVED: Json = _object(
    {
        "group": _map({"type": "string"}),
        "currency": {"type": "string"},
        "saved": _AMOUNT,
        "input_tokens": _TOKENS,
        "cache_read_tokens": _TOKENS,
        "cache_write_tokens": _TOKENS,
        "cache_read_share": _SHARE,
        "unknown_tokens": {**_COUNT, "description": "Cached tokens whose rates are not known; not in `saved`."},
    }
)

STATS: Json = _object(
    {
        "as_of": {"type": "string", "format": "date-time"},
        "since": {"type": ["string", "null"], "format": "date-time"},
        "until": {"type": ["string", "null"], "format": "date-time"},
        "time_zone": {"type": "string"},
        "group_by": {"type": "array", "items": {"type": "string"}},
        "more": {"type": "boolean", "description": "There are more groups than `limit`."},
        "totals": {
            "type": "array",
            "description": "Over all groups; one item for each base currency, so usually one.",
            "items": {"$ref": "#/components/schemas/Group"},
        },
        "groups": {"type": "array", "items": {"$ref": "#/components/schemas/Group"}},
    }
)

ERRORS: Json = _object(
    {
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string"},
                    "message": {"type": "string"},
                    "allowed": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["message"],
            },
        }
    }
)


@lru_cache(maxsize=1)
def document() -> Json:
    """OpenAPI 3.1."""
    span = [
        _parameter("since", TIME + " Calls that started then or later."),
        _parameter("until", TIME + " Calls that started before; a day or month is included whole."),
        _parameter("time_zone", "IANA name of the zone of days, weeks, months and times; UTC.", "Europe/Berlin"),
    ]
    filters = [_filter(name) for name in FILTERS]
    filters.append(_parameter("tag", "NAME=VALUE; may be repeated.", many=True))
    form = _parameter("format", "csv, or `Accept: text/csv`.", enum=("json", "csv"))
    group_by = "Two dimensions at most, and one of hour, day, week, month: with commas between, or repeated."
    signed = [f"{sign}{name}" for name in SORTS for sign in ("", "-")]
    orders = [f"{sign}{name}" for name in ORDERS for sign in ("-", "")]
    call: Json = {name: {} for name in LISTED}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "spanledger",
            "version": __version__,
            "description": "What LLM calls cost. Fields are only ever added. Amounts are decimal text, in full.",
        },
        "security": [{}, {"bearer": []}],
        "paths": {
            "/api/v1/llm/stats": _path(
                "What calls add up to",
                [
                    *span,
                    _parameter("group_by", group_by, ",".join(("model", "day")), many=True),
                    *filters,
                    _parameter("sort", "`-` is descending. -cost, or time with a bucket.", enum=signed),
                    _parameter("limit", f"Groups at most: 1 to {MAX_LIMIT}; 1000."),
                    _parameter("parts", "With usage and costs by part: true.", enum=("true", "false")),
                    _parameter("latency", "With durations: true.", enum=("true", "false")),
                    form,
                ],
                {"$ref": "#/components/schemas/Stats"},
                csv=True,
            ),
            "/api/v1/llm/calls": _path(
                "Calls, the latest first",
                [
                    *span,
                    *filters,
                    _parameter("sort", "-start_time.", enum=orders),
                    _parameter("limit", "1 to 1000; 100."),
                    _parameter("cursor", "`next` of the answer before."),
                    form,
                ],
                _object({"calls": {"type": "array", "items": _object(call)}, "next": {"type": ["string", "null"]}}),
                csv=True,
            ),
            "/api/v1/llm/calls/{id}": _path(
                "One call with its price explained",
                [{**_parameter("id", "Entry, response or span id."), "in": "path", "required": True}],
                _object(
                    {
                        "trace_url": {"type": ["string", "null"]},
                        "rows": {"type": "array", "items": {"type": "object"}},
                    }
                ),
            ),
            "/api/v1/llm/savings": _path(
                "What caching saved",
                [*span, _parameter("group_by", group_by, many=True), *filters, _parameter("limit", "1000."), form],
                _object({"totals": _list(SAVED), "groups": _list(SAVED)}),
                csv=True,
            ),
            "/api/v1/llm/unpriced": _path(
                "Models without a price, and the line of a price file that would price each",
                [*span, *filters, form],
                _object({"unpriced": {"type": "array", "items": {"type": "object"}}}),
                csv=True,
            ),
            "/api/v1/llm/repricing": _path(
                "What today's price book would make of stored calls, by model and reason; nothing is written",
                [*span, *filters, form],
                _object({"looked_at": _COUNT, "changed": _COUNT, "changes": {"type": "array"}}),
                csv=True,
            ),
            "/api/v1/llm/prices": _path(
                "The price book",
                [
                    _parameter("provider", "Only this provider's."),
                    _parameter("model", "A part of the model's name, or a glob."),
                    _parameter("at", TIME + " Prices in force then; now."),
                    _parameter("limit", f"1 to {MAX_LIMIT}; 1000."),
                ],
                _object({"at": {}, "more": {"type": "boolean"}, "prices": {"type": "array"}}),
            ),
            "/api/v1/llm/budgets": _path("Budgets", [], _object({"budgets": {"type": "array"}})),
            "/api/v1/settings": _path(
                "What a dashboard must know",
                [],
                _object({name: {"type": ["string", "null"]} for name in ("base_currency", "trace_url", "tenant")}),
            ),
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Stats": STATS, "Group": GROUP, "Errors": ERRORS},
        },
    }


def _parameter(name: str, description: str, example: str = "", enum: Any = (), many: bool = False) -> Json:
    schema: Json = {"type": "string", **({"enum": list(enum)} if enum else {})}
    if many:
        schema = {"type": "array", "items": schema}
    found: Json = {"name": name, "in": "query", "description": description, "schema": schema}
    return found | ({"example": example} if example else {})


def _filter(name: str) -> Json:
    return _parameter(name, f"Only calls with this {name}; may be repeated.", enum=STATUS.get(name, ()), many=True)


def _path(summary: str, parameters: list[Json], schema: Json, csv: bool = False) -> Json:
    content: Json = {"application/json": {"schema": schema}}
    if csv:
        content["text/csv"] = {"schema": {"type": "string"}}
    errors = {"application/json": {"schema": {"$ref": "#/components/schemas/Errors"}}}
    return {
        "get": {
            "summary": summary,
            "parameters": parameters,
            "responses": {
                "200": {"description": "The answer.", "content": content},
                "401": {"description": "No token that is known.", "content": errors},
                "422": {"description": "A parameter is wrong, or a limit was reached.", "content": errors},
                "429": {"description": "Too many requests.", "content": errors},
                "503": {"description": "ClickHouse does not answer.", "content": errors},
            },
        }
    }
