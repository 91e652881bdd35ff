"""Content capture, only where the user asks for it: bodies go to a store of their own, the row has their URIs.

A body is serialised, redacted and hashed where it passes, since the program may change it a moment later; one thread
compresses and writes. The store is any that fsspec reaches (`file://`, `s3://`, `gs://`, ...). `docs/content.md` says
what is stored, and for how long.
"""

from __future__ import annotations

import atexit
import gzip
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timezone
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import orjson

from spanledger import attributes as names
from spanledger.failures import internal_error, logger
from spanledger.instrumentation.wire.reading import Reading, StreamReader
from spanledger.settings import Settings, SettingsError, settings

MAX_BODY: Final = 1024 * 1024
"""Bytes of one body; a larger one is not stored, and counted."""

MAX_WAITING: Final = 64 * 1024 * 1024
"""Bytes that wait for the store; beyond that bodies are not stored, and counted."""

_CLOSE_S: Final = 3.0
_RETRIES_S: Final = (0.2, 1.0, 3.0)

counts: dict[str, int] = {}
"""What became of bodies in this process: `stored`, or why they were not."""


class StoreError(Exception):
    """The store cannot be used; the message says why and what to do."""


class Store:
    """The folder of bodies that `SPANLEDGER_CONTENT` names."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            StoreError: fsspec, or its package for this kind of store, is not installed.
        """
        try:
            import fsspec
        except ImportError:
            raise StoreError("content needs fsspec: pip install 'spanledger[content]'") from None
        try:
            self._files, self._root = fsspec.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StoreError(f"SPANLEDGER_CONTENT: {_without_user(url)}: {error}") from None
        self._url = url.rstrip("/")
        self._local = "file" in (self._files.protocol if isinstance(self._files.protocol, tuple) else ())

    def uri(self, name: str) -> str:
        """Where the body `name` is, or will be."""
        return f"{self._url}/{name}"

    def put(self, name: str, data: bytes) -> None:
        """Write a body; readable by this user alone where the store is a folder."""
        path = f"{self._root}/{name}"
        if not self._local:
            self._files.pipe_file(path, data)
            return
        folder = Path(path).parent
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)

    def get(self, uri: str) -> bytes:
        """A stored body, as it was before it was compressed.

        Raises:
            FileNotFoundError: it is not there (any more).
        """
        return gzip.decompress(self._files.cat_file(f"{self._root}/{self._name(uri)}"))

    def remove(self, uris: Iterable[str]) -> int:
        """Remove bodies and return how many were there; those of other stores are passed over."""
        removed = 0
        for uri in uris:
            name = self._name(uri)
            if not name:
                continue
            try:
                self._files.rm_file(f"{self._root}/{name}")
                removed += 1
            except FileNotFoundError:
                pass
        return removed

    def days(self) -> Iterator[date]:
        """The days that bodies are stored of."""
        try:
            found = self._files.ls(self._root, detail=False)
        except FileNotFoundError:
            return
        for path in found:
            try:
                yield date.fromisoformat(path.rstrip("/").rpartition("/")[2])
            except ValueError:
                continue

    def remove_day(self, day: date) -> int:
        """Remove the bodies of calls that began on `day` (UTC), and return how many."""
        folder = f"{self._root}/{day.isoformat()}"
        try:
            number = len(self._files.ls(folder, detail=False))
            self._files.rm(folder, recursive=True)
        except FileNotFoundError:  # somebody else has removed it
            return 0
        return number

    def _name(self, uri: str) -> str:
        """The body's name in this store; empty where it is in another."""
        plain = uri.partition("#")[0]
        name = plain.removeprefix(f"{self._url}/")
        return "" if name == plain or ".." in name.split("/") else name


def _without_user(url: str) -> str:
    scheme, found, rest = url.partition("://")
    return f"{scheme}{found}{rest.rpartition('@')[2]}" if found else scheme


