"""Sessions over a WebSocket of the package `websockets`: what is sent, received and closed is read in passing.

`watch` hooks one connection, of the client that opened it: `send`, `recv` and `close` show each message to a
`SessionReader` once, as it is, and a call's span is started and ended as the reader tells. The connection's class
stays as it is, so other programs of `websockets` are not touched.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, get_current

from spanledger.attribution import Attribution, current_attribution
from spanledger.failures import internal_error
from spanledger.instrumentation.durable import durable
from spanledger.instrumentation.patches.background import Pending
from spanledger.instrumentation.patches.http_call import Caller
from spanledger.instrumentation.span import CallSpan
from spanledger.instrumentation.stream import Watch
from spanledger.instrumentation.wire.reading import Reading
from spanledger.instrumentation.wire.session import SessionReader, Step

_MAX_UNANSWERED = 256


class Asked(Pending):
    """Who asked for a response, and when: the context of the message that asks, else the session's."""

    __slots__ = ()

    def __init__(self, context: Context, attribution: Attribution | None) -> None:
        self.start_ns = time_ns()
        self.context = context
        self.attribution = attribution or Attribution()
        self.request_model = ""


class Session:
    """One session and its calls; its methods never raise."""

    def __init__(
        self, caller: Caller, reader: SessionReader, url: str, *, key: str, provider: str = "", region: str = ""
    ) -> None:
        """
        Parameters:
            url: of the server.
            key: the API key, with or without `Bearer`.
            provider: who serves the session, where that is surer than what the host tells.
            region: where, likewise.
        """
        self._caller = caller
        self._reader = reader
        self._url = url
        self._key = key
        self._provider = provider
        self._region = region
        self._context = get_current()
        self._attribution = current_attribution(self._context)
        self._asked: dict[str, deque[Asked]] = {}
        self._calls: dict[str, Watch] = {}

    def sending(self, message: Any) -> str | None:
        """The program is about to send `message`; the name of what it asks for, None if it asks for no response."""
        try:
            name = self._reader.sent(message) if isinstance(message, (bytes, str)) else None
            if name is not None:
                self._asked.setdefault(name, deque(maxlen=_MAX_UNANSWERED)).append(self._asked_here())
            return name
        except Exception:
            internal_error("reading a session")
            return None

    def unsent(self, name: str | None) -> None:
        """What `sending` gave the name of could not be sent."""
        if name is not None and self._asked.get(name):
            self._asked[name].pop()

    def received(self, message: Any) -> None:
        """The program is about to get `message`."""
        try:
            steps = self._reader.received(message)
            if steps:
                self._take(steps)
        except Exception:
            internal_error("reading a session")

    def closed(self, error: BaseException | None = None) -> None:
        """The connection is closed; what has not ended ends with what was seen of it.

        Parameters:
            error: what broke the connection; None if it was closed in order.
        """
        try:
            asked, self._asked = self._asked, {}
            calls, self._calls = self._calls, {}
            for call in calls.values():
                if error is None:
                    call.closed()
                else:
                    call.broken(error)
            for name, unanswered in asked.items():
                for each in unanswered:
                    reading = self._reader.broken_off(name)
                    span = self._begin("chat", reading.response_model, each)
                    reading.response_model = ""
                    if span is not None:
                        span.end(reading, error=error)
        except Exception:
            internal_error("reading a session")

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.closed()

    def _take(self, steps: Sequence[Step]) -> None:
        for step in steps:
            asked = self._who_asked(step.asked)
            call = self._calls.get(step.key)
            if step.speaks:
                if call is not None:
                    call.call.first_token()
                continue
            if call is None:
                span = self._begin(step.operation, step.model, asked)
                if span is None:
                    continue
                call = self._calls[step.key] = Watch(span, _Unfinished(self._reader, step.key), span.end)
            if step.reading is not None:
                del self._calls[step.key]
                call.call.end(step.reading, not_billed=step.not_billed)

    def _begin(self, operation: str, model: str, asked: Asked) -> CallSpan | None:
        span = self._caller.span(
            self._url, operation, model, stream=True, key=self._key, provider=self._provider, pending=asked
        )
        if span is not None and not span.region:
            span.region = self._region
        return span

    def _who_asked(self, name: str | None) -> Asked:
        asked = self._asked.get(name) if name is not None else None
        return asked.popleft() if asked else Asked(self._context, self._attribution)

    def _asked_here(self) -> Asked:
        here = get_current()
        attribution = (current_attribution(here) if here else None) or self._attribution
        if not here:
            return Asked(self._context, attribution)
        if not trace.get_current_span(here).get_span_context().is_valid:
            here = trace.set_span_in_context(trace.get_current_span(self._context), here)
        return Asked(here, attribution)


