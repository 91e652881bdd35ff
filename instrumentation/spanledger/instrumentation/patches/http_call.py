"""What the patches of SDKs that send their requests by an HTTP client of their own share.

A patch hooks its SDK's waist (`Hooks`), starts a call where a request is billable (`Caller.begin`), and tells the
call what came of it: a response, read or not (`HttpCall.responded`), a body parsed by the SDK (`HttpCall.ended`), an
error (`HttpCall.failed`).
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar
from functools import lru_cache
from inspect import iscoroutinefunction
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from opentelemetry import trace
from opentelemetry.context import attach, detach, get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from spanledger.attribution import without_baggage
from spanledger.failures import internal_error
from spanledger.instrumentation.durable import durable
from spanledger.instrumentation.hosts import region_of_host
from spanledger.instrumentation.keys import key_identity
from spanledger.instrumentation.patches import WaistNotFound, background, batch
from spanledger.instrumentation.patches.background import Pending, short_options
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.span import NEVER_SENT, CallSpan
from spanledger.instrumentation.stream import BodyReader, Watch, tap
from spanledger.instrumentation.wire import batch_endpoints
from spanledger.instrumentation.wire.endpoints import Endpoint, find
from spanledger.instrumentation.wire.reading import Reading, StreamReader
from spanledger.pricing.book import default_book
from spanledger.pricing.names import canonical_provider
from spanledger.pricing.usage import MISSING, Usage
from spanledger.settings import settings
from spanledger.tracking import remember
from spanledger.version import __version__

_STREAMS = ("text/event-stream", "application/x-ndjson", "application/stream+json")
_NOT_CONNECTED = NEVER_SENT | {"NewConnectionError", "ClientConnectorError", "ConnectionRefusedError", "InvalidURL"}
_SENT = frozenset(
    {"TransportError", "RequestException", "ClientError", "TimeoutError", "Timeout", "APIConnectionError"}
)


class Hooks:
    """Hooks put in place of an SDK's own functions, all or none; `remove` restores them."""

    def __init__(self, *hooks: tuple[ModuleType, str, str, Callable[[Any], Any]]) -> None:
        """
        Parameters:
            hooks: module, class in it, function of the class, and what makes the hook of the function.

        Raises:
            WaistNotFound: there is no such class, or it has no such function.
        """
        self._originals: list[tuple[type, str, Any, Any]] = []
        for module, kind, name, hook in hooks:
            owner: Any = getattr(module, kind, None)
            original = vars(owner).get(name) if isinstance(owner, type) else None
            if original is None:
                raise WaistNotFound(f"{module.__name__} has no {kind}.{name}: its version is not one we know")
            hooked = hook(original)
            if iscoroutinefunction(hooked):
                hooked = durable(hooked)
            self._originals.append((owner, name, original, functools.wraps(original)(hooked)))
        for owner, name, _, hooked in self._originals:
            setattr(owner, name, hooked)

    def remove(self) -> None:
        """Restore the SDK; where another patch lies over ours, ours stays below it."""
        for owner, name, original, hooked in self._originals:
            if owner.__dict__.get(name) is hooked:
                setattr(owner, name, original)


def request_hook(
    begin: Callable[..., HttpCall | batch.Fetch | None],
    answered: Callable[[Any, Any], None] = lambda call, response: call.responded(response),
    failed: Callable[[Any, BaseException], None] = lambda call, error: call.failed(error),
) -> Callable[[Any], Any]:
    """Makes the hook of a function that sends a request and returns its response.

    Parameters:
        begin: takes the function's arguments; starts the call of a request, or watches one about batches; None for
            any other.
        answered: takes the call and what the function returned.
        failed: takes the call and what the function raised.
    """

    def hook(original: Any) -> Any:
        def request(*args: Any, **kwargs: Any) -> Any:
            call = _begun(begin, args, kwargs)
            if call is None:
                return original(*args, **kwargs)
            try:
                with call:
                    response = original(*args, **kwargs)
            except BaseException as error:
                failed(call, error)
                raise
            answered(call, response)
            return response

        return request

    return hook