class Capture:
    """The bodies of one call, until it ends; its methods never raise."""

    __slots__ = ("_pieces", "_request", "_response", "_size")

    def __init__(self, request: Any) -> None:
        """
        Parameters:
            request: parsed, or its bytes; None where this process did not send it.
        """
        self._request = None if request is None else _body(request)
        self._response: bytes | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def received(self, body: Any) -> None:
        """The whole response: parsed, or its bytes; what is received first stands."""
        if self._response is None:
            self._response = _body(body)

    def watching(self, reader: StreamReader, *, whole: bool) -> StreamReader:
        """`reader`, whose lines are kept here too.

        Parameters:
            whole: they are pieces of one plain body, not lines.
        """
        return _Copying(reader, self, b"" if whole else b"\n")

    def line(self, data: bytes) -> None:
        """A piece of a stream."""
        self._size += len(data)
        if self._size <= MAX_BODY:
            self._pieces.append(data)
        else:
            self._pieces = []

    def finish(self, trace_id: int, span_id: int, start_ns: int) -> dict[str, str]:
        """Hand the bodies to the writer; the attributes that say where they will be."""
        if self._pieces and self._response is None:
            self._response = b"".join(self._pieces)
        elif self._size > MAX_BODY:
            _count("larger than 1 MiB")
        day = datetime.fromtimestamp(start_ns // 10**9, timezone.utc).date().isoformat()
        found = {}
        for attribute, kind, body in (
            (names.REQUEST_BODY_URI, "request", self._request),
            (names.RESPONSE_BODY_URI, "response", self._response),
        ):
            if body and (uri := _store_later(f"{day}/{trace_id:032x}-{span_id:016x}-{kind}.gz", body)):
                found[attribute] = uri
        return found


class _Copying:
    """A `StreamReader` that hands on to another what it is fed."""

    __slots__ = ("_capture", "_end", "_reader")

    def __init__(self, reader: StreamReader, capture: Capture, end: bytes) -> None:
        self._reader = reader
        self._capture = capture
        self._end = end

    @property
    def ended(self) -> bool:
        return self._reader.ended

    @ended.setter
    def ended(self, value: bool) -> None:
        self._reader.ended = value

    @property
    def finished(self) -> bool:
        return self._reader.finished

    @finished.setter
    def finished(self, value: bool) -> None:
        self._reader.finished = value

    def feed(self, line: bytes) -> None:
        self._capture.line(line + self._end)
        self._reader.feed(line)

    def take(self, event: Mapping[str, Any]) -> None:
        self._capture.line((_body(event) or b"") + b"\n")
        self._reader.take(event)

    def reading(self) -> Reading:
        return self._reader.reading()


def _body(value: Any) -> bytes | None:
    """A body as bytes; None where it has none that could be stored."""
    try:
        if isinstance(value, (bytes, bytearray, str)):
            body = value.encode() if isinstance(value, str) else bytes(value)
        elif hasattr(value, "DESCRIPTOR") or hasattr(type(value), "pb"):
            body = str(value).encode()  # protobuf's text format
        else:
            body = orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except Exception:
        _count("not serialisable")
        return None
    if len(body) > MAX_BODY:
        _count("larger than 1 MiB")
        return None
    return body


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    return f"<{type(value).__name__}>"


def _store_later(name: str, body: bytes) -> str:
    """Put a body in the writer's queue; its URI, with size and hash, or nothing where it is not stored."""
    redact = settings().content_redact
    if redact:
        redacted = _redacted(redact, body)
        if redacted is None:
            return ""
        body = redacted
    uri = writer().put(name, body)
    return f"{uri}#bytes={len(body)}&sha256={hashlib.sha256(body).hexdigest()}" if uri else ""


def _redacted(place: str, body: bytes) -> bytes | None:
    """`body` as the user's function returns it; None where it is not to be stored, or the function fails."""
    try:
        changed = redaction(place)(_parsed(body))
        if changed is None:
            _count("left out by SPANLEDGER_CONTENT_REDACT")
            return None
        return orjson.dumps(changed, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except Exception as error:
        if not counts.get("SPANLEDGER_CONTENT_REDACT failed"):
            logger.error(
                "spanledger: SPANLEDGER_CONTENT_REDACT failed (%s); bodies are not stored", type(error).__name__
            )
        _count("SPANLEDGER_CONTENT_REDACT failed")
        return None


def _parsed(body: bytes) -> Any:
    """A body's JSON; of a stream, the list of its events.

    Raises:
        ValueError: it is neither.
    """
    try:
        return orjson.loads(body)
    except ValueError:
        lines = (line.removeprefix(b"data:").strip() for line in body.split(b"\n"))
        events = [orjson.loads(line) for line in lines if line[:1] in (b"{", b"[") and line != b"[DONE]"]
        if not events:
            raise
        return events


@lru_cache(maxsize=8)
def redaction(place: str) -> Callable[[Any], Any]:
    """The function that `SPANLEDGER_CONTENT_REDACT` names.

    Raises:
        SettingsError: there is no such function.
    """
    module, _, name = place.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"SPANLEDGER_CONTENT_REDACT={place!r}: {error}: use module:function") from None
    if not callable(function):
        raise SettingsError(f"SPANLEDGER_CONTENT_REDACT={place!r} is no function: use module:function")
    found: Callable[[Any], Any] = function
    return found


def _count(what: str) -> None:
    counts[what] = counts.get(what, 0) + 1


class Writer:
    """One thread that writes bodies to the store; starts with the first."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = Store(url)
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = self._troubled = False

    def put(self, name: str, body: bytes) -> str:
        """Take a body; its URI, or nothing where too many wait already."""
        with self._changed:
            if self._closing or self._size + len(body) > MAX_WAITING:
                _count("the store is too slow")
                return ""
            self._waiting.append((name, body))
            self._size += len(body)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="spanledger-content", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return self._store.uri(name)

    def flush(self, timeout_s: float = _CLOSE_S) -> bool:
        """Wait until all that was taken is written, or given up; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._size == 0, timeout_s)

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Write what waits, within a bound; what is not written then is counted and lost."""
        self.flush(timeout_s)
        with self._changed:
            self._closing = True
            for _ in self._waiting:
                _count("the program ended")
            self._waiting.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._closing)
                if not self._waiting:
                    return
                name, body = self._waiting.popleft()
            self._write(name, body)
            with self._changed:
                self._size -= len(body)
                self._changed.notify_all()

    def _write(self, name: str, body: bytes) -> None:
        for pause in (*_RETRIES_S, None):
            try:
                self._store.put(name, gzip.compress(body, 6, mtime=0))
                _count("stored")
                if self._troubled:
                    self._troubled = False
                    logger.warning("spanledger: the store of content is back")
                return
            except Exception as error:
                if not self._troubled:
                    self._troubled = True
                    where = _without_user(self.url)
                    logger.error("spanledger: cannot store content in %s (%s)", where, type(error).__name__)
                with self._changed:
                    if pause is None or self._changed.wait_for(lambda: self._closing, pause):
                        break
        _count("the store refused it")


_writer: Writer | None = None
_lock = threading.Lock()


def writer() -> Writer:
    """The process's writer.

    Raises:
        StoreError: there is no way to the store.
    """
    global _writer
    url = settings().content
    if _writer is None or _writer.url != url:
        with _lock:
            if _writer is None or _writer.url != url:
                _writer = Writer(url)
    return _writer


def flush(timeout_s: float = _CLOSE_S) -> bool:
    """Wait until the bodies of all calls that have ended are written or given up; whether they are."""
    return _writer is None or _writer.flush(timeout_s)


def store_of(now: Settings) -> Store:
    """The store that the settings name.

    Raises:
        StoreError: they name none, or there is no way to it.
    """
    if not now.content:
        raise StoreError("no store of content is set: SPANLEDGER_CONTENT names it")
    return Store(now.content)


def capture(request: Any) -> Capture | None:
    """Begin to capture a call; None where that fails, which is told."""
    try:
        writer()
        return Capture(request)
    except Exception:
        internal_error("capturing content")
        return None


def _at_exit() -> None:
    if _writer is not None:
        _writer.close()


def _in_child() -> None:
    global _writer, _lock
    _writer, _lock = None, threading.Lock()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_in_child)
