"""The narrow waist that openai, anthropic and their kin share: `_base_client`.

Four hooks see every billable call, whatever method, namespace or client class made it:

- `request` starts the span and sees what the SDK raises,
- `_process_response` has the response, the options and the number of retries in one place,
- `_process_response_data` has the parsed JSON of a plain body, so that we need not parse it again,
- a byte stream in place of `response.stream` sees every way of reading a stream.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any, NamedTuple

import orjson
from opentelemetry import trace
from opentelemetry.context import attach, detach, get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from spanledger.attribution import without_baggage
from spanledger.failures import internal_error
from spanledger.instrumentation.hosts import region_of_host
from spanledger.instrumentation.keys import key_identity
from spanledger.instrumentation.patches import background, batch
from spanledger.instrumentation.patches.http_call import Hooks
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.span import CallSpan
from spanledger.instrumentation.stream import BodyReader, Watch, tap
from spanledger.instrumentation.wire import batch_endpoints
from spanledger.instrumentation.wire.endpoints import Endpoint, find
from spanledger.instrumentation.wire.reading import Reading, StreamReader
from spanledger.pricing.book import default_book
from spanledger.pricing.names import canonical_provider
from spanledger.settings import Settings, settings
from spanledger.tracking import remember
from spanledger.version import __version__

_RAW_HEADER = "X-Stainless-Raw-Response"


class Server(NamedTuple):
    """Whom a client calls: `provider` is canonical, or the host's name."""

    url: Any
    settings: Settings
    host: str
    port: int | None
    region: str
    provider: str


class InFlight:
    """What the hooks tell one another of one call."""

    __slots__ = ("body", "call", "endpoint", "hide_usage", "reader", "request", "response", "streamed")

    def __init__(
        self,
        call: CallSpan,
        endpoint: Endpoint,
        request: Mapping[str, Any],
        hide_usage: bool,
        reader: StreamReader | None,
    ) -> None:
        self.call = call
        self.endpoint = endpoint
        self.request = request
        self.hide_usage = hide_usage
        self.reader = reader
        self.response: Any = None
        self.body: Any = None
        self.streamed = False


_current: ContextVar[InFlight | batch.Fetch | None] = ContextVar("spanledger-call", default=None)


