"""The span of one LLM call: starts with who calls whom, ends with what was consumed and what it cost."""

from __future__ import annotations

import json
import threading
from time import time_ns
from typing import TYPE_CHECKING, Any

import orjson
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from spanledger import attributes as names
from spanledger import event_loop, kept
from spanledger.attribution import Attribution, current_attribution
from spanledger.failures import internal_error
from spanledger.instrumentation import metrics
from spanledger.instrumentation.wire.reading import Line, Reading
from spanledger.masking import masked
from spanledger.pricing import handoff
from spanledger.pricing.book import default_book
from spanledger.pricing.call import Call, amount_text
from spanledger.pricing.usage import MISSING, Usage, totals
from spanledger.settings import settings
from spanledger.tracking import Outcome, Recipient, admit, recipients, remember_id

if TYPE_CHECKING:
    from spanledger.instrumentation.content import Capture

_NOWHERE = Context()
_CLIENT = SpanKind.CLIENT  # a look into an enum is slow in Python 3.11
_MOST_PROVIDERS = 1_000

NEVER_SENT = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "UnsupportedProtocol",
        "ProxyError",
        "LocalProtocolError",
    }
)
"""httpx errors before the provider had the request: nothing was generated."""


class CallSpan:
    """One call from its request to its end; `end` is called once, later calls do nothing."""

    __slots__ = (
        "__weakref__",
        "api_key",
        "attribution",
        "captured",
        "chunks_ns",
        "context",
        "end_ns",
        "ended",
        "first_token_ns",
        "operation",
        "priced",
        "provider",
        "recipients",
        "region",
        "request_model",
        "retries",
        "sent",
        "server",
        "span",
        "start_ns",
    )

    def __init__(
        self,
        tracer: Tracer,
        *,
        operation: str,
        provider: str,
        request_model: str,
        stream: bool,
        context: Context,
        host: str = "",
        port: int | None = None,
        region: str = "",
        api_key_hash: str = "",
        api_key_alias: str = "",
        attribution: Attribution | None = None,
        start_ns: int | None = None,
    ) -> None:
        """Start the span.

        Parameters:
            operation: `gen_ai.operation.name`.
            provider: canonical provider name, or a host.
            context: the OpenTelemetry context whose span is the parent.
            host, port: the server; None for the scheme's own port.
            attribution: whose call it is; by default what `context` says.
            start_ns: ns since the epoch of a call that was made already; now by default.

        Raises:
            Wanted: the program has asked that no such call be made.
        """
        request_model = kept.identifier(request_model)
        self.sent: Any = None
        """The request, for as long as the call goes on: what an error echoes of it is masked."""
        self.captured: Capture | None = None
        self.operation = operation
        self.provider = provider
        self.request_model = request_model
        self.region = region
        self.api_key = api_key_alias or api_key_hash
        self.context = context
        self.retries = 0
        self.server = (host, port)
        self.first_token_ns: int | None = None
        self.chunks_ns: list[int] | None = [] if stream and metrics.instruments() is not None else None
        """When the chunks of a stream came, ns since the epoch; None where no metrics are recorded."""
        self.ended = False
        self.priced: list[handoff.Priced] | None = None
        self.end_ns = 0
        self.recipients: tuple[Recipient, ...] = recipients(context) if context else ()
        if self.recipients and start_ns is None:
            admit(self.recipients)
        if attribution is None and context:
            attribution = current_attribution(context)
        self.attribution = attribution
        start: dict[str, Any] = {
            names.OPERATION: operation,
            names.PROVIDER: provider,
            names.REQUEST_MODEL: request_model,
            names.REQUEST_STREAM: stream,
        }
        if host:
            start[names.SERVER_ADDRESS] = host
            if port is not None:
                start[names.SERVER_PORT] = port
        if api_key_hash:
            start[names.API_KEY_HASH] = api_key_hash
            if api_key_alias:
                start[names.API_KEY_ALIAS] = api_key_alias
        if self.attribution is not None:
            start.update(self.attribution.attributes)
        if provider not in _prepared:
            _prepare(provider)
        self.start_ns = time_ns() if start_ns is None else start_ns
        self.span: Span = tracer.start_span(
            f"{operation} {request_model}" if request_model else operation,
            context,
            _CLIENT,
            start,
            start_time=self.start_ns,
        )

    @property
    def outcome(self) -> Outcome | None:
        """What the call consumed and cost; None until it has ended."""
        return None if self.priced is None else Outcome.of(self.priced, self.start_ns, self.end_ns)

    def sending(self, request: Any) -> None:
        """`request` is what the call sends, parsed."""
        self.sent = request
        if settings().capture:
            from spanledger.instrumentation.content import capture

            self.captured = capture(request)

    def first_token(self) -> None:
        """The first piece of a stream is here."""
        if self.first_token_ns is None:
            self.first_token_ns = time_ns()

    def chunk(self) -> None:
        """A chunk of a stream is here, the first or a further one."""
        self.first_token()
        if self.chunks_ns is not None:
            self.chunks_ns.append(time_ns())

    def discard(self) -> None:
        """There was no call after all (a local cache answered): the span is never ended, so never exported."""
        self.ended = True

    def fail(self, error: BaseException) -> None:
        """The call raised `error` before a usable response.

        An HTTP error status, or a request that never reached the provider, is not billed. After a read time-out or
        a cancellation the provider may have generated and billed: then the usage is missing, not zero.
        """
        self.end(Reading(usage=Usage(status=MISSING)), error=error, not_billed=not may_be_billed(error))

    def end(self, reading: Reading, *, error: BaseException | None = None, not_billed: bool = False) -> None:
        """End the span with what `reading` says; never raises unless fail-open is off.

        Parameters:
            error: what the SDK raised.
            not_billed: nothing was generated.
        """
        if self.ended:
            return
        self.ended = True
        try:
            self._end(reading, error, not_billed)
        except Exception:
            internal_error("ending a span")
        recording = metrics.instruments()
        if recording is not None:
            try:
                metrics.record(recording, self, reading, error)
            except Exception:
                internal_error("recording metrics")
        self.sent = self.captured = None
        self.span, self.context, self.recipients = INVALID_SPAN, _NOWHERE, ()  # `cost_of` may keep us for long

    def _end(self, reading: Reading, error: BaseException | None, not_billed: bool) -> None:
        span = self.span
        _keep(reading)
        self.priced = priced = self._price(reading, not_billed)
        self.end_ns = time_ns()
        if reading.response_id:
            remember_id(reading.response_id, self)
        for recipient in self.recipients:
            recipient(Outcome.of(priced, self.start_ns, self.end_ns))
        if not span.is_recording():
            return
        context = span.get_span_context()
        end = self._end_attributes(reading, priced, not_billed)
        if self.captured is not None:
            end.update(self._captured(context))
        span.set_attributes(end)
        if error is not None:
            self._set_error(type(error).__name__, _message(error))
        elif reading.error is not None:
            self._set_error(*reading.error)
        span_id = context.span_id
        handoff.ending[span_id] = priced
        try:
            span.end(self.end_ns)
        finally:
            handoff.ending.pop(span_id, None)

    def _captured(self, context: SpanContext) -> dict[str, str]:
        try:
            return self.captured.finish(context.trace_id, context.span_id, self.start_ns) if self.captured else {}
        except Exception:
            internal_error("storing content")
            return {}

    def _price(self, reading: Reading, not_billed: bool) -> list[handoff.Priced]:
        usage = reading.usage
        book = default_book()
        region = reading.region or self.region
        tenant = self.attribution.tenant if self.attribution is not None else ""
        call = Call(
            self.provider,
            reading.response_model or self.request_model,
            self.start_ns,
            usage.parts,
            usage.unmapped,
            usage.status,
            usage.reasons,
            reading.service_tier,
            reading.processing,
            region,
            tenant,
            self.api_key,
            self.request_model,
            not_billed,
        )
        priced = [handoff.Priced(call, book.price(call))]
        for number, line in enumerate(reading.lines, 1):
            share = self._line_call(line, call)
            priced.append(handoff.Priced(share, book.price(share), number))
        return priced

    def _line_call(self, line: Line, call: Call) -> Call:
        return Call(
            provider=call.provider,
            model=line.model,
            start_ns=call.start_ns,
            parts=line.usage.parts,
            unmapped=line.usage.unmapped,
            usage_status=line.usage.status,
            usage_reasons=line.usage.reasons,
            service_tier=call.service_tier,
            processing=call.processing,
            region=call.region,
            tenant=call.tenant,
            api_key=call.api_key,
        )

    def _end_attributes(self, reading: Reading, priced: list[handoff.Priced], not_billed: bool) -> dict[str, Any]:
        usage = reading.usage
        sums = totals(usage.parts)
        end: dict[str, Any] = {names.USAGE_STATUS: usage.status}
        if usage.status != MISSING:
            end[names.INPUT_TOKENS] = sums.input_tokens
            end[names.OUTPUT_TOKENS] = sums.output_tokens
            if sums.cache_read_tokens:
                end[names.CACHE_READ_TOKENS] = sums.cache_read_tokens
            if sums.cache_write_tokens:
                end[names.CACHE_WRITE_TOKENS] = sums.cache_write_tokens
            if sums.reasoning_tokens:
                end[names.REASONING_TOKENS] = sums.reasoning_tokens
            end[names.USAGE_PARTS] = _json(usage.parts)
        if usage.raw is not None:
            end[names.USAGE_RAW] = _json(kept.usage(usage.raw))
        if usage.unmapped:
            end[names.USAGE_UNMAPPED] = _json(usage.unmapped)
        if usage.reasons:
            end[names.USAGE_REASONS] = usage.reasons
        if reading.response_id:
            end[names.RESPONSE_ID] = reading.response_id
        if reading.response_model:
            end[names.RESPONSE_MODEL] = reading.response_model
        if reading.finish_reasons:
            end[names.FINISH_REASONS] = reading.finish_reasons
        if reading.service_tier:
            end[names.SERVICE_TIER] = reading.service_tier
        if reading.processing:
            end[names.PROCESSING] = reading.processing
        if reading.region or self.region:
            end[names.REGION] = reading.region or self.region
        if reading.created_ns is not None:
            end[names.CREATED_NS] = reading.created_ns
        if reading.reported_cost is not None:
            end[names.REPORTED_COST] = str(reading.reported_cost)
        if self.retries:
            end[names.RETRIES] = self.retries
        if self.first_token_ns is not None:
            end[names.TIME_TO_FIRST_TOKEN_NS] = self.first_token_ns - self.start_ns
        if not_billed:
            end[names.NOT_BILLED] = True
        if reading.lines:
            end[names.LINES] = _json(
                [
                    {
                        "model": line.model,
                        "parts": line.usage.parts,
                        "unmapped": line.usage.unmapped,
                        "status": line.usage.status,
                        "reasons": line.usage.reasons,
                    }
                    for line in reading.lines
                ]
            )
        _add_cost(end, priced)
        return end

    def _set_error(self, kind: str, message: str) -> None:
        text = masked(message, self.sent)
        self.span.set_attribute(names.ERROR_TYPE, kept.word(kind) or "error")
        if text:
            self.span.set_attribute(names.ERROR_MESSAGE, text)
        self.span.set_status(Status(StatusCode.ERROR, text))

    def __repr__(self) -> str:
        return f"<CallSpan {self.operation} {self.provider} {self.request_model}>"