class _Unfinished:
    """A `StreamReader` of a call that goes on, for its watch."""

    __slots__ = ("_key", "_reader", "ended", "finished")

    def __init__(self, reader: SessionReader, key: str) -> None:
        self.ended = self.finished = False
        self._reader = reader
        self._key = key

    def feed(self, line: bytes) -> None:
        """Nothing comes by lines."""

    def take(self, event: Any) -> None:
        """Nothing comes by events."""

    def reading(self) -> Reading:
        return self._reader.broken_off(self._key)


def url_of(connection: Any) -> str:
    """The URL that a connection of `websockets` was opened with; empty if it does not say."""
    request = getattr(connection, "request", None)
    return "" if request is None else f"wss://{request.headers.get('Host', '')}{request.path}"


def key_of(connection: Any, *names: str) -> str:
    """The API key in the first of the headers `names` that a connection was opened with; empty if there is none."""
    request = getattr(connection, "request", None)
    found = [request.headers[name] for name in names if name in request.headers] if request is not None else []
    return found[0] if found else ""


def watch(connection: Any, session: Session) -> None:
    """Show the messages of `connection`, of `websockets.sync`, to `session`."""
    recv, send, close = connection.recv, connection.send, connection.close

    def recv_watched(*args: Any, **kwargs: Any) -> Any:
        try:
            message = recv(*args, **kwargs)
        except Exception as error:
            _closed(session, error)
            raise
        session.received(message)
        return message

    def send_watched(message: Any, *args: Any, **kwargs: Any) -> Any:
        asked = session.sending(message)
        try:
            return send(message, *args, **kwargs)
        except Exception as error:
            session.unsent(asked)
            _closed(session, error)
            raise

    def close_watched(*args: Any, **kwargs: Any) -> Any:
        try:
            return close(*args, **kwargs)
        finally:
            session.closed()

    _put(connection, recv_watched, send_watched, close_watched)


def watch_async(connection: Any, session: Session) -> None:
    """Show the messages of `connection`, of `websockets.asyncio`, to `session`."""
    recv, send, close = connection.recv, connection.send, connection.close

    @durable
    async def recv_watched(*args: Any, **kwargs: Any) -> Any:
        try:
            message = await recv(*args, **kwargs)
        except Exception as error:
            _closed(session, error)
            raise
        session.received(message)
        return message

    async def send_watched(message: Any, *args: Any, **kwargs: Any) -> Any:
        asked = session.sending(message)
        try:
            return await send(message, *args, **kwargs)
        except Exception as error:
            session.unsent(asked)
            _closed(session, error)
            raise

    async def close_watched(*args: Any, **kwargs: Any) -> Any:
        try:
            return await close(*args, **kwargs)
        finally:
            session.closed()

    _put(connection, recv_watched, send_watched, close_watched)


def _put(connection: Any, recv: Callable[..., Any], send: Callable[..., Any], close: Callable[..., Any]) -> None:
    connection.recv, connection.send, connection.close = recv, send, close


def _closed(session: Session, error: Exception) -> None:
    """`error` was raised; a time-out, say, leaves the connection open."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "ConnectionClosed" in kinds:
        session.closed(error if "ConnectionClosedError" in kinds else None)
