"""voyageai: `APIRequestor.request` and `arequest`, which embeddings and rerankings of every kind go through.

The clients retry above it: `_make_retry_controller`, which they call once a method, tells which requests are one call.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from spanledger.instrumentation.patches.http_call import Caller, Hooks, HttpCall, async_request_hook, request_hook
from spanledger.instrumentation.sdks import Sdk

_RETRIED = ("RateLimitError", "ServiceUnavailableError", "Timeout")


class Patch:
    """The hooks of Voyage's SDK; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such client.
        """
        self._caller = Caller(sdk, tracer_provider)
        requestor = getattr(getattr(module, "api_resources", module), "api_requestor", module)
        self._hooks = Hooks(
            (requestor, "APIRequestor", "request", request_hook(self._begin, _answered, _failed)),
            (requestor, "APIRequestor", "arequest", async_request_hook(self._begin, _answered, _failed)),
            (module, "Client", "_make_retry_controller", _make_retry_controller),
            (module, "AsyncClient", "_make_retry_controller", _make_retry_controller),
        )

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans."""
        self._caller.active = False
        self._hooks.remove()

    def _begin(self, requestor: Any, method: str, url: str, params: Any = None, *_: Any, **__: Any) -> HttpCall | None:
        attempts = _attempts.get()
        call = None if attempts is None else attempts.held()
        if call is None:
            call = self._caller.begin(
                f"{requestor.base_url}{url}",
                params if isinstance(params, Mapping) else {},
                method=method,
                key=requestor.api_key or "",
            )
        if call is not None:
            call.attempt()
        return call


class _Attempts:
    """The requests that one method of a client makes until one of them succeeds."""

    __slots__ = ("_call", "_error", "left")

    def __init__(self, most: int) -> None:
        self.left = most
        self._call: HttpCall | None = None
        self._error: BaseException | None = None

    def hold(self, call: HttpCall, error: BaseException) -> None:
        """The request of `call` raised `error`; another follows."""
        self._call, self._error = call, error

    def held(self) -> HttpCall | None:
        """The call whose next request this is."""
        self.left -= 1
        call, self._call, self._error = self._call, None, None
        return call

    def __del__(self) -> None:
        if self._call is not None and self._error is not None:  # the program gave up while it waited
            self._call.failed(self._error)


_attempts: ContextVar[_Attempts | None] = ContextVar("spanledger-voyage-attempts", default=None)


def _make_retry_controller(original: Any) -> Any:
    def make_retry_controller(client: Any) -> Any:
        most = client.max_retries
        _attempts.set(_Attempts(most if isinstance(most, int) else 0))
        return original(client)

    return make_retry_controller


def _answered(call: HttpCall, response: Any) -> None:
    attempts = _attempts.get()
    if attempts is not None:
        attempts.left = 0
    call.ended(getattr(response, "data", None))


def _failed(call: HttpCall, error: BaseException) -> None:
    attempts = _attempts.get()
    if attempts is not None and attempts.left > 0 and type(error).__name__ in _RETRIED:
        attempts.hold(call, error)
    else:
        call.failed(error)
