"""Sends requests on by OTLP, with costs: what cannot be sent in time is dropped and counted; the ledger has it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import grpc
import urllib3
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanledger.service.collector.settings import CollectorSettings

logger = logging.getLogger("spanledger")

TIMEOUT_S = 10.0
_SENDERS = 2
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0

# https://opentelemetry.io/docs/specs/otlp/#failures and #retryable-response-codes
_RETRYABLE_HTTP: Final = frozenset({429, 502, 503, 504})
_RETRYABLE_GRPC: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class NotSent(Exception):
    """The receiver did not take a request.

    Attributes:
        again: it may be tried again.
    """

    def __init__(self, message: str, again: bool) -> None:
        super().__init__(message)
        self.again = again


class Forwarder:
    """A bounded queue and those who send from it.

    Attributes:
        sent: spans that the receiver has taken.
        dropped: spans that it has not: the queue was full, it refused them, or it was away for too long.
        queued_bytes: that wait.
    """

    def __init__(self, settings: CollectorSettings) -> None:
        self._url = settings.forward
        self._most = settings.forward_queue_bytes
        self._patience = settings.forward_retry_seconds
        self._send, self._close = _transport(settings.forward, settings.forward_headers)
        self._queue: deque[tuple[bytes, int]] = deque()
        self._waiting = asyncio.Semaphore(0)
        self._tasks: list[asyncio.Task[None]] = []
        self._unsent = 0
        self._trouble = ""
        self.sent = 0
        self.dropped = 0
        self.queued_bytes = 0

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run()) for _ in range(_SENDERS)]

    def put(self, request: bytes, spans: int) -> None:
        """Send `request` on later; never waits."""
        if self.queued_bytes + len(request) > self._most:
            self._drop(spans, "the queue is full")
            return
        self.queued_bytes += len(request)
        self._unsent += 1
        self._queue.append((request, spans))
        self._waiting.release()

    async def close(self, timeout: float) -> None:
        """Send what can be sent within `timeout` seconds; the rest is dropped."""
        deadline = asyncio.get_running_loop().time() + timeout
        while self._unsent and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if left := sum(spans for _, spans in self._queue):
            self._drop(left, "the collector has stopped")
        await self._close()

    async def _run(self) -> None:
        while True:
            await self._waiting.acquire()
            request, spans = self._queue.popleft()
            try:
                await self._deliver(request, spans)
            except asyncio.CancelledError:
                self._drop(spans, "the collector has stopped")
                raise
            except Exception as error:
                self._drop(spans, f"{type(error).__name__}: {error}")
            finally:
                self.queued_bytes -= len(request)
                self._unsent -= 1

    async def _deliver(self, request: bytes, spans: int) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        pause = _FIRST_PAUSE_S
        while True:
            try:
                rejected = await self._send(request)
            except NotSent as error:
                if not error.again or loop.time() + pause > until:
                    self._drop(spans, str(error))
                    return
                self._say(str(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            self.sent += spans - rejected
            if rejected:
                self._drop(rejected, "the receiver rejected them")
            elif self._trouble:
                self._trouble = ""
                logger.warning("spanledger: spans are sent on to %s again", self._url)
            return

    def _drop(self, spans: int, reason: str) -> None:
        self.dropped += spans
        self._say(reason)

    def _say(self, reason: str) -> None:
        if not self._trouble:
            self._trouble = reason
            logger.warning(
                "spanledger: cannot send spans on to %s (%s); the ledger has them all the same", self._url, reason
            )


Send = Callable[[bytes], Awaitable[int]]
"""Sends a request; how many of its spans the receiver rejected. Raises NotSent."""


def _transport(url: str, headers: Mapping[str, str]) -> tuple[Send, Callable[[], Awaitable[None]]]:
    return _over_grpc(url, headers) if url.startswith("grpc") else _over_http(url, headers)


def _over_grpc(url: str, headers: Mapping[str, str]) -> tuple[Send, Callable[[], Awaitable[None]]]:
    parts = urlsplit(url)
    secure = parts.scheme == "grpcs"
    options = [("grpc.max_send_message_length", -1)]
    if secure:
        channel = grpc.aio.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), options)
    else:
        channel = grpc.aio.insecure_channel(parts.netloc, options)
    export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")

    async def send(request: bytes) -> int:
        try:
            answer = await export(
                request, timeout=TIMEOUT_S, metadata=tuple(headers.items()), compression=grpc.Compression.Gzip
            )
        except grpc.aio.AioRpcError as error:
            again = error.code() in _RETRYABLE_GRPC or (
                # With RetryInfo it will pass; without, the request is too large and will always be.
                error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                and any(name == "grpc-status-details-bin" for name, _ in error.trailing_metadata() or ())
            )
            raise NotSent(f"{error.code().name}: {error.details()}"[:300], again) from None
        return _rejected(answer)

    async def close() -> None:
        await channel.close()

    return send, close


def _over_http(url: str, headers: Mapping[str, str]) -> tuple[Send, Callable[[], Awaitable[None]]]:
    if not urlsplit(url).path.strip("/"):
        url = url.rstrip("/") + "/v1/traces"
    http = urllib3.PoolManager(maxsize=_SENDERS, retries=False, timeout=TIMEOUT_S)
    sent = {**headers, "content-type": "application/x-protobuf"}

    def post(request: bytes) -> int:
        try:
            answer = http.request("POST", url, body=request, headers=sent, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise NotSent(f"{type(error).__name__}: {error}"[:300], again=True) from None
        if answer.status != 200:
            raise NotSent(f"HTTP {answer.status}", answer.status in _RETRYABLE_HTTP)
        return _rejected(answer.data)

    async def send(request: bytes) -> int:
        return await asyncio.to_thread(post, request)

    async def close() -> None:
        http.clear()

    return send, close


def _rejected(answer: bytes) -> int:
    try:
        return max(0, int(ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans))
    except Exception:  # some receivers answer with text
        return 0
