"""The worker processes, as the front sees them: a request goes to the first that is free."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys

import orjson

from spanledger.service.collector.frames import ANSWER, RETRY, Outcome, request_head
from spanledger.service.collector.settings import CollectorSettings

logger = logging.getLogger("spanledger")

START_S = 60.0


class WorkerError(RuntimeError):
    """A worker process could not be started; the message says what to do."""


class Worker:
    """One process and the socket to it."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, settings: CollectorSettings) -> Worker:
        """Start a process and wait until it is ready.

        Raises:
            WorkerError: it ended instead.
        """
        ours, theirs = socket.socketpair()
        limits = {
            name: getattr(settings, name)
            for name in ("max_decompressed_bytes", "max_attributes", "max_attribute_length")
        }
        with theirs:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "spanledger.service.collector.worker"),
                    *(str(theirs.fileno()), json.dumps(limits), "forward" if settings.forward else ""),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=2**20)
        try:
            await asyncio.wait_for(reader.readexactly(1), START_S)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, asyncio.TimeoutError):
            writer.close()
            process.kill()
            process.wait()
            raise WorkerError(
                "a worker process of the collector did not start; its error is above, or in the log"
            ) from None
        return cls(process, reader, writer)

    async def ask(self, form: int, encoding: str, body: bytes) -> tuple[Outcome, bytes]:
        """Let it read a request.

        Raises:
            ConnectionError: it has ended.
        """
        self._writer.write(request_head(form, encoding, body))
        self._writer.write(body)
        try:
            await self._writer.drain()
            text, onward = ANSWER.unpack(await self._reader.readexactly(ANSWER.size))
            outcome = Outcome(*orjson.loads(await self._reader.readexactly(text)))
            return outcome, await self._reader.readexactly(onward) if onward else b""
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("the worker process has ended") from None

    def close(self) -> None:
        """Let it end: it seals its journal and sends what can be sent at once."""
        self._writer.close()


class Pool:
    """Starts workers as load asks for them, up to `settings.workers`, and others in place of those that end.

    Attributes:
        lost: worker processes that ended by themselves.
    """

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self._workers: list[Worker] = []
        self._idle: asyncio.LifoQueue[Worker] = asyncio.LifoQueue()
        self._starting: asyncio.Task[None] | None = None
        self._closing = False
        self.lost = 0

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers]

    async def start(self) -> None:
        """Start the first worker.

        Raises:
            WorkerError: it did not start.
        """
        await self._add()

    async def read(self, form: int, encoding: str, body: bytes) -> tuple[Outcome, bytes]:
        """Let a worker read a request, and journal it."""
        if self._idle.empty():
            self._start_another()
        worker = await self._idle.get()
        # A sender that gives up leaves its request to the end: the worker's answer belongs to it.
        return await asyncio.shield(asyncio.create_task(self._ask(worker, form, encoding, body)))

    async def _ask(self, worker: Worker, form: int, encoding: str, body: bytes) -> tuple[Outcome, bytes]:
        try:
            answer = await worker.ask(form, encoding, body)
        except ConnectionError:
            self.lost += 1
            self._remove(worker)
            logger.error(
                "a worker process of the collector has ended (%s); another takes its place", worker.process.poll()
            )
            return Outcome(RETRY, "the process that read the request has ended"), b""
        self._idle.put_nowait(worker)
        return answer

    async def close(self, timeout: float) -> None:
        """End the workers; what they have is sealed."""
        self._closing = True
        if self._starting is not None:
            self._starting.cancel()
        for worker in self._workers:
            worker.close()
        deadline = asyncio.get_running_loop().time() + timeout
        while any(worker.process.poll() is None for worker in self._workers):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.01)
        for worker in self._workers:
            if worker.process.poll() is None:  # its rows are on disk, others load them
                worker.process.kill()
                worker.process.wait()

    def _start_another(self) -> None:
        if len(self._workers) < self._settings.workers and self._starting is None and not self._closing:
            self._starting = asyncio.create_task(self._start_in_background())

    async def _start_in_background(self) -> None:
        try:
            await self._add()
        except WorkerError as error:
            logger.error("%s", error)
            await asyncio.sleep(1)
        finally:
            self._starting = None

    async def _add(self) -> None:
        worker = await Worker.start(self._settings)
        self._workers.append(worker)
        self._idle.put_nowait(worker)

    def _remove(self, worker: Worker) -> None:
        worker.close()
        worker.process.kill()
        worker.process.wait()
        self._workers.remove(worker)
        self._start_another()
