"""openai: the base client that it shares with its kin, and its sessions over a WebSocket, which bypass that.

Each resource with a `connect` has a connection class of its own, sync and async, that is made of an open connection
of `websockets`, and makes others by `make_ws` when it reconnects.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from spanledger.failures import internal_error, logger
from spanledger.instrumentation.patches import WaistNotFound, base_client
from spanledger.instrumentation.patches.http_call import Caller, Hooks
from spanledger.instrumentation.patches.websocket import Session, key_of, url_of, watch, watch_async
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.wire import openai_live, openai_realtime, openai_responses_session
from spanledger.instrumentation.wire.session import SessionReader


class _Resource(NamedTuple):
    module: str
    name: str
    reader: Callable[[str], SessionReader]


_RESOURCES = (
    _Resource("openai.resources.realtime.realtime", "Realtime", openai_realtime.Session),
    _Resource("openai.resources.beta.realtime.realtime", "Realtime", openai_realtime.Session),
    _Resource("openai.resources.realtime.translations.translations", "Translations", openai_realtime.Translation),
    _Resource("openai.resources.responses.responses", "Responses", openai_responses_session.Session),
    _Resource("openai.resources.beta.responses.responses", "Responses", openai_responses_session.Session),
    _Resource("openai.resources.live.live", "Live", openai_live.Session),
    _Resource("openai.resources.live.sideband", "Sideband", openai_live.Session),
    _Resource("openai.resources.live.forks", "Forks", openai_live.Session),
)


class Patch(base_client.Patch):
    """The hooks of openai; `remove` takes them off."""

    def __init__(self, sdk: Sdk, module: ModuleType, tracer_provider: Any = None) -> None:
        """
        Raises:
            WaistNotFound: `module` has no such base client.
        """
        super().__init__(sdk, module, tracer_provider)
        self._caller = Caller(sdk, tracer_provider)
        self._sessions: list[Hooks] = []
        from wrapt import register_post_import_hook

        for resource in _RESOURCES:
            register_post_import_hook(partial(self._hook_sessions, resource), resource.module)

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans."""
        super().remove()
        self._caller.active = False
        for hooks in reversed(self._sessions):
            hooks.remove()

    def _hook_sessions(self, resource: _Resource, module: ModuleType) -> None:
        if not self._caller.active or not hasattr(getattr(module, resource.name, None), "connect"):
            return  # before it had sessions
        try:
            connection = f"{resource.name}Connection"
            self._sessions.append(
                Hooks(
                    (module, connection, "__init__", self._made(resource, watch)),
                    (module, f"Async{connection}", "__init__", self._made(resource, watch_async)),
                )
            )
        except WaistNotFound as error:
            logger.warning("spanledger: %s; its sessions are not recorded", error)
        except Exception:
            internal_error("instrumenting openai's sessions")

    def _made(self, resource: _Resource, show: Callable[[Any, Session], None]) -> Callable[[Any], Any]:
        """Makes the hook of a connection's `__init__`, whose first argument is the WebSocket."""

        def hook(original: Any) -> Any:
            def __init__(connection: Any, socket: Any, *args: Any, **kwargs: Any) -> None:
                make = kwargs.get("make_ws")
                if make is not None:
                    kwargs["make_ws"] = self._remade(make, resource, show)
                original(connection, socket, *args, **kwargs)
                self._watch(socket, resource, show)

            return __init__

        return hook

    def _remade(self, make: Any, resource: _Resource, show: Callable[[Any, Session], None]) -> Any:
        def make_ws(*args: Any, **kwargs: Any) -> Any:
            socket = make(*args, **kwargs)
            self._watch(socket, resource, show)
            return socket

        async def async_make_ws(*args: Any, **kwargs: Any) -> Any:
            socket = await make(*args, **kwargs)
            self._watch(socket, resource, show)
            return socket

        return async_make_ws if show is watch_async else make_ws

    def _watch(self, socket: Any, resource: _Resource, show: Callable[[Any, Session], None]) -> None:
        try:
            if not self._caller.active:
                return
            url = url_of(socket)
            asked = parse_qs(urlsplit(url).query)
            model = (asked.get("model") or asked.get("deployment") or [""])[0]
            azure = "azure.ai.openai" if "deployment" in asked else ""
            key = key_of(socket, "api-key", "Authorization")
            session = Session(self._caller, resource.reader(model), url, key=key, provider=azure)
            show(socket, session)
        except Exception:
            internal_error("watching a session")