_prepared: set[str] = set()
"""Providers that this process has called."""


def _prepare(provider: str) -> None:
    """Load a provider's price list while its first call is under way, where an event loop would wait for it else.

    An SDK's own provider is prepared when it is patched; this is for others at its client's other end.
    """
    if len(_prepared) >= _MOST_PROVIDERS:
        _prepared.clear()
    _prepared.add(provider)
    if event_loop.is_running() and not default_book().is_prepared(provider):
        try:
            threading.Thread(target=_load_prices, args=(provider,), name="spanledger-prices", daemon=True).start()
        except RuntimeError:  # no thread is to be had: the call's end loads it
            pass


def _load_prices(provider: str) -> None:
    try:
        default_book().prepare(provider)
    except Exception:  # the call's end says so
        pass


def _keep(reading: Reading) -> None:
    """Reduce what an answer says of itself to what may be kept."""
    reading.response_id = kept.identifier(reading.response_id)
    reading.response_model = kept.identifier(reading.response_model)
    if reading.finish_reasons:
        reading.finish_reasons = tuple([kept.word(reason) for reason in reading.finish_reasons])
    if reading.service_tier:
        reading.service_tier = kept.word(reading.service_tier)
    if reading.processing:
        reading.processing = kept.word(reading.processing)
    if reading.region:
        reading.region = kept.word(reading.region)
    for line in reading.lines:
        line.model = kept.identifier(line.model)


