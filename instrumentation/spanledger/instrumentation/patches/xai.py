"""xai-sdk: the gRPC channel that its clients make, sync and async, which every call goes through.

An interceptor of ours sees each call with its request and its response; the SDK's own interceptors lie beneath it.
A deferred completion is started, then polled until it is there: one call, which ends when it is delivered. So is a
video. A batch's results are a call each. Retries are gRPC's own and not visible here.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import grpc
import grpc.aio
from opentelemetry.context import Context, get_current

from spanledger.failures import internal_error
from spanledger.instrumentation.durable import durable
from spanledger.instrumentation.patches.grpc_status import refused
from spanledger.instrumentation.patches.http_call import Caller, Hooks, HttpCall
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.span import CallSpan
from spanledger.instrumentation.stream import Watch
from spanledger.instrumentation.wire import xai
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.usage import MISSING, Usage

_CHAT = "/xai_api.Chat/GetCompletion"
_STARTS = ("StartDeferredCompletion", "GenerateVideo", "ExtendVideo")
_POLLS = {"GetDeferredCompletion": _CHAT, "GetDeferredVideo": "/xai_api.Video/GenerateVideo"}
"""Method -> what it delivers."""
_BATCH = "ListBatchResults"
_BATCHED = {
    "completion_response": _CHAT,
    "image_response": "/xai_api.Image/GenerateImage",
    "video_response": "/xai_api.Video/GenerateVideo",
}
"""What a batch's result holds -> the method that would have answered it."""
_MAX_KEPT = 10_000

_deferred: ContextVar[list[Watch] | None] = ContextVar("spanledger-xai-deferred", default=None)
_pending: OrderedDict[str, Watch] = OrderedDict()  # by the id to poll with
_delivered: OrderedDict[object, None] = OrderedDict()


class Patch:
    """The hooks of xai-sdk; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such clients.
        """
        self._caller = Caller(sdk, tracer_provider)
        sync, aio = f"{module.__name__}.sync", f"{module.__name__}.aio"
        self._hooks = Hooks(
            (import_module(f"{sync}.client"), "Client", "_make_grpc_channel", self._make_channel),
            (import_module(f"{aio}.client"), "Client", "_make_grpc_channel", self._make_aio_channel),
            (import_module(f"{sync}.chat"), "Chat", "_defer", _defer),
            (import_module(f"{aio}.chat"), "Chat", "_defer", _aio_defer),
        )

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans, and channels that are open make no new ones."""
        self._caller.active = False
        self._hooks.remove()

    def _make_channel(self, original: Any) -> Any:
        def make_grpc_channel(client: Any, api_key: Any, api_host: Any, *args: Any, **kwargs: Any) -> Any:
            channel = original(client, api_key, api_host, *args, **kwargs)
            try:
                return grpc.intercept_channel(channel, _Interceptor(Calls(self._caller, api_key, api_host)))
            except Exception:
                internal_error("watching a channel")
                return channel

        return make_grpc_channel

    def _make_aio_channel(self, original: Any) -> Any:
        def make_grpc_channel(client: Any, api_key: Any, api_host: Any, *args: Any, **kwargs: Any) -> Any:
            channel = original(client, api_key, api_host, *args, **kwargs)
            try:
                calls = Calls(self._caller, api_key, api_host)
                channel._unary_unary_interceptors.insert(0, _UnaryInterceptor(calls))
                channel._unary_stream_interceptors.insert(0, _StreamInterceptor(calls))
            except Exception:
                internal_error("watching a channel")
            return channel

        return make_grpc_channel


class _Created(NamedTuple):
    """When, and for whom, a batch's line was answered."""

    context: Context
    attribution: Any
    start_ns: int