def async_request_hook(
    begin: Callable[..., HttpCall | batch.Fetch | None],
    answered: Callable[[Any, Any], None] = lambda call, response: call.responded(response),
    failed: Callable[[Any, BaseException], None] = lambda call, error: call.failed(error),
) -> Callable[[Any], Any]:
    """`request_hook` of a coroutine function."""

    def hook(original: Any) -> Any:
        async def request(*args: Any, **kwargs: Any) -> Any:
            call = _begun(begin, args, kwargs)
            if call is None:
                return await original(*args, **kwargs)
            try:
                with call:
                    response = await original(*args, **kwargs)
            except BaseException as error:
                failed(call, error)
                raise
            answered(call, response)
            return response

        return request

    return hook


def _begun(
    begin: Callable[..., HttpCall | batch.Fetch | None], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> HttpCall | batch.Fetch | None:
    try:
        return begin(*args, **kwargs)
    except Exception:  # the SDK's function takes other arguments now
        internal_error("starting a span")
        return None


class Caller:
    """Starts the calls of one SDK."""

    def __init__(self, sdk: Sdk, tracer_provider: Any = None) -> None:
        self.sdk = sdk
        self.active = True
        self._tracer = trace.get_tracer(f"spanledger.{sdk.name}", __version__, tracer_provider)
        default_book().prepare(sdk.provider)

    def begin(
        self,
        url: str,
        request: Mapping[str, Any],
        *,
        method: str = "POST",
        stream: bool = False,
        key: str = "",
        provider: str = "",
        endpoint: Endpoint | None = None,
        pending: Pending | None = None,
    ) -> HttpCall | None:
        """Start the span of a billable call; None for any other request, and if anything goes wrong.

        Parameters:
            url: the whole URL.
            request: the body, of which only short options are kept.
            key: the API key, with or without `Bearer`.
            provider: who serves the call, where the SDK or its URL's path tells better than the host.
            endpoint: what the call is; by default what `wire/endpoints.py` says of `method` and `url`.
            pending: the call that created what this one retrieves.
        """
        try:
            endpoint = endpoint or find(self.sdk.wire, method, url)
            if endpoint is None:
                return None
            model = request.get("model")
            span = self.span(
                url,
                endpoint.operation,
                model if isinstance(model, str) else "",
                stream=stream,
                key=key,
                provider=provider,
                pending=pending,
            )
            if span is None:
                return None
            span.sending(request)
            return HttpCall(span, endpoint, short_options(request))
        except Exception:
            internal_error("starting a span")
            return None

    def span(
        self,
        url: str,
        operation: str,
        model: str,
        *,
        stream: bool = False,
        key: str = "",
        provider: str = "",
        pending: Pending | None = None,
    ) -> CallSpan | None:
        """Start a call's span; None where nothing is to be recorded.

        Parameters:
            operation: `gen_ai.operation.name`.
            model: the model asked for.
            url, stream, key, provider, pending: as for `begin`.
        """
        if not self.active or not is_instrumentation_enabled():
            return None
        if not settings().enabled:
            return None
        server = _server(url)
        key_hash, key_alias = key_identity(self.sdk, None, {"authorization": key} if key else None)
        return CallSpan(
            self._tracer,
            operation=operation,
            provider=self._provider(server, provider),
            request_model=model,
            stream=stream,
            context=get_current() if pending is None else pending.context,
            host=server.host,
            port=server.port,
            region=region_of_host(server.host),
            api_key_hash=key_hash,
            api_key_alias=key_alias,
            attribution=None if pending is None else pending.attribution,
            start_ns=None if pending is None else pending.start_ns,
        )

    def fetch(self, url: str, *, method: str, key: str = "", provider: str = "") -> batch.Fetch | None:
        """Watch a request about batches; None for any other, and if anything goes wrong.

        Parameters:
            url, method, key, provider: as for `begin`.
        """
        try:
            target = batch_endpoints.find(self.sdk.wire, method, url)
            if not self.active or target is None or not is_instrumentation_enabled() or not settings().enabled:
                return None
            server = _server(url)
            identity = key_identity(self.sdk, None, {"authorization": key} if key else None)
            place = (self._provider(server, provider), server.host, server.port, region_of_host(server.host))
            return batch.Fetch(batch.Source(self._tracer, get_current(), *place, *identity), target)
        except Exception:
            internal_error("watching a batch")
            return None

    def _provider(self, server: _Server, provider: str) -> str:
        hosts = settings().hosts
        named = hosts.get(f"{server.host}:{server.port}") or hosts.get(server.host)
        return named or provider or canonical_provider(server.host)


class HttpCall:
    """One call on its way; its methods never raise."""

    __slots__ = ("_attempts", "_tokens", "endpoint", "request", "span", "watch")

    def __init__(self, span: CallSpan, endpoint: Endpoint, request: Mapping[str, Any]) -> None:
        self.span = span
        self.endpoint = endpoint
        self.request = request
        self.watch: Watch | None = None
        self._attempts = 0
        self._tokens: Any = None

    def __enter__(self) -> HttpCall:
        """The call is `current` inside the block, and its span OpenTelemetry's current one."""
        context = trace.set_span_in_context(self.span.span, without_baggage(self.span.context))
        self._tokens = attach(context), current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        detach(self._tokens[0])
        current.reset(self._tokens[1])

    def attempt(self) -> None:
        """The SDK sends the request; what comes after the first time is a retry."""
        self.span.retries = self._attempts
        self._attempts += 1

    def reader(self) -> StreamReader:
        """A reader of the call's stream."""
        return self.endpoint.stream_reader(self.request)

    def responded(self, response: Any, *, stream: bool = False) -> None:
        """`response`, of httpx or httpx2, is here; one that is not read yet is watched until its end.

        Parameters:
            stream: the body is a stream of events, whatever its content type says.
        """
        try:
            if response.status_code >= 400:
                self.refused(response.status_code, _text(response))
            elif hasattr(response, "_content"):
                self.settle(self.read(response.content))
            else:
                self._watch(response, stream)
        except Exception:
            internal_error("reading a response")

    def ended(self, body: object, result: Any = None) -> None:
        """The plain body, parsed, is here.

        Parameters:
            result: what the program gets; `cost_of` knows it then.
        """
        try:
            if result is not None:
                remember(result, self.span)
            if self.span.captured is not None:
                self.span.captured.received(body)
            self.settle(self.endpoint.read(body if isinstance(body, dict) else {}, self.request))
        except Exception:
            internal_error("reading a response")

    def refused(self, status: int, message: str = "") -> None:
        """The provider answered with the HTTP error `status`: nothing is billed."""
        if self.endpoint.poll:
            self.span.discard()
        self.span.end(Reading(usage=Usage(status=MISSING), error=(str(status), message)), not_billed=True)

    def failed(self, error: BaseException) -> None:
        """The SDK raised `error` instead of an answer."""
        try:
            if self.endpoint.poll and self.watch is None:
                self.span.discard()
            elif self.watch is None:
                reading = Reading(usage=Usage(status=MISSING))
                self.span.end(reading, error=error, not_billed=not may_be_billed(error))
        except Exception:
            internal_error("recording a failed call")

    def settle(self, reading: Reading) -> None:
        """End the span with what `reading` says, unless nothing is billed for retrieving it."""
        background.settle(self.span, reading, poll=self.endpoint.poll, request=self.request)

    def read(self, content: bytes) -> Reading:
        """The reading of a plain body."""
        if self.span.captured is not None and self.watch is None:
            self.span.captured.received(content)
        try:
            body = orjson.loads(content)
        except ValueError:
            body = None
        return self.endpoint.read(body if isinstance(body, dict) else {}, self.request)

    def _watch(self, response: Any, stream: bool) -> None:
        content_type = response.headers.get("content-type", "")
        reader: Any = self.reader() if stream or content_type.startswith(_STREAMS) else BodyReader(self.read)
        decoder = None
        if response.headers.get("content-encoding", "identity") != "identity":
            decoder = response._get_content_decoder()
            del response._decoder  # the response makes one of its own
        self.watch = Watch(self.span, reader, self.settle, content_type=content_type, decoder=decoder)
        remember(response, self.span)
        response.stream = tap(response.stream, self.watch)


@contextmanager
def streaming(begin: Callable[[], HttpCall | None], response: AbstractContextManager[Any]) -> Iterator[Any]:
    """`response`, whose block gives a response of httpx that is not read yet, with its call begun and watched.

    Parameters:
        begin: starts the call when the block is entered; None for a call that is not billed.
    """
    call = begin()
    with ExitStack() as stack:
        if call is None:
            found = stack.enter_context(response)
        else:
            try:
                with call:
                    found = stack.enter_context(response)
            except BaseException as error:
                call.failed(error)
                raise
            call.responded(found, stream=True)
        yield found


@asynccontextmanager
async def async_streaming(
    begin: Callable[[], HttpCall | None], response: AbstractAsyncContextManager[Any]
) -> AsyncIterator[Any]:
    """`streaming` of an async client."""
    call = begin()
    async with AsyncExitStack() as stack:
        if call is None:
            found = await stack.enter_async_context(response)
        else:
            try:
                with call:
                    found = await stack.enter_async_context(response)
            except BaseException as error:
                call.failed(error)
                raise
            call.responded(found, stream=True)
        yield found


current: ContextVar[HttpCall | None] = ContextVar("spanledger-http-call", default=None)


class _Server(NamedTuple):
    host: str
    port: int | None


@lru_cache(maxsize=1024)
def _server(url: str) -> _Server:
    parts = urlsplit(url)
    return _Server(parts.hostname or "", parts.port)


def request_of(request: Any) -> Mapping[str, Any]:
    """The body of a request of httpx or httpx2: JSON, or the fields of a form."""
    content = getattr(request, "_content", None)
    if content is not None:
        try:
            body = orjson.loads(content) if content else None
        except ValueError:
            body = None
        return body if isinstance(body, dict) else {}
    fields = getattr(request.stream, "fields", ())
    return {field.name: field.value for field in fields if isinstance(getattr(field, "value", None), str)}


def may_be_billed(error: BaseException) -> bool:
    """Whether the provider may have generated something for a call that raised `error`.

    Not after an HTTP error status, nor where the request never left. Looks at what `error` was raised from, since
    SDKs wrap what their HTTP client raises.
    """
    if not isinstance(error, Exception):
        return True  # cancelled or interrupted while the provider worked
    raised_from: BaseException | None = error
    while raised_from is not None:  # not its context: that may be an earlier error of the program's own
        if (status := _status(raised_from)) is not None:
            return status < 400
        raised_from = raised_from.__cause__
    sent = False
    for cause in _causes(error):
        names = {kind.__name__ for kind in type(cause).__mro__}
        if names & _NOT_CONNECTED:
            return False
        sent = sent or bool(names & _SENT)
    return sent


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "http_status", "status"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and status >= 100:
                return status
    return None


def _text(response: Any) -> str:
    """The provider's message in a refusal, else its whole body."""
    if not hasattr(response, "_content"):
        return str(response.reason_phrase)
    try:
        body = orjson.loads(response.content)
        body = body.get("error", body)
        return str(body["message"] if isinstance(body, dict) else body)
    except (AttributeError, KeyError, ValueError):
        return str(response.text)
