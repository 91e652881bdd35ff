"""What instrumentation adds to a call and to a stream's chunk of each SDK, in place and in one run with the SDK alone.

Each SDK has a process of its own, with a client that is never patched and one that is: of two copies of the SDK, where
that can be. They take turns (`_turns.py`) over answers from memory. Every SDK is used as `tests/sdks.py` says.

    python benchmarks/providers.py [--rounds 600] [--runs 3] [SDK ...]
"""

from __future__ import annotations

import argparse
import gc
import importlib
import inspect
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("SPANLEDGER_HOME", tempfile.mkdtemp(prefix="spanledger-bench-"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from _turns import PLAIN, Times, added, compare_chunks, take_turns
from tests import sdks
from tests.sdks import SDKS, Sdk

OURS = "spanledger"
TEXT = "the ledger keeps one exact row for every call so that a month of answers adds up to the invoice " * 20
URL = "http://127.0.0.1:9"
CHUNKS = 400
PER_STREAM = 20
"""Rounds of calls that there are for one stream."""

_BOTOCORE = next(sdk for sdk in SDKS if sdk.name == "botocore")


def _sqs(url: str) -> Any:
    options = {"region_name": "us-east-1", "aws_access_key_id": "AKIA", "aws_secret_access_key": "secret"}
    return importlib.import_module("boto3").client("sqs", endpoint_url=url, **options)


def _invoke(client: Any, text: str) -> Any:
    body = json.dumps({"prompt": text})
    return client.invoke_model(modelId="mistral.mistral-7b-instruct-v0:2", body=body)["body"].read()


CASES: dict[str, Sdk] = {sdk.name: sdk for sdk in SDKS if sdk.make} | {
    "botocore InvokeModel": replace(
        _BOTOCORE, ask=_invoke, body=lambda _: {"outputs": [{"text": "hello", "stop_reason": "stop"}]}, stream=None
    ),
    "botocore, not an LLM": replace(
        _BOTOCORE, make=_sqs, ask=lambda client, _: client.list_queues(), body=lambda _: {}, stream=None
    ),
}
"""Those with a client that blocks: the hooks of the others are the same."""


_BASE_CLIENT = ("request", "_process_response", "_process_response_data")
_KIN = ("anthropic", "cerebras", "groq", "openai", "together", "writer")
WAISTS: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    **{name: (lambda client: client, _BASE_CLIENT) for name in _KIN},
    "mistral": (lambda client: client.chat, ("do_request",)),
    "xai": (lambda client: client, ()),
}
"""SDKs of which there cannot be two copies in a process: the unpatched client keeps these methods as they were.

xAI's is patched when a client is made.
"""


class Answers:
    """Answers from memory: nothing of the SDK below its HTTP library's own transport is run."""

    def __init__(self, sdk: Sdk) -> None:
        self._count = 0
        self._sdk = sdk
        self._pieces = sdk.pieces(1, CHUNKS)

    def next(self, streamed: bool) -> tuple[str, list[bytes]]:
        """Content type and pieces of the next answer."""
        self._count += 1
        if streamed:
            return self._sdk.content_type, self._pieces
        return "application/json", [json.dumps(self._sdk.body(self._count)).encode()]

    def serve(self) -> None:
        """Stand in for the transports of all HTTP libraries."""
        for library in ("httpx", "httpx2"):
            self._serve_httpx(importlib.import_module(library))
        self._serve_urllib3()
        self._serve_requests()
        if self._sdk.name == "xai":
            self._serve_grpc()

    def _serve_httpx(self, library: Any) -> None:
        class Pieces(library.SyncByteStream):  # type: ignore[misc]
            def __init__(self, pieces: list[bytes]) -> None:
                self._pieces = pieces

            def __iter__(self) -> Iterator[bytes]:
                yield from self._pieces

        def handle_request(_: Any, request: Any) -> Any:
            content_type, pieces = self.next(_streams(request.url.path, request.read()))
            return library.Response(200, headers={"content-type": content_type}, stream=Pieces(pieces))

        library.HTTPTransport.handle_request = handle_request

    def _serve_requests(self) -> None:
        requests = importlib.import_module("requests")

        def send(adapter: Any, request: Any, **_: Any) -> Any:
            return adapter.build_response(request, self._raw(streamed=False))

        requests.adapters.HTTPAdapter.send = send

    def _serve_urllib3(self) -> None:
        session = importlib.import_module("botocore.httpsession")
        response = importlib.import_module("botocore.awsrequest").AWSResponse

        def send(_: Any, request: Any) -> Any:
            raw = self._raw(streamed=request.url.endswith("-stream"))
            return response(request.url, 200, raw.headers, raw)

        session.URLLib3Session.send = send

    def _raw(self, *, streamed: bool) -> Any:
        content_type, pieces = self.next(streamed)
        body = b"".join(pieces)
        counts = {"x-amzn-bedrock-input-token-count": "7", "x-amzn-bedrock-output-token-count": "3"}
        headers = {"content-type": content_type, "content-length": str(len(body)), **counts}
        urllib3 = importlib.import_module("urllib3")
        return urllib3.HTTPResponse(io.BytesIO(body), headers=headers, status=200, preload_content=False)

    def _serve_grpc(self) -> None:
        import grpc

        channel = importlib.import_module("grpc._channel")
        messages = sdks.xai_pieces(1, CHUNKS)

        class Call(grpc.Call, grpc.Future):  # type: ignore[misc]
            def __init__(self, answers: list[Any]) -> None:
                self._answers = iter(answers)

            def __iter__(self) -> Iterator[Any]:
                return self

            def __next__(self) -> Any:
                return next(self._answers)

            def add_done_callback(self, fn: Any) -> None:
                pass

            def add_callback(self, callback: Any) -> bool:
                return True

        names = inspect.getmembers(grpc.Call) + inspect.getmembers(grpc.Future)
        for name, _ in names:
            if not name.startswith("_") and name not in vars(Call):
                setattr(Call, name, lambda *_: None)
        Call.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]

        def with_call(*_: Any, **__: Any) -> Any:
            self._count += 1
            return sdks.xai_answer(self._count), Call([])

        channel._UnaryUnaryMultiCallable.with_call = with_call
        for kind in ("_UnaryStreamMultiCallable", "_SingleThreadedUnaryStreamMultiCallable"):
            getattr(channel, kind).__call__ = lambda *_, **__: Call(messages)