class Calls:
    """The calls of one channel; its methods never raise."""

    def __init__(self, caller: Caller, api_key: str, host: str) -> None:
        self._caller = caller
        self._api_key = api_key
        self._url = f"https://{host}"

    def begin(
        self,
        method: Any,
        request: Any,
        *,
        stream: bool = False,
        created_ns: int | None = None,
        delivered: bool = False,
    ) -> HttpCall | None:
        """Start the span of a call that is billed; None for any other.

        Parameters:
            delivered: another process sent the request; here is its answer.
        """
        try:
            created: Any = None if created_ns is None else _Created(get_current(), None, created_ns)
            path = method if isinstance(method, str) else method.decode()
            call = self._caller.begin(
                self._url + path,
                {"model": getattr(request, "model", ""), "service_tier": _tier(request)},
                stream=stream,
                key=self._api_key,
                pending=created,
            )
            if call is not None:
                call.span.sending(None if delivered else request)
                if delivered:
                    _capture(call.span, request)
            return call
        except Exception:
            internal_error("starting a span")
            return None

    def answered(self, call: HttpCall, method: Any, response: Any) -> None:
        """`response` to the call is here."""
        try:
            if _name(method) in _STARTS:
                self._started(call, response.request_id)
            else:
                _capture(call.span, response)
                call.ended(fields(response))
        except Exception:
            internal_error("reading a response")

    def delivered(self, method: Any, request: Any, response: Any) -> None:
        """`response` may bring what was started before, or a batch's results: each is billed once."""
        try:
            name = _name(method)
            if name in _POLLS:
                self._polled(_POLLS[name], request.request_id, response)
            elif name == _BATCH:
                for result in response.results:
                    self._batched(request.batch_id, result)
        except Exception:
            internal_error("reading a response")

    def _started(self, call: HttpCall, request_id: str) -> None:
        watch = _pending[request_id] = Watch(call.span, call.reader(), call.settle)
        started = _deferred.get()
        if started is not None:
            started.append(watch)
        if len(_pending) > _MAX_KEPT:
            _pending.popitem(last=False)[1].closed()

    def _polled(self, method: str, request_id: str, response: Any) -> None:
        status = type(response).DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[response.status].name
        if status == "PENDING":
            return
        watch = _pending.pop(request_id, None)
        if watch is None:
            if status != "DONE" or not _first(request_id):
                return
            call = self.begin(method, response.response, delivered=True)
            if call is None:
                return
            watch = Watch(call.span, call.reader(), call.settle)
        _first(request_id)
        _capture(watch.call, response.response)
        watch.reader.take(fields(response.response))
        if status == "DONE":
            watch.reader.finished = True
        else:
            watch.reader.take({"error": {"code": status, "message": ""}})
        watch.closed()

    def _batched(self, batch_id: str, result: Any) -> None:
        for name, method in _BATCHED.items():
            if result.HasField("response") and result.response.HasField(name):
                response = getattr(result.response, name)
                if not _first((batch_id, result.batch_request_id)):
                    return
                reading = xai.read(fields(response), {})
                call = self.begin(method, response, created_ns=reading.created_ns, delivered=True)
                if call is not None:
                    reading.processing = "batch"
                    call.settle(reading)


