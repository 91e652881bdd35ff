"""ollama: `Client._request` and its async twin, which all methods go through.

It makes a result by calling the class that it is given: ours sees the JSON first. A stream asks its client for the
response when it is first read: ours watches the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from spanledger.failures import internal_error
from spanledger.instrumentation.patches.http_call import Caller, Hooks, HttpCall, async_streaming, streaming
from spanledger.instrumentation.sdks import Sdk


class Patch:
    """The hooks of Ollama's SDK; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such client.
        """
        self._caller = Caller(sdk, tracer_provider)
        self._hooks = Hooks(
            (module, "Client", "_request", self._request), (module, "AsyncClient", "_request", self._async_request)
        )

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans."""
        self._caller.active = False
        self._hooks.remove()

    def _request(self, original: Any) -> Any:
        def request(client: Any, cls: Any, *args: Any, stream: bool = False, **kwargs: Any) -> Any:
            if stream:
                return original(_Streams(client, self._begin, streaming), cls, *args, stream=True, **kwargs)
            call = self._begin(client, args, kwargs)
            if call is None:
                return original(client, cls, *args, **kwargs)
            made = _Made(cls)
            try:
                with call:
                    result = original(client, made, *args, **kwargs)
            except BaseException as error:
                call.failed(error)
                raise
            call.ended(made.body, result)
            return result

        return request

    def _async_request(self, original: Any) -> Any:
        async def request(client: Any, cls: Any, *args: Any, stream: bool = False, **kwargs: Any) -> Any:
            if stream:
                return await original(_Streams(client, self._begin, async_streaming), cls, *args, stream=True, **kwargs)
            call = self._begin(client, args, kwargs)
            if call is None:
                return await original(client, cls, *args, **kwargs)
            made = _Made(cls)
            try:
                with call:
                    result = await original(client, made, *args, **kwargs)
            except BaseException as error:
                call.failed(error)
                raise
            call.ended(made.body, result)
            return result

        return request

    def _begin(
        self, client: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, stream: bool = False
    ) -> HttpCall | None:
        try:
            method, path = args
            http = client._client
            url = http.base_url
            request = kwargs.get("json")
            return self._caller.begin(
                f"{url.scheme}://{url.netloc.decode()}{path}",
                request if isinstance(request, Mapping) else {},
                method=method,
                stream=stream,
                key=http.headers.get("authorization", ""),
                provider="" if url.host == "ollama.com" else "ollama",
            )
        except Exception:
            internal_error("starting a span")
            return None


class _Made:
    """Stands in for the class of a result, and keeps the JSON that it is made of."""

    __slots__ = ("body", "cls")

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.body: object = None

    def __call__(self, **body: Any) -> Any:
        self.body = body
        return self.cls(**body)


class _Streams:
    """Stands in for a client whose `_request` makes a stream: it asks its HTTP client for one when it is first read."""

    __slots__ = ("_begin", "_http", "_sdk_client", "_streaming")

    def __init__(self, client: Any, begin: Any, streaming: Any) -> None:
        self._sdk_client = client
        self._http = client._client
        self._begin = begin
        self._streaming = streaming

    @property
    def _client(self) -> Any:
        return self

    def stream(self, *args: Any, **kwargs: Any) -> Any:
        """As httpx's."""
        return self._streaming(
            lambda: self._begin(self._sdk_client, args, kwargs, stream=True), self._http.stream(*args, **kwargs)
        )
