"""ibm-watsonx-ai: what sends its requests, the retrying functions and the HTTP clients that they use.

Two layers, of which the outermost makes the call:

- `RateLimitedRetryDecorator` makes the functions that models and embeddings send by, each with its retries: one call,
- `HTTPXClient` and `HTTPXAsyncClient` send what goes without them: rankings, transcriptions, forecasts,
  streams of the gateway.

A client of the program's own (`APIClient(httpx_client=...)`) is seen where the first layer is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary, ref

from spanledger.failures import internal_error
from spanledger.instrumentation.patches.http_call import (
    Caller,
    Hooks,
    HttpCall,
    async_request_hook,
    async_streaming,
    current,
    request_hook,
    streaming,
)
from spanledger.instrumentation.sdks import Sdk

_HTTPX = "ibm_watsonx_ai._wrappers.httpx"
_KEYS = ("api_key", "apikey", "token")


class Patch:
    """The hooks of watsonx's SDK; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: the SDK has no such clients.
        """
        self._caller = Caller(sdk, tracer_provider)
        self._clients: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # HTTP client -> the API client that made it
        httpx = import_module(_HTTPX)
        retrying = "RateLimitedRetryDecorator"
        transport = import_module(f"{_HTTPX}.retry_transport.retry_transport_mixin")
        self._hooks = Hooks(
            (httpx, retrying, "rate_limited_retry", self._retrying(self._post)),
            (httpx, retrying, "rate_limited_async_retry", self._retrying(self._async_post)),
            (httpx, retrying, "rate_limited_retry_stream", self._retrying(self._stream)),
            (httpx, retrying, "rate_limited_async_retry_stream", self._retrying(self._async_stream)),
            (httpx, retrying, "_is_backoff_required", _counting_retries(bool)),
            (transport, "RetryTransportMixin", "_is_retry_on_server_disconnect", _counting_retries(bool)),
            (transport, "RetryTransportMixin", "_get_sleep_time", _counting_retries(lambda sleep: sleep is not None)),
            (httpx, "HTTPXClient", "post", self._sending(self._post)),
            (httpx, "HTTPXClient", "stream", self._sending(self._stream)),
            (httpx, "HTTPXAsyncClient", "post", self._sending(self._async_post)),
            (httpx, "HTTPXAsyncClient", "stream", self._sending(self._async_stream)),
            (module, "APIClient", "__init__", self._api_client),
        )

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans."""
        self._caller.active = False
        self._hooks.remove()

    def _api_client(self, original: Any) -> Any:
        def __init__(client: Any, *args: Any, **kwargs: Any) -> None:
            original(client, *args, **kwargs)
            try:
                for http_client in (client.httpx_client, client.async_httpx_client):
                    self._clients[http_client] = ref(client)
            except Exception:
                internal_error("watching a client")

        return __init__

    # the two layers

    def _retrying(self, layer: Callable[..., Any]) -> Any:
        """The hook of a method that makes a sending function."""

        def hook(original: Any) -> Any:
            def make(decorator: Any, request_function: Any, *args: Any, **kwargs: Any) -> Any:
                send = original(decorator, request_function, *args, **kwargs)
                return functools.wraps(send)(layer(send, lambda: getattr(decorator, "_api_client", None)))

            return make

        return hook

    def _sending(self, layer: Callable[..., Any]) -> Any:
        """The hook of an HTTP client's method; what is sent inside a call is part of it."""

        def hook(original: Any) -> Any:
            def send(http_client: Any, *args: Any, **kwargs: Any) -> Any:
                bound = functools.partial(original, http_client)
                if current.get() is not None:
                    return bound(*args, **kwargs)
                return layer(bound, lambda: self._made_by(http_client))(*args, **kwargs)

            return send

        return hook

    def _made_by(self, http_client: Any) -> Any:
        known = self._clients.get(http_client)
        return None if known is None else known()

    # what both do

    def _post(self, send: Any, api_client: Callable[[], Any]) -> Any:
        return request_hook(functools.partial(self._begin_post, api_client))(send)

    def _async_post(self, send: Any, api_client: Callable[[], Any]) -> Any:
        return async_request_hook(functools.partial(self._begin_post, api_client))(send)

    def _begin_post(self, api_client: Callable[[], Any], *args: Any, **kwargs: Any) -> HttpCall | None:
        return self._begin(api_client, args, kwargs)

    def _stream(self, send: Any, api_client: Callable[[], Any]) -> Any:
        def stream(*args: Any, **kwargs: Any) -> Any:
            return streaming(
                lambda: self._begin(api_client, args[1:], kwargs, method=_method(args, kwargs), stream=True),
                send(*args, **kwargs),
            )

        return stream

    def _async_stream(self, send: Any, api_client: Callable[[], Any]) -> Any:
        def stream(*args: Any, **kwargs: Any) -> Any:
            return async_streaming(
                lambda: self._begin(api_client, args[1:], kwargs, method=_method(args, kwargs), stream=True),
                send(*args, **kwargs),
            )

        return stream

    def _begin(
        self,
        api_client: Callable[[], Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        method: str = "POST",
        stream: bool = False,
    ) -> HttpCall | None:
        try:
            request = kwargs.get("json") or kwargs.get("data")
            if not isinstance(request, Mapping):
                request = {}
            call = self._caller.begin(
                str(args[0] if args else kwargs["url"]),
                {**request, "model": request.get("model_id") or request.get("model")},
                method=method,
                stream=stream,
                key=_key(api_client()),
                provider=self._caller.sdk.provider,
            )
            if call is not None:
                call.attempt()
            return call
        except Exception:
            internal_error("starting a span")
            return None


def _method(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    return str(args[0] if args else kwargs.get("method", ""))


def _key(api_client: Any) -> str:
    """The key that the program gave; the token that is fetched with it changes by the hour."""
    credentials = getattr(api_client, "credentials", None)
    for name in _KEYS:
        key = getattr(credentials, name, None)
        if isinstance(key, str) and key:
            return key
    return ""


def _counting_retries(again: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """The hook of what decides whether a request is sent again.

    Parameters:
        again: whether its answer says so.
    """

    def hook(original: Any) -> Any:
        def decide(*args: Any, **kwargs: Any) -> Any:
            answer = original(*args, **kwargs)
            call = current.get()
            if call is not None and again(answer):
                call.attempt()
            return answer

        return decide

    return hook
