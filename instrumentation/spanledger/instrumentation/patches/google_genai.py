"""google-genai: `BaseApiClient._request`, below every method of `models`, and `do_request` of its generated client.

`_request` is one call with its retries: automatic function calling passes it once a turn. A stream comes as an
`HttpResponse`, whose segments are read in passing, parsed as the SDK has them, over httpx, aiohttp and requests
alike. Interactions go by a client of another make, which is imported when first used.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from inspect import iscoroutinefunction
from types import ModuleType
from typing import Any

import orjson

from spanledger.failures import internal_error, logger
from spanledger.instrumentation.durable import durable
from spanledger.instrumentation.patches import WaistNotFound, base_client, google_live
from spanledger.instrumentation.patches.background import pending_named, pending_of
from spanledger.instrumentation.patches.batch import Fetch, Results
from spanledger.instrumentation.patches.http_call import (
    Caller,
    Hooks,
    HttpCall,
    async_request_hook,
    current,
    request_hook,
    request_of,
)
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.stream import Watch
from spanledger.pricing.names import canonical_provider

_INTERACTIONS = "google.genai._gaos.basesdk"
_INTERACTIONS_BEFORE_3 = "google.genai._interactions._base_client"


class Patch:
    """The hooks of google-genai; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such api client.
        """
        self._caller = Caller(sdk, tracer_provider)
        self._vertex = dict(sdk.client_providers)["vertexai"]
        client = "BaseApiClient"
        self._hooks: list[Hooks | base_client.Patch] = [
            Hooks(
                (module, client, "_request", self._request),
                (module, client, "_async_request", self._async_request),
                (module, client, "_request_once", _attempt),
                (module, client, "_async_request_once", _attempt),
                (module, client, "download_file", self._download_file),
                (module, client, "async_download_file", self._async_download_file),
            )
        ]
        from wrapt import register_post_import_hook

        register_post_import_hook(self._hook_live, google_live.MODULE)
        register_post_import_hook(self._hook_interactions, _INTERACTIONS)
        register_post_import_hook(
            lambda module: self._hook_interactions_before_3(module, tracer_provider), _INTERACTIONS_BEFORE_3
        )

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans."""
        self._caller.active = False
        for hooks in reversed(self._hooks):
            hooks.remove()

    def _hook_live(self, module: ModuleType) -> None:
        hooks = google_live.hook(module, self._caller)
        if hooks is not None:
            self._hooks.append(hooks)

    def _hook_interactions(self, module: ModuleType) -> None:
        if not self._caller.active:
            return
        try:
            hooks = import_module("._hooks", module.__package__)
            self._hooks.append(
                Hooks(
                    (module, "BaseSDK", "do_request", request_hook(self._begin_interaction)),
                    (module, "AsyncBaseSDK", "do_request_async", async_request_hook(self._begin_interaction)),
                    (hooks, "SDKHooks", "before_request", _attempt),
                    (hooks, "AsyncSDKHooks", "before_request", _attempt),
                )
            )
        except WaistNotFound as error:
            logger.warning("spanledger: %s; interactions are not recorded", error)
        except Exception:
            internal_error("instrumenting google-genai's interactions")

    def _hook_interactions_before_3(self, module: ModuleType, tracer_provider: Any) -> None:
        """Before 3.0, interactions go by the base client that openai and anthropic have."""
        if not self._caller.active:
            return
        try:
            self._hooks.append(base_client.Patch(self._caller.sdk, module, tracer_provider))
        except WaistNotFound as error:
            logger.warning("spanledger: %s; interactions are not recorded", error)
        except Exception:
            internal_error("instrumenting google-genai's interactions")

    # the api client

    def _request(self, original: Any) -> Any:
        def _request(client: Any, http_request: Any, *args: Any, **kwargs: Any) -> Any:
            stream = _streamed(args, kwargs)
            call = self._begin(client, http_request, stream)
            if call is None:
                return original(client, http_request, *args, **kwargs)
            try:
                with call:
                    response = original(client, http_request, *args, **kwargs)
            except BaseException as error:
                call.failed(error)
                raise
            _responded(call, response, stream)
            return response

        return _request

    def _async_request(self, original: Any) -> Any:
        async def _async_request(client: Any, http_request: Any, *args: Any, **kwargs: Any) -> Any:
            stream = _streamed(args, kwargs)
            call = self._begin(client, http_request, stream)
            if call is None:
                return await original(client, http_request, *args, **kwargs)
            try:
                with call:
                    response = await original(client, http_request, *args, **kwargs)
            except BaseException as error:
                call.failed(error)
                raise
            _responded(call, response, stream, asynchronous=True)
            return response

        return _async_request

    def _begin(self, client: Any, http_request: Any, stream: bool) -> HttpCall | Fetch | None:
        try:
            url, method, vertex = http_request.url, http_request.method, bool(client.vertexai)
            key = http_request.headers.get("x-goog-api-key") or ""
            body: dict[str, Any] = http_request.data if isinstance(http_request.data, dict) else {}
            request, pending = {**body, "model": _model(url)}, None
            if url.endswith(":predictLongRunning"):
                request.update(body.get("parameters") or {})
            elif operation := _operation(url, body):
                pending = pending_named(operation)
                if pending is None:
                    return None
                request = pending.request
            told: dict[str, Any] = {"method": method, "key": key, "vertex": vertex}
            call = self._call(url, request, stream=stream, pending=pending, **told)
            return call or self._caller.fetch(url, method=method, key=key, provider=self._provider(url, vertex))
        except Exception:
            internal_error("starting a span")
            return None

    # files, which may hold the results of a batch

    def _download_file(self, original: Any) -> Any:
        def download_file(client: Any, path: str, *args: Any, **kwargs: Any) -> Any:
            download = self._download(client, path, kwargs)
            content = original(client, path, *args, **kwargs)
            if download is not None:
                download.ended(content)
            return content

        return download_file

    def _async_download_file(self, original: Any) -> Any:
        async def async_download_file(client: Any, path: str, *args: Any, **kwargs: Any) -> Any:
            download = self._download(client, path, kwargs)
            content = await original(client, path, *args, **kwargs)
            if download is not None:
                download.ended(content)
            return content

        return async_download_file

    def _download(self, client: Any, path: str, kwargs: dict[str, Any]) -> _Download | None:
        """Watch a download; what the program wants written somewhere is looked at as it is written."""
        try:
            options = client._http_options
            key = (options.headers or {}).get("x-goog-api-key") or client.api_key or ""
            url, vertex = f"{options.base_url.rstrip('/')}/{path}", bool(client.vertexai)
            fetch = self._caller.fetch(url, method="GET", key=key, provider=self._provider(url, vertex))
            if fetch is None:
                return None
            download = _Download(fetch, kwargs.get("destination"))
            if hasattr(download.destination, "write"):
                results = fetch.results()
                if results is None:
                    return None
                kwargs["destination"] = download.tee = _Tee(download.destination, results)
            return download
        except Exception:
            internal_error("watching a batch")
            return None

    # the client of interactions

    def _begin_interaction(self, sdk: Any, hook_ctx: Any, request: Any, *_: Any, **__: Any) -> HttpCall | None:  # noqa: ARG002
        """A call that creates an interaction, or the one that retrieves what this program created in the background."""
        body, url = request_of(request), str(request.url)
        model, pending = body.get("model") or body.get("agent"), None
        if request.method == "GET":
            pending = pending_of(url)
            if pending is None:
                return None
            body, model = {"background": True}, pending.request_model
        return self._call(
            url,
            {**body, "model": model},
            method=request.method,
            stream=body.get("stream") is True or "stream=true" in url,
            key=request.headers.get("x-goog-api-key") or "",
            vertex="/projects/" in url,
            pending=pending,
        )

    def _call(self, url: str, request: dict[str, Any], *, vertex: bool, **told: Any) -> HttpCall | None:
        """A call of Google's, also where a gateway stands between; its place is in the path."""
        call = self._caller.begin(url, request, provider=self._provider(url, vertex), **told)
        if call is not None and vertex and not call.span.region:
            place = url.partition("/locations/")[2].partition("/")[0]
            call.span.region = "" if place == "global" else place
        return call

    def _provider(self, url: str, vertex: bool) -> str:
        by_host = canonical_provider(url)
        return by_host if by_host.startswith("gcp.") else self._vertex if vertex else self._caller.sdk.provider


