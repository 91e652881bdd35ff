"""The narrow waist of botocore and aiobotocore: `_make_api_call`, which every method of every AWS client calls.

Two hooks, which let all but Bedrock's billable operations pass:

- `_make_api_call` starts the span, and sees what the call raises and returns,
- `_make_request` has the HTTP response: its bytes hold fields that botocore's parser drops. Where it is not called,
  a stub answered and there was no call.

What the program gets is what botocore made, and nothing is read ahead of the program:

- an `EventStream` keeps its type; its generator of raw messages runs inside one of ours,
- a `StreamingBody` keeps its type; the HTTP response under it (for aiobotocore since 3.9, the body itself) becomes an
  instance of a subclass with the same name, which shows every piece to a `Watch`.
"""

from __future__ import annotations

import base64
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from opentelemetry import trace
from opentelemetry.context import attach, detach, get_current
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from spanledger.attribution import without_baggage
from spanledger.failures import internal_error
from spanledger.instrumentation.durable import durable, written
from spanledger.instrumentation.keys import identity_of
from spanledger.instrumentation.patches.http_call import Hooks
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.span import CallSpan
from spanledger.instrumentation.stream import BodyReader, Watch
from spanledger.instrumentation.wire import bedrock_agents, bedrock_invoke, bedrock_rerank
from spanledger.instrumentation.wire.endpoints import Endpoint, find
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing import handoff
from spanledger.pricing.book import default_book
from spanledger.pricing.counts import mapping, text
from spanledger.pricing.usage import MISSING, Usage
from spanledger.settings import settings
from spanledger.tracking import remember, remember_id
from spanledger.version import __version__


class Operation(NamedTuple):
    """A billable operation of an AWS service.

    Attributes:
        service: botocore's name of the service.
        path: what `wire/endpoints.py` knows it by: the last segment of its path, or a name of ours.
        stream: where the response holds an event stream; empty if it holds none.
    """

    service: str
    path: str
    stream: str = ""


_OPERATIONS = {
    "Converse": Operation("bedrock-runtime", "converse"),
    "ConverseStream": Operation("bedrock-runtime", "converse-stream", stream="stream"),
    "InvokeModel": Operation("bedrock-runtime", "invoke"),
    "InvokeModelWithResponseStream": Operation("bedrock-runtime", "invoke-with-response-stream", stream="body"),
    "Rerank": Operation("bedrock-agent-runtime", "rerank"),
    "InvokeAgent": Operation("bedrock-agent-runtime", "agent", stream="completion"),
    "InvokeInlineAgent": Operation("bedrock-agent-runtime", "agent", stream="completion"),
    "InvokeFlow": Operation("bedrock-agent-runtime", "agent", stream="responseStream"),
    "RetrieveAndGenerate": Operation("bedrock-agent-runtime", "knowledge-base"),
    "RetrieveAndGenerateStream": Operation("bedrock-agent-runtime", "knowledge-base", stream="stream"),
    "ApplyGuardrail": Operation("bedrock-runtime", "guardrail"),
    "InvokeGuardrailChecks": Operation("bedrock-runtime", "guardrail"),
}

_MAYBE_BILLED = frozenset({"HTTPClientError", "IncompleteReadError", "ResponseParserError"})
"""botocore's errors after the request went out: the model may have answered. No other error costs anything."""

_CONTENT = frozenset({"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop"})
"""Converse's events without anything that the bill needs."""


class InFlight:
    """What the hooks tell one another of one call."""

    __slots__ = ("call", "endpoint", "http", "operation", "parameters", "request", "sent")

    def __init__(
        self,
        call: CallSpan,
        operation: Operation,
        endpoint: Endpoint,
        parameters: Mapping[str, Any],
        request: Mapping[str, Any],
    ) -> None:
        self.call = call
        self.operation = operation
        self.endpoint = endpoint
        self.parameters = parameters
        self.request = request
        self.sent = False
        self.http: Any = None


