"""The collector's two ports: what comes in by OTLP is the rows that the program itself would have written."""

from __future__ import annotations

import gzip
import json
import os
import signal
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import grpc
import httpx
import orjson
import pytest
import zstandard
from google.protobuf.json_format import MessageToDict
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from spanledger.exporter import journal
from spanledger.exporter.rows import encode
from tests.service.collecting import Collector, collector, eventually, request, spans


@pytest.fixture(scope="module")
def taking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector that all tests of this module send to."""
    home = tmp_path_factory.mktemp("taking") / "home"
    with collector(home, SPANLEDGER_COLLECTOR_MAX_DECOMPRESSED_BYTES="8MiB") as made:
        yield made


def rows_of(ended) -> list[dict]:
    """What the exporter writes for these spans in the program itself."""
    return [json.loads(line) for span in ended for line in encode(span).splitlines()]


def rows_in(taking: Collector, ended) -> list[dict]:
    """What the collector has journaled for them."""
    order = [f"{span.context.span_id:016x}" for span in ended]
    return sorted((row for row in taking.rows if row["span_id"] in order), key=lambda row: order.index(row["span_id"]))


def in_json(ended) -> dict:
    """The request as OTLP writes it in JSON: ids in hex, enumerations as numbers."""
    document = MessageToDict(request(ended), use_integers_for_enums=True)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span, original in zip(scope["spans"], ended, strict=True):
                span["traceId"] = f"{original.context.trace_id:032x}"
                span["spanId"] = f"{original.context.span_id:016x}"
    return document


@pytest.mark.parametrize(
    "compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate]
)
def test_the_sdks_grpc_exporter_brings_the_same_rows(taking, compression):
    ended = spans(3)
    exporter = GrpcExporter(f"http://{taking.running.grpc}", insecure=True, compression=compression)
    assert exporter.export(ended) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert rows_in(taking, ended) == rows_of(ended)
    assert [row["cost"] for row in rows_of(ended)] == ["0.005615000000000000"] * 3


@pytest.mark.parametrize("compression", list(Compression))
def test_the_sdks_http_exporter_brings_the_same_rows(taking, compression):
    ended = spans(3)
    exporter = HttpExporter(f"{taking.http}/v1/traces", compression=compression)
    assert exporter.export(ended) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert rows_in(taking, ended) == rows_of(ended)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.compress)],
)
def test_json_brings_the_same_rows_in_every_encoding(taking, encoding, pack):
    ended = spans(3)
    answer = taking.post(
        pack(orjson.dumps(in_json(ended))), "application/json; charset=utf-8", content_encoding=encoding
    )
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, "application/json", {})
    assert rows_in(taking, ended) == rows_of(ended)


def test_all_kinds_of_values_arrive(taking):
    """Numbers as text (JSON's 64 bits), lists, booleans, a child of another span, an error status."""
    ended = spans(
        1, ERROR_TYPE="Timeout", ERROR_MESSAGE="too late", REQUEST_STREAM=True, TAGS='{"team":"a"}', RETRIES=2
    )
    document = in_json(ended)
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][0] |= {"parentSpanId": "00f067aa0ba902b7", "unknown": [1]}
    assert taking.post(orjson.dumps(document), "application/json").status_code == 200
    (row,) = rows_in(taking, ended)
    assert row == rows_of(ended)[0] | {
        "parent_span_id": "00f067aa0ba902b7",
        "ancestor_span_ids": ["00f067aa0ba902b7"],
    }
    assert (row["status"], row["stream"], row["tags"], row["retries"]) == ("error", True, {"team": "a"}, 2)


def test_spans_that_are_no_calls_make_no_rows(taking):
    ignored = taking.metric("spanledger_collector_spans_total")
    ended = spans(2, scope="opentelemetry.instrumentation.requests") + spans(1, OPERATION="create_agent")
    assert taking.export(request(ended)).partial_success.rejected_spans == 0
    assert rows_in(taking, ended) == []
    assert taking.metric("spanledger_collector_spans_total") - ignored == 3


def test_a_cost_that_comes_in_is_not_taken_for_ours(taking):
    ended = spans(1, COST="99", COST_CURRENCY="EUR", COST_STATUS="free")
    taking.export(request(ended))
    (row,) = rows_in(taking, ended)
    assert (row["cost"], row["currency"], row["price_status"]) == ("0.005615000000000000", "USD", "priced")


def test_what_a_sender_says_that_the_provider_billed_is_kept_beside_our_cost(taking):
    ended = spans(1, REPORTED_COST="0.0056")
    taking.export(request(ended))
    (row,) = rows_in(taking, ended)
    assert (row["cost"], row["reported_cost"]) == ("0.005615000000000000", "0.005600000000000000")


