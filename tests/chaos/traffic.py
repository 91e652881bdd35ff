"""OpenAI's real SDK over a provider in the same process, which gives every answer an id of its own.

Real programs of the chaos tests import it. `Witness` is what they know: the ids of the answers that they have had.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
from openai import AsyncOpenAI, OpenAI

USAGE = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920},
}
ASK: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
CHUNKS = 4


class Witness:
    """A file of the ids that the program has had the answers of; one write each, without a buffer."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def saw(self, response_id: str) -> None:
        os.write(self._descriptor, response_id.encode() + b"\n")


def witnessed(path: Path) -> list[str]:
    """The ids in a witness's file."""
    return path.read_text().split() if path.exists() else []


def client() -> OpenAI:
    return OpenAI(api_key="sk-chaos", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(_answer)))


def async_client() -> AsyncOpenAI:
    transport = httpx2.AsyncClient(transport=httpx2.MockTransport(_async_answer))
    return AsyncOpenAI(api_key="sk-chaos", max_retries=0, http_client=transport)


def plain(of: OpenAI, witness: Witness | None = None) -> str:
    """A plain call; the id of its answer."""
    response_id = of.chat.completions.create(**ASK).id
    if witness is not None:
        witness.saw(response_id)
    return response_id


def stream(of: OpenAI, witness: Witness | None = None) -> str:
    """A stream that is read to its end; the id of its answer."""
    response_id = ""
    for chunk in of.chat.completions.create(**ASK, stream=True):
        response_id = chunk.id
    if witness is not None:
        witness.saw(response_id)
    return response_id


def abandoned_stream(of: OpenAI) -> str:
    """A stream that is let go after its first chunk; its id."""
    return str(next(iter(of.chat.completions.create(**ASK, stream=True))).id)


async def async_plain(of: AsyncOpenAI, witness: Witness | None = None) -> str:
    response_id = (await of.chat.completions.create(**ASK)).id
    if witness is not None:
        witness.saw(response_id)
    return response_id


async def async_stream(of: AsyncOpenAI, witness: Witness | None = None) -> str:
    response_id = ""
    async for chunk in await of.chat.completions.create(**ASK, stream=True):
        response_id = chunk.id
    if witness is not None:
        witness.saw(response_id)
    return response_id


def _head() -> dict[str, Any]:
    # Not from `random`: a forked child goes on with its parent's.
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": 1_790_000_000, "model": "gpt-4o-2024-08-06"}


def _plain_body() -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Paris."}, "finish_reason": "stop"}
    return _head() | {"object": "chat.completion", "choices": [choice], "usage": USAGE}


def _events() -> Iterator[bytes]:
    head = _head() | {"object": "chat.completion.chunk"}
    for number in range(CHUNKS):
        last = number == CHUNKS - 1
        choice = {"index": 0, "delta": {"content": "Paris "}, "finish_reason": "stop" if last else None}
        yield _event(head | {"choices": [choice], "usage": None})
    yield _event(head | {"choices": [], "usage": USAGE})
    yield b"data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


class _Stream(httpx2.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield from _events()


class _AsyncStream(httpx2.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in _events():
            yield event


def _answer(request: httpx2.Request) -> httpx2.Response:
    if b'"stream":true' not in request.content:
        return httpx2.Response(200, json=_plain_body())
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=_Stream())


async def _async_answer(request: httpx2.Request) -> httpx2.Response:
    if b'"stream":true' not in request.content:
        return httpx2.Response(200, json=_plain_body())
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=_AsyncStream())
