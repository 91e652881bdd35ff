"""OpenTelemetry's GenAI metrics of calls, and what they cost.

Nothing is recorded, and next to nothing done, unless the program has a MeterProvider that somebody reads. Metrics are
floats and not exact; the ledger is.

Names, attributes and buckets:
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-metrics.md
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import MeterProvider, _internal, get_meter_provider
from opentelemetry.trace import set_span_in_context

from spanledger import attributes as names
from spanledger.pricing.usage import MISSING, totals
from spanledger.settings import usable
from spanledger.version import __version__

if TYPE_CHECKING:
    from spanledger.instrumentation.sdks import Sdk
    from spanledger.instrumentation.span import CallSpan
    from spanledger.instrumentation.wire.reading import Reading
    from spanledger.pricing.handoff import Priced

TOKEN_BUCKETS = tuple(4.0**power for power in range(14))
"""Tokens, 1 to 67 108 864."""

SECOND_BUCKETS = tuple(0.01 * 2**power for power in range(14))
"""0.01 s to 81.92 s."""

WITHOUT_METRICS = ("openinference.", "spanledger.")
"""Packages whose instrumentors emit no GenAI metrics, or are ours."""

TOKEN_TYPE = "gen_ai.token.type"

_E18 = 10**18
_API = vars(_internal)
_COUNTED = 10_000

_given: MeterProvider | None = None
_provider: object = ...  # the one that `_instruments` are of; nobody has asked yet
_instruments: Instruments | None = None
_counted: OrderedDict[tuple[str, str], None] = OrderedDict()


class Instruments:
    """Our instruments of one MeterProvider."""

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter("spanledger", __version__)
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Input and output tokens of a call",
            explicit_bucket_boundaries_advisory=TOKEN_BUCKETS,
        )
        self.duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "Duration of a call",
            explicit_bucket_boundaries_advisory=SECOND_BUCKETS,
        )
        self.first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "From the request to the first chunk of a stream",
            explicit_bucket_boundaries_advisory=SECOND_BUCKETS,
        )
        self.output_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_per_output_chunk",
            "s",
            "From a chunk of a stream to the next",
            explicit_bucket_boundaries_advisory=SECOND_BUCKETS,
        )
        self.cost = meter.create_counter(
            "spanledger.cost", "{currency}", "Cost of calls in the base currency, approximate: the ledger is exact"
        )
        self.unpriced = meter.create_counter("spanledger.calls.unpriced", "{call}", "Bills of unknown cost")
        self._others: dict[str, bool] = {}

    def conventional(self, scope: str) -> bool:
        """Whether OpenTelemetry's own metrics are ours to record for calls of a scope, `spanledger.<sdk>`."""
        chosen = usable()
        if chosen is None or chosen.metrics == "always":
            return True
        if scope not in self._others:
            self._others[scope] = _instrumented_by_another(scope.removeprefix("spanledger."))
        return not self._others[scope]


def use(provider: MeterProvider | None) -> None:
    """Record with `provider`; None: with the global one."""
    global _given
    _given = provider


def instruments() -> Instruments | None:
    """The instruments to record with; None where there is nobody to read them."""
    global _provider, _instruments
    # The API's own function asks the environment each time, which takes longer than all else here.
    provider: Any = _API.get("_METER_PROVIDER") if _given is None else _given
    if provider is not _provider:
        real = get_meter_provider() if provider is None else provider
        _instruments = Instruments(real) if _is_read(real) else None
        _provider = provider
    return _instruments


def _is_read(provider: Any) -> bool:
    chosen = usable()
    if chosen is None or chosen.metrics == "never":
        return False
    if type(provider).__name__ in ("_ProxyMeterProvider", "NoOpMeterProvider"):
        return False
    # With OTEL_METRICS_EXPORTER=none the SDK sets a provider that has no reader, and would measure all the same.
    consumer = getattr(provider, "_measurement_consumer", None)
    return bool(getattr(consumer, "_reader_storages", True))