def _streamed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """`stream`, the last argument of `_request`; what comes before it is not the same in every version."""
    return bool(kwargs.get("stream") or (args and args[-1] is True))


def _model(url: str) -> str:
    """`gemini-2.5-flash` of `.../models/gemini-2.5-flash:generateContent?alt=sse`."""
    return url.partition("?")[0].rpartition("/")[2].partition(":")[0]


def _operation(url: str, body: dict[str, Any]) -> str:
    """The name of the operation that a request asks about: `models/{model}/operations/{id}`, on Vertex AI with more
    before it; empty if it asks about none."""
    if url.endswith(":fetchPredictOperation"):
        return str(body.get("operationName"))
    path, found, name = url.partition("?")[0].partition("/projects/" if "/projects/" in url else "/models/")
    return f"{found[1:]}{name}" if "/operations/" in name and "/models/" in found + name and path else ""


def _attempt(original: Any) -> Any:
    """A hook of what the SDK calls once an attempt, to count the retries; a coroutine function stays one."""

    def attempt(owner: Any, *args: Any, **kwargs: Any) -> Any:
        _count()
        return original(owner, *args, **kwargs)

    async def async_attempt(owner: Any, *args: Any, **kwargs: Any) -> Any:
        _count()
        return await original(owner, *args, **kwargs)

    return async_attempt if iscoroutinefunction(original) else attempt


