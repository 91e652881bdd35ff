"""google-genai's Live sessions: `AsyncLive.connect`, whose session has its WebSocket in `_ws`.

Live music, on a class of its own, reports no usage and is not recorded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from spanledger.failures import internal_error, logger
from spanledger.instrumentation.patches import WaistNotFound
from spanledger.instrumentation.patches.http_call import Caller, Hooks
from spanledger.instrumentation.patches.websocket import Session, key_of, url_of, watch_async
from spanledger.instrumentation.wire import gemini_live
from spanledger.pricing.names import canonical_provider

MODULE = "google.genai.live"


def hook(module: ModuleType, caller: Caller) -> Hooks | None:
    """The hooks of `google.genai.live`; None, with a warning, where it is not one that we know."""
    if not caller.active:
        return None
    try:
        return Hooks((module, "AsyncLive", "connect", _connect(caller)))
    except WaistNotFound as error:
        logger.warning("spanledger: %s; Live sessions are not recorded", error)
    except Exception:
        internal_error("instrumenting google-genai's Live sessions")
    return None


def _connect(caller: Caller) -> Any:
    def hook(original: Any) -> Any:
        @asynccontextmanager
        async def connect(live: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with original(live, *args, **kwargs) as session:
                _watch(caller, live, session, kwargs.get("model"))
                yield session

        return connect

    return hook


def _watch(caller: Caller, live: Any, session: Any, model: Any) -> None:
    """Watch a session that is set up; its model is `gemini-live-2.5-flash`, or that at the end of a path."""
    if not caller.active:
        return
    try:
        client, socket = live._api_client, session._ws
        url, vertex = url_of(socket), bool(client.vertexai)
        by_host, place = canonical_provider(url), client.location if vertex else None
        here = dict(caller.sdk.client_providers)["vertexai"] if vertex else caller.sdk.provider
        watched = Session(
            caller,
            gemini_live.Session(model.rpartition("/")[2] if isinstance(model, str) else ""),
            url,
            key=key_of(socket, "x-goog-api-key"),
            provider=by_host if by_host.startswith("gcp.") else here,
            region=place if isinstance(place, str) and place != "global" else "",
        )
        watch_async(socket, watched)
    except Exception:
        internal_error("watching a session")
