"""cohere: `HttpClient.request` and `stream`, and their async twins, which all methods of all its clients go through."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

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

_CLOUDS = {"cohere.aws_client": "aws.bedrock", "cohere.oci_client": "oci"}
"""Clients that turn Cohere's requests into another cloud's on their way: module of their hooks -> provider."""


class Patch:
    """The hooks of Cohere's SDK; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such client.
        """
        self._caller = Caller(sdk, tracer_provider)
        self._hooks = Hooks(
            (module, "HttpClient", "request", request_hook(self._begin)),
            (module, "HttpClient", "stream", self._stream),
            (module, "AsyncHttpClient", "request", async_request_hook(self._begin)),
            (module, "AsyncHttpClient", "stream", self._async_stream),
        )

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans."""
        self._caller.active = False
        self._hooks.remove()

    def _stream(self, original: Any) -> Any:
        def stream(client: Any, path: Any = None, **kwargs: Any) -> Any:
            response = original(client, path, **kwargs)
            return streaming(lambda: self._begin(client, path, streamed=True, **kwargs), response)

        return stream

    def _async_stream(self, original: Any) -> Any:
        def stream(client: Any, path: Any = None, **kwargs: Any) -> Any:
            response = original(client, path, **kwargs)
            return async_streaming(lambda: self._begin(client, path, streamed=True, **kwargs), response)

        return stream

    def _begin(self, client: Any, path: Any = None, *, streamed: bool = False, **kwargs: Any) -> HttpCall | None:
        try:
            if kwargs.get("retries"):  # the client calls itself again
                call = current.get()
                if call is not None:
                    call.span.retries = kwargs["retries"]
                return None
            base_url = client.get_base_url(kwargs.get("base_url"))
            return self._caller.begin(
                f"{base_url.rstrip('/')}/{path}" if path else base_url,
                _body(kwargs),
                method=kwargs.get("method") or "",
                stream=streamed,
                key=_key(client),
                provider=_cloud(client),
            )
        except Exception:
            internal_error("starting a span")
            return None


def _body(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    body = kwargs.get("json") or kwargs.get("data")
    return body if isinstance(body, Mapping) else {}


def _key(client: Any) -> str:
    """The client's token where it is a plain one: another's would have to be fetched."""
    token = getattr(getattr(client.base_headers, "__self__", None), "_token", None)
    return token if isinstance(token, str) else ""


def _cloud(client: Any) -> str:
    for hook in client.httpx_client.event_hooks.get("request", ()):
        if (cloud := _CLOUDS.get(hook.__module__)) is not None:
            return cloud
    return ""
