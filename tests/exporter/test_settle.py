"""One bill for a call: whoever describes it, in whatever order and at whatever distance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import orjson
import pytest

from spanledger.exporter.client import Client
from spanledger.exporter.dialects import A_FRAMEWORK, A_GATEWAY, AN_SDKS_OWN, ANOTHER_INSTRUMENTATION, OURS
from spanledger.exporter.identity import entry_id
from spanledger.exporter.rows import version
from spanledger.exporter.settle import Settled, settle

TRACE = "0af7651916cd43dd8448eb211c80319c"
ID = "chatcmpl-CfJZ0123456789abcdef"
RANKS = {
    "spanledger": OURS,
    "anthropic": AN_SDKS_OWN,
    "openinference": ANOTHER_INSTRUMENTATION,
    "langchain": A_FRAMEWORK,
}
RANKS["litellm"] = A_GATEWAY

Row = dict[str, Any]


def span(
    span_id: str,
    parent: str = "",
    *,
    source: str = "spanledger",
    response_id: str = "",
    usage_status: str = "reported",
    tokens: tuple[int, int] = (100, 10),
    provider: str = "openai",
    trace: str = TRACE,
    day: str = "2026-11-22",
    around: str = "",
    **columns: Any,
) -> Row:
    known = usage_status != "missing"
    row: Row = {
        "event_date": day,
        "entry_id": entry_id(provider, response_id, trace, span_id),
        "line": 0,
        "version": version(usage_status, RANKS[source]),
        "trace_id": trace,
        "span_id": span_id,
        "parent_span_id": parent,
        "source": source,
        "scope": f"{source}.scope",
        "provider": provider,
        "operation": around or "chat",
        "response_id": response_id,
        "start_time": "1795366399.721062809",
        "status": "ok",
        "usage_status": usage_status,
        "input_tokens": tokens[0] if known else None,
        "output_tokens": tokens[1] if known else None,
        "cost_base": f"0.{sum(tokens):018d}" if known else None,
        "cost": f"0.{sum(tokens):018d}" if known else None,
        **columns,
    }
    if around:
        row |= {"is_deleted": 1, "usage_status": "", "cost": None, "cost_base": None, "version": 0}
    return row


class Collectors:
    """Inserts rows as collectors do: in blocks, each with its token, and settles between them."""

    def __init__(self, ledger: Client) -> None:
        self.ledger = ledger
        self._tokens = itertools.count()

    def take(self, *rows: Row) -> None:
        block = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        self.ledger.insert_block("llm_calls", block, f"{id(self)}-{next(self._tokens)}")

    def empty(self) -> None:
        for table in ("llm_calls", "llm_describers", "ledger_marks"):
            self.ledger.command(f"TRUNCATE TABLE {table}")

    def bills(self) -> list[Row]:
        found = self.ledger.query("SELECT * FROM llm_calls FINAL ORDER BY span_id, line, event_date, entry_id")
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


@pytest.fixture
def collectors(ledger: Client) -> Iterator[Collectors]:
    made = Collectors(ledger)
    made.empty()
    yield made
    made.empty()


def in_every_order(collectors: Collectors, rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The bills, for each order of arrival, settled after each row or only at the end."""
    orders = list(itertools.permutations(rows))
    for settled_each_time in (False, True):
        collectors.empty()
        for place in range(len(rows)):
            collectors.take(*[of_another_program(order[place], number) for number, order in enumerate(orders)])
            if settled_each_time:
                settle(collectors.ledger)
        settle(collectors.ledger)
        bills = collectors.bills()
        assert settle(collectors.ledger) == Settled(), "settling again changes nothing"
        assert collectors.bills() == bills
        for number in range(len(orders)):
            yield [bill for bill in bills if bill["service_name"] == str(number)]


def of_another_program(row: Row, number: int) -> Row:
    """The same row with ids of its own, so that many orders of arrival are tried at once."""
    trace_id = f"{number:04x}{row['trace_id'][4:]}"
    response_id = row["response_id"] and f"{row['response_id'][:-4]}{number:04x}"
    return row | {
        "trace_id": trace_id,
        "response_id": response_id,
        "entry_id": entry_id(row["provider"], response_id, trace_id, row["span_id"]),
        "service_name": str(number),
    }