def _message(error: BaseException) -> str:
    """What the provider says in an SDK's error, where the SDK has it apart from the answer's whole body."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = body.get("error")
        said = (inner if isinstance(inner, dict) else body).get("message")
        if isinstance(said, str):
            status = getattr(error, "status_code", None)
            return said if status is None else f"Error code: {status} - {said}"
    try:
        return str(error)
    except Exception:  # an error whose `__str__` gives no text: Voyage's, of a 422
        return ""


def _add_cost(end: dict[str, Any], priced: list[handoff.Priced]) -> None:
    """The cost of all lines together, in the base currency where there are several lines."""
    charge = priced[0].charge
    end[names.COST_STATUS] = charge.status
    if charge.reasons:
        end[names.COST_REASONS] = charge.reasons
    if charge.priced_model:
        end[names.PRICED_MODEL] = charge.priced_model
    cost, currency = charge.cost_e18, charge.currency
    if len(priced) > 1:
        base = [line.charge.cost_base_e18 for line in priced]
        known = [each for each in base if each is not None]
        cost, currency = sum(known) if len(known) == len(base) else None, charge.base_currency
    if cost is not None:
        end[names.COST] = amount_text(cost).rstrip("0").rstrip(".")  # for people who read it in a trace
        end[names.COST_CURRENCY] = currency


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:  # ints beyond 64 bits
        return json.dumps(value, default=str, separators=(",", ":"))


def may_be_billed(error: BaseException) -> bool:
    """Whether the provider may have generated something for a call that raised `error`.

    Not after an HTTP error status, nor where the request never left: the SDK refused it or could not connect.
    """
    if getattr(error, "status_code", None) is not None:
        return False
    if not isinstance(error, Exception):
        return True  # cancelled or interrupted while the provider worked
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None:
            break
        if type(cause).__name__ in NEVER_SENT:
            return False
        cause = cause.__cause__ or cause.__context__
    return hasattr(error, "request")  # the SDK's connection errors; others arise before anything is sent