class Patch:
    """The hooks of one SDK; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such base client.
        """
        self._sdk = sdk
        self._tracer = trace.get_tracer(f"spanledger.{sdk.name}", __version__, tracer_provider)
        self._active = True
        self._hooks = Hooks(
            (module, "SyncAPIClient", "request", self._request),
            (module, "AsyncAPIClient", "request", self._async_request),
            (module, "SyncAPIClient", "_process_response", self._process_response),
            (module, "AsyncAPIClient", "_process_response", self._async_process_response),
            (module, "BaseClient", "_process_response_data", self._process_response_data),
        )
        default_book().prepare(sdk.provider)

    def remove(self) -> None:
        """Restore the SDK; where another patch lies over ours, ours lets everything pass."""
        self._active = False
        self._hooks.remove()

    # the hooks

    def _request(self, original: Any) -> Any:
        def request(client: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            flight, options = self._begin(client, options, args, kwargs)
            if flight is None:
                return original(client, cast_to, options, *args, **kwargs)
            tokens = _enter(flight)
            try:
                result = original(client, cast_to, options, *args, **kwargs)
            except BaseException as error:
                _failed(flight, error)
                raise
            finally:
                _leave(tokens)
            _returned(flight, result)
            return result

        return request

    def _async_request(self, original: Any) -> Any:
        async def request(client: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            flight, options = self._begin(client, options, args, kwargs)
            if flight is None:
                return await original(client, cast_to, options, *args, **kwargs)
            tokens = _enter(flight)
            try:
                result = await original(client, cast_to, options, *args, **kwargs)
            except BaseException as error:
                _failed(flight, error)
                raise
            finally:
                _leave(tokens)
            _returned(flight, result)
            return result

        return request

    def _process_response(self, original: Any) -> Any:
        def process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            _seen(kwargs)
            return original(client, *args, **kwargs)

        return process_response

    def _async_process_response(self, original: Any) -> Any:
        async def process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            _seen(kwargs)
            return await original(client, *args, **kwargs)

        return process_response

    def _process_response_data(self, original: Any) -> Any:
        def process_response_data(client: Any, *, data: Any, cast_to: Any, response: Any) -> Any:
            flight = _current.get()
            if isinstance(flight, InFlight) and flight.response is response and not flight.streamed:
                flight.body = data
            return original(client, data=data, cast_to=cast_to, response=response)

        return process_response_data

    # what they do

    def _begin(
        self, client: Any, options: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[InFlight | batch.Fetch | None, Any]:
        """Start the span of a billable call, or watch one about batches; None for any other request."""
        if not self._active:
            return None, options
        given = options
        try:
            endpoint = find(self._sdk.wire, options.method, options.url)
            target = None
            if endpoint is None:
                target = batch_endpoints.find(self._sdk.wire, options.method, options.url)
                if target is None:
                    return None, options
            now, context = settings(), get_current()
            if not now.enabled or (context and not is_instrumentation_enabled()):
                return None, options
            server = self._server(client, now)
            key_hash, key_alias = key_identity(self._sdk, client, options.headers)
            if target is not None:
                place = (server.provider, server.host, server.port, server.region)
                source = batch.Source(self._tracer, context, *place, key_hash, key_alias)
                return batch.Fetch(source, target), options
            assert endpoint is not None
            request = _request_body(options)
            stream = bool(args[0] if args else kwargs.get("stream"))
            hide_usage, reader = False, None
            if stream and _may_ask_usage(server.host, options, request):
                reader = endpoint.stream_reader(request)  # before the provider is asked for what must be hidden
                options = _asking_usage(options)
                hide_usage = True
            pending = background.pending_of(options.url) if endpoint.poll else None
            if pending is not None:
                request = {**pending.request, **request}
            model = request.get("model")
            call = CallSpan(
                self._tracer,
                operation=endpoint.operation,
                provider=server.provider,
                request_model=model if isinstance(model, str) else "",
                stream=stream,
                context=context if pending is None else pending.context,
                host=server.host,
                port=server.port,
                region=server.region,
                api_key_hash=key_hash,
                api_key_alias=key_alias,
                attribution=None if pending is None else pending.attribution,
                start_ns=None if pending is None else pending.start_ns,
            )
            call.sending(request)
            return InFlight(call, endpoint, request, hide_usage, reader), options
        except Exception:
            internal_error("starting a span")
            return None, given

    def _server(self, client: Any, now: Settings) -> Server:
        """Whom `client` calls; kept with the client for as long as its base URL and the settings stay."""
        own: dict[str, Any] = client.__dict__
        its_url = own.get("_base_url")  # openai's `base_url` imports a module each time
        server: Server | None = own.get("_spanledger_server")
        if server is None or server.url is not its_url or server.settings is not now or its_url is None:
            url = client.base_url
            host = url.host
            provider = now.hosts.get(f"{host}:{url.port}") or now.hosts.get(host) or self._provider(client, host)
            server = Server(its_url, now, host, url.port, region_of_host(host), provider)
            own["_spanledger_server"] = server
        return server

    def _provider(self, client: Any, host: str) -> str:
        kind = type(client).__name__
        for word, provider in self._sdk.client_providers:
            if word in kind:
                return provider
        return canonical_provider(host)


def _request_body(options: Any) -> Mapping[str, Any]:
    body = options.json_data
    extra = getattr(options, "extra_json", None)
    if isinstance(body, dict):
        return {**body, **extra} if extra and isinstance(extra, Mapping) else body
    return extra if isinstance(extra, Mapping) else {}


def _may_ask_usage(host: str, options: Any, request: Mapping[str, Any]) -> bool:
    """Only OpenAI's own hosts are sure to know the option; who reads the bytes sees what the provider sends."""
    if not (host == "api.openai.com" or host.endswith(".api.openai.com")):
        return False
    if settings().stream_usage != "auto" or not options.url.endswith("/completions"):
        return False
    if isinstance(options.headers, Mapping) and options.headers.get(_RAW_HEADER) == "stream":
        return False
    asked = request.get("stream_options")
    return not (isinstance(asked, Mapping) and "include_usage" in asked) and isinstance(options.json_data, Mapping)


def _asking_usage(options: Any) -> Any:
    """A copy of `options` that asks for usage; the program's own objects stay as they are."""
    asking = options.model_copy() if hasattr(options, "model_copy") else options.copy()
    stated = asking.json_data.get("stream_options")
    stated = stated if isinstance(stated, Mapping) else {}
    asking.json_data = {**asking.json_data, "stream_options": {**stated, "include_usage": True}}
    return asking


def _enter(flight: InFlight | batch.Fetch) -> tuple[Any, Any]:
    if isinstance(flight, batch.Fetch):
        return None, _current.set(flight)
    token = None
    try:
        call = flight.call
        token = attach(
            trace.set_span_in_context(call.span, without_baggage(call.context) if call.context else call.context)
        )
    except Exception:
        internal_error("entering a span")
    return token, _current.set(flight)


def _leave(tokens: tuple[Any, Any]) -> None:
    if tokens[0] is not None:
        detach(tokens[0])
    _current.reset(tokens[1])


def _seen(kwargs: Mapping[str, Any]) -> None:
    """A response is here: note it, and put a tap on a body that is not read yet."""
    flight = _current.get()
    if flight is None:
        return
    if isinstance(flight, batch.Fetch):
        flight.responded(kwargs["response"])
        return
    try:
        response = kwargs["response"]
        flight.response = response
        flight.call.retries = kwargs.get("retries_taken") or 0
        if kwargs.get("stream") or not response.is_closed:
            _watch(flight, response, bool(kwargs.get("stream")))
    except Exception:
        internal_error("watching a response")


def _watch(flight: InFlight, response: Any, sse: bool) -> None:
    call, endpoint, request = flight.call, flight.endpoint, flight.request
    poll = endpoint.poll
    content_type = response.headers.get("content-type", "")
    if sse or content_type.startswith(("text/event-stream", "application/vnd.amazon.eventstream")):
        reader: Any = flight.reader or endpoint.stream_reader(request)
    else:
        reader = BodyReader(lambda body: _read(endpoint, body, request))

    def settle(reading: Reading) -> None:
        background.settle(call, reading, poll=poll, request=request)

    decoder = None
    if response.headers.get("content-encoding", "identity") != "identity":
        decoder = response._get_content_decoder()
        if flight.hide_usage:  # the tap hands on plain bytes then, so that events can be cut out
            response._decoder = sys.modules[type(decoder).__module__].IdentityDecoder()
        else:
            del response._decoder  # the response makes one of its own
    watch = Watch(call, reader, settle, content_type=content_type, decoder=decoder, hide_usage=flight.hide_usage)
    flight.streamed = True
    content = getattr(response, "_content", None)
    if content is not None:  # read already (a mock transport): nobody will iterate over the stream
        watch.piece(content)
        watch.end()
        return
    response.stream = tap(response.stream, watch)


def _returned(flight: InFlight | batch.Fetch, result: Any) -> None:
    """The SDK has returned `result`: a plain call ends here, a stream goes on."""
    if isinstance(flight, batch.Fetch):
        return
    try:
        call = flight.call
        remember(result, call)
        if flight.streamed:
            remember(flight.response, call)
        elif flight.response is None:
            call.discard()
        else:
            reading, poll = _plain_reading(flight), flight.endpoint.poll
            background.settle(call, reading, poll=poll, request=flight.request)
    except Exception:
        internal_error("reading a response")


def _failed(flight: InFlight | batch.Fetch, error: BaseException) -> None:
    if isinstance(flight, batch.Fetch):
        return
    try:
        if flight.streamed:
            return  # its watch ends it
        if flight.endpoint.poll:
            flight.call.discard()
        elif flight.response is not None:
            flight.call.end(_plain_reading(flight), error=error)
        else:
            flight.call.fail(error)
    except Exception:
        internal_error("recording a failed call")


def _plain_reading(flight: InFlight) -> Reading:
    if flight.call.captured is not None:
        flight.call.captured.received(flight.body if isinstance(flight.body, dict) else flight.response.content)
    if isinstance(flight.body, dict):
        return flight.endpoint.read(flight.body, flight.request)
    return _read(flight.endpoint, flight.response.content, flight.request)


def _read(endpoint: Endpoint, body: bytes, request: Mapping[str, Any]) -> Reading:
    try:
        document = orjson.loads(body)
    except ValueError:
        document = None
    return endpoint.read(document if isinstance(document, dict) else {}, request)