class _Interceptor(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        call = self._calls.begin(details.method, request)
        try:
            if call is None:
                outcome = continuation(details, request)
            else:
                with call:
                    outcome = continuation(details, request)
        except BaseException as error:
            _failed(call, error)
            raise

        def ended(outcome: Any) -> None:
            error = outcome.exception()
            if error is not None:
                _failed(call, error)
            elif call is not None:
                self._calls.answered(call, details.method, outcome.result())
            else:
                self._calls.delivered(details.method, request, outcome.result())

        outcome.add_done_callback(ended)
        return outcome

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        call = self._calls.begin(details.method, request, stream=True)
        if call is None:
            return continuation(details, request)
        try:
            with call:
                stream = continuation(details, request)
        except BaseException as error:
            _failed(call, error)
            raise
        return _watched(_Stream, stream, call)


class _UnaryInterceptor(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @durable
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        call = self._calls.begin(details.method, request)
        try:
            if call is None:
                outcome = await continuation(details, request)
                response = await outcome
            else:
                with call:
                    outcome = await continuation(details, request)
                    response = await outcome
        except BaseException as error:
            _failed(call, error)
            raise
        if call is not None:
            self._calls.answered(call, details.method, response)
        else:
            self._calls.delivered(details.method, request, response)
        return outcome


class _StreamInterceptor(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        call = self._calls.begin(details.method, request, stream=True)
        if call is None:
            return await continuation(details, request)
        try:
            with call:
                stream = await continuation(details, request)
        except BaseException as error:
            _failed(call, error)
            raise
        return _watched(_AioStream, stream, call)


def _watched(kind: Any, stream: Any, call: HttpCall) -> Any:
    try:
        return kind(stream, call)
    except Exception:
        internal_error("watching a stream")
        return stream


class _Watched:
    """A stream of chunks that are looked at in passing."""

    def __init__(self, stream: Any, call: HttpCall) -> None:
        self._reader = call.reader()
        self._watch = Watch(call.span, self._reader, call.settle)
        self._call = call
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __del__(self) -> None:
        watch = self.__dict__.get("_watch")
        if watch is not None and not sys.is_finalizing():
            watch.closed()

    def _chunk(self, chunk: Any) -> None:
        try:
            self._watch.call.chunk()
            captured = self._watch.call.captured
            if captured is not None:
                captured.line(_json(chunk) + b"\n")
            self._reader.take(fields(chunk))
        except Exception:
            internal_error("reading a stream")

    def _ended(self) -> None:
        self._watch.reader.finished = True
        self._watch.end()

    def _broken(self, error: BaseException) -> None:
        try:
            seen = None if self._watch.call.first_token_ns is None else self._watch.reader.reading()
            _failed(self._call, error, seen)
        except Exception:
            internal_error("reading a stream")


class _Stream(_Watched):
    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            chunk = next(self._stream)
        except StopIteration:
            self._ended()
            raise
        except BaseException as error:
            self._broken(error)
            raise
        self._chunk(chunk)
        return chunk


class _AioStream(_Watched):
    def __init__(self, stream: Any, call: HttpCall) -> None:
        super().__init__(stream, call)
        self._chunks = stream.__aiter__()
        watch, loop = self._watch, asyncio.get_running_loop()

        def cancelled(rpc: Any) -> None:
            """The client was closed, or nobody reads on; who is reading sees an error first."""
            if rpc.cancelled() and not loop.is_closed():
                loop.call_soon(watch.closed)

        stream.add_done_callback(cancelled)

    def __aiter__(self) -> _AioStream:
        return self

    @durable
    async def __anext__(self) -> Any:
        try:
            chunk = await self._chunks.__anext__()
        except StopAsyncIteration:
            self._ended()
            raise
        except BaseException as error:
            self._broken(error)
            raise
        self._chunk(chunk)
        return chunk


def _defer(original: Any) -> Any:
    """`Chat._defer`, which starts and polls: what it gives up to wait for ends with the error."""

    def defer(*args: Any, **kwargs: Any) -> Any:
        started: list[Watch] = []
        token = _deferred.set(started)
        try:
            return original(*args, **kwargs)
        except BaseException as error:
            _given_up(started, error)
            raise
        finally:
            _deferred.reset(token)

    return defer


def _aio_defer(original: Any) -> Any:
    async def defer(*args: Any, **kwargs: Any) -> Any:
        started: list[Watch] = []
        token = _deferred.set(started)
        try:
            return await original(*args, **kwargs)
        except BaseException as error:
            _given_up(started, error)
            raise
        finally:
            _deferred.reset(token)

    return defer


def _given_up(started: list[Watch], error: BaseException) -> None:
    for watch in started:
        watch.broken(error)
        for name in [name for name, pending in _pending.items() if pending is watch]:
            del _pending[name]


def _failed(call: HttpCall | None, error: BaseException, seen: Reading | None = None) -> None:
    """The call raised `error`; unless it is sure that nothing was generated, the usage is missing.

    Parameters:
        seen: what a stream brought before.
    """
    if call is None:
        return
    try:
        reading = seen or Reading(usage=Usage(status=MISSING))
        if not isinstance(error, grpc.RpcError) or not hasattr(error, "code"):
            call.span.end(reading, error=error, not_billed=seen is None and isinstance(error, Exception))
            return
        code, details = error.code(), error.details() or ""
        reading.error = (code.name, details)
        call.span.end(reading, not_billed=seen is None and refused(code, details.lower()))
    except Exception:
        internal_error("recording a failed call")


def _capture(span: CallSpan, message: Any) -> None:
    """The whole answer, where content is captured; what the readers get of it has none."""
    if span.captured is not None:
        try:
            span.captured.received(_json(message))
        except Exception:
            internal_error("capturing content")


def _json(message: Any) -> bytes:
    from google.protobuf.json_format import MessageToJson

    text: str = MessageToJson(message, preserving_proto_field_name=True, indent=None)
    return text.encode()


def fields(message: Any) -> dict[str, Any]:
    """What the bill depends on in a response, under the protos' own names."""
    body: dict[str, Any] = {}
    for field, value in message.ListFields():
        name = field.name
        if name in ("id", "model"):
            body[name] = value
        elif name == "usage":
            body[name] = _usage(value)
        elif name == "outputs":
            reasons = [
                {"index": output.index, "finish_reason": _enum(output, "finish_reason")}
                for output in value
                if output.finish_reason
            ]
            if reasons:
                body[name] = reasons
        elif name == "created":
            body[name] = {"seconds": value.seconds}
        elif name == "service_tier":
            body[name] = _enum(message, name)
        elif name == "images":
            body[name] = [{}] * len(value)
        elif name == "video":
            body[name] = {"duration": value.duration}
        elif name == "error":
            body[name] = {"code": value.code, "message": value.message}
    return body


def _usage(usage: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field, value in usage.ListFields():
        if field.enum_type is not None:
            names = field.enum_type.values_by_number
            plain[field.name] = [names[each].name if each in names else str(each) for each in value]
        elif isinstance(value, (int, float, str)):
            plain[field.name] = value
    return plain


def _enum(message: Any, name: str) -> str:
    number = getattr(message, name)
    known = type(message).DESCRIPTOR.fields_by_name[name].enum_type.values_by_number
    return known[number].name if number in known else str(number)


def _tier(request: Any) -> str:
    return _enum(request, "service_tier") if getattr(request, "service_tier", 0) else ""


def _name(method: Any) -> str:
    path = method if isinstance(method, str) else method.decode()
    return str(path.rpartition("/")[2])


def _first(key: object) -> bool:
    """Whether this is the first delivery of `key`."""
    if key in _delivered:
        return False
    _delivered[key] = None
    if len(_delivered) > _MAX_KEPT:
        _delivered.popitem(last=False)
    return True
