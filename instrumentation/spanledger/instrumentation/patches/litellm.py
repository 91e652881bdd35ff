"""litellm: `HTTPHandler.post` and `AsyncHTTPHandler.post`, by which it calls every provider that it has no SDK for.

What it calls through OpenAI's or another provider's SDK does not come by here: that SDK's own patch sees it. So a
call makes one row, whichever way it goes; an answer out of litellm's cache, or a mocked one, makes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from spanledger.failures import internal_error
from spanledger.instrumentation.patches.http_call import Caller, Hooks, HttpCall, current
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.wire import sse
from spanledger.instrumentation.wire.endpoints import FORMATS, Endpoint, find
from spanledger.instrumentation.wire.reading import Reading, StreamReader
from spanledger.pricing.names import canonical_provider
from spanledger.settings import settings

_FORMATS_OF = {
    "aws.bedrock": ("bedrock", "anthropic", "openai"),
    "cohere": ("cohere",),
    "gcp.gemini": ("gemini", "openai"),
    "gcp.vertex_ai": ("gemini", "anthropic", "openai"),
    "mistral_ai": ("mistral",),
    "ollama": ("ollama", "openai"),
    "voyageai": ("voyage",),
}
"""Provider -> the wire formats that its endpoints speak, in the order to look."""

_FORMATS_OF_OTHERS = ("anthropic", "openai")

_SPELT = {"cohere_chat": "cohere", "ollama_chat": "ollama", "text-completion-codestral": "mistral_ai"}
"""litellm's `custom_llm_provider` -> provider, where it is no name that everybody uses."""

_KEYS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


class Patch:
    """The hooks of litellm's HTTP clients; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such clients.
        """
        self._caller = Caller(sdk, tracer_provider)
        self._hooks = Hooks(
            (module, "HTTPHandler", "post", self._post), (module, "AsyncHTTPHandler", "post", self._async_post)
        )

    def remove(self) -> None:
        """Restore litellm; calls in flight still end their spans."""
        self._caller.active = False
        self._hooks.remove()

    def _post(self, original: Any) -> Any:
        def post(handler: Any, *args: Any, **kwargs: Any) -> Any:
            call = self._begin(args, kwargs)
            if call is None:
                return original(handler, *args, **kwargs)
            try:
                with call:
                    response = original(handler, *args, **kwargs)
            except BaseException as error:
                call.failed(_raised(error))
                raise
            call.responded(response, stream=bool(kwargs.get("stream")))
            return response

        return post

    def _async_post(self, original: Any) -> Any:
        async def post(handler: Any, *args: Any, **kwargs: Any) -> Any:
            call = self._begin(args, kwargs)
            if call is None:
                return await original(handler, *args, **kwargs)
            try:
                with call:
                    response = await original(handler, *args, **kwargs)
            except BaseException as error:
                call.failed(_raised(error))
                raise
            call.responded(response, stream=bool(kwargs.get("stream")))
            return response

        return post

    def _begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> HttpCall | None:
        """`args` and `kwargs` are those of `post(url, data, json, params, headers, ...)`."""
        try:
            if current.get() is not None:
                return None
            given = {**dict(zip(("url", "data", "json", "params", "headers"), args, strict=False)), **kwargs}
            url = str(given["url"]).partition("?")[0]
            named = getattr(given.get("logging_obj"), "custom_llm_provider", None) or ""
            named = canonical_provider(_SPELT.get(named, named)) if isinstance(named, str) else ""
            endpoint = _endpoint(url, named)
            if endpoint is None:
                return None
            request = _body(given.get("json") or given.get("data") or given.get("content"))
            if "model" not in request:
                request = {**request, "model": _model(url)}
            return self._caller.begin(
                url,
                request,
                stream=bool(given.get("stream")),
                key=_key(given.get("headers")),
                provider="ollama" if named == "ollama" else "",
                endpoint=endpoint,
            )
        except Exception:
            internal_error("starting a span")
            return None


def _endpoint(url: str, named: str) -> Endpoint | None:
    """What a call is; the host tells the format before litellm's name of the provider, which may be a proxy's."""
    server, hosts = urlsplit(url), settings().hosts
    host = hosts.get(server.netloc) or hosts.get(server.hostname or "") or canonical_provider(server.hostname or "")
    if "/publishers/mistralai/" in url:
        return find("mistral", "POST", url)
    for format in _FORMATS_OF.get(host) or _FORMATS_OF.get(named) or _FORMATS_OF_OTHERS:
        endpoint = find(format, "POST", url) if format in FORMATS else None
        if endpoint is not None:
            if format == "anthropic":
                return _read_by(_UntilFinished, endpoint)
            return _read_by(_ConverseEvents, endpoint) if url.endswith("/converse-stream") else endpoint
    return None


@lru_cache
def _read_by(wrapper: type[_UntilFinished], endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, stream_reader=lambda request: wrapper(endpoint.stream_reader(request)))


class _UntilFinished:
    """Ends with the event that has the stop reason: litellm reads Anthropic's streams no further."""

    __slots__ = ("_reader", "ended", "finished")

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self.ended = self.finished = False

    def feed(self, line: bytes) -> None:
        self._reader.feed(line)
        self.ended = self.finished = self._reader.ended or self._reader.finished

    def take(self, event: Mapping[str, Any]) -> None:
        self._reader.take(event)
        self.ended = self.finished = self._reader.ended or self._reader.finished

    def reading(self) -> Reading:
        return self._reader.reading()


class _ConverseEvents(_UntilFinished):
    """Names Converse's events, whose type is in a header of AWS's event stream and not in the event."""

    __slots__ = ()

    def feed(self, line: bytes) -> None:
        event = sse.event(line)
        if event is None:
            return
        if "stopReason" in event:
            self._reader.take({"messageStop": event})
        elif "usage" in event:
            self.take({"metadata": event})


def _body(sent: object) -> Mapping[str, Any]:
    """The request as litellm hands it over: a mapping, or JSON."""
    if isinstance(sent, (str, bytes)):
        try:
            sent = orjson.loads(sent)
        except ValueError:
            return {}
    return sent if isinstance(sent, dict) else {}


def _model(url: str) -> str:
    """The model in a URL: `/models/{model}:generateContent`, `/model/{model}/converse`."""
    _, found, rest = url.partition("/models/")
    if found:
        return unquote(rest).partition(":")[0]
    return unquote(url.partition("/model/")[2].partition("/")[0])


def _key(headers: object) -> str:
    """The API key of a request; of one that AWS's Signature Version 4 signs, its access key."""
    if not isinstance(headers, Mapping):
        return ""
    found = {str(name).lower(): value for name, value in headers.items()}
    key = next((str(found[name]) for name in _KEYS if found.get(name)), "")
    if key.startswith("AWS4-"):
        return key.partition("Credential=")[2].partition("/")[0]
    return key


def _raised(error: BaseException) -> BaseException:
    """What httpx raised: litellm's own `Timeout` claims the status 408, which no provider answered."""
    cause = error.__context__
    return cause if cause is not None and type(error).__name__ == "Timeout" else error
