"""Programs, the Collector, Jaeger, spanledger and ClickHouse together: every call is shown, and billed once."""

from __future__ import annotations

import os
import time
import uuid
from decimal import Decimal

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from e2e.stack import HAS_NODE, Stack, cost, node_program, python_program, wait_until
from e2e.variants import variant
from spanledger.service.collector.settings import CollectorSettings

needs_node = pytest.mark.skipif(not HAS_NODE, reason="Node.js is not on this machine")


def costs_shown(stack, program):
    return {each: cost(spans.call) for each, spans in stack.traces(program.service, program.ids).items()}


def costs_billed(stack, program):
    return {each: row["cost"] for each, row in stack.one_row_each(program.ids).items()}


def test_every_call_is_a_trace_in_jaeger_and_one_row_in_the_ledger(stack, programs):
    for program in programs:
        program.call(12)
        program.end()
        rows = stack.one_row_each(program.ids)
        shown = stack.traces(program.service, program.ids)
        for each, row in rows.items():
            assert row["service_name"] == program.service
            assert row["input_tokens"] == int(shown[each].call["gen_ai.usage.input_tokens"])
            assert row["cost"] > 0
        assert {spans.question for spans in shown.values()} == {"question"}
        assert stack.bill(program.service) == (12, sum((row["cost"] for row in rows.values()), Decimal(0)))


def test_jaeger_shows_what_a_python_programs_calls_cost_to_the_last_digit(stack, programs):
    python = programs[0]
    python.call(6)
    python.end()
    assert {row["price_status"] for row in stack.one_row_each(python.ids).values()} == {"priced"}
    assert costs_shown(stack, python) == costs_billed(stack, python)


@needs_node
def test_a_cost_without_a_word_on_cached_tokens_is_an_estimate(stack, programs):
    node = programs[1]
    node.call(2)
    node.end()
    assert {row["price_status"] for row in stack.one_row_each(node.ids).values()} == {"estimated"}


def test_spans_that_are_no_llm_calls_stay_away_from_spanledger(stack, standin, tmp_path):
    jaeger, ledger = stack.sent("otlp_grpc/jaeger"), stack.sent("otlp_grpc/spanledger")
    python = python_program(stack, standin, tmp_path / "home", "filtered")
    python.call(6)
    python.end()
    stack.one_row_each(python.ids)
    # Two of the six are Anthropic's, whose package describes its calls too: 8 LLM spans, inside 6 of the program's own.
    wait_until(lambda: stack.sent("otlp_grpc/jaeger") >= jaeger + 14, "Jaeger has all spans")
    wait_until(lambda: stack.sent("otlp_grpc/spanledger") >= ledger + 8, "spanledger has the LLM spans")
    assert stack.sent("otlp_grpc/spanledger") == ledger + 8


def test_a_program_that_writes_to_the_ledger_itself_and_sends_its_spans_is_billed_once(stack, standin):
    before = stack.sent("otlp_grpc/spanledger")
    program = python_program(stack, standin, stack.home, "both-ways")
    program.call(12)
    program.end()
    wait_until(lambda: stack.sent("otlp_grpc/spanledger") >= before + 16, "spanledger has the spans from the Collector")
    stack.settled()
    rows = stack.one_row_each(program.ids)
    assert {row["scope"] for row in rows.values()} == {"spanledger.openai", "spanledger.anthropic"}
    assert stack.bill(program.service) == (12, sum((row["cost"] for row in rows.values()), Decimal(0)))


@needs_node
def test_with_forwarding_other_languages_have_their_costs_in_jaeger_too(tmp_path, standin):
    folder = tmp_path / "stack"
    folder.mkdir()
    config = variant(tmp_path, "filter/no_llm")
    with Stack(folder, config, SPANLEDGER_COLLECTOR_FORWARD="grpc://{jaeger}") as stack:
        node = node_program(stack, standin, tmp_path / "home", "node-forwarded")
        node.call(6)
        node.end()
        assert costs_shown(stack, node) == costs_billed(stack, node)
        wait_until(
            lambda: {spans.question for spans in stack.traces(node.service, node.ids).values()} == {"question"},
            "the other spans are in Jaeger",
        )


def test_tail_sampling_thins_what_jaeger_gets_and_never_the_ledger(tmp_path, standin):
    folder = tmp_path / "stack"
    folder.mkdir()
    calls = 60  # that all of them are among the one in ten has a probability of 1e-60
    with Stack(folder, variant(tmp_path, "tail_sampling")) as stack:
        program = python_program(stack, standin, tmp_path / "home", "tail-sampled")
        program.call(calls)
        program.end()
        assert len(stack.one_row_each(program.ids)) == calls
        wait_until(lambda: stack.decided() >= calls, "the Collector has decided on all traces")
        assert stack.bill("tail-sampled")[0] == calls
        assert len(stack.shown(program.service)) < calls


def test_a_batch_larger_than_spanledger_takes_at_once_arrives(stack):
    calls, prompt = 500, "x" * 60_000
    ids = [f"chatcmpl-{uuid.uuid4().hex}" for _ in range(calls)]
    now = time.time_ns()
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "large"
    scope = resource.scope_spans.add()
    scope.scope.name = "large"
    for each in ids:
        span = scope.spans.add(name="chat gpt-5-mini", start_time_unix_nano=now, end_time_unix_nano=now + 10**9)
        span.trace_id, span.span_id = os.urandom(16), os.urandom(8)
        texts = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.response.model": "gpt-5-mini-2025-08-07",
            "gen_ai.response.id": each,
            "gen_ai.input.messages": prompt,
        }
        for name, text in texts.items():
            span.attributes.add(key=name).value.string_value = text
        for name, number in {"gen_ai.usage.input_tokens": 15_000, "gen_ai.usage.output_tokens": 10}.items():
            span.attributes.add(key=name).value.int_value = number
    body = request.SerializeToString()
    assert len(body) > CollectorSettings().max_request_bytes
    stack.send(body)
    assert len(stack.one_row_each(ids)) == calls
    stack.traces("large", ids)