def _count() -> None:
    call = current.get()
    if call is not None:
        call.attempt()


def _responded(call: HttpCall | Fetch, response: Any, stream: bool, *, asynchronous: bool = False) -> None:
    """An `HttpResponse` is here: read it, or put a tap on its segments."""
    try:
        if not stream or isinstance(call, Fetch):
            told = response.response_stream
            body = orjson.loads(told[0]) if told and told[0] else None
            call.ended(body)
        elif asynchronous:
            response.async_segments = _Segments(call, copy.copy(response).async_segments)
        else:
            response.segments = _Segments(call, copy.copy(response).segments)
    except ValueError:
        call.ended(None)
    except Exception:
        internal_error("reading a response")


class _Download:
    """A file on its way into memory, into a file of the program's, or into something that it writes to."""

    def __init__(self, fetch: Fetch, destination: Any) -> None:
        self.fetch = fetch
        self.destination = destination
        self.tee: _Tee | None = None

    def ended(self, content: object) -> None:
        try:
            if self.tee is not None:
                self.tee.results.end()
            elif isinstance(content, bytes):
                self.fetch.delivered(content)
            elif isinstance(self.destination, (str, os.PathLike)):
                self.fetch.written(self.destination)
        except Exception:
            internal_error("reading a batch")


class _Tee:
    """Stands in for what the program wants a file written to."""

    def __init__(self, destination: Any, results: Results) -> None:
        self.results = results
        self._destination = destination

    def write(self, data: bytes) -> Any:
        self.results.piece(data)
        return self._destination.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._destination, name)


class _Segments:
    """Stands in for `segments` or `async_segments` of one `HttpResponse`: hands each on, and shows it to the reader."""

    def __init__(self, call: HttpCall, source: Any) -> None:
        """
        Parameters:
            source: the method, of a copy: the response does not hold itself then, and goes when it is let go of.
        """
        self._call = call
        self._watch = Watch(call.span, call.endpoint.stream_reader(call.request), call.settle)
        self._reader = self._watch.reader
        self._source = source
        self._segments: Any = None

    def __call__(self) -> _Segments:
        self._segments = self._source()
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            segment = next(self._segments)
        except StopIteration:
            self._watch.end()
            raise
        except BaseException as error:
            self._watch.broken(error)
            raise
        self._see(segment)
        return segment

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    @durable
    async def __anext__(self) -> Any:
        try:
            segment = await self._segments.__anext__()
        except StopAsyncIteration:
            self._watch.end()
            raise
        except BaseException as error:
            self._watch.broken(error)
            raise
        self._see(segment)
        return segment

    def _see(self, segment: Any) -> None:
        try:
            span = self._call.span
            if not span.ended and type(segment) is dict:
                span.chunk()
                self._reader.take(segment)
                if self._reader.ended:
                    self._watch.closed()
        except Exception:
            internal_error("reading a stream")

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._watch.closed()
