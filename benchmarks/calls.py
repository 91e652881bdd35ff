"""What instrumentation adds to a call and to a stream's chunk, in place and in one run.

Each variant is a client class of its own, so that nothing is patched or unpatched while it runs; they take turns as
`_turns.py` says.

    python benchmarks/calls.py [--rounds 3000] [--metrics]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("SPANLEDGER_HOME", tempfile.mkdtemp(prefix="spanledger-bench-"))

import httpx2
import openai
from _turns import Times, added, compare_chunks, take_turns
from openai._base_client import BaseClient, SyncAPIClient
from opentelemetry import trace
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from spanledger.exporter.install import install
from spanledger.instrumentation import OpenAIInstrumentor

WORDS = "the ledger keeps one exact row for every call so that a month of answers adds up to the invoice ".split()
USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 128,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
CHUNKS = 400
ASK: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "system", "content": " ".join(WORDS * 20)}, {"role": "user", "content": "hello"}],
}


class Discard(SpanExporter):
    """Takes spans as a collector would, without the network."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


def answer(request: httpx2.Request) -> httpx2.Response:
    """A chat completion of ordinary size, or a stream of it."""
    answer.count += 1  # type: ignore[attr-defined]
    head = {
        "id": f"chatcmpl-{answer.count:024d}",  # type: ignore[attr-defined]
        "created": 1_790_000_000,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "system_fingerprint": "fp_1a2b3c4d5e",
    }
    if not json.loads(request.content).get("stream"):
        message = {"role": "assistant", "content": " ".join(WORDS * 10), "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return httpx2.Response(200, json=head | {"object": "chat.completion", "choices": [choice], "usage": USAGE})
    return httpx2.Response(
        200, headers={"content-type": "text/event-stream"}, stream=_Events(head | {"object": "chat.completion.chunk"})
    )


answer.count = 0  # type: ignore[attr-defined]


class _Events(httpx2.SyncByteStream):
    def __init__(self, head: dict[str, Any]) -> None:
        self._head = json.dumps(head, separators=(",", ":")).encode()[:-1]

    def __iter__(self) -> Any:
        head = b"data: " + self._head
        for number in range(CHUNKS - 2):
            text = WORDS[number % len(WORDS)].encode()
            delta = b'{"index":0,"delta":{"content":"%b "},"logprobs":null,"finish_reason":null}' % text
            yield head + b',"choices":[' + delta + b'],"usage":null}\n\n'
        yield head + b',"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}\n\n'
        yield head + b',"choices":[],"usage":' + json.dumps(USAGE).encode() + b"}\n\n"
        yield b"data: [DONE]\n\n"


def build() -> dict[str, Any]:
    """A client for each variant: `plain`, `bare span` and `spanledger`."""
    hooks = {
        "request": SyncAPIClient.request,
        "_process_response": SyncAPIClient._process_response,
        "_process_response_data": BaseClient._process_response_data,
    }
    plain_class = type("PlainOpenAI", (openai.OpenAI,), dict(hooks))

    bare_provider = TracerProvider()
    bare_provider.add_span_processor(BatchSpanProcessor(Discard(), max_queue_size=2**16))
    tracer = bare_provider.get_tracer("bare")

    our_provider = TracerProvider()
    install(our_provider)
    our_provider.add_span_processor(BatchSpanProcessor(Discard(), max_queue_size=2**16))
    OpenAIInstrumentor().instrument(tracer_provider=our_provider)

    start_attributes, end_attributes = _attributes_of_one_call(our_provider)

    def bare_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        span = tracer.start_span("chat gpt-4o", kind=SpanKind.CLIENT, attributes=start_attributes)
        with trace.use_span(span, end_on_exit=True):
            result = hooks["request"](self, *args, **kwargs)
            span.set_attributes(end_attributes)
        return result

    bare_class = type("BareOpenAI", (openai.OpenAI,), hooks | {"request": bare_request})
    return {
        "plain": _client(plain_class),
        "bare span": _client(bare_class),
        "spanledger": _client(openai.OpenAI),
    }


def _client(kind: Any) -> Any:
    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    return kind(api_key="sk-benchmark-0123456789", max_retries=0, http_client=transport)


def _attributes_of_one_call(provider: TracerProvider) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one of our own spans carries, for the bare span to carry as much."""
    from opentelemetry.sdk.trace import SpanProcessor

    seen: list[dict[str, Any]] = []

    class Look(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.append(dict(span.attributes))

        def on_end(self, span: Any) -> None:
            seen.append(dict(span.attributes))

    look = Look()
    provider.add_span_processor(look)
    _client(openai.OpenAI).chat.completions.create(**ASK)
    processors = provider._active_span_processor
    processors._span_processors = tuple(p for p in processors._span_processors if p is not look)
    start, end = seen
    return start, {name: value for name, value in end.items() if name not in start}


def plain_call(client: Any) -> None:
    client.chat.completions.create(**ASK)


def stream(client: Any) -> Any:
    return client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})


def hidden_stream(client: Any) -> Any:
    return client.chat.completions.create(**ASK, stream=True)


def compare_calls(clients: dict[str, Any], rounds: int) -> dict[str, float]:
    """What each variant adds to a plain call."""
    times: Times = {name: [] for name in clients}
    for _ in range(100 + rounds):
        take_turns({name: partial(plain_call, client) for name, client in clients.items()}, times)
    return added({name: taken[100:] for name, taken in times.items()})


def compare_streams(clients: dict[str, Any], start: Callable[[Any], Any], rounds: int) -> dict[str, float]:
    """What each variant adds to a chunk in the middle of a stream."""
    times: Times = {name: [] for name in clients}
    for _ in range(rounds):
        compare_chunks({name: iter(start(client)) for name, client in clients.items()}, times, CHUNKS)
    return added(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--metrics", action="store_true", help="with a MeterProvider that somebody reads")
    asked = parser.parse_args()
    rounds = asked.rounds
    if asked.metrics:
        set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    clients = build()
    gc.freeze()
    call = compare_calls(clients, rounds)
    bare, ours = call["bare span"], call["spanledger"]
    print(f"plain call          {call['plain']:8.1f} us without instrumentation")
    print(f"  bare span adds    {bare:8.1f} us")
    print(f"  spanledger adds   {ours:8.1f} us = {ours / bare:.2f} x the bare span")
    for name, start in (("chunk", stream), ("chunk, usage hidden", hidden_stream)):
        chunk = compare_streams(clients, start, max(rounds // 50, 1))
        print(f"{name:20}{chunk['plain']:8.1f} us without instrumentation")
        print(f"  bare span adds    {chunk['bare span']:8.2f} us")
        print(f"  spanledger adds   {chunk['spanledger']:8.2f} us")


if __name__ == "__main__":
    main()
