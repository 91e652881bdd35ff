"""google-cloud-aiplatform: the transports of its `PredictionServiceClient`, over gRPC and REST, sync and async.

`vertexai.generative_models`, `language_models` and `vision_models` go by this client. A transport keeps each of its
methods wrapped in retries and timeouts: ours wraps that. A response is a protobuf message, of which the fields that the
bill depends on are read as Gemini's JSON.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from google.protobuf.json_format import MessageToDict

from spanledger.failures import internal_error
from spanledger.instrumentation.durable import durable
from spanledger.instrumentation.patches.grpc_status import refused
from spanledger.instrumentation.patches.http_call import (
    Caller,
    Hooks,
    HttpCall,
    async_request_hook,
    may_be_billed,
    request_hook,
)
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.span import CallSpan
from spanledger.instrumentation.stream import Watch
from spanledger.instrumentation.wire.endpoints import Endpoint, find
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.usage import MISSING, Usage
from spanledger.tracking import remember

_VERBS = {
    "generate_content": "generateContent",
    "stream_generate_content": "streamGenerateContent",
    "embed_content": "embedContent",
    "predict": "predict",
    "raw_predict": "rawPredict",
    "stream_raw_predict": "streamRawPredict",
}
"""Method of a transport -> verb of the URL."""
_STREAMED = frozenset({"stream_generate_content", "stream_raw_predict"})
_RAW = {"anthropic": "anthropic", "mistralai": "mistral"}
"""Publisher -> wire format of what `rawPredict` answers."""


class Patch:
    """The hooks of one version of the service; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such transports.
        """
        self._caller = Caller(sdk, tracer_provider)
        service = "PredictionService"
        owners = [("base", f"{service}Transport"), ("grpc_asyncio", f"{service}GrpcAsyncIOTransport")]
        transports = import_module(f"{module.__name__}.transports")
        if f"Async{service}RestTransport" in vars(transports):  # needs google-auth's async part
            owners.append(("rest_asyncio", f"Async{service}RestTransport"))
        self._hooks = Hooks(
            *(
                (import_module(f"{transports.__name__}.{name}"), owner, "_prep_wrapped_messages", self._prepare)
                for name, owner in owners
            )
        )

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans, and clients that are open make no new ones."""
        self._caller.active = False
        self._hooks.remove()

    def _prepare(self, original: Any) -> Any:
        def _prep_wrapped_messages(transport: Any, *args: Any, **kwargs: Any) -> None:
            original(transport, *args, **kwargs)
            try:
                wrapped = transport._wrapped_methods
                host = transport._host.removeprefix("https://").removeprefix("http://").removesuffix(":443")
                asynchronous = "asyncio" in transport.kind
                for name in _VERBS:
                    method = getattr(transport, name, None)  # older versions have fewer
                    if method in wrapped:
                        begin = functools.partial(self._begin, host, name)
                        wrapped[method] = _hook(wrapped[method], begin, name in _STREAMED, asynchronous)
            except Exception:
                internal_error("watching a client")

        return _prep_wrapped_messages

    def _begin(self, host: str, name: str, request: Any, *_: Any, **__: Any) -> HttpCall | None:
        """Start the call of a publisher's model, or of a tuned one that generates; others are billed by the hour."""
        try:
            path = str(getattr(request, "model", "") or getattr(request, "endpoint", ""))
            url = f"https://{host}/{path}:{_VERBS[name]}"
            endpoint = self._endpoint(name, path, url)
            if endpoint is None:
                return None
            call = self._caller.begin(
                url,
                {"model": path.rpartition("/")[2]},
                stream=name in _STREAMED,
                provider=self._caller.sdk.provider,
                endpoint=endpoint,
            )
            if call is not None:
                call.span.sending(request)
            if call is not None and not call.span.region:
                place = path.partition("/locations/")[2].partition("/")[0]
                call.span.region = "" if place == "global" else place
            return call
        except Exception:
            internal_error("starting a span")
            return None

    def _endpoint(self, name: str, path: str, url: str) -> Endpoint | None:
        publisher = path.partition("/publishers/")[2].partition("/")[0]
        if name.endswith("raw_predict"):
            format = _RAW.get(publisher)
            return find(format, "POST", url if format == "anthropic" else f"/{_VERBS[name]}") if format else None
        return find(self._caller.sdk.wire, "POST", url) if publisher or name != "predict" else None


def _hook(original: Any, begin: Callable[..., HttpCall | None], streamed: bool, asynchronous: bool) -> Any:
    def stream(request: Any, *args: Any, **kwargs: Any) -> Any:
        call = begin(request)
        if call is None:
            return original(request, *args, **kwargs)
        try:
            with call:
                response = original(request, *args, **kwargs)
        except BaseException as error:
            _failed(call, error)
            raise
        return _async_stream(call, response) if hasattr(response, "__await__") else _watched(call, response)

    if streamed:
        hooked = stream
    elif asynchronous:
        hooked = durable(async_request_hook(begin, _answered, _failed)(original))
    else:
        hooked = request_hook(begin, _answered, _failed)(original)
    return functools.wraps(original)(hooked)


async def _async_stream(call: HttpCall, response: Any) -> Any:
    """The stream that `response` is awaited for."""
    try:
        with call:
            stream = await response
    except BaseException as error:
        _failed(call, error)
        raise
    return _watched(call, stream)


