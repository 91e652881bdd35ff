"""A ledger of all recorded calls: each made once, for a tenant, a user and a feature, five to a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from spanledger.attribution import attribute
from spanledger.exporter import rollup, shipper
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.install import install
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.rollup import roll_up
from spanledger.exporter.settle import settle
from spanledger.instrumentation import INSTRUMENTORS, metrics
from spanledger.settings import settings
from tests import recordings
from tests.test_recordings import DRIVEN

TENANTS = ("acme", "globex", "initech")
USERS = ("ann", "bob", "cyd", "dee", "eve", "fay", "gus")
FEATURES = ("chat", "search", "")
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Made:
    """A recorded call that was made.

    Attributes:
        truth: what it consumed; None where an HTTP error was recorded.
    """

    id: str
    tenant: str
    user: str
    feature: str
    truth: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Everything:
    """The ledger of all recorded calls.

    Attributes:
        made: recording -> the call.
        rows: of the ledger, all columns.
        metrics: what the instrumentation recorded meanwhile; name -> data points.
    """

    home: Path
    url: str
    made: dict[str, Made]
    rows: list[dict[str, Any]]
    metrics: dict[str, list[Any]]


@contextmanager
def ledger_of_everything(home: Path) -> Iterator[Everything]:
    """Every second trace is moved to yesterday; some dates are rolled up, others not."""
    with _recorded() as recorded:
        made = {each.id: each for each in make(home)}
    for segment in (home / "journal").glob("*.block"):
        segment.write_bytes(b"".join(_moved(line) for line in segment.read_bytes().splitlines()))
    server = EmbeddedClickHouse(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollup, "LATE_S", 0)
        endpoint = server.start()
        client = open_ledger(endpoint)
        try:
            shipper.load_journal(home, client)
            settle(client)
            client.command("SELECT sleep(0.003)")
            assert roll_up(client, 0, 5).dates >= 2
            found = client.query("SELECT * FROM llm_calls FINAL")
            rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
            url = f"http://{endpoint.username}:{endpoint.password}@127.0.0.1:{endpoint.port}/{endpoint.database}"
            yield Everything(home, url, made, rows, recorded)
        finally:
            client.close()
            server.stop()


def make(home: Path) -> list[Made]:
    """Make all recorded calls, into the journal of `home`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANLEDGER_HOME", str(home))
        patch.setattr(shipper, "_shipper", None)
        settings.cache_clear()
        try:
            with _instrumented() as tracer:
                return list(_drive(tracer))
        finally:
            shipper.close()
            settings.cache_clear()


def _drive(tracer: trace.Tracer) -> Iterator[Made]:
    truth = recordings.truth()
    driven = [recording for name in DRIVEN for recording in recordings.load(name)]
    root = context.get_current()
    with recordings.replayed(driven) as (_, call):
        for number, recording in enumerate(driven):
            tenant, user = TENANTS[number % len(TENANTS)], USERS[number % len(USERS)]
            feature = FEATURES[number // 2 % len(FEATURES)]
            if number % 5 == 0:
                span = tracer.start_span("a request")
                root = trace.set_span_in_context(span)
                span.end()
            token = context.attach(root)
            try:
                with attribute(tenant=tenant, user=user, feature=feature or None, tags={"recording": recording["id"]}):
                    call(recording, mode="sync", raw=False)
            finally:
                context.detach(token)
            yield Made(recording["id"], tenant, user, feature, truth.get(recording["id"]))


@contextmanager
def _instrumented() -> Iterator[trace.Tracer]:
    provider = TracerProvider()
    install(provider)
    instrumentors = [instrumentor() for instrumentor in INSTRUMENTORS]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=provider)
    try:
        yield provider.get_tracer("recordings")
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
        provider.shutdown()


@contextmanager
def _recorded() -> Iterator[dict[str, list[Any]]]:
    """The metrics that are recorded inside, name -> data points, once it is over."""
    reader = InMemoryMetricReader()
    points: dict[str, list[Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_given", MeterProvider([reader]))
        patch.setattr(metrics, "_counted", type(metrics._counted)())
        yield points
        data = reader.get_metrics_data()
    assert data is not None
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            points.update({metric.name: list(metric.data.data_points) for metric in scope.metrics})


def made_at(row: dict[str, Any]) -> datetime:
    """When the call of a row of the ledger was made, and priced: some prices have hours."""
    start: datetime = row["start_time"]
    return start + timedelta(days=_is_moved(row))


def _is_moved(row: dict[str, Any]) -> bool:
    return bool(int(row["trace_id"][-1], 16) % 2)


def _moved(line: bytes) -> bytes:
    row = orjson.loads(line)
    if _is_moved(row):
        seconds, _, rest = row["start_time"].partition(".")
        row["start_time"] = f"{int(seconds) - DAY_S}.{rest}"
        row["event_date"] = str(date.fromisoformat(row["event_date"]) - timedelta(days=1))
    return orjson.dumps(row) + b"\n"
