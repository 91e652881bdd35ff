"""Batches: each line of their results is a call of its own, billed once however often it is fetched.

A request that creates or retrieves a batch makes no row, and is remembered: whose it is, when it was created, which
files its results are in. The lines make their rows while the program reads them; what it does not read makes none.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from time import time_ns
from typing import Any, NamedTuple

import orjson
from opentelemetry.context import Context
from opentelemetry.trace import Tracer

from spanledger.attribution import Attribution, current_attribution
from spanledger.failures import internal_error
from spanledger.instrumentation.span import CallSpan
from spanledger.instrumentation.stream import MAX_FRAME, tap
from spanledger.instrumentation.wire.batch import Job, key
from spanledger.instrumentation.wire.batch_endpoints import Target
from spanledger.pricing import handoff

_MAX_KEPT = 10_000
_INLINE = 1024 * 1024
"""Bytes of results that are read before the program goes on; more is read by a thread, which an exit waits for."""
_HEAD = 4096
"""Bytes of a first line by which results are told from other files."""


class Source(NamedTuple):
    """Who fetches, from whom."""

    tracer: Tracer
    context: Context
    provider: str
    host: str = ""
    port: int | None = None
    region: str = ""
    api_key_hash: str = ""
    api_key_alias: str = ""


@dataclass(slots=True)
class _Known:
    """A batch that this process has seen; `context` is None where another process created it."""

    job: Job
    context: Context | None = None
    attribution: Attribution | None = None


_known: OrderedDict[tuple[str, str], _Known] = OrderedDict()  # by host, and the name of a batch or a file
_read: OrderedDict[tuple[str, str], None] = OrderedDict()  # results that were read to their end


class Fetch:
    """A request about batches on its way; its methods never raise."""

    __slots__ = ("source", "target")

    def __init__(self, source: Source, target: Target) -> None:
        self.source = source
        self.target = target

    def __enter__(self) -> Fetch:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def failed(self, _error: BaseException) -> None:
        """The SDK raised an error: nothing was fetched."""

    def responded(self, response: Any) -> None:
        """`response`, of httpx or httpx2, is here; results that are not read yet are watched until their end."""
        try:
            if response.status_code >= 400:
                return
            content = getattr(response, "_content", None)
            if content is None:
                self._watch(response)
            elif self.target.name:
                self.delivered(content, whole=response.status_code == 200)
            else:
                self.ended(orjson.loads(content))
        except ValueError:
            pass
        except Exception:
            internal_error("reading a batch")

    def ended(self, body: object) -> None:
        """The parsed answer, about one job or several."""
        try:
            if isinstance(body, dict) and not self.target.name:
                for job in self.target.format.jobs(body):
                    self._learn(job)
        except Exception:
            internal_error("reading a batch")

    def delivered(self, content: bytes, *, whole: bool = True) -> None:
        """A file of results, as the program has it in memory."""
        results = self.results(whole=whole)
        if results is not None and results.begins(content):
            _do(lambda: results.all(content), len(content))

    def written(self, path: str | os.PathLike[str]) -> None:
        """A file of results, as the SDK wrote it to the disk."""
        results = self.results()
        if results is None:
            return
        with open(path, "rb") as file:
            if results.begins(file.read(_HEAD)):
                _do(lambda: results.file(path), os.path.getsize(path))

    def results(self, *, whole: bool = True) -> Results | None:
        """A reader of the results on their way; None if they were read before.

        Parameters:
            whole: all of them are on their way, and not only a range.
        """
        if (self.source.host, self.target.name) in _read:
            return None
        known = _known.get((self.source.host, self.target.name)) or _Known(Job(self.target.name))
        return Results(self.source, self.target, known, whole=whole)

    def _watch(self, response: Any) -> None:
        results = self.results(whole=response.status_code == 200) if self.target.name else None
        if results is None:
            return
        if response.headers.get("content-encoding", "identity") != "identity":
            results.decoder = response._get_content_decoder()
            del response._decoder  # the response makes one of its own
        response.stream = tap(response.stream, results)

    def _learn(self, job: Job) -> None:
        at = (self.source.host, job.name)
        known = _known.get(at)
        if known is None:
            known = _Known(job)
        if self.target.creates:
            known.context = self.source.context
            known.attribution = current_attribution(self.source.context) or Attribution()
        lines = job.lines
        if job.created_ns is not None or known.job is job:
            known.job = replace(job, lines=())
        for name in (job.name, *job.files):
            _keep(_known, (self.source.host, name), known)
        if lines and at not in _read:
            results = Results(self.source, self.target._replace(name=job.name), known)
            _do(lambda: results.each(lines), _INLINE + 1 if len(lines) > 256 else 0)


class Results:
    """Makes a row of each line of results in passing, like a `Watch`; its methods never raise."""

    __slots__ = ("_known", "_number", "_off", "_rest", "_source", "_target", "_whole", "decoder")

    def __init__(self, source: Source, target: Target, known: _Known, *, whole: bool = True) -> None:
        self._source = source
        self._target = target
        self._known = known
        self._whole = whole
        self._number = 0
        self._off = False
        self._rest = b""
        self.decoder: Any = None

    def begins(self, content: bytes) -> bool:
        """Whether this can be the beginning of results."""
        head = content[:_HEAD].lstrip()
        return head.startswith(b"{") and any(mark in head for mark in self._target.format.marks)

    def piece(self, data: bytes) -> bytes:
        """Look at one piece of the body, which the program gets as it is."""
        if not self._off:
            try:
                self._take(data if self.decoder is None else _bytes(self.decoder.decode(data)))
            except Exception:
                self._off = True
                internal_error("reading a batch's results")
        return data

    def end(self) -> bytes:
        """The body has come to its own end."""
        rest, self._rest = self._rest, b""
        self._each([rest])
        self._done()
        return b""

    def broken(self, _error: BaseException) -> None:
        """Reading the body raised an error: what came before it has its rows."""
        self._off = True

    def closed(self) -> None:
        """The program closed the stream, or let go of it."""
        self._off = True

    def all(self, content: bytes) -> None:
        """The whole body at once."""
        self._each(_lines(content))
        self._done()

    def file(self, path: str | os.PathLike[str]) -> None:
        """The whole body, from the disk."""
        try:
            with open(path, "rb") as file:
                self._each(file)
        except OSError:
            self._off = True  # the program has taken it away already
        self._done()

    def each(self, lines: Iterable[Any]) -> None:
        """Lines that are parsed already."""
        for line in lines:
            self._row(line)
        self._done()

    def _take(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        *lines, self._rest = data.split(b"\n")
        self._each(lines)
        rest = self._rest
        if len(rest) > MAX_FRAME or (not self._number and len(rest) > _HEAD and not self.begins(rest)):
            self._off, self._rest = True, b""

    def _each(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if self._off:
                return
            if line and not line.isspace():
                self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            document = orjson.loads(line) if self._number or self.begins(line) else None
        except ValueError:
            document = None
        if not self._number and not (isinstance(document, dict) and self._target.format.is_line(document)):
            self._off = True  # another kind of file
            return
        self._row(document)

    def _row(self, line: object) -> None:
        self._number += 1
        try:
            if isinstance(line, dict):
                self._record(line)
        except Exception:
            internal_error("reading a line of a batch")

    def _record(self, line: Mapping[str, Any]) -> None:
        known, source = self._known, self._source
        name = f"{self._target.name}/{key(line) or self._number}"
        result = self._target.format.read(line, known.job, name)
        if result is None:
            return
        reading = result.reading
        reading.processing = "batch"
        if reading.created_ns is None:
            reading.created_ns = known.job.created_ns
        call = CallSpan(
            source.tracer,
            operation=result.operation,
            provider=source.provider,
            request_model=known.job.model,
            stream=False,
            context=source.context if known.context is None else known.context,
            host=source.host,
            port=source.port,
            region=source.region,
            api_key_hash=source.api_key_hash,
            api_key_alias=source.api_key_alias,
            attribution=known.attribution,
            start_ns=time_ns() if reading.created_ns is None else reading.created_ns,
        )
        call.sending(None)
        if call.captured is not None:
            call.captured.received(line)
        call.end(reading, not_billed=reading.not_billed)

    def _done(self) -> None:
        if self._number and not self._off and self._whole:
            _keep(_read, (self._source.host, self._target.name), None)


def _lines(content: bytes) -> Iterable[bytes]:
    """The lines of a body, one at a time."""
    start = 0
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        yield content[start:end]
        start = end + 1


def _bytes(decoded: Any) -> bytes:
    return decoded if isinstance(decoded, bytes) else b"".join(decoded)


def _do(work: Callable[[], None], size: int) -> None:
    """Do it before the program goes on, or by a thread if it takes long."""
    if size <= _INLINE:
        work()
        return

    def run() -> None:
        try:
            work()
        finally:
            handoff.working.discard(thread)

    thread = threading.Thread(target=run, name="spanledger-batch")  # no daemon: a program that ends waits for it
    handoff.working.add(thread)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is going down
        run()


def _keep(kept: OrderedDict[Any, Any], name: object, value: object) -> None:
    kept[name] = value
    if len(kept) > _MAX_KEPT:
        kept.popitem(last=False)
