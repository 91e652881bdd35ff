"""The collector among others: TLS and tokens, sending on, several of them, and its life beside the service."""

from __future__ import annotations

import datetime
import ipaddress
import os
import random
import signal
import ssl
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace.export import SpanExportResult

from spanledger import attributes as names
from spanledger.exporter.shipper import load_journal
from spanledger.service import daemon
from spanledger.service.collector.admission import Admission, Refused
from spanledger.service.collector.running import running
from spanledger.service.collector.settings import CollectorSettings, load
from spanledger.settings import Settings
from tests.service.collecting import EXPORT, collector, eventually, otlp_receiver, request, spans
from tests.service.conftest import spanledger

PORTS = {"SPANLEDGER_COLLECTOR_GRPC": "127.0.0.1:0", "SPANLEDGER_COLLECTOR_HTTP": "127.0.0.1:0"}


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """Paths of a self-signed certificate for 127.0.0.1 and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return str(cert_file), str(key_file)


def test_with_a_token_only_who_shows_it_may_send(tmp_path):
    file = tmp_path / "token"
    file.write_text("s3cret")
    file.chmod(0o600)
    with collector(tmp_path / "home", SPANLEDGER_COLLECTOR_TOKEN_FILE=str(file)) as taking:
        body = request(spans()).SerializeToString()
        for wrong in ({}, {"authorization": "Bearer s3cres"}, {"authorization": "Basic s3cret"}):
            answer = taking.post(body, **wrong)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            with pytest.raises(grpc.RpcError) as caught:
                taking.export(body, metadata=tuple(wrong.items()))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert httpx.get(f"{taking.http}/metrics", trust_env=False).status_code == 401
        assert httpx.get(f"{taking.http}/healthz", trust_env=False).status_code == 200
        assert taking.rows == []
        right = {"authorization": "Bearer s3cret"}
        assert taking.post(body, **right).status_code == 200
        taking.export(body, metadata=tuple(right.items()))
        assert len(taking.rows) == 2
        assert "s3cret" not in taking.log + taking.said


def test_with_tls_the_sdks_exporters_send_over_it(tmp_path, monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # before them the exporter's own is not looked at
        monkeypatch.delenv(name, raising=False)
    cert, key = certificate(tmp_path, "server")
    with collector(tmp_path / "home", SPANLEDGER_COLLECTOR_TLS_CERT=cert, SPANLEDGER_COLLECTOR_TLS_KEY=key) as taking:
        trusted = grpc.ssl_channel_credentials(Path(cert).read_bytes())
        over_grpc = GrpcExporter(f"https://{taking.running.grpc}", credentials=trusted)
        over_http = HttpExporter(f"{taking.http}/v1/traces", certificate_file=cert)
        for exporter in (over_grpc, over_http):
            assert exporter.export(spans()) is SpanExportResult.SUCCESS
            exporter.shutdown()
        assert len(taking.rows) == 2
        with pytest.raises(grpc.RpcError):
            taking.export(b"")  # in plain text


def test_with_a_client_ca_only_its_certificates_may_send(tmp_path):
    cert, key = certificate(tmp_path, "server")
    client, client_key = certificate(tmp_path, "client")
    with collector(
        tmp_path / "home",
        SPANLEDGER_COLLECTOR_TLS_CERT=cert,
        SPANLEDGER_COLLECTOR_TLS_KEY=key,
        SPANLEDGER_COLLECTOR_TLS_CLIENT_CA=client,
    ) as taking:
        body = request(spans()).SerializeToString()
        root, chain = Path(cert).read_bytes(), (Path(client_key).read_bytes(), Path(client).read_bytes())
        for credentials, allowed in (
            (grpc.ssl_channel_credentials(root), False),
            (grpc.ssl_channel_credentials(root, *chain), True),
        ):
            with grpc.secure_channel(taking.running.grpc, credentials) as channel:
                if allowed:
                    channel.unary_unary(EXPORT)(body, timeout=20)
                else:
                    with pytest.raises(grpc.RpcError):
                        channel.unary_unary(EXPORT)(body, timeout=20)
        context = ssl.create_default_context(cafile=cert)
        url, sent = f"{taking.http}/v1/traces", {"content-type": "application/x-protobuf"}
        with pytest.raises(httpx.HTTPError):
            httpx.post(url, content=body, headers=sent, verify=context, trust_env=False)
        context.load_cert_chain(client, client_key)
        assert httpx.post(url, content=body, headers=sent, verify=context, trust_env=False).status_code == 200
        assert len(taking.rows) == 2


def test_no_more_requests_and_bytes_than_allowed():
    admission = Admission(CollectorSettings(max_requests=2, max_held_bytes=10, max_request_bytes=10), Path("/nowhere"))
    with admission.request(), admission.holding(b"12345"):
        with admission.request():
            with pytest.raises(Refused, match="max_requests is reached"), admission.request():
                pass
        with admission.holding(b"67890"):
            with pytest.raises(Refused, match="max_held_bytes is reached"), admission.request():
                pass
        with admission.request():
            pass
    admission.draining = True
    with pytest.raises(Refused, match="stopping"), admission.request():
        pass
    assert (admission.requests, admission.held_bytes) == (0, 0)


def spans_of(message: ExportTraceServiceRequest) -> dict[bytes, Any]:
    return {
        span.span_id: span
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def attributes_of(span: Any) -> dict[str, object]:
    found = {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
    assert len(found) == len(span.attributes), "an attribute stands twice"
    return found


def test_requests_are_refused_before_the_journals_own_bound_drops_what_was_acknowledged(tmp_path):
    for most, expected in ((5 * 2**30, 4 * 2**30), (100 * 2**20, 80 * 2**20), (50 * 2**30, 4 * 2**30)):
        now = Settings(home=tmp_path, journal_max_bytes=most)
        assert load(now, {}).max_journal_bytes == expected


def test_every_span_is_sent_on_and_calls_with_their_cost(tmp_path):
    seen: list[ExportTraceServiceRequest] = []
    ended = (
        *spans(1, COST="99", COST_CURRENCY="EUR"),
        *spans(1, scope="opentelemetry.instrumentation.requests"),
        *spans(1, REQUEST_MODEL="unheard-of", RESPONSE_MODEL="unheard-of", PROVIDER="nobody.example"),
    )
    sent = request(ended)
    with otlp_receiver(lambda message, _: seen.append(message)) as port:
        with collector(tmp_path / "home", "--forward", f"grpc://127.0.0.1:{port}") as taking:
            taking.export(sent)
            eventually(lambda: taking.metric("spanledger_collector_forward_sent_spans_total"), 3.0)
            rows = {row["span_id"]: row for row in taking.rows}
        assert taking.running.forward == f"grpc://127.0.0.1:{port}"
    came, went = spans_of(seen[0]), spans_of(sent)
    ids = [span.context.span_id.to_bytes(8, "big") for span in ended]
    call, other, unknown = (attributes_of(came[each]) for each in ids)
    row = rows[ids[0].hex()]
    assert call[names.COST] == "0.005615"
    assert f"{Decimal(str(call[names.COST])):.18f}" == row["cost"]
    assert (call[names.COST_CURRENCY], call[names.COST_STATUS]) == (row["currency"], row["price_status"])
    assert call[names.PRICED_MODEL] == row["priced_model"]
    assert call[names.TENANT] == "acme"
    assert other == attributes_of(went[ids[1]]), "what is no call is sent on as it came"
    assert unknown[names.COST_STATUS] == "unpriced"
    assert names.COST not in unknown
    for each in ids:
        del came[each].attributes[:], went[each].attributes[:]
    assert came == went, "all else is as it came"


def test_what_is_sent_on_is_tried_again_and_over_http_too(tmp_path):
    """The receiver is a second collector: away at first, it comes up later at the port that is known."""
    with collector(tmp_path / "second" / "home") as second:
        port = second.running.http.rpartition(":")[2]
    more = {"SPANLEDGER_COLLECTOR_FORWARD": f"http://127.0.0.1:{port}"}
    with collector(tmp_path / "first" / "home", **more) as first:
        ended = spans(2)
        first.export(request(ended))
        eventually(lambda: "cannot send spans on" in first.log, True)
        assert len(first.rows) == 2, "the ledger is not affected"
        with collector(tmp_path / "second" / "home", "--http", f"127.0.0.1:{port}") as second:
            eventually(lambda: first.metric("spanledger_collector_forward_sent_spans_total"), 2.0)
            assert {row["entry_id"] for row in second.rows} == {row["entry_id"] for row in first.rows}
        assert first.metric("spanledger_collector_forward_dropped_spans_total") == 0


def test_what_cannot_be_sent_on_is_dropped_and_counted(tmp_path):
    held = threading.Event()

    def refuse(message: ExportTraceServiceRequest, context: grpc.ServicerContext) -> None:
        held.wait(20)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")

    with otlp_receiver(refuse) as port:
        size = request(spans(10)).ByteSize()
        more = {"SPANLEDGER_COLLECTOR_FORWARD_QUEUE_BYTES": str(3 * size)}
        with collector(tmp_path / "home", "--forward", f"grpc://127.0.0.1:{port}", **more) as taking:
            for _ in range(6):
                taking.export(request(spans(10)))
            dropped = taking.metric("spanledger_collector_forward_dropped_spans_total")
            assert dropped >= 30, "the queue has room for fewer than 3, with their costs"
            held.set()
            eventually(lambda: taking.metric("spanledger_collector_forward_dropped_spans_total"), 60.0)
            assert taking.metric("spanledger_collector_forward_queued_bytes") == 0
            assert len(taking.rows) == 60


def test_a_collector_that_would_send_to_itself_does_not_start(tmp_path, free_tcp_port):
    result = spanledger(
        tmp_path / "home",
        *("collector", "--grpc", f"127.0.0.1:{free_tcp_port}", "--forward", f"grpc://localhost:{free_tcp_port}"),
        SPANLEDGER_COLLECTOR_HTTP="off",
    )
    assert result.returncode == 1
    assert "spans would go in circles" in result.stderr


@pytest.fixture
def free_tcp_port() -> int:
    from tests.conftest import free_port

    return free_port()


def test_several_collectors_give_the_same_ledger_as_one(ledger, tmp_path):
    """Retries, duplicates and any order: each call is one row, and it is the same."""
    ended = [*spans(30), *spans(10, USAGE_STATUS="incomplete", ERROR_TYPE="Cancelled")]
    messages = [request(ended[start : start + 5]).SerializeToString() for start in range(0, 40, 5)]
    columns = "COLUMNS('.*') EXCEPT ingested_at"
    stood = []
    for count in (1, 2):
        ledger.command("TRUNCATE TABLE llm_calls")
        homes = [tmp_path / f"{count}-{number}" / "home" for number in range(count)]
        sent = messages if count == 1 else random.Random(5).sample(messages * 3, 3 * len(messages))
        takers = [collector(home) for home in homes]
        opened = [taker.__enter__() for taker in takers]
        try:
            for number, message in enumerate(sent):
                told = opened[number % count].export(message)
                assert told == ExportTraceServiceResponse()
        finally:
            for taker in takers:
                taker.__exit__(None, None, None)
        for home in reversed(homes):
            load_journal(home, ledger)
        stood.append(ledger.query(f"SELECT {columns} FROM llm_calls FINAL ORDER BY entry_id, line").rows)
    assert len(stood[0]) == 40
    assert stood[0] == stood[1]


def test_the_service_runs_a_collector_and_starts_it_again(home):
    up = spanledger(home, "up", **PORTS, SPANLEDGER_COLLECTOR="true", SPANLEDGER_SHIP_INTERVAL="0.2")
    assert up.returncode == 0, up.stderr
    here = running(home)
    assert here is not None
    assert f"Collector: OTLP/gRPC {here.grpc}, OTLP/HTTP http://{here.http}\n" in up.stdout
    status = spanledger(home, "status").stdout
    assert f"otlp grpc      {here.grpc}\n" in status
    assert f"otlp http      http://{here.http}\n" in status
    assert f"OTLP/gRPC {here.grpc}" in spanledger(home, "doctor").stdout

    ended = spans(2)
    with grpc.insecure_channel(here.grpc) as channel:
        channel.unary_unary(EXPORT)(request(ended).SerializeToString(), timeout=20)
    count = "SELECT count() FROM llm_calls"
    eventually(lambda: spanledger(home, "sql", count, "--format", "TSV").stdout, "2\n")

    os.kill(here.pid, signal.SIGKILL)
    eventually(lambda: (again := running(home)) is not None and again.pid != here.pid, True)
    service = daemon.running(home)
    assert service is not None
    os.kill(service.pid, signal.SIGKILL)
    eventually(lambda: running(home), None)  # it does not outlive the service


def test_up_says_that_the_collectors_port_is_taken(home, tmp_path):
    with collector(tmp_path / "other") as other:
        more = {"SPANLEDGER_COLLECTOR_HTTP": other.running.http, "SPANLEDGER_COLLECTOR_GRPC": "off"}
        port = other.running.http.rpartition(":")[2]
        up = spanledger(home, "up", SPANLEDGER_COLLECTOR="true", **more)
        assert up.returncode == 1
        assert up.stderr.startswith(f"spanledger: port {port} is taken: ")
        without = spanledger(home, "up", "--no-collector", SPANLEDGER_COLLECTOR="true", **more)
        assert (without.returncode, running(home)) == (0, None), without.stderr
        assert "Collector" not in without.stdout


def test_a_second_collector_in_the_same_home_is_refused(tmp_path):
    with collector(tmp_path / "home"):
        result = spanledger(tmp_path / "home", "collector", **PORTS)
    assert result.returncode == 1
    assert result.stderr.startswith("spanledger: another collector runs for ")


def test_its_own_metrics_go_out_by_otlp(tmp_path):
    seen: list[ExportMetricsServiceRequest] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1/metrics"
        with collector(tmp_path / "home", SPANLEDGER_COLLECTOR_METRICS_URL=url) as taking:
            taking.export(request(spans(2)))
            assert taking.stop() < 5  # the last ones go out at its end
        server.shutdown()
    metrics = {
        metric.name: metric
        for resource in seen[-1].resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert [point.as_int for point in metrics["spanledger_collector_rows"].sum.data_points] == [2]
    assert metrics["spanledger_collector_rows"].sum.is_monotonic
    assert metrics["spanledger_collector_memory_bytes"].gauge.data_points[0].as_int > 0
