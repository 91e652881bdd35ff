"""mistralai: `BaseSDK.do_request`, which every method of its clients (La Plateforme, Azure, Google Cloud) goes through.

`SDKHooks.before_request`, which the SDK calls once an attempt, counts the retries.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from spanledger.instrumentation.patches.batch import Fetch
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


class Patch:
    """The hooks of one of Mistral's clients; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such base class.
        """
        self._caller = Caller(sdk, tracer_provider)
        self._provider = "" if sdk.provider == "mistral_ai" else sdk.provider  # the host tells it of La Plateforme's
        sdk_hooks = import_module("._hooks.sdkhooks", module.__package__)
        self._hooks = Hooks(
            (module, "BaseSDK", "do_request", request_hook(self._begin)),
            (module, "BaseSDK", "do_request_async", async_request_hook(self._begin)),
            (sdk_hooks, "SDKHooks", "before_request", self._before_request),
        )

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans."""
        self._caller.active = False
        self._hooks.remove()

    def _before_request(self, original: Any) -> Any:
        def before_request(hooks: Any, *args: Any, **kwargs: Any) -> Any:
            call = current.get()
            if call is not None:
                call.attempt()
            return original(hooks, *args, **kwargs)

        return before_request

    def _begin(self, sdk: Any, hook_ctx: Any, request: Any, *_: Any, **__: Any) -> HttpCall | Fetch | None:  # noqa: ARG002
        url = request.url
        path = "/fim/completions" if url.fragment == "fim" else url.path  # Google Cloud has one path for both
        whole = f"{url.scheme}://{url.netloc.decode()}{path}"
        key = request.headers.get("authorization") or request.headers.get("api-key") or ""
        call = self._caller.begin(
            whole,
            request_of(request),
            method=request.method,
            stream="text/event-stream" in request.headers.get("accept", ""),
            provider=self._provider,
            key=key,
        )
        return call or self._caller.fetch(whole, method=request.method, provider=self._provider, key=key)
