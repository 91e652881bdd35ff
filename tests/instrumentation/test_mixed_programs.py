"""Each SDK in a program that mixes threads and an event loop, plain calls and streams, retries and failures.

The program runs twice, without instrumentation and with it: it must get the same, and each call must have its row.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from spanledger.attribution import attribute
from spanledger.exporter import rows
from spanledger.instrumentation import INSTRUMENTORS
from spanledger.settings import settings
from tests import sdks
from tests.grpc_provider import GrpcProvider
from tests.provider import Answer, Provider
from tests.sdks import SDKS, Sdk

CALLS = ("plain", "retried", "refused")
STREAMS = ("stream", "left", "cut")
KINDS = CALLS + STREAMS
"""What is done with a call: `left` is a stream that the program leaves, closed or not, `cut` one that breaks."""

DELTAS = 3
ASKED = re.compile(r"(\d+) (" + "|".join(KINDS) + ")")


class Script:
    """What the provider says to a call, which is told by its text: its number and its kind."""

    def __init__(self, sdk: Sdk) -> None:
        self.sdk = sdk
        self.asked: Counter[str] = Counter()
        self.left = [threading.Event() for _ in range(100)]

    def of(self, request: str) -> tuple[int, str, bool]:
        """Number, kind, and whether the call is asked for the first time."""
        found = ASKED.search(request)
        assert found is not None, request
        self.asked[request] += 1
        return int(found[1]), found[2], self.asked[request] == 1


class Http(Provider):
    script: Script

    def answer(self, body: bytes) -> Answer:
        sdk = self.script.sdk
        n, kind, first = self.script.of(body.decode())
        pieces = sdk.pieces(n, DELTAS)

        def wait() -> None:
            self.script.left[n].wait(10)

        if kind == "refused":
            return Answer({"error": {"message": "no such model", "type": "invalid_request_error"}}, status=400)
        if kind == "retried" and first:
            return Answer({"message": "busy"}, status=sdk.busy, headers={"retry-after-ms": "1"})
        if kind == "left":
            return Answer(chunks=[pieces[0], wait], content_type=sdk.content_type, drop=True)
        if kind == "cut":
            return Answer(chunks=pieces[:2], content_type=sdk.content_type, drop=True)
        if kind == "stream":
            return Answer(chunks=pieces, content_type=sdk.content_type)
        return Answer(sdk.body(n))


class Grpc(GrpcProvider):
    script: Script

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def answer(self, method: str, request: Any) -> Any:
        import grpc

        n, kind, first = self.script.of(str(request))
        pieces = sdks.xai_pieces(n, DELTAS)
        if kind == "refused":
            return (grpc.StatusCode.INVALID_ARGUMENT, "no such model")
        if kind == "retried" and first:
            return (grpc.StatusCode.UNAVAILABLE, "busy")
        if kind == "left":
            return [pieces[0], self.script.left[n]]
        if kind == "cut":
            return [*pieces[:2], (grpc.StatusCode.INTERNAL, "broken")]
        return pieces if kind == "stream" else sdks.xai_answer(n)


class Program:
    """What a user wrote: it notes what it got of each call."""

    def __init__(self, sdk: Sdk, url: str, script: Script) -> None:
        self.sdk = sdk
        self.url = url
        self.script = script
        self.got: dict[int, Any] = {}
        kinds = KINDS if sdk.stream else CALLS
        wheres = [where for where in ("main", "thread 1", "thread 2") if sdk.make] + ["loop"] * bool(sdk.make_async)
        self.calls = dict(enumerate(((where, kind) for where in wheres for kind in kinds), start=1))

    def run(self) -> None:
        client = self.sdk.make(self.url) if self.sdk.make else None
        threads = [threading.Thread(target=self._block, args=(client, where)) for where in ("thread 1", "thread 2")]
        for thread in threads:
            thread.start()
        if self.sdk.make_async:
            loop = threading.Thread(target=lambda: asyncio.run(self._loop()))
            loop.start()
            threads.append(loop)
        self._block(client, "main")
        for thread in threads:
            thread.join()
        close(client)
        del client
        gc.collect()

    def _block(self, client: Any, place: str) -> None:
        for n, (where, kind) in self.calls.items():
            if where == place:
                with attribute(tags={"call": str(n)}):
                    self.got[n] = self._one(client, n, kind, closing=where == "main")
                self._let_go(n, kind)

    def _let_go(self, n: int, kind: str) -> None:
        if kind == "left":
            gc.collect()
            self.script.left[n].set()

    def _one(self, client: Any, n: int, kind: str, *, closing: bool) -> Any:
        text = f"{n} {kind}"
        chunks: list[Any] = []
        try:
            if kind in CALLS:
                return told(self.sdk.ask(client, text))
            stream = self.sdk.stream(client, text)  # type: ignore[misc]
            chunks.append(type(stream))
            stream = stream["stream"] if isinstance(stream, dict) else stream
            for chunk in stream:
                chunks.append(told(chunk))
                if kind == "left":
                    if closing:
                        close(stream)
                    break
            return chunks
        except Exception as error:
            return [*chunks, told(error)]

    async def _loop(self) -> None:
        client = self.sdk.make_async(self.url)  # type: ignore[misc]
        opened = await client.__aenter__() if self.sdk.name == "aiobotocore" else client

        async def one(n: int, kind: str) -> None:
            with attribute(tags={"call": str(n)}):
                self.got[n] = await self._one_of_many(opened, n, kind)
            self._let_go(n, kind)

        await asyncio.gather(*(one(n, kind) for n, (where, kind) in self.calls.items() if where == "loop"))
        closed = client.__aexit__(None, None, None) if self.sdk.name == "aiobotocore" else close(client)
        if inspect.isawaitable(closed):
            await closed
        await asyncio.get_running_loop().shutdown_asyncgens()

    async def _one_of_many(self, client: Any, n: int, kind: str) -> Any:
        text = f"{n} {kind}"
        chunks: list[Any] = []
        try:
            if kind in CALLS:
                return told(await self.sdk.ask(client, text))
            stream = self.sdk.stream(client, text)  # type: ignore[misc]
            stream = await stream if inspect.isawaitable(stream) else stream
            chunks.append(type(stream))
            stream = stream["stream"] if isinstance(stream, dict) else stream
            async for chunk in stream:
                chunks.append(told(chunk))
                if kind == "left":
                    closed = close(stream)
                    if inspect.isawaitable(closed):
                        await closed
                    break
            return chunks
        except Exception as error:
            return [*chunks, told(error)]


def close(thing: Any) -> Any:
    if isinstance(thing, SimpleNamespace):
        return None
    leave = next((found for name in ("aclose", "close") if (found := getattr(thing, name, None))), None)
    return leave() if leave else None


def told(result: Any) -> tuple[Any, ...]:
    """What the program sees of a result or an error, but for times, places in memory and names of connections."""
    text = str(result) if isinstance(result, Exception) else repr(result)
    text = re.sub(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} GMT|\b0x[0-9a-f]+", "", text)
    causes = (type(result.__cause__), type(result.__context__)) if isinstance(result, Exception) else ()
    return (type(result), text, *causes)


class Rows(SpanProcessor):
    """The rows of the calls, by number."""

    def __init__(self) -> None:
        self.by_call: dict[int, list[dict[str, Any]]] = {}

    def on_end(self, span: ReadableSpan) -> None:
        for row in rows.read(span):
            self.by_call.setdefault(int(row["tags"]["call"]), []).append(row)


def expected(sdk: Sdk, n: int, kind: str) -> dict[str, Any]:
    """The row of a call."""
    if kind == "retried" and sdk.retries is None:
        kind = "refused"
    row = {
        "provider": sdk.provider,
        "request_model": sdk.model,
        "stream": kind in STREAMS,
        "status": "error" if kind in ("refused", "cut") else "ok",
        "retries": (sdk.retries or 0) if kind == "retried" else 0,
        "usage": sdk.parts(n),
        "usage_status": "reported",
        "price_status": sdk.price_status,
    }
    if kind == "refused":
        row |= {"usage": {}, "usage_status": "missing", "price_status": "not_billed"}
    elif kind in ("left", "cut"):
        begun = sdk.begun(n)
        if kind == "cut" and begun and sdk.name == "google_genai":
            begun |= {"output": 2}
        row |= {"usage": begun, "usage_status": "incomplete" if begun else "missing"}
        if sdk.price_status == "priced":
            row |= {"price_status": "estimated" if begun else "usage_missing"}
    return row


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    with Grpc() if request.param == "xai" else Http() as server:
        yield server
    gc.unfreeze()


@pytest.mark.parametrize(
    ("sdk", "server"), [(sdk, sdk.name) for sdk in SDKS], ids=[s.name for s in SDKS], indirect=["server"]
)
def test_the_program_gets_the_same_and_every_call_has_its_row(
    sdk: Sdk, server: Any, ledger_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(sdk.module)
    monkeypatch.setenv("SPANLEDGER_HOSTS", f"{server.host}={sdk.provider}")
    settings.cache_clear()
    no_waiting(sdk, monkeypatch)
    gc.collect()
    gc.freeze()  # so that collecting what a program left is quick

    server.script = Script(sdk)
    alone = Program(sdk, server.url, server.script)
    alone.run()

    provider, found = TracerProvider(), Rows()
    provider.add_span_processor(found)
    instrumentors = [instrumentor() for instrumentor in INSTRUMENTORS]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=provider)
    try:
        server.script = Script(sdk)
        watched = Program(sdk, server.url, server.script)
        watched.run()
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()

    assert sorted(alone.got) == sorted(alone.calls)
    assert watched.script.asked == alone.script.asked
    for n, call in watched.calls.items():
        assert watched.got[n] == alone.got[n], call
    different = []
    for n, (where, kind) in watched.calls.items():
        want = expected(sdk, n, kind)
        its = found.by_call.pop(n, [])
        defaults = {"stream": False, "retries": 0, "usage": {}}
        got = [{column: row.get(column, defaults.get(column)) for column in want} for row in its]
        if got != [want]:
            wrong = [{column: value for column, value in row.items() if value != want[column]} for row in got]
            different.append(f"{where} {kind}: {len(its)} rows, {wrong}, not {want}")
    assert not different, "\n".join(different)
    assert not found.by_call


def no_waiting(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once, where the SDK has no option for that."""
    if sdk.name in ("botocore", "aiobotocore"):
        backoff = importlib.import_module("botocore.retries.standard").ExponentialBackoff
        monkeypatch.setattr(backoff, "delay_amount", lambda *_: 0)
    if sdk.name == "voyage":
        monkeypatch.setattr(importlib.import_module("tenacity").wait_exponential_jitter, "__call__", lambda *_: 0)
