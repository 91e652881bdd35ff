"""Calls of real SDKs whose results can be compared: plain, streamed, raw, async, refused, broken off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai

CHAT = {
    "id": "chatcmpl-0123456789abcdefghijkl",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306},
}
RESPONSE = {
    "id": "resp_0123456789abcdef0123456789",
    "object": "response",
    "created_at": 1_790_000_000,
    "model": "gpt-4o-2024-08-06",
    "status": "completed",
    "output": [],
    "usage": {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 25,
    },
}
MESSAGE = {
    "id": "msg_0123456789abcdefghijkl",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "Paris."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 100, "cache_read_input_tokens": 1000, "output_tokens": 50},
}
_ASK = {"messages": [{"role": "user", "content": "hello"}]}
OPENAI: dict[str, Any] = {"model": "gpt-4o", **_ASK}
ANTHROPIC: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 100, **_ASK}


def _openai_events(usage: bool) -> list[bytes]:
    empty = {"usage": None} if usage else {}
    head = {k: CHAT[k] for k in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    chunks: list[dict[str, Any]] = [
        head | {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} | empty
        for word in ("Pa", "ris", ".")
    ]
    chunks.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]} | empty)
    if usage:
        chunks.append(head | {"choices": [], "usage": CHAT["usage"]})
    texts = [json.dumps(chunk, separators=(",", ":")) for chunk in chunks]
    return [f"data: {text}\n\n".encode() for text in (*texts, "[DONE]")]


def _anthropic_events() -> list[bytes]:
    start = MESSAGE | {"content": [], "stop_reason": None, "usage": {"input_tokens": 100, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Paris."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 50}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


class _Pieces(httpx2.SyncByteStream):
    def __init__(self, pieces: list[bytes], breaks: bool) -> None:
        self._pieces, self._breaks = pieces, breaks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._breaks:
            raise httpx2.ReadError("broken off")


class _AsyncPieces(httpx2.AsyncByteStream):
    def __init__(self, pieces: list[bytes], breaks: bool) -> None:
        self._pieces, self._breaks = pieces, breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._breaks:
            raise httpx2.ReadError("broken off")


def _answer(request: httpx2.Request, pieces: Any) -> httpx2.Response:
    claude = request.url.path.endswith("/messages")
    asked = json.loads(request.content)
    case = request.headers.get("x-case", "")
    if case == "refused":
        return httpx2.Response(429, json={"error": {"message": "too many", "type": "rate_limit_error"}})
    if case == "no connection":
        raise httpx2.ConnectError("no way")
    if asked.get("stream"):
        events = _anthropic_events() if claude else _openai_events("stream_options" in asked)
        breaks = case == "broken off"
        sent = pieces(events[:3] if breaks else events, breaks)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=sent)
    body = MESSAGE if claude else RESPONSE if request.url.path.endswith("/responses") else CHAT
    return httpx2.Response(200, json=body)


def _sync(request: httpx2.Request) -> httpx2.Response:
    return _answer(request, _Pieces)


async def _async(request: httpx2.Request) -> httpx2.Response:
    return _answer(request, _AsyncPieces)


def _case(name: str) -> dict[str, Any]:
    return {"extra_headers": {"x-case": name}}


def _plain(create: Any, ask: dict[str, Any], case: str) -> list[str]:
    return [create(**ask, **_case(case)).model_dump_json()]


def _stream(create: Any, ask: dict[str, Any], case: str) -> list[str]:
    return [chunk.model_dump_json() for chunk in create(**ask, **_case(case), stream=True)]


def _raw(create: Any, ask: dict[str, Any]) -> list[str]:
    return [create(**ask).http_response.text]


def _lines(create: Any, ask: dict[str, Any]) -> list[str]:
    with create(**ask, stream=True) as response:
        return list(response.iter_lines())


def _left(create: Any, ask: dict[str, Any]) -> list[str]:
    return [next(iter(create(**ask, stream=True))).model_dump_json()]


def scenarios() -> dict[str, Callable[[], list[str]]]:
    """Name -> what makes a call, with clients of its own, and says what the program got."""
    made: dict[str, Callable[[], list[str]]] = {}
    openai_client = openai.OpenAI(
        api_key="sk-a", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(_sync))
    )
    claude = anthropic.Anthropic(
        api_key="sk-a", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(_sync))
    )
    for sdk, api, ask in (
        ("openai", openai_client.chat.completions, OPENAI),
        ("anthropic", claude.messages, ANTHROPIC),
    ):
        for case in ("", "refused", "no connection"):
            made[f"{sdk}, plain {case}"] = lambda api=api, ask=ask, case=case: _plain(api.create, ask, case)  # type: ignore[misc]
        for case in ("", "broken off"):
            made[f"{sdk}, stream {case}"] = lambda api=api, ask=ask, case=case: _stream(api.create, ask, case)  # type: ignore[misc]
            made[f"{sdk}, async stream {case}"] = lambda sdk=sdk, case=case: asyncio.run(_async_stream(sdk, case))  # type: ignore[misc]
        made[f"{sdk}, async"] = lambda sdk=sdk: asyncio.run(_async_plain(sdk))  # type: ignore[misc]
        made[f"{sdk}, raw"] = lambda api=api, ask=ask: _raw(api.with_raw_response.create, ask)  # type: ignore[misc]
        made[f"{sdk}, lines"] = lambda api=api, ask=ask: _lines(api.with_streaming_response.create, ask)  # type: ignore[misc]
        made[f"{sdk}, let go"] = lambda api=api, ask=ask: _left(api.create, ask)  # type: ignore[misc]
    made["openai, responses"] = lambda: [
        openai_client.responses.create(model="gpt-4o", input="hello").model_dump_json()
    ]
    return made


def _async_api(sdk: str) -> tuple[Any, Any, dict[str, Any]]:
    transport = httpx2.AsyncClient(transport=httpx2.MockTransport(_async))
    if sdk == "openai":
        of: Any = openai.AsyncOpenAI(api_key="sk-a", max_retries=0, http_client=transport)
        return of, of.chat.completions, OPENAI
    of = anthropic.AsyncAnthropic(api_key="sk-a", max_retries=0, http_client=transport)
    return of, of.messages, ANTHROPIC


async def _async_plain(sdk: str) -> list[str]:
    of, api, ask = _async_api(sdk)
    async with of:
        return [(await api.create(**ask)).model_dump_json()]


async def _async_stream(sdk: str, case: str) -> list[str]:
    of, api, ask = _async_api(sdk)
    async with of:
        return [chunk.model_dump_json() async for chunk in await api.create(**ask, **_case(case), stream=True)]