_current: ContextVar[InFlight | None] = ContextVar("spanledger-bedrock-call", default=None)


class Patch:
    """The hooks of botocore or aiobotocore; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such client.
        """
        self._sdk = sdk
        self._tracer = trace.get_tracer(f"spanledger.{sdk.name}", __version__, tracer_provider)
        self._active = True
        if sdk.name == "aiobotocore":
            self._hooks = Hooks(
                (module, "AioBaseClient", "_make_api_call", self._async_make_api_call),
                (module, "AioBaseClient", "_make_request", _async_make_request),
            )
        else:
            self._hooks = Hooks(
                (module, "BaseClient", "_make_api_call", self._make_api_call),
                (module, "BaseClient", "_make_request", _make_request),
            )
        default_book().prepare(sdk.provider)

    def remove(self) -> None:
        """Restore the SDK; where another patch lies over ours, ours lets everything pass."""
        self._active = False
        self._hooks.remove()

    def _make_api_call(self, original: Any) -> Any:
        def make_api_call(client: Any, operation_name: str, api_params: Any) -> Any:
            operation = _OPERATIONS.get(operation_name)
            flight = None if operation is None else self._begin(client, operation, api_params)
            if flight is None:
                return original(client, operation_name, api_params)
            tokens = _enter(flight)
            try:
                result = original(client, operation_name, api_params)
            except BaseException as error:
                _failed(flight, error)
                raise
            finally:
                _leave(tokens)
            _returned(flight, result)
            return result

        return make_api_call

    def _async_make_api_call(self, original: Any) -> Any:
        async def make_api_call(client: Any, operation_name: str, api_params: Any) -> Any:
            operation = _OPERATIONS.get(operation_name)
            flight = None if operation is None else self._begin(client, operation, api_params)
            if flight is None:
                return await original(client, operation_name, api_params)
            tokens = _enter(flight)
            try:
                result = await original(client, operation_name, api_params)
            except BaseException as error:
                _failed(flight, error)
                raise
            finally:
                _leave(tokens)
            _returned(flight, result)
            return result

        return make_api_call

    def _begin(self, client: Any, operation: Operation, parameters: Any) -> InFlight | None:
        """Start the span of a billable call; None for any other."""
        if not self._active:
            return None
        try:
            meta, now = client.meta, settings()
            if meta.service_model.service_name != operation.service or not now.enabled:
                return None
            if not is_instrumentation_enabled():
                return None
            parameters = mapping(parameters)
            model = (
                text(parameters.get("modelId"))
                or bedrock_rerank.model_of(parameters)
                or bedrock_agents.model_of(parameters)
            )
            path, request = operation.path, parameters
            if path.startswith("invoke"):
                request = _json(parameters.get("body"))
                path = f"{bedrock_invoke.operation_of(model, request)}/{path}"
            endpoint = find(self._sdk.wire, "POST", path)
            assert endpoint is not None, path
            host, port = _address(meta.endpoint_url)
            key_hash, key_alias = _key(client)
            call = CallSpan(
                self._tracer,
                operation=endpoint.operation,
                provider=now.hosts.get(f"{host}:{port}") or now.hosts.get(host) or self._sdk.provider,
                request_model=model,
                stream=bool(operation.stream),
                context=get_current(),
                host=host,
                port=port,
                region=text(meta.region_name),
                api_key_hash=key_hash,
                api_key_alias=key_alias,
            )
            call.sending(request)
            return InFlight(call, operation, endpoint, parameters, request)
        except Exception:
            internal_error("starting a span")
            return None


def _make_request(original: Any) -> Any:
    def make_request(client: Any, *args: Any, **kwargs: Any) -> Any:
        flight = _current.get()
        if flight is None:
            return original(client, *args, **kwargs)
        flight.sent = True
        result = original(client, *args, **kwargs)
        flight.http = result[0]
        return result

    return make_request