def test_an_empty_request_is_fine(taking):
    assert taking.export(b"").partial_success.rejected_spans == 0
    assert taking.post(b"").content == b""
    assert taking.post(b"{}", "application/json").json() == {}


def test_spans_that_cannot_be_read_are_rejected_and_the_others_are_taken(taking):
    ended = spans(4)
    message = request(ended)
    first, second, third, _ = message.resource_spans[0].scope_spans[0].spans
    first.trace_id = b"\0" * 16
    second.span_id = b"short"
    for number in range(5000):
        third.attributes.add(key=f"message.{number}").value.string_value = "x"
    told = taking.export(message).partial_success
    assert told.rejected_spans == 3
    assert told.error_message == f"span {first.span_id.hex()} of spanledger.openai: a trace id or span id is all zeros"
    assert rows_in(taking, ended) == rows_of(ended[3:])
    in_http = taking.post(message.SerializeToString())
    assert in_http.status_code == 200
    assert taking.export(message).FromString(in_http.content).partial_success == told


def test_a_text_that_is_too_long_is_not_read_and_harms_nothing(taking):
    ended = spans(1, FEATURE="x" * 70_000)
    taking.export(request(ended))
    (row,) = rows_in(taking, ended)
    assert "feature" not in row
    assert row["cost"] == "0.005615000000000000"


@pytest.mark.parametrize(
    ("body", "kind", "headers", "status", "said"),
    [
        (b"\x0a\xff\xff", "application/x-protobuf", {}, 400, "not an ExportTraceServiceRequest"),
        (b"{", "application/json", {}, 400, "not JSON"),
        (b"[]", "application/json", {}, 400, "not a JSON object"),
        (b'{"resourceSpans": 3}', "application/json", {}, 400, "not an ExportTraceServiceRequest"),
        (
            b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}',
            "application/json",
            {},
            400,
            "traceId 'xyz' is not hex",
        ),
        (b"{}", "text/plain", {}, 415, "Content-Type 'text/plain'"),
        (b"{}", "application/json", {"content_encoding": "br"}, 415, "Content-Encoding 'br'"),
        (b"{}", "application/json", {"content_encoding": "gzip"}, 400, "not valid gzip"),
        (gzip.compress(b"{}", mtime=0)[:-4], "application/json", {"content_encoding": "gzip"}, 400, "ends too early"),
        (b"{}", "application/json", {"content_encoding": "zstd"}, 400, "not valid zstd"),
        (b"\0" * (17 << 20), "application/x-protobuf", {}, 413, "more than 16777216 bytes"),
        (gzip.compress(b"\0" * (9 << 20)), "application/json", {"content_encoding": "gzip"}, 413, "unpacks to more"),
        (
            zstandard.compress(b"\0" * (9 << 20)),
            "application/json",
            {"content_encoding": "zstd"},
            413,
            "unpacks to more",
        ),
    ],
)
def test_what_is_no_otlp_is_refused_for_good_over_http(taking, body, kind, headers, status, said):
    answer = taking.post(body, kind, **headers)
    assert answer.status_code == status
    assert "retry-after" not in answer.headers
    if kind == "application/json":
        told = answer.json()["message"]
    else:
        told = Status.FromString(answer.content).message
    assert said in told