def _answered(call: HttpCall, response: Any) -> None:
    try:
        remember(response, call.span)
        data = getattr(response, "data", None)
        if isinstance(data, bytes):
            call.settle(call.read(data))
        else:
            call.ended(fields(response))
    except Exception:
        internal_error("reading a response")


def _failed(call: HttpCall, error: BaseException) -> None:
    _broken(call.span, error)


def _broken(span: CallSpan, error: BaseException, seen: Reading | None = None) -> None:
    """The call raised `error`; unless it is sure that nothing was generated, the usage is missing.

    Parameters:
        seen: what a stream brought before.
    """
    try:
        reading = seen or Reading(usage=Usage(status=MISSING))
        span.end(reading, error=error, not_billed=seen is None and _refused(error))
    except Exception:
        internal_error("recording a failed call")


def _refused(error: BaseException) -> bool:
    if not isinstance(error, Exception):
        return False  # cancelled or interrupted while the model worked
    answer = getattr(error, "response", None)
    if isinstance(getattr(answer, "status_code", None), int):
        return True  # an HTTP error status
    code = getattr(error, "grpc_status_code", None)
    if code is not None:
        return refused(code, str(error).lower())
    return not may_be_billed(error)


def _watched(call: HttpCall, stream: Any) -> Any:
    try:
        return _Stream(call, stream)
    except Exception:
        internal_error("watching a stream")
        return stream


class _Stream:
    """A stream of responses that are looked at in passing, sync or async; all else is the stream's own."""

    def __init__(self, call: HttpCall, stream: Any) -> None:
        self._watch = Watch(call.span, call.reader(), call.settle)
        self._stream = stream
        self._responses: Any = None
        remember(self, call.span)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> Any:
        try:
            response = next(self._stream)
        except StopIteration:
            self._watch.end()
            raise
        except BaseException as error:
            self._broken(error)
            raise
        self._see(response)
        return response

    def __aiter__(self) -> _Stream:
        return self

    @durable
    async def __anext__(self) -> Any:
        try:
            if self._responses is None:
                self._responses = self._stream.__aiter__()
            response = await self._responses.__anext__()
        except StopAsyncIteration:
            self._watch.end()
            raise
        except BaseException as error:
            self._broken(error)
            raise
        self._see(response)
        return response

    def cancel(self) -> Any:
        """As the stream's own."""
        try:
            return self._stream.cancel()
        finally:
            self._watch.closed()

    def _see(self, response: Any) -> None:
        try:
            watch = self._watch
            if watch.call.ended:
                return
            data = getattr(response, "data", None)
            if isinstance(data, bytes):
                watch.piece(data)
                return
            watch.call.chunk()
            watch.reader.take(fields(response))
            if watch.reader.ended:
                watch.closed()
        except Exception:
            internal_error("reading a stream")

    def _broken(self, error: BaseException) -> None:
        span = self._watch.call
        _broken(span, error, None if span.first_token_ns is None else self._watch.reader.reading())

    def __del__(self) -> None:
        watch = self.__dict__.get("_watch")
        if watch is not None and not sys.is_finalizing():
            watch.closed()


def fields(response: Any) -> dict[str, Any]:
    """What the bill depends on in a response, as Gemini's JSON has it; nothing of its content.

    Parameters:
        response: a message of proto-plus.
    """
    message = type(response).pb(response)
    body: dict[str, Any] = {}
    for field, value in message.ListFields():
        match field.name:
            case "usage_metadata":
                body["usageMetadata"] = MessageToDict(value)
            case "candidates":
                body["candidates"] = [_candidate(candidate) for candidate in value]
            case "response_id":
                body["responseId"] = value
            case "model_version":
                body["modelVersion"] = value
            case "create_time":
                body["createTime"] = value.ToJsonString()
            case "prompt_feedback":
                body["promptFeedback"] = {"blockReason": value.block_reason}
            case "predictions":
                body["predictions"] = [_prediction(prediction) for prediction in value]
            case "metadata":
                body["metadata"] = MessageToDict(value)
    return body


def _candidate(candidate: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"index": candidate.index}
    if candidate.finish_reason:
        names = type(candidate).DESCRIPTOR.fields_by_name["finish_reason"].enum_type.values_by_number
        known = names.get(candidate.finish_reason)
        body["finishReason"] = known.name if known else str(candidate.finish_reason)
    if candidate.HasField("grounding_metadata"):
        grounding = candidate.grounding_metadata
        body["groundingMetadata"] = {
            "webSearchQueries": list(grounding.web_search_queries),
            "groundingChunks": [{chunk.WhichOneof("chunk_type"): True} for chunk in grounding.grounding_chunks],
        }
    runs = sum(1 for part in candidate.content.parts if part.WhichOneof("data") == "executable_code")
    if runs:
        body["content"] = {"parts": [{"executableCode": True}] * runs}
    return body


def _prediction(prediction: Any) -> Mapping[str, Any]:
    """A prediction without its numbers and bytes: its token count, and whether it is an image."""
    members = prediction.struct_value.fields  # to ask for a member that is not there would make it
    body: dict[str, Any] = {
        name: True for name in ("bytesBase64Encoded", "gcsUri") if name in members and members[name].string_value
    }
    embeddings = members["embeddings"].struct_value.fields if "embeddings" in members else {}
    if "statistics" in embeddings:
        body["embeddings"] = {"statistics": MessageToDict(embeddings["statistics"])}
    return body