def test_a_frameworks_span_without_an_id_over_the_sdks_is_one_bill(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, source="langchain", tenant="acme", tags={"team": "red"}),
        span("b" * 16, "a" * 16, response_id=ID, user_id="ann", tags={"team": "blue", "x": "1"}),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert (bill["span_id"], bill["source"]) == ("b" * 16, "spanledger")
        assert (bill["tenant"], bill["user_id"]) == ("acme", "ann")
        assert bill["tags"] == {"team": "blue", "x": "1"}
        assert bill["cost"] == Decimal("1.10E-16")


def test_an_sdks_own_span_without_an_id_inside_ours_is_one_bill(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, response_id=ID),
        span("b" * 16, "a" * 16, source="anthropic", session_id="s1"),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert (bill["span_id"], bill["session_id"]) == ("a" * 16, "s1")


def test_spans_between_two_describers_do_not_hide_that_they_are_one_call(collectors: Collectors) -> None:
    """A chain between them is not a row; its id is in the inner one's ancestors."""
    rows = [
        span("a" * 16, source="langchain"),
        span("c" * 16, "b" * 16, response_id=ID, ancestor_span_ids=["a" * 16]),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert bill["span_id"] == "c" * 16


def test_an_agent_between_two_describers_links_them_too(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, source="langchain"),
        span("b" * 16, "a" * 16, source="langchain", around="invoke_agent", agent_name="planner"),
        span("c" * 16, "b" * 16, response_id=ID),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert (bill["span_id"], bill["agent_name"]) == ("c" * 16, "planner")


def test_a_call_is_given_the_nearest_names_around_it(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, source="langchain", around="invoke_workflow", agent_name="outer", tags={"workflow": "w"}),
        span("b" * 16, "a" * 16, source="langchain", around="invoke_agent", agent_name="inner"),
        span("c" * 16, "b" * 16, source="langchain", around="execute_tool", tags={"tool": "search"}),
        span("d" * 16, "c" * 16, response_id=ID),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert (bill["agent_name"], bill["tags"]) == ("inner", {"workflow": "w", "tool": "search"})


def test_a_span_that_sums_up_its_calls_is_never_billed_beside_them(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, source="langchain", tokens=(300, 30), tenant="acme"),
        span("b" * 16, "a" * 16, source="openinference", tokens=(100, 10)),
        span("c" * 16, "a" * 16, source="openinference", tokens=(200, 20)),
    ]
    for bills in in_every_order(collectors, rows):
        assert [bill["span_id"] for bill in bills] == ["b" * 16, "c" * 16]
        assert {bill["tenant"] for bill in bills} == {"acme"}


def test_the_one_that_knows_the_usage_is_the_bill(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, source="langchain"),
        span("b" * 16, "a" * 16, response_id=ID, usage_status="missing", tenant="acme"),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert (bill["source"], bill["tenant"]) == ("langchain", "acme")


def test_a_failed_attempt_stays_beside_the_one_that_went_well(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, source="langchain"),
        span("b" * 16, "a" * 16, usage_status="missing", status="error"),
        span("c" * 16, "a" * 16, response_id=ID),
    ]
    for bills in in_every_order(collectors, rows):
        assert [bill["span_id"] for bill in bills] == ["b" * 16, "c" * 16]


def test_a_gateway_that_gives_ids_of_its_own_is_one_bill_with_its_client(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, source="openinference", response_id="chatcmpl-11112222333344445555abcd", tenant="acme"),
        span("b" * 16, "f" * 16, ancestor_span_ids=["a" * 16], response_id="msg_01XFDUDYJgAACzvnptvVoYEL"),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert (bill["source"], bill["tenant"]) == ("spanledger", "acme")


def test_two_calls_with_ids_and_usage_of_their_own_are_two_bills(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, response_id=ID, tokens=(100, 10)),
        span("b" * 16, "a" * 16, response_id="msg_01XFDUDYJgAACzvnptvVoYEL", tokens=(70, 7)),
    ]
    for bills in in_every_order(collectors, rows):
        assert len(bills) == 2


