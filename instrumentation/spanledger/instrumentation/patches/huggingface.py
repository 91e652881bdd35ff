"""huggingface_hub: `InferenceClient._inner_post` and its async twin, which every task of every provider goes through.

A stream stays open until its client is closed: its span ends when nobody holds its lines any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import orjson

from spanledger.failures import internal_error
from spanledger.instrumentation.patches.http_call import Caller, Hooks, HttpCall, async_streaming, streaming
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.wire.endpoints import find

_ROUTER = "router.huggingface.co"
_POLICIES = frozenset({"auto", "fastest", "cheapest", "preferred"})


class Patch:
    """The hooks of one of Hugging Face's clients; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such client.
        """
        self._sdk = sdk
        self._caller = Caller(sdk, tracer_provider)
        if hasattr(module, "AsyncInferenceClient"):
            self._hooks = Hooks((module, "AsyncInferenceClient", "_inner_post", self._async_inner_post))
        else:
            self._hooks = Hooks((module, "InferenceClient", "_inner_post", self._inner_post))

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans."""
        self._caller.active = False
        self._hooks.remove()

    def _inner_post(self, original: Any) -> Any:
        def inner_post(client: Any, request_parameters: Any, *, stream: bool = False) -> Any:
            call = self._begin(request_parameters, stream)
            if call is None:
                return original(client, request_parameters, stream=stream)
            if stream:
                holder = _Holder(client, call)
                try:
                    return _Lines(original(holder, request_parameters, stream=True), call)
                except BaseException as error:
                    call.failed(error)
                    raise
            try:
                with call:
                    content = original(client, request_parameters)
            except BaseException as error:
                call.failed(error)
                raise
            _answered(call, content)
            return content

        return inner_post

    def _async_inner_post(self, original: Any) -> Any:
        async def inner_post(client: Any, request_parameters: Any, *, stream: bool = False) -> Any:
            call = self._begin(request_parameters, stream)
            if call is None:
                return await original(client, request_parameters, stream=stream)
            if stream:
                holder = _Holder(client, call)
                try:
                    return _AsyncLines(await original(holder, request_parameters, stream=True), call)
                except BaseException as error:
                    call.failed(error)
                    raise
            try:
                with call:
                    content = await original(client, request_parameters)
            except BaseException as error:
                call.failed(error)
                raise
            _answered(call, content)
            return content

        return inner_post

    def _begin(self, parameters: Any, stream: bool) -> HttpCall | None:
        try:
            endpoint = find(self._sdk.wire, "POST", f"/{parameters.task}")
            if endpoint is None:
                return None
            request = parameters.json if isinstance(parameters.json, Mapping) else {}
            model = request.get("model") or parameters.model
            return self._caller.begin(
                parameters.url,
                {**request, "model": model},
                stream=stream,
                key=parameters.headers.get("authorization") or "",
                provider=_routed(parameters.url, model),
                endpoint=endpoint,
            )
        except Exception:
            internal_error("starting a span")
            return None


def _answered(call: HttpCall, content: bytes) -> None:
    try:
        body = orjson.loads(content)
    except ValueError:
        body = None
    call.ended(body[0] if isinstance(body, list) and body else body)


def _routed(url: str, model: object) -> str:
    """Who serves a call by way of Hugging Face's router: its path says so, or the end of the model's name."""
    parts = urlsplit(url)
    if parts.hostname != _ROUTER:
        return ""
    name = parts.path.split("/", 2)[1].lower()
    if name == "v1":
        name = model.rpartition(":")[2].lower() if isinstance(model, str) and ":" in model else "auto"
    return "huggingface" if name in _POLICIES else f"huggingface_{name}"


class _Holder:
    """Stands in for a client whose `_inner_post` makes a stream: the response that it is to keep open is watched."""

    __slots__ = ("_call", "_client")

    def __init__(self, client: Any, call: HttpCall) -> None:
        self._client = client
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @property
    def exit_stack(self) -> Any:
        return self

    def enter_context(self, response: Any) -> Any:
        """As ExitStack's."""
        return self._client.exit_stack.enter_context(streaming(self._begun, response))

    async def enter_async_context(self, response: Any) -> Any:
        """As AsyncExitStack's."""
        return await self._client.exit_stack.enter_async_context(async_streaming(self._begun, response))

    def _begun(self) -> HttpCall:
        return self._call


class _Held:
    __slots__ = ("_call", "_lines")

    def __init__(self, lines: Any, call: HttpCall) -> None:
        self._lines = lines
        self._call = call

    def __del__(self) -> None:
        watch = self._call.watch
        if watch is not None:
            watch.closed()


class _Lines(_Held):
    """The lines of a stream, of which the SDK makes what the program gets."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line: str = next(self._lines)
        return line


class _AsyncLines(_Held):
    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        line: str = await self._lines.__anext__()
        return line
