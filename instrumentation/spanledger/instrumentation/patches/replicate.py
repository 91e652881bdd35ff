"""replicate: `Client._request` and `_async_request`, which all methods go through but the reading of a stream.

A prediction is created by one request and done some time later: its usage comes with the first that retrieves it then.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from spanledger.instrumentation.patches.background import pending_of
from spanledger.instrumentation.patches.http_call import Caller, Hooks, HttpCall, async_request_hook, request_hook
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.wire.endpoints import find


class Patch:
    """The hooks of Replicate's SDK; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such client.
        """
        self._sdk = sdk
        self._caller = Caller(sdk, tracer_provider)
        self._hooks = Hooks(
            (module, "Client", "_request", request_hook(self._begin)),
            (module, "Client", "_async_request", async_request_hook(self._begin)),
        )

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans."""
        self._caller.active = False
        self._hooks.remove()

    def _begin(self, client: Any, method: str, path: str, **kwargs: Any) -> HttpCall | None:
        endpoint = find(self._sdk.wire, method, path)
        if endpoint is None:
            return None
        base_url = client._base_url or "https://api.replicate.com"
        request = kwargs.get("json")
        return self._caller.begin(
            f"{str(base_url).rstrip('/')}{path}",
            {**(request if isinstance(request, Mapping) else {}), "model": _model(path)},
            method=method,
            key=client._api_token or "",
            endpoint=endpoint,
            pending=pending_of(path) if endpoint.poll else None,
        )


def _model(path: str) -> str:
    """`owner/name` in `/v1/models/owner/name/predictions`; empty where a version alone is named."""
    parts = path.split("/")
    return "/".join(parts[3:5]) if len(parts) == 6 and parts[2] == "models" else ""
