"""Watches a response body on its way to the program, whichever way the program reads it.

A `Tap` stands in place of httpx's `response.stream`. It hands every piece on as it comes; a `Watch` looks at
the lines in passing and ends the call's span when the provider has said its last word, when the stream ends or
breaks, when it is closed, or when nobody holds it any more.
"""

from __future__ import annotations

import atexit
import base64
import os
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from time import time_ns
from typing import Any, Protocol

import orjson

from spanledger.failures import internal_error
from spanledger.instrumentation.durable import written
from spanledger.instrumentation.span import CallSpan
from spanledger.instrumentation.wire.reading import Reading, StreamReader
from spanledger.pricing import handoff

MAX_FRAME = 64 * 1024 * 1024
"""Bytes of an unfinished line or frame that are held; beyond that the stream is no longer read."""

_LINE_END = ord("\n")
_NO_USAGE = b',"usage":null'

_watches: weakref.WeakSet[Watch] = weakref.WeakSet()


class Watch:
    """Reads one stream in passing; its methods never raise."""

    __slots__ = (
        "__weakref__",
        "_at_line",
        "_chunks_ns",
        "_decoder",
        "_hidden",
        "_rest",
        "_split",
        "call",
        "reader",
        "settle",
    )

    def __init__(
        self,
        call: CallSpan,
        reader: StreamReader,
        settle: Callable[[Reading], None],
        *,
        content_type: str = "",
        decoder: Any = None,
        hide_usage: bool = False,
    ) -> None:
        """
        Parameters:
            settle: called once, with the reading.
            content_type: of the response; AWS event streams are unwrapped.
            decoder: httpx's content decoder of the response; None for plain bytes.
            hide_usage: take the usage that we asked for out of what the program sees, which is decoded then.
        """
        self.call = call
        self.reader = reader
        self.settle = settle
        self._chunks_ns = call.chunks_ns
        self._hidden: bytes | None = b"" if hide_usage else None
        self._decoder = decoder
        self._rest = b""
        if isinstance(reader, BodyReader):
            self._split = _whole
        elif content_type.startswith("application/vnd.amazon.eventstream"):
            self._split = _aws_events
        else:
            self._split = _lines
        if call.captured is not None:
            self.reader = call.captured.watching(reader, whole=self._split is _whole)
        self._at_line = False  # known from the first piece on
        _watches.add(self)
        _register_at_exit()

    def piece(self, data: bytes) -> bytes:
        """Look at one piece of the body; returns what the program shall see of it."""
        plain, reader = data, self.reader
        if self._chunks_ns is not None:
            self._chunks_ns.append(time_ns())
        one_line = False
        try:
            if self._decoder is not None:
                pieces = self._decoder.decode(data)
                plain = pieces if isinstance(pieces, bytes) else b"".join(pieces)
            one_line = plain.find(b"\n") == len(plain) - 2 and plain[-1] == _LINE_END  # the usual piece
            if one_line and self._at_line:
                reader.feed(plain[:-2])
            else:
                self._read(plain)
            if reader.ended:
                self._settle()
        except Exception:
            internal_error("reading a stream")
        if self._hidden is None:
            return data
        try:
            if one_line and not self._hidden:
                visible = plain.replace(_NO_USAGE, b"")
                return visible if len(visible) < len(plain) else _visible(plain)
            return self._without_usage(plain)
        except Exception:
            internal_error("hiding usage")
            return plain

    def _read(self, data: bytes) -> None:
        if self.call.ended:
            return
        self.call.first_token()
        lines, self._rest = self._split(self._rest + data if self._rest else data)
        for line in lines:
            if line:
                self.reader.feed(line)
        if len(self._rest) > MAX_FRAME:
            self._rest = b""
        self._at_line = self._split is _lines and not self._rest

    def _without_usage(self, data: bytes) -> bytes:
        """The whole events so far, without the chunk that only carries usage and without `"usage":null`."""
        buffer = (self._hidden or b"") + data
        separator = b"\r\n\r\n" if b"\r\n\r\n" in buffer else b"\n\n"
        *events, self._hidden = buffer.split(separator)
        return b"".join([_visible(event + separator) for event in events])

    def end(self) -> bytes:
        """The body has come to its own end; returns what was still held back from the program."""
        try:
            if not self.call.ended and self._rest:
                self.reader.feed(self._rest)
        except Exception:
            internal_error("reading a stream")
        self._settle()
        return self._hidden or b""

    def broken(self, error: BaseException) -> None:
        """Reading the body raised `error`."""
        try:
            self.call.end(self.reader.reading(), error=error)
        except Exception:
            internal_error("reading a stream")

    def closed(self) -> None:
        """The program closed the stream, or let go of it."""
        self._settle()

    def _settle(self) -> None:
        if self.call.ended:
            return
        try:
            self.settle(self.reader.reading())
        except Exception:
            internal_error("reading a stream")


