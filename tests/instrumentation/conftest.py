"""Every SDK instrumented into an exporter and a metric reader in memory, against a scripted provider on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanledger import attributes as names
from spanledger.instrumentation import INSTRUMENTORS, metrics
from spanledger.settings import settings
from tests.provider import Provider


class Spans:
    """The finished spans of one test."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def all(self) -> list[ReadableSpan]:
        return [s for s in self.exporter.get_finished_spans() if s.instrumentation_scope.name.startswith("spanledger.")]

    def one(self) -> dict[str, Any]:
        """The attributes of the only span."""
        finished = self.all()
        assert len(finished) == 1, [s.name for s in finished]
        return dict(finished[0].attributes or {})

    def each(self) -> list[dict[str, Any]]:
        """The attributes of every span, in the order in which they ended."""
        return [dict(span.attributes or {}) for span in self.all()]

    def parts(self) -> dict[str, int]:
        return json.loads(self.one()[names.USAGE_PARTS])


class Metrics:
    """What a reader of the program's MeterProvider sees."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader])

    def all(self) -> dict[str, list[Any]]:
        """Name -> data points."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def chunks(self) -> list[int]:
        """How many times between chunks were recorded, by data point; each stream has one to its first chunk."""
        found = self.all()
        assert all(point.sum > 0 for point in found["gen_ai.client.operation.time_to_first_chunk"])
        return [point.count for point in found["gen_ai.client.operation.time_per_output_chunk"]]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Iterator[None]:
    monkeypatch.setenv("SPANLEDGER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{provider.host}=openai")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def spans() -> Iterator[Spans]:
    collected = Spans()
    instrumentors = [instrumentor() for instrumentor in INSTRUMENTORS]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=collected.provider)
    try:
        yield collected
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """What metrics the test's calls record."""
    monkeypatch.setattr(metrics, "_given", None)
    monkeypatch.setattr(metrics, "_provider", ...)
    metrics._counted.clear()
    found = Metrics()
    metrics.use(found.provider)
    return found