def record(found: Instruments, call: CallSpan, reading: Reading, error: BaseException | None) -> None:
    """Record a call that has just ended.

    A response that this process has counted before (polled, fetched again) is counted once.
    """
    if _counted_before(call, reading):
        return
    span = call.span
    context = set_span_in_context(span, call.context)
    common: dict[str, Any] = {names.OPERATION: call.operation, names.PROVIDER: call.provider}
    if call.request_model:
        common[names.REQUEST_MODEL] = call.request_model
    host, port = call.server
    if host:
        common[names.SERVER_ADDRESS] = host
        if port is not None:
            common[names.SERVER_PORT] = port
    scope = getattr(getattr(span, "instrumentation_scope", None), "name", "")
    if found.conventional(scope):
        _record_times(found, call, reading, error, common, context)
        _record_tokens(found, call, reading, common, context)
    for line in call.priced or ():
        attributes = _of_model(common, _model(line, reading)) | {names.COST_STATUS: line.charge.status}
        cost = line.charge.cost_base_e18
        if cost is None:
            found.unpriced.add(1, attributes, context)
        elif cost:
            attributes[names.COST_CURRENCY] = line.charge.base_currency
            found.cost.add(cost / _E18, attributes, context)


def _record_times(
    found: Instruments,
    call: CallSpan,
    reading: Reading,
    error: BaseException | None,
    common: dict[str, Any],
    context: Any,
) -> None:
    attributes = _of_model(common, reading.response_model)
    if call.chunks_ns is not None and call.first_token_ns is not None:
        found.first_chunk.record((call.first_token_ns - call.start_ns) / 10**9, attributes, context)
        for before, after in zip(call.chunks_ns, call.chunks_ns[1:], strict=False):
            found.output_chunk.record((after - before) / 10**9, attributes, context)
    if error is not None:
        attributes = attributes | {names.ERROR_TYPE: type(error).__name__}
    elif reading.error is not None:
        attributes = attributes | {names.ERROR_TYPE: reading.error[0]}
    found.duration.record((call.end_ns - call.start_ns) / 10**9, attributes, context)


def _record_tokens(found: Instruments, call: CallSpan, reading: Reading, common: dict[str, Any], context: Any) -> None:
    for line in call.priced or ():
        if line.call.usage_status == MISSING:
            continue
        sums = totals(line.call.parts)
        attributes = _of_model(common, _model(line, reading))
        for kind, tokens in (("input", sums.input_tokens), ("output", sums.output_tokens)):
            if tokens:
                found.tokens.record(tokens, attributes | {TOKEN_TYPE: kind}, context)


def _model(line: Priced, reading: Reading) -> str:
    return line.call.model if line.line else reading.response_model


def _of_model(common: dict[str, Any], model: str) -> dict[str, Any]:
    return {**common, names.RESPONSE_MODEL: model} if model else dict(common)


def _counted_before(call: CallSpan, reading: Reading) -> bool:
    """Whether the response was counted, with its usage, in this process."""
    if not reading.response_id:
        return False
    key = (call.provider, reading.response_id)
    if key in _counted:
        return True
    if reading.usage.status != MISSING:
        _counted[key] = None
        if len(_counted) > _COUNTED:
            try:
                _counted.popitem(last=False)
            except KeyError:
                pass
    return False


def _instrumented_by_another(sdk: str) -> bool:
    """Whether an instrumentor of somebody else has patched the SDK, and so records these metrics by itself."""
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

    from spanledger.instrumentation import INSTRUMENTORS

    ours: Sdk | None = next((each.sdk for each in INSTRUMENTORS if each.sdk.name == sdk), None)
    if ours is None:
        return False
    wanted = _distribution(ours.requirement)
    for kind in _descendants(BaseInstrumentor):
        other = kind.__dict__.get("_instance")
        if (
            other is not None
            and not kind.__module__.startswith(WITHOUT_METRICS)
            and other.is_instrumented_by_opentelemetry
            and wanted in map(_distribution, other.instrumentation_dependencies())
        ):
            return True
    return False


def _distribution(requirement: str) -> str:
    return requirement.replace(",", " ").split()[0].partition("[")[0].rstrip("<>=!~").lower().replace("_", "-")


def _descendants(kind: Any) -> Iterator[Any]:
    for each in kind.__subclasses__():
        yield each
        yield from _descendants(each)
