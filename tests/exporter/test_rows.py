"""A span to rows: the content of every column, and that nothing in a span makes a row that ClickHouse refuses."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanledger import attributes as names
from spanledger.exporter.client import Client
from spanledger.exporter.dialects import A_GATEWAY, OURS, dialect_of
from spanledger.exporter.journal import ROW_START
from spanledger.exporter.rows import encode, read, version
from spanledger.pricing.call import Call, Charge
from spanledger.pricing.handoff import Priced
from tests.exporter.conftest import CALL, END_NS, START_NS, Book, Ended

DAY_NS = 86_400 * 10**9


def stored(ledger: Client, lines: bytes) -> list[dict[str, Any]]:
    ledger.insert_block("llm_calls", lines, str(hash(lines)))
    found = ledger.query("SELECT * FROM llm_calls FINAL ORDER BY entry_id, line")
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_every_column_of_a_call(ended: Ended, ledger: Client) -> None:
    call = Call(
        "openai",
        "gpt-4o-2024-08-06",
        START_NS,
        {"input": 86, "cache_read": 1920, "output": 200, "output_reasoning": 100, "web_search": 2},
        {"citation_tokens": 50},
    )
    amounts = {"input": 215 * 10**12, "cache_read": 24 * 10**14, "output": 3 * 10**15, "web_search": 2 * 10**16}
    charge = Charge(
        "estimated",
        sum(amounts.values()),
        amounts,
        "USD",
        sum(amounts.values()) * 9 // 10,
        "EUR",
        ("citation_tokens has no rate",),
        "gpt-4o",
        '{"rates":{"input":"0.0000025"}}',
    )
    span = ended(
        {
            **CALL,
            names.REQUEST_STREAM: True,
            names.SERVICE_TIER: "default",
            names.PROCESSING: "batch",
            names.REGION: "eu",
            names.RETRIES: 2,
            names.TIME_TO_FIRST_TOKEN_NS: 250_000_000,
            names.FINISH_REASONS: ("stop", "length"),
            names.CREATED_NS: START_NS + 10**9,
            names.USAGE_RAW: '{"prompt_tokens":2006}',
            names.REPORTED_COST: "0.0056",
            names.TENANT: "acme",
            names.USER_ID: "ann",
            names.SESSION_ID: "s1",
            names.FEATURE: "summary",
            names.PROMPT_NAME: "p1",
            names.AGENT_NAME: "a1",
            names.TAGS: '{"team":"red"}',
            names.API_KEY_HASH: "0123456789abcdef",
            names.API_KEY_ALIAS: "prod",
        },
        priced=[Priced(call, charge)],
    )
    assert encode(span).startswith(ROW_START)
    (row,) = stored(ledger, encode(span))
    ingested = row.pop("ingested_at")
    assert abs((dt.datetime.now(dt.timezone.utc).replace(tzinfo=None) - ingested).total_seconds()) < 60
    context = span.context
    assert context is not None
    assert row == {
        "event_date": dt.date(2026, 11, 22),
        "entry_id": "ac6fbaae6725f8c7fcdfd094ee545e8b",
        "line": 0,
        "version": version("reported", OURS),
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": "",
        "ancestor_span_ids": [],
        "describes": "",
        "is_deleted": 0,
        "given_names": [],
        "service_name": "shop",
        "environment": "test",
        "scope": "spanledger.openai",
        "scope_version": "0.1.0",
        "source": "spanledger",
        "start_time": dt.datetime(2026, 11, 22, 16, 53, 19, 721062),
        "duration_ns": 1_500_000_001,
        "time_to_first_token_ns": 250_000_000,
        "provider": "openai",
        "operation": "chat",
        "request_model": "gpt-4o",
        "response_model": "gpt-4o-2024-08-06",
        "response_id": "chatcmpl-CfJZ0123456789abcdef",
        "region": "eu",
        "service_tier": "default",
        "processing": "batch",
        "stream": True,
        "retries": 2,
        "status": "ok",
        "error_type": "",
        "error_message": "",
        "finish_reasons": ["stop", "length"],
        "input_tokens": 2006,
        "output_tokens": 300,
        "total_tokens": 2306,
        "cache_read_tokens": 1920,
        "cache_write_tokens": 0,
        "reasoning_tokens": 100,
        "usage": {
            "input": Decimal(86),
            "cache_read": Decimal(1920),
            "output": Decimal(200),
            "output_reasoning": Decimal(100),
            "web_search": Decimal(2),
        },
        "unmapped": {"citation_tokens": Decimal(50)},
        "usage_status": "reported",
        "raw_usage": '{"prompt_tokens":2006}',
        "cost": Decimal("0.025615"),
        "cost_input": Decimal("0.000215"),
        "cost_output": Decimal("0.003"),
        "cost_cache": Decimal("0.0024"),
        "cost_tools": Decimal("0.02"),
        "cost_details": {
            "input": Decimal("0.000215"),
            "cache_read": Decimal("0.0024"),
            "output": Decimal("0.003"),
            "web_search": Decimal("0.02"),
        },
        "currency": "USD",
        "cost_base": Decimal("0.0230535"),
        "base_currency": "EUR",
        "price_status": "estimated",
        "cost_estimated": True,
        "cost_reasons": ["citation_tokens has no rate"],
        "reported_cost": Decimal("0.0056"),
        "priced_model": "gpt-4o",
        "price_snapshot": '{"rates":{"input":"0.0000025"}}',
        "tenant": "acme",
        "user_id": "ann",
        "session_id": "s1",
        "feature": "summary",
        "prompt_name": "p1",
        "agent_name": "a1",
        "tags": {"team": "red"},
        "api_key_hash": "0123456789abcdef",
        "api_key_alias": "prod",
        "request_body_uri": "",
        "response_body_uri": "",
    }
    assert ledger.query("SELECT toUnixTimestamp64Nano(start_time) FROM llm_calls").rows == [(START_NS,)]


def test_a_span_from_the_wire_is_priced_on_arrival(ended: Ended, book: Book) -> None:
    (row,) = read(ended({**CALL, names.COST: "99", names.COST_STATUS: "priced"}))
    assert row["cost"] == "0.002306000000000000"  # the cost that the span states is not believed
    assert row["cost_base"] == row["cost"]
    assert (row["cost_input"], row["cost_cache"], row["cost_output"], row["cost_tools"]) == (
        "0.000086000000000000",
        "0.001920000000000000",
        "0.000300000000000000",
        "0",
    )
    assert row["usage"] == {"input": 86, "cache_read": 1920, "output": 300}


def test_other_models_shares_are_lines_of_their_own(ended: Ended, book: Book) -> None:
    lines = [
        {
            "model": "claude-opus",
            "parts": {"input": 7, "output": 3},
            "unmapped": {},
            "status": "reported",
            "reasons": [],
        },
        {"model": "unknown", "parts": {"output": 1}},
    ]
    span = ended({**CALL, names.LINES: orjson.dumps(lines).decode(), names.USAGE_RAW: "{}", names.REPORTED_COST: "1"})
    first, second, third = read(span)
    assert [row["line"] for row in (first, second, third)] == [0, 1, 2]
    assert len({row["entry_id"] for row in (first, second, third)}) == 1
    assert [row["response_model"] for row in (first, second, third)] == ["gpt-4o-2024-08-06", "claude-opus", "unknown"]
    assert (second["input_tokens"], second["output_tokens"], second["cost"]) == (7, 3, "0.000010000000000000")
    assert (third["cost"], third["price_status"], third["usage_status"]) == (None, "unpriced", "reported")
    assert "raw_usage" in first
    assert "raw_usage" not in second  # what belongs to the whole call is on its own line only
    assert "reported_cost" not in second


def test_usage_that_is_missing_is_null_and_not_zero(ended: Ended, book: Book, ledger: Client) -> None:
    span = ended({name: value for name, value in CALL.items() if "usage" not in name})
    (row,) = stored(ledger, encode(span))
    for column in ("input_tokens", "output_tokens", "total_tokens", "cache_read_tokens", "cost", "cost_base"):
        assert row[column] is None, column
    assert (row["usage_status"], row["price_status"]) == ("missing", "usage_missing")
    assert row["cost_estimated"] is True
    assert row["usage"] == {}


def test_a_reported_zero_is_a_zero(ended: Ended, book: Book) -> None:
    (row,) = read(ended({**CALL, names.USAGE_PARTS: '{"input":0,"output":0}'}))
    assert (row["input_tokens"], row["total_tokens"], row["usage"]) == (0, 0, {"input": 0, "output": 0})


def test_a_failed_call_is_a_row_that_cost_nothing(ended: Ended, book: Book, ledger: Client) -> None:
    attributes = {name: value for name, value in CALL.items() if "usage" not in name and "response" not in name}
    attributes |= {names.NOT_BILLED: True, names.ERROR_TYPE: "RateLimitError", names.ERROR_MESSAGE: "slow down"}
    (row,) = stored(ledger, encode(ended(attributes, failed=True)))
    assert (row["status"], row["error_type"], row["error_message"]) == ("error", "RateLimitError", "slow down")
    assert (row["price_status"], row["cost"], row["cost_base"]) == ("not_billed", Decimal(0), Decimal(0))
    assert row["cost_estimated"] is False
    assert row["response_model"] == ""


def test_parts_that_the_price_file_leaves_out_are_not_in_the_row(ended: Ended) -> None:
    call = Call("openai", "m", START_NS, {"input": 1, "web_search": 5}, {"citation_tokens": 50})
    charge = Charge("priced", 1, {"input": 1}, left_out=("web_search", "citation_tokens"))
    (row,) = read(ended(priced=[Priced(call, charge)]))
    assert row["usage"] == {"input": 1}
    assert row["unmapped"] == {}


def test_spans_that_are_no_calls_of_ours_make_no_rows(ended: Ended, book: Book) -> None:
    assert read(ended(scope="opentelemetry.instrumentation.httpx")) == []
    assert read(ended({"db.system": "postgresql"}, scope="spanledgerish")) == []
    assert read(ended({names.PROVIDER: "openai"})) == []
    for operation in ("create_agent", "retrieval"):
        assert read(ended({**CALL, names.OPERATION: operation})) == []
    assert dialect_of("com.example") is None


@pytest.mark.parametrize("operation", ["invoke_agent", "invoke_workflow", "execute_tool"])
def test_a_span_around_calls_makes_a_row_that_no_report_shows(
    ended: Ended, book: Book, ledger: Client, operation: str
) -> None:
    span = ended(
        {
            **CALL,
            names.OPERATION: operation,
            names.AGENT_NAME: "planner",
            names.TOOL_NAME: "search",
            names.WORKFLOW_NAME: "nightly",
            names.TAGS: '{"team":"red"}',
        }
    )
    (row,) = read(span)
    assert row["is_deleted"] == 1
    assert row["agent_name"] == "planner"
    assert row["tags"] == {"team": "red", "workflow": "nightly", "tool": "search"}
    assert row["cost"] is None
    assert row["entry_id"] != read(ended())[0]["entry_id"], "its response id is another span's"
    assert stored(ledger, encode(span)) == []


def test_the_version_ranks_usage_over_source_over_price() -> None:
    order = [
        version("missing", OURS, 2**39 - 1),
        version("estimated", A_GATEWAY),
        version("estimated", OURS),
        version("incomplete", A_GATEWAY),
        version("contradictory", A_GATEWAY),
        version("reported", A_GATEWAY),
        version("reported", A_GATEWAY, 1),
        version("reported", OURS, 2**39 - 1, unpriced=True),
        version("reported", OURS),
        version("reported", OURS, 1),
        version("reported", OURS, 2),
    ]
    assert order == sorted(order)
    assert len(set(order)) == len(order)
    assert all(0 < each < 2**63 for each in order)


@pytest.mark.parametrize(
    ("created", "date"),
    [
        (START_NS - 3 * DAY_NS, "2026-11-19"),  # a batch that is read days later
        (END_NS + DAY_NS, "2026-11-23"),  # clocks differ
        (END_NS + DAY_NS + 1, "2026-11-22"),
        (1_420_070_400 * 10**9, "2015-01-01"),
        (1_420_070_400 * 10**9 - 1, "2026-11-22"),
        (0, "2026-11-22"),
        (-1, "2026-11-22"),
        (2**63 - 1, "2026-11-22"),
        ("1795366399", "2026-11-22"),
        (True, "2026-11-22"),
    ],
)
def test_the_date_is_the_providers_where_that_is_plausible(ended: Ended, book: Book, created: Any, date: str) -> None:
    (row,) = read(ended({**CALL, names.CREATED_NS: created}))
    assert row["event_date"] == date


def test_without_the_providers_time_the_date_is_that_of_the_spans_end(ended: Ended, book: Book) -> None:
    midnight = 1_795_392_000 * 10**9  # 2026-11-23T00:00Z
    (row,) = read(ended(start=midnight - 10**9, end=midnight + 10**9))
    assert row["event_date"] == "2026-11-23"
    (row,) = read(ended(start=midnight - 10**9, end=midnight - 1))
    assert row["event_date"] == "2026-11-22"


@pytest.mark.parametrize(("start", "end"), [(-5, 10), (10, 5), (2**70, 2**71), (0, 6_000_000_000 * 10**9)])
def test_impossible_times_make_a_row_all_the_same(
    ended: Ended, book: Book, ledger: Client, start: int, end: int
) -> None:
    (row,) = stored(ledger, encode(ended(start=start, end=end)))
    assert dt.date(1970, 1, 1) <= row["event_date"] <= dt.date(2149, 6, 6)
    assert row["duration_ns"] >= 0


HOSTILE = [
    "\ud800 lone surrogate",
    "\0\x01\x1f\x7f\u2028",
    "x" * 100_000,
    "\U0001f600" * 1000,
    '{"event_date":"2026-01-01"}\n',
    "\\N",
    "NULL",
    "'; DROP TABLE llm_calls; --",
]


def test_no_text_makes_a_row_that_clickhouse_refuses(ended: Ended, book: Book, ledger: Client) -> None:
    columns = [attribute for attribute in vars(names).values() if isinstance(attribute, str) and "." in attribute]
    lines = b""
    for number, text in enumerate(HOSTILE):
        attributes: dict[str, Any] = {**dict.fromkeys(columns, text), names.OPERATION: "chat", names.NOT_BILLED: False}
        attributes[names.FINISH_REASONS] = [text] * 200
        attributes[names.TAGS] = orjson.dumps({text.encode("utf-8", "replace").decode(): [1, None]}).decode()
        attributes[names.RESPONSE_ID] = f"chatcmpl-{number:020d}"
        made = encode(ended(attributes))
        assert made.count(b"\n") == 1
        assert len(made) < 400_000
        lines += made
    assert len(stored(ledger, lines)) == len(HOSTILE)


@pytest.mark.parametrize(
    ("parts", "usage"),
    [
        ('{"input":-1,"output":5}', {"output": 5}),
        ('{"input":99999999999999999999999,"output":5}', {"output": 5}),
        ('{"input":1e300,"output":5}', {"output": 5}),
        ('{"input":"NaN","output":5}', {"output": 5}),
        ('{"input":"many","output":5}', {"output": 5}),
        ('{"input":null,"output":5}', {"output": 5}),
        ('{"input":true,"output":5}', {"output": 5}),
        ('{"input":{},"output":5}', {"output": 5}),
    ],
)
def test_what_is_no_quantity_is_left_out_and_makes_the_usage_contradictory(
    ended: Ended, book: Book, ledger: Client, parts: str, usage: dict[str, int]
) -> None:
    (row,) = stored(ledger, encode(ended({**CALL, names.USAGE_PARTS: parts})))
    assert row["usage"] == usage
    assert row["usage_status"] == "contradictory"


@pytest.mark.parametrize("parts", ["", "[]", "{", "null", '{"input":1', "7"])
def test_damaged_parts_are_no_usage(ended: Ended, book: Book, parts: str) -> None:
    (row,) = read(ended({**CALL, names.USAGE_PARTS: parts, names.USAGE_STATUS: "nonsense"}))
    assert row["usage_status"] == "missing"
    assert row["input_tokens"] is None


def test_seconds_keep_their_fraction(ended: Ended, book: Book, ledger: Client) -> None:
    (row,) = stored(ledger, encode(ended({**CALL, names.USAGE_PARTS: '{"audio_second":"12.345678901","image":2.5}'})))
    assert row["usage"] == {"audio_second": Decimal("12.345678901"), "image": Decimal("2.5")}


def test_an_in_process_quantity_that_is_none_is_left_out(ended: Ended, ledger: Client) -> None:
    parts: dict[str, Any] = {"input": -3, "output": 10**30, "image": Decimal("NaN"), "page": "3", "web_search": 1}
    span = ended(priced=[Priced(Call("openai", "m", START_NS, parts), Charge("priced", 0))])
    (row,) = stored(ledger, encode(span))
    assert row["usage"] == {"page": Decimal(3), "web_search": Decimal(1)}
    assert row["usage_status"] == "contradictory"


@pytest.mark.parametrize("cost", [10**38, -(10**38), 10**60])
def test_an_amount_beyond_the_column_is_unpriced_with_the_reason(ended: Ended, ledger: Client, cost: int) -> None:
    charge = Charge("priced", cost, {"input": cost}, "USD", cost)
    span = ended(priced=[Priced(Call("openai", "m", START_NS, {"input": 1}), charge)])
    (row,) = stored(ledger, encode(span))
    assert (row["cost"], row["cost_base"], row["price_status"]) == (None, None, "unpriced")
    assert row["cost_reasons"] == ["the amount is larger than the ledger can hold"]


def test_the_largest_amounts_fit_to_the_last_digit(ended: Ended, ledger: Client) -> None:
    cost = 10**38 - 1
    span = ended(
        priced=[Priced(Call("openai", "m", START_NS, {"input": 1}), Charge("priced", cost, {"input": cost}, "USD", 1))]
    )
    (row,) = stored(ledger, encode(span))
    assert row["cost"] == row["cost_input"] == Decimal("99999999999999999999.999999999999999999")
    assert row["cost_base"] == Decimal("1E-18")


VALUES = st.one_of(
    st.text(max_size=50),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.lists(st.text(max_size=5), max_size=3),
    st.sampled_from(["{}", "[]", "null", "[{}]", '{"a":1}', '[{"model":3,"parts":{"input":"x"}}]']),
)
ATTRIBUTES = [value for value in vars(names).values() if isinstance(value, str) and "." in value]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attributes=st.dictionaries(st.sampled_from(ATTRIBUTES), VALUES, max_size=20))
def test_no_span_at_all_makes_a_row_that_clickhouse_refuses(
    ended: Ended, book: Book, ledger: Client, attributes: dict[str, Any]
) -> None:
    rows = encode(ended({names.OPERATION: "chat", **{k: v for k, v in attributes.items() if k != names.OPERATION}}))
    assert rows.endswith(b"\n")
    for line in rows.splitlines():
        assert line.startswith(ROW_START)
        orjson.loads(line)
    ledger.insert_block("llm_calls", rows, "")