def _async_make_request(original: Any) -> Any:
    async def make_request(client: Any, *args: Any, **kwargs: Any) -> Any:
        flight = _current.get()
        if flight is None:
            return await original(client, *args, **kwargs)
        flight.sent = True
        result = await original(client, *args, **kwargs)
        flight.http = result[0]
        return result

    return make_request


@lru_cache(maxsize=1024)
def _address(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port


def _key(client: Any) -> tuple[str, str]:
    """(hash, alias) of a Bedrock API key, or of an access key that does not change by itself."""
    signer = client._request_signer
    token = getattr(getattr(signer, "_auth_token", None), "token", None)
    if not isinstance(token, str):
        token = getattr(signer._credentials, "__dict__", {}).get("access_key")  # a property where it is refreshed
    return identity_of(token) if isinstance(token, str) and token else ("", "")


def _json(body: object) -> Mapping[str, Any]:
    if isinstance(body, (bytes, bytearray, str)):
        try:
            return mapping(orjson.loads(body))
        except ValueError:
            pass
    return {}


def _enter(flight: InFlight) -> tuple[Any, Any]:
    call = flight.call
    context = trace.set_span_in_context(call.span, without_baggage(call.context) if call.context else call.context)
    return attach(context), _current.set(flight)


def _leave(tokens: tuple[Any, Any]) -> None:
    detach(tokens[0])
    _current.reset(tokens[1])


def _failed(flight: InFlight, error: BaseException) -> None:
    try:
        call, http = flight.call, flight.http
        response = mapping(getattr(error, "response", None))
        _retries(call, response)
        if http is not None and http.status_code < 300:  # raised by a handler of the program's, after the answer
            call.end(_plain_reading(flight, {}), error=error)
            return
        kinds = {kind.__name__ for kind in type(error).__mro__}
        billed = flight.sent and (not isinstance(error, Exception) or not kinds.isdisjoint(_MAYBE_BILLED))
        call.end(Reading(usage=Usage(status=MISSING)), error=error, not_billed=not billed)
    except Exception:
        internal_error("recording a failed call")


def _returned(flight: InFlight, result: Any) -> None:
    """botocore has returned `result`: a plain call ends here, a stream goes on."""
    try:
        call, operation = flight.call, flight.operation
        if flight.http is None:
            call.discard()
            return
        metadata = _retries(call, result)
        request_id = metadata.get("RequestId")
        if isinstance(request_id, str):
            remember_id(request_id, call)
        if operation.path == "invoke":
            _watch_body(flight, result["body"], mapping(metadata.get("HTTPHeaders")))
        elif operation.stream:
            _watch_events(flight, result[operation.stream], mapping(metadata.get("HTTPHeaders")))
        else:
            call.end(_plain_reading(flight, result))
    except Exception:
        flight.call.end(Reading(usage=Usage(status=MISSING)))
        internal_error("reading a response")


def _retries(call: CallSpan, response: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = mapping(response.get("ResponseMetadata"))
    attempts = metadata.get("RetryAttempts")
    call.retries = attempts if isinstance(attempts, int) else 0
    return metadata


def _plain_reading(flight: InFlight, parsed: Mapping[str, Any]) -> Reading:
    """From the bytes of the answer; from what botocore made of them where they are not at hand."""
    content = getattr(flight.http, "_content", None)
    body = _json(content) or parsed
    if flight.call.captured is not None:
        flight.call.captured.received(body)
    return bedrock_invoke.take_headers(flight.endpoint.read(body, flight.request), {}, flight.parameters)


def _settle(flight: InFlight, headers: Mapping[str, str]) -> Callable[[Reading], None]:
    call, parameters = flight.call, flight.parameters

    def settle(reading: Reading) -> None:
        call.end(bedrock_invoke.take_headers(reading, headers, parameters))

    return settle


def _hold(response: Any, watch: Watch) -> None:
    """End the call when nobody holds `response` any more."""
    weakref.finalize(response, watch.closed).atexit = False  # at exit, the watches end by themselves
    remember(response, watch.call)


class _Watch(Watch):
    """A watch that knows whether a read is under way: urllib3 closes a broken response before it raises."""

    __slots__ = ("reading",)

    reading: bool

    def left(self) -> None:
        """The response was closed."""
        if not self.reading:
            self.closed()


# event streams


def _watch_events(flight: InFlight, stream: Any, headers: Mapping[str, str]) -> None:
    watch = _Watch(flight.call, flight.endpoint.stream_reader(flight.request), _settle(flight, headers))
    watch.reading = False
    messages = stream._event_generator
    watched = _async_watched if hasattr(messages, "__anext__") else _watched
    stream._event_generator = watched(messages, watch)
    _show(stream._raw_stream, watch, _CLOSE)
    _hold(stream, watch)


def _watched(messages: Iterator[Any], watch: _Watch) -> Iterator[Any]:
    watch.reading = True
    try:
        for message in messages:
            watch.reading = False
            _look(watch, message)
            yield message
            watch.reading = True
    except GeneratorExit:
        raise
    except BaseException as error:
        watch.broken(error)
        raise
    _ended(watch)


async def _async_watched(messages: AsyncIterator[Any], watch: _Watch) -> AsyncIterator[Any]:
    watch.reading = True
    try:
        async for message in messages:
            watch.reading = False
            before = handoff.held
            _look(watch, message)
            if handoff.held != before:
                await written()
            yield message
            watch.reading = True
    except GeneratorExit:
        raise
    except BaseException as error:
        watch.broken(error)
        raise
    before = handoff.held
    _ended(watch)
    if handoff.held != before:
        await written()


def _ended(watch: _Watch) -> None:
    """The stream has come to its own end, which is the last word of some."""
    if getattr(watch.reader, "ends_with_the_events", False):
        watch.reader.finished = True
    watch.closed()


def _look(watch: Watch, message: Any) -> None:
    """Show a message of the event stream to the reader."""
    if watch.call.ended:
        return
    try:
        watch.call.chunk()
        headers, reader = message.headers, watch.reader
        kind = headers.get(":event-type")
        if kind in _CONTENT:
            return
        if kind == "chunk":
            reader.feed(base64.b64decode(_json(message.payload)["bytes"]))
        elif kind is not None:
            reader.take({kind: _json(message.payload)})
        elif ":exception-type" in headers:
            reader.take({headers[":exception-type"]: _json(message.payload)})
        elif ":error-code" in headers:
            reader.take({f"{headers[':error-code']}Exception": {"message": headers.get(":error-message")}})
        if reader.ended:
            watch.closed()
    except Exception:
        internal_error("reading a stream")


# bodies


class _BodyWatch(_Watch):
    """Reads a plain body as the program reads it."""

    __slots__ = ("_left",)

    def __init__(self, flight: InFlight, headers: Mapping[str, str]) -> None:
        endpoint, request = flight.endpoint, flight.request
        reader: Any = BodyReader(lambda content: endpoint.read(_json(content), request))
        super().__init__(flight.call, reader, _settle(flight, headers))
        length = headers.get("content-length", "")
        self._left = int(length) if length.isdecimal() else None
        self.reading = False

    def read(self, data: bytes, asked: object) -> None:
        """The program asked for so many bytes (None or a negative number: for all) and got `data`."""
        self.reading = False
        if self.call.ended:
            return
        if data:
            self.reader.feed(data)
            if self._left is not None:
                self._left -= len(data)
        if self._left == 0 or not isinstance(asked, int) or asked < 0 or (asked and not data):
            self.closed()


def _watch_body(flight: InFlight, body: Any, headers: Mapping[str, str]) -> None:
    watch = _BodyWatch(flight, headers)
    if hasattr(body, "__wrapped__"):
        raw = body.__wrapped__
        raw.content = _Content(raw.content, watch)
        _show(raw, watch, _CLOSE)
    elif hasattr(body, "__aiter__"):
        _show(body, watch, _ASYNC_BODY)
    else:
        _show(body._raw_stream, watch, _BODY)
    _hold(body, watch)


class _Content:
    """Stands in for the content of an aiohttp response, where aiobotocore's body (before 3.9) is a proxy of it."""

    __slots__ = ("_content", "_spanledger")

    def __init__(self, content: Any, watch: _BodyWatch) -> None:
        self._content = content
        self._spanledger = watch

    @durable
    async def read(self, n: int = -1) -> bytes:
        self._spanledger.reading = True
        try:
            data: bytes = await self._content.read(n)
        except BaseException as error:
            self._spanledger.broken(error)
            raise
        self._spanledger.read(data, n)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)


def _show(shown: Any, watch: _Watch, methods: Mapping[str, Callable[[Any], Any]]) -> None:
    """Make `shown` an instance of a subclass of the same name, whose `methods` tell `watch` what they do."""
    kind = type(shown)
    key = (kind, *methods)
    try:
        made = _classes.get(key)
        if made is None:
            members = {name: wrap(getattr(kind, name)) for name, wrap in methods.items() if hasattr(kind, name)}
            members |= {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
            made = _classes[key] = type(kind.__name__, (kind,), members)
        shown._spanledger = watch
        shown.__class__ = made
    except (AttributeError, TypeError):
        pass  # its class cannot be changed: the end of the stream, or of its life, ends the call


_classes: dict[tuple[Any, ...], type] = {}


def _close(original: Any) -> Any:
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            if not sys.is_finalizing():
                self._spanledger.left()

    return close


def _read(original: Any) -> Any:
    def read(self: Any, amt: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._spanledger.reading = True
        try:
            data = original(self, amt, *args, **kwargs)
        except BaseException as error:
            self._spanledger.broken(error)
            raise
        self._spanledger.read(data, amt)
        return data

    return read


def _read1(original: Any) -> Any:
    def read1(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._spanledger.reading = True
        try:
            data = original(self, *args, **kwargs)
        except BaseException as error:
            self._spanledger.broken(error)
            raise
        self._spanledger.read(data, 1)
        return data

    return read1


def _read_chunked(original: Any) -> Any:
    def read_chunked(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._spanledger.reading = True
        try:
            for data in original(self, *args, **kwargs):
                self._spanledger.read(data, 0)
                yield data
                self._spanledger.reading = True
        except GeneratorExit:
            raise
        except BaseException as error:
            self._spanledger.broken(error)
            raise
        self._spanledger.read(b"", None)

    return read_chunked


def _async_read(original: Any) -> Any:
    @durable
    async def read(self: Any, amt: Any = None) -> Any:
        self._spanledger.reading = True
        try:
            data = await original(self, amt)
        except BaseException as error:
            self._spanledger.broken(error)
            raise
        self._spanledger.read(data, amt)
        return data

    return read


def _async_readinto(original: Any) -> Any:
    @durable
    async def readinto(self: Any, b: Any) -> Any:
        self._spanledger.reading = True
        try:
            number = await original(self, b)
        except BaseException as error:
            self._spanledger.broken(error)
            raise
        self._spanledger.read(bytes(b[:number]), len(b))
        return number

    return readinto


def _async_close(original: Any) -> Any:
    async def aclose(self: Any) -> None:
        try:
            await original(self)
        finally:
            self._spanledger.left()

    return aclose


_CLOSE = {"close": _close}
_BODY = {"read": _read, "read1": _read1, "read_chunked": _read_chunked, "close": _close}
_ASYNC_BODY = {"read": _async_read, "readinto": _async_readinto, "close": _close, "aclose": _async_close}