@pytest.mark.parametrize(
    "days", [("2026-11-22", "2026-11-23"), ("2026-10-31", "2026-11-01"), ("2026-12-31", "2027-01-01")]
)
def test_describers_on_two_sides_of_midnight_are_one_bill(collectors: Collectors, days: tuple[str, str]) -> None:
    before, after = days
    rows = [
        span("a" * 16, response_id=ID, day=before),
        span("b" * 16, source="langchain", response_id=ID, day=after, provider="azure.ai.openai", tenant="acme"),
        span("c" * 16, source="litellm", response_id=ID, day=after, provider="llm.example.com", user_id="ann"),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert (bill["source"], bill["tenant"], bill["user_id"]) == ("spanledger", "acme", "ann")


def test_names_of_a_describer_that_lost_are_kept_by_rank(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, response_id=ID),
        span("b" * 16, source="litellm", response_id=ID, tenant="by the gateway", feature="f"),
        span("c" * 16, source="openinference", response_id=ID, tenant="by the instrumentation"),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert (bill["source"], bill["tenant"], bill["feature"]) == ("spanledger", "by the instrumentation", "f")


def test_names_outlive_a_merge_of_parts(collectors: Collectors) -> None:
    collectors.take(span("b" * 16, source="langchain", response_id=ID, tenant="acme"))
    collectors.take(span("a" * 16, response_id=ID))
    collectors.ledger.command("OPTIMIZE TABLE llm_calls FINAL")
    settle(collectors.ledger)
    (bill,) = collectors.bills()
    assert (bill["source"], bill["tenant"]) == ("spanledger", "acme")


def test_a_background_response_keeps_the_names_of_the_call_that_created_it(collectors: Collectors) -> None:
    """Both rows are ours, of the same scope: the later one, of another process, has the usage."""
    rows = [
        span("a" * 16, response_id="resp_0123456789abcdef0123", usage_status="missing", tenant="acme"),
        span("b" * 16, response_id="resp_0123456789abcdef0123", trace="f" * 32),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert (bill["usage_status"], bill["tenant"]) == ("reported", "acme")


@pytest.mark.parametrize("ours_first", [True, False])
def test_other_models_shares_are_named_with_their_call(collectors: Collectors, ours_first: bool) -> None:
    ours = span("b" * 16, "a" * 16, response_id=ID)
    arrivals = [
        [ours, {**ours, "line": 1, "response_model": "advisor"}],
        [span("a" * 16, source="langchain", tenant="acme")],
    ]
    for rows in arrivals if ours_first else reversed(arrivals):
        collectors.take(*rows)
        settle(collectors.ledger)
    assert [(bill["line"], bill["tenant"]) for bill in collectors.bills()] == [(0, "acme"), (1, "acme")]


def test_equals_that_report_different_usage_are_contradictory(collectors: Collectors) -> None:
    rows = [
        span("a" * 16, source="openinference", response_id=ID),
        {**span("b" * 16, source="openinference", response_id=ID, tokens=(100, 11)), "scope": "another"},
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert bill["usage_status"] == "contradictory"
        assert bill["cost_estimated"] is True
        assert bill["cost_reasons"] == ["the same response was reported with different usage"]


def test_a_better_row_of_a_retired_one_is_looked_at_again(collectors: Collectors) -> None:
    collectors.take(
        span("a" * 16, source="langchain", usage_status="incomplete"), span("b" * 16, "a" * 16, response_id=ID)
    )
    settle(collectors.ledger)
    collectors.take(span("a" * 16, source="langchain", usage_status="reported", tokens=(500, 50)))
    settle(collectors.ledger)
    (bill,) = collectors.bills()
    assert bill["span_id"] == "b" * 16


def test_a_replayed_row_does_not_undo_what_was_settled(collectors: Collectors) -> None:
    outer, inner = span("a" * 16, source="langchain", tenant="acme"), span("b" * 16, "a" * 16, response_id=ID)
    collectors.take(outer, inner)
    settle(collectors.ledger)
    collectors.take(inner)
    collectors.take(outer)
    (bill,) = collectors.bills()
    assert (bill["span_id"], bill["tenant"]) == ("b" * 16, "acme")


def test_every_value_survives_being_written_again(collectors: Collectors) -> None:
    ours = span(
        "b" * 16,
        "a" * 16,
        response_id=ID,
        cost="123456789012.123456789012345678",
        usage={"input": "100", "audio_second": "1.000000001"},
    ) | {
        "cost_details": {"input": "0.000000000000000001"},
        "error_message": 'a "quoted" \\ line\nand ü',
        "finish_reasons": ["stop", "length"],
        "duration_ns": 2**63 - 1,
        "stream": True,
        "price_snapshot": '{"rates":{"input":"0.0000025"}}',
        "reported_cost": "0.1",
    }
    collectors.take(ours)
    (before,) = collectors.bills()
    collectors.take(span("a" * 16, source="langchain", tenant="acme"))
    assert settle(collectors.ledger) == Settled(retired=1, named=1)
    (after,) = collectors.bills()
    changed = {"version", "tenant", "given_names", "ingested_at"}
    assert {name: value for name, value in after.items() if name not in changed} == {
        name: value for name, value in before.items() if name not in changed
    }
    assert (after["tenant"], after["version"]) == ("acme", before["version"] + 1)


def test_a_span_in_another_trace_that_says_which_call_it_describes_is_no_bill(collectors: Collectors) -> None:
    there = "1" * 32
    call = span("c" * 16, response_id=ID)
    rows = [
        span("a" * 16, source="langchain", around="execute_tool", trace=there, tags={"tool": "search"}),
        span("b" * 16, "a" * 16, source="langchain", trace=there, agent_name="planner", is_deleted=1),
        call,
    ]
    orders = []
    for settled_each_time in (False, True):
        for order in itertools.permutations(rows):
            collectors.empty()
            for row in order:
                describes = call["entry_id"] if row is rows[1] else ""
                collectors.take(row | {"describes": describes})
                if settled_each_time:
                    settle(collectors.ledger)
            settle(collectors.ledger)
            orders.append(collectors.bills())
            assert settle(collectors.ledger) == Settled()
    for (bill,) in orders:
        assert (bill["span_id"], bill["agent_name"], bill["tags"]) == ("c" * 16, "planner", {"tool": "search"})


def test_names_of_a_describer_and_of_what_is_around_the_call_come_together(collectors: Collectors) -> None:
    """The describer has the call's own id: its row is the call's former version."""
    rows = [
        span("a" * 16, source="langchain", around="execute_tool", agent_name="outer", tags={"tool": "search"}),
        span("b" * 16, "a" * 16, source="langchain", response_id=ID, agent_name="inner", tags={"x": "1"}),
        span("c" * 16, "b" * 16, response_id=ID, ancestor_span_ids=["b" * 16, "a" * 16]),
    ]
    for (bill,) in in_every_order(collectors, rows):
        assert (bill["agent_name"], bill["tags"]) == ("inner", {"tool": "search", "x": "1"})


def test_a_gateway_and_its_client_around_midnight_before_and_after_a_re_pricing(collectors: Collectors) -> None:
    """Two processes, a collector each; only the client knows the tenant, only the gateway the agent's name."""
    gateway = span("c" * 16, "b" * 16, response_id=ID, day="2026-12-01", agent_name="router")
    again = {"version": version("reported", OURS, 1), "cost": "0.5", "cost_base": "0.5"}
    rows = [
        span("a" * 16, source="langchain", day="2026-11-30", feature="search"),
        span("b" * 16, "a" * 16, response_id=ID, provider="gateway.example", day="2026-11-30", tenant="acme"),
        gateway,
        gateway | again,
    ]
    for bills in in_every_order(collectors, rows):
        (bill,) = bills
        assert (bill["cost"], str(bill["event_date"])) == (Decimal("0.5"), "2026-12-01")
        assert (bill["tenant"], bill["agent_name"], bill["feature"]) == ("acme", "router", "search")