def _streams(path: str, body: bytes) -> bool:
    return "stream" in path or b'"stream":true' in body.replace(b": ", b":")


def clients(sdk: Sdk) -> dict[str, Any]:
    """A client that instrumentation does not reach, and one that it does."""
    assert sdk.make is not None
    plain = sdk.make(URL)
    _use(sdk, plain)  # whatever it imports on first use is its own
    waist = WAISTS.get(sdk.name)
    holder = None if waist is None else waist[0](plain)
    kept = {} if waist is None else {name: getattr(holder, name) for name in waist[1]}
    if waist is None:
        root = sdk.module if sdk.module.startswith("google.") else sdk.module.partition(".")[0]
        roots = ("botocore", "boto3") if root == "botocore" else (root,)
        for name in [name for name in sys.modules if any(f"{name}.".startswith(f"{each}.") for each in roots)]:
            del sys.modules[name]
    _instrument()
    for name, method in kept.items():
        setattr(holder, name, method)
    if sdk.name == "botocore":
        Answers(sdk)._serve_urllib3()
    ours = sdk.make(URL)
    _use(sdk, ours)
    return {PLAIN: plain, OURS: ours}


def _instrument() -> None:
    from opentelemetry.sdk.trace import TracerProvider

    from spanledger.exporter.install import install
    from spanledger.instrumentation import INSTRUMENTORS

    provider = TracerProvider()
    install(provider)
    for instrumentor in INSTRUMENTORS:
        instrumentor().instrument(tracer_provider=provider, skip_dep_check=True)


def _use(sdk: Sdk, client: Any) -> None:
    for _ in range(50):
        sdk.ask(client, TEXT)
    if sdk.stream:
        for _ in _begin(sdk, client):
            pass


def _begin(sdk: Sdk, client: Any) -> Iterator[Any]:
    assert sdk.stream is not None
    stream = sdk.stream(client, TEXT)
    return iter(stream["stream"] if isinstance(stream, dict) else stream)


def measure(sdk: Sdk, rounds: int) -> dict[str, Any]:
    """Microseconds: the call without instrumentation, what is added to it, and the same of a chunk."""
    Answers(sdk).serve()
    both = clients(sdk)
    rows = _rows()
    gc.collect()
    gc.freeze()
    times: Times = {name: [] for name in both}
    works: dict[str, Callable[[], Any]] = {n: lambda c=c: sdk.ask(c, TEXT) for n, c in both.items()}  # type: ignore[misc]
    for _ in range(rounds):
        take_turns(works, times)
    call = added(times)
    chunk: dict[str, float] = {}
    streams = rounds // PER_STREAM if sdk.stream else 0
    if streams:
        times = {name: [] for name in both}
        for _ in range(streams):
            compare_chunks({name: _begin(sdk, client) for name, client in both.items()}, times, CHUNKS)
        chunk = added(times)
    return {"call": call, "chunk": chunk, "rows": _rows() - rows, "calls": rounds + streams}


def _rows() -> int:
    from spanledger.exporter import shipper

    shipper.seal()
    folder = Path(os.environ["SPANLEDGER_HOME"])
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*") if path.suffix in (".open", ".block"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="SDK", help="all by default")
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--runs", type=int, default=3, help="processes for each SDK; the figures are their medians")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(CASES[asked.cases[0]], asked.rounds)))
        return
    print(f"{'':22}{'call':>10}{'added':>18}{'share':>8}{'chunk':>10}{'added':>18}   median us, and the runs'")
    for case in asked.cases:
        runs = [_run(case, asked.rounds) for _ in range(asked.runs)]
        line = f"{case:22}"
        for of in ("call", "chunk"):
            if runs[0][of]:
                plain = statistics.median(run[of][PLAIN] for run in runs)
                more = sorted(run[of][OURS] for run in runs)
                middle = statistics.median(more)
                line += f"{plain:10.1f}{middle:8.2f} ({more[0]:.1f}-{more[-1]:.1f})".ljust(30)
                line += f"{middle / plain:6.0%}  " if of == "call" else ""
        print(line, flush=True)


def _run(case: str, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as home:
        done = subprocess.run(
            [sys.executable, __file__, "--measure", "--rounds", str(rounds), case],
            env=os.environ | {"SPANLEDGER_HOME": home},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    expected = 0 if "not an LLM" in case else found["calls"]
    if found["rows"] != expected:
        sys.exit(f"{case}: {found['rows']} rows for {expected} calls: this measures something else")
    return found


if __name__ == "__main__":
    main()