class Onlooker(Protocol):
    """What a tap shows a body to; a `Watch` is one."""

    def piece(self, data: bytes, /) -> bytes: ...

    def end(self) -> bytes: ...

    def broken(self, error: BaseException, /) -> None: ...

    def closed(self) -> None: ...


class BodyReader:
    """A `StreamReader` of a plain body that the program reads by itself, piece by piece; only JSON is kept."""

    __slots__ = ("_is_json", "_parse", "_pieces", "_size", "ended", "finished")

    def __init__(self, parse: Callable[[bytes], Reading]) -> None:
        self.ended = self.finished = False
        self._is_json: bool | None = None  # known from the first byte on
        self._parse = parse
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, line: bytes) -> None:
        if self._is_json is None and (begins := line.lstrip()[:1]):
            self._is_json = begins in b"{["
        if self._is_json is not False and self._size <= MAX_FRAME:
            self._pieces.append(line)
            self._size += len(line)

    def reading(self) -> Reading:
        pieces, self._pieces = self._pieces, []
        return self._parse(b"".join(pieces)) if self._size <= MAX_FRAME else Reading()


def _visible(event: bytes) -> bytes:
    if b'"usage":{' in event and b'"choices":[]' in event:
        return b""
    return event.replace(_NO_USAGE, b"")


def _whole(data: bytes) -> tuple[list[bytes], bytes]:
    return [data], b""


def _lines(data: bytes) -> tuple[list[bytes], bytes]:
    lines = data.split(b"\n")
    rest = lines.pop()
    if b"\r" in data:
        lines = [line.rstrip(b"\r") for line in lines]
    return lines, rest


def _aws_events(data: bytes) -> tuple[list[bytes], bytes]:
    """The payloads of AWS event stream messages: length, headers' length, checksum, headers, payload, checksum."""
    events: list[bytes] = []
    start = 0
    while len(data) - start >= 16:
        total = int.from_bytes(data[start : start + 4], "big")
        headers = int.from_bytes(data[start + 4 : start + 8], "big")
        if total < 16 or headers > total - 16:
            return events, b""  # not an event stream after all
        if len(data) - start < total:
            break
        payload = data[start + 12 + headers : start + total - 4]
        start += total
        try:
            wrapped = orjson.loads(payload)
            if isinstance(wrapped, dict) and isinstance(wrapped.get("bytes"), str):
                payload = base64.b64decode(wrapped["bytes"])
        except ValueError:
            pass
        events.append(b"data: " + payload)
    return events, data[start:]


_at_exit_registered = False


def _register_at_exit() -> None:
    """Runs before the tracer provider's own exit hook, which was registered earlier."""
    global _at_exit_registered
    if not _at_exit_registered:
        _at_exit_registered = True
        atexit.register(_end_all)


def _end_all() -> None:
    for watch in list(_watches):
        watch.closed()


def _leave_to_parent() -> None:
    for watch in list(_watches):
        watch.call.ended = True


os.register_at_fork(after_in_child=_leave_to_parent)


_classes: dict[type, type] = {}


def tap(stream: Any, watch: Onlooker) -> Any:
    """A stand-in for httpx's byte stream `stream` that shows every piece to `watch`.

    It is an instance of the same `SyncByteStream` or `AsyncByteStream`, of httpx or httpx2.

    Raises:
        TypeError: `stream` is of neither kind.
    """
    kind = type(stream)
    made = _classes.get(kind)
    if made is None:
        for base in kind.__mro__:
            if base.__name__ in ("SyncByteStream", "AsyncByteStream"):
                tap_class = _SyncTap if base.__name__ == "SyncByteStream" else _AsyncTap
                made = _classes[kind] = type("Tap", (tap_class, base), {})
                break
        else:
            raise TypeError(f"{kind} is not a byte stream of httpx")
    return made(stream, watch)


class _Tap:
    def __init__(self, stream: Any, watch: Onlooker) -> None:
        self._stream = stream
        self._watch = watch

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._watch.closed()


class _SyncTap(_Tap):
    def __iter__(self) -> Iterator[bytes]:
        watch = self._watch
        piece = watch.piece
        try:
            for data in self._stream:
                seen = piece(data)
                if seen:
                    yield seen
        except GeneratorExit:
            raise
        except BaseException as error:
            watch.broken(error)
            raise
        rest = watch.end()
        if rest:
            yield rest

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._watch.closed()


class _AsyncTap(_Tap):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        watch = self._watch
        piece = watch.piece
        try:
            async for data in self._stream:
                before = handoff.held
                seen = piece(data)
                if handoff.held != before:
                    await written()
                if seen:
                    yield seen
        except GeneratorExit:
            raise
        except BaseException as error:
            watch.broken(error)
            raise
        before = handoff.held
        rest = watch.end()
        if handoff.held != before:
            await written()
        if rest:
            yield rest

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._watch.closed()
