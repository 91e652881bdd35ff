"""What instrumentation adds to calls of AWS clients, in place and in one run.

A client with botocore's own methods and one with ours take turns, call by call, over answers from memory.

    python benchmarks/bedrock.py [--rounds 1500]
"""

from __future__ import annotations

import argparse
import binascii
import gc
import io
import json
import os
import statistics
import struct
import tempfile
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

os.environ.setdefault("SPANLEDGER_HOME", tempfile.mkdtemp(prefix="spanledger-bench-"))

import boto3
import urllib3
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from opentelemetry.sdk.trace import TracerProvider

from spanledger.exporter.install import install
from spanledger.instrumentation import BotocoreInstrumentor

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
USAGE = {
    "inputTokens": 4299,
    "outputTokens": 631,
    "cacheReadInputTokens": 35574,
    "cacheWriteInputTokens": 17787,
    "totalTokens": 58291,
}
TEXT = "the ledger keeps one exact row for every call " * 20
ASK = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": TEXT}]}]}
INVOKE = {"modelId": "mistral.mistral-7b-instruct-v0:2", "body": json.dumps({"prompt": TEXT})}
DELTAS = 400


def event(kind: str, payload: Any) -> bytes:
    """A message of an AWS event stream."""
    headers = b""
    for name, value in ((":event-type", kind), (":message-type", "event")):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + headers + body
    return message + struct.pack("!I", binascii.crc32(message))


CONVERSED = {"output": {"message": {"role": "assistant", "content": [{"text": TEXT}]}}, "stopReason": "end_turn"}
BODIES = {
    "converse": json.dumps(CONVERSED | {"usage": USAGE}).encode(),
    "converse-stream": event("messageStart", {"role": "assistant"})
    + event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "ledger "}}) * DELTAS
    + event("messageStop", {"stopReason": "end_turn"})
    + event("metadata", {"usage": USAGE}),
    "invoke": json.dumps({"outputs": [{"text": TEXT, "stop_reason": "stop"}]}).encode(),
}
CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "converse": ("bedrock-runtime", lambda client: client.converse(**ASK)),
    "invoke": ("bedrock-runtime", lambda client: client.invoke_model(**INVOKE)["body"].read()),
    f"stream of {DELTAS}": ("bedrock-runtime", lambda client: list(client.converse_stream(**ASK)["stream"])),
    "another service": ("sqs", lambda client: client.list_queues()),
}


def answer(request: Any, **_: Any) -> AWSResponse:
    """The answer of a request, without the network."""
    body = BODIES.get(request.url.rpartition("/")[2], b"{}")
    headers = {
        "content-length": str(len(body)),
        "x-amzn-bedrock-input-token-count": "7",
        "x-amzn-bedrock-output-token-count": "3",
    }
    raw = urllib3.HTTPResponse(io.BytesIO(body), headers=headers, status=200, preload_content=False)
    return AWSResponse(request.url, 200, raw.headers, raw)


def client(service: str, methods: dict[str, Any]) -> Any:
    made = boto3.client(service, region_name="us-east-1", aws_access_key_id="AKIA", aws_secret_access_key="secret")
    made.__class__ = type(type(made).__name__, (type(made),), methods)
    made.meta.events.register("before-send", answer)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1500)
    rounds = parser.parse_args().rounds
    names = ("_make_api_call", "_make_request")
    plain = {name: BaseClient.__dict__[name] for name in names}
    provider = TracerProvider()
    install(provider)
    BotocoreInstrumentor().instrument(tracer_provider=provider)
    ours = {name: BaseClient.__dict__[name] for name in names}
    gc.collect()
    gc.freeze()
    print(f"{'':16}{'plain':>12}{'spanledger':>12}{'added':>10}   median us, {rounds} rounds (streams: a tenth)")
    for name, (service, call) in CALLS.items():
        clients = [client(service, plain), client(service, ours)]
        times: list[list[int]] = [[], []]
        for turn in range(rounds // 10 if "stream" in name else rounds):
            for which in (0, 1) if turn % 2 else (1, 0):
                start = perf_counter_ns()
                call(clients[which])
                times[which].append(perf_counter_ns() - start)
        before, after = (statistics.median(taken) / 1000 for taken in times)
        print(f"{name:16}{before:12.1f}{after:12.1f}{after - before:10.1f}")


if __name__ == "__main__":
    main()
