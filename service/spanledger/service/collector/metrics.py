"""The collector's own metrics: one table, read as Prometheus text and sent by OTLP."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector as PrometheusCollector

from spanledger.service.collector.frames import OK, Outcome

PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, and the number."""


class Metric(NamedTuple):
    """One metric.

    Attributes:
        kind: `counter` or `gauge`.
        read: its numbers now.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Iterable[Sample]]


class Counts:
    """What the collector counts, and where its gauges are read."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, ...], int] = {}
        self.spans = dict.fromkeys((("call",), ("ignored",), ("rejected",)), 0)
        self.rows = 0
        self.bytes = 0
        self.metrics: list[Metric] = [
            Metric(
                "spanledger_collector_requests",
                "counter",
                "Requests by protocol and outcome: accepted, refused (to be sent again), invalid, unauthenticated.",
                ("protocol", "outcome"),
                lambda: self.requests.items(),
            ),
            Metric(
                "spanledger_collector_spans",
                "counter",
                "Spans of accepted requests: LLM calls, ignored, or rejected because they could not be read.",
                ("outcome",),
                lambda: self.spans.items(),
            ),
            Metric("spanledger_collector_rows", "counter", "Rows journaled.", (), lambda: [((), self.rows)]),
            Metric("spanledger_collector_bytes", "counter", "Bytes received.", (), lambda: [((), self.bytes)]),
        ]

    def request(self, protocol: str, outcome: str, size: int = 0, read: Outcome | None = None) -> None:
        """Count a request, and what was in it."""
        key = (protocol, outcome)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.bytes += size
        if read is not None and read.status == OK:
            self.spans[("call",)] += read.calls
            self.spans[("ignored",)] += read.ignored
            self.spans[("rejected",)] += read.rejected
            self.rows += read.rows

    def gauge(self, name: str, help_text: str, read: Callable[[], float], kind: str = "gauge") -> None:
        """Add a number that somebody else keeps."""
        self.metrics.append(Metric(f"spanledger_collector_{name}", kind, help_text, (), lambda: [((), read())]))


class _Families(PrometheusCollector):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Any]:
        for metric in self._counts.metrics:
            made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = made(metric.name, metric.help, labels=metric.labels)
            for labels, number in metric.read():
                family.add_metric(labels, number)
            yield family


def prometheus(counts: Counts) -> bytes:
    """All metrics in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(counts))
    return generate_latest(registry)


def send(counts: Counts, url: str) -> Callable[[], None]:
    """Send all metrics to an OTLP/HTTP `url` each minute; the function that ends it."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource

    reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=url, timeout=5))
    provider = MeterProvider([reader], Resource.create({"service.name": "spanledger-collector"}))
    meter = provider.get_meter("spanledger.collector")

    def observed(metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _: [
            Observation(number, dict(zip(metric.labels, labels, strict=True))) for labels, number in list(metric.read())
        ]

    for metric in counts.metrics:
        make = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
        make(metric.name, [observed(metric)], description=metric.help)
    return lambda: provider.shutdown(2000)


def memory_bytes(pids: Iterable[int]) -> int:
    """Resident memory of processes together; 0 where the system does not say."""
    pages = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                pages += int(file.read().split()[1])
        except (OSError, IndexError, ValueError):
            continue
    return pages * os.sysconf("SC_PAGESIZE")