@pytest.mark.parametrize(
    ("body", "options", "code", "said"),
    [
        (b"\x0a\xff\xff", {}, grpc.StatusCode.INVALID_ARGUMENT, "not an ExportTraceServiceRequest"),
        (b"\0" * (17 << 20), {}, grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
        (
            b"\0" * (300 << 20),  # 300 kB over the wire
            {"compression": grpc.Compression.Gzip},
            grpc.StatusCode.INVALID_ARGUMENT,
            "unpacks to more than 8388608 bytes",
        ),
    ],
)
def test_what_is_no_otlp_is_refused_for_good_over_grpc(taking, body, options, code, said):
    with pytest.raises(grpc.RpcError) as caught:
        taking.export(body, **options)
    assert caught.value.code() is code
    assert said in caught.value.details()
    assert taking.metric("spanledger_collector_memory_bytes") < 300 << 20


def test_other_paths_and_methods_are_not_there(taking):
    assert httpx.post(f"{taking.http}/v1/metrics", trust_env=False).status_code == 404
    assert httpx.get(f"{taking.http}/v1/traces", trust_env=False).status_code == 405


def test_health_and_metrics(taking):
    health = httpx.get(f"{taking.http}/healthz", trust_env=False)
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    rows, calls = (taking.metric(f"spanledger_collector_{name}_total") for name in ("rows", "bytes"))
    message = request(spans(2))
    taking.export(message)
    assert taking.metric("spanledger_collector_rows_total") - rows == 2
    assert taking.metric("spanledger_collector_bytes_total") - calls == message.ByteSize()
    assert taking.metric("spanledger_collector_requests_in_flight") == 0
    assert taking.metric("spanledger_collector_held_bytes") == 0


def test_what_is_acknowledged_survives_a_kill(tmp_path):
    ended = spans(50)
    with collector(tmp_path / "home", SPANLEDGER_SHIP_INTERVAL="3600") as taking:
        taking.export(request(ended))
        taking.stop(signal.SIGKILL)
        folder = taking.home / "journal"
        eventually(lambda: len(journal.adopt(folder)) + len(journal.blocks(folder)) > 0, True)  # its workers end too
        assert rows_in(taking, ended) == rows_of(ended)


def test_a_full_journal_is_answered_with_not_now(tmp_path):
    with collector(tmp_path / "home", SPANLEDGER_COLLECTOR_MAX_JOURNAL_BYTES="1000") as taking:
        taking.export(request(spans(2)))
        health = f"{taking.http}/healthz"
        eventually(lambda: httpx.get(health, trust_env=False).status_code, 503)
        assert "max_journal_bytes" in httpx.get(health, trust_env=False).json()["reason"]
        message = request(spans(1))
        with pytest.raises(grpc.RpcError) as caught:
            taking.export(message)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        packed = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        info = RetryInfo()
        assert Status.FromString(packed).details[0].Unpack(info)
        assert info.retry_delay.seconds == 5
        answer = taking.post(message.SerializeToString())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert len(taking.rows) == 2
        assert taking.metric("spanledger_collector_requests_total") == 3


def test_a_journal_that_cannot_be_written_is_answered_with_not_now_and_nothing_is_lost(tmp_path):
    with collector(tmp_path / "home") as taking:
        folder = taking.home / "journal"
        folder.write_bytes(b"")  # a file in place of the folder
        ended = spans(1)
        answer = taking.post(request(ended).SerializeToString())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "the journal takes nothing" in Status.FromString(answer.content).message
        folder.unlink()
        assert taking.post(request(ended).SerializeToString()).status_code == 200
        assert rows_in(taking, ended) == rows_of(ended)


def test_a_worker_that_ends_is_replaced(tmp_path):
    with collector(tmp_path / "home", "--workers", "1") as taking:
        os.kill(worker_of(taking), signal.SIGKILL)
        ended = spans(1)
        body = request(ended).SerializeToString()
        eventually(lambda: taking.post(body).status_code, 200)
        assert [row["span_id"] for row in rows_in(taking, ended)] == [f"{ended[0].context.span_id:016x}"]
        assert taking.metric("spanledger_collector_workers_lost_total") == 1


def worker_of(taking: Collector) -> int:
    children = Path(f"/proc/{taking.process.pid}/task/{taking.process.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def test_sigterm_ends_it_within_five_seconds_with_all_that_was_acknowledged(tmp_path):
    ended = spans(20)
    with collector(tmp_path / "home", SPANLEDGER_SHIP_INTERVAL="3600") as taking:
        taking.export(request(ended))
        assert taking.stop() < 5
        assert taking.process.returncode == 0
        assert not list((taking.home / "journal").glob("*.open")), "its journal is sealed"
        assert rows_in(taking, ended) == rows_of(ended)


def test_a_call_keeps_the_ids_of_the_spans_around_it_that_may_speak_of_it(taking):
    """Agent (in a request of its own) > chain of no dialect > LLM span > HTTP span of no dialect > the call."""
    agent, llm, call = spans(3)
    chain, plumbing = spans(2, scope="opentelemetry.instrumentation.requests")
    message = request([call, plumbing, llm, chain])
    way = [call, plumbing, llm, chain, agent]
    parents = {inner.context.span_id: outer.context.span_id for inner, outer in pairwise(way)}
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.parent_span_id = parents[int.from_bytes(span.span_id, "big")].to_bytes(8, "big")
    assert not taking.export(message).partial_success.rejected_spans
    row, outer = rows_in(taking, [call, llm])
    ids = {name: f"{span.context.span_id:016x}" for name, span in (("llm", llm), ("agent", agent))}
    assert row["ancestor_span_ids"] == [ids["llm"], ids["agent"]]
    assert row["parent_span_id"] == f"{plumbing.context.span_id:016x}"
    assert outer["ancestor_span_ids"] == [ids["agent"]]


def test_a_span_with_more_attributes_than_allowed_that_is_no_call_is_only_ignored(taking):
    ended = spans(1, scope="opentelemetry.instrumentation.requests")
    message = request(ended)
    for number in range(5000):
        message.resource_spans[0].scope_spans[0].spans[0].attributes.add(key=f"x{number}").value.int_value = 1
    assert taking.export(message).partial_success.rejected_spans == 0
