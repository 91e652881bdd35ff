"""The hand-written provider answers of `tests/fixtures`, and the stream that would give the same answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanledger.instrumentation.wire import endpoints
from spanledger.instrumentation.wire.endpoints import Endpoint
from spanledger.instrumentation.wire.reading import Reading

FOLDER = Path(__file__).parents[2] / "fixtures"
STREAMED = {"/chat/completions", "/completions", "/responses", "/v1/messages"}
"""Paths whose plain answers can be told as a stream."""


@dataclass(frozen=True, slots=True)
class Fixture:
    """One rule: the call, its request, and a plain answer (`body`) or a stream (`events`)."""

    name: str
    format: str
    method: str
    url: str
    request: dict[str, Any]
    body: dict[str, Any] | None
    events: list[dict[str, Any] | str] | None

    @property
    def endpoint(self) -> Endpoint:
        endpoint = endpoints.find(self.format, self.method, self.url)
        assert endpoint is not None, self.url
        return endpoint

    @property
    def path(self) -> str:
        return self.url.partition("?")[0]

    @property
    def told_both_ways(self) -> bool:
        """Whether the answer comes plain and as a stream."""
        if self.body is None or ("error" in self.body and "usage" not in self.body):
            return False
        return self.events is not None or self.path in STREAMED

    def readings(self) -> list[Reading]:
        """The readings of the plain answer and of the stream, as far as there are such."""
        found = []
        if self.body is not None:
            found.append(self.endpoint.read(self.body, self.request))
        if self.events is not None:
            found.append(stream(self.endpoint, self.request, lines(self.events)))
        elif self.body is not None and self.told_both_ways:
            found.append(stream(self.endpoint, self.request, lines(as_events(self.path, self.body))))
        return found


def names() -> list[str]:
    return sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("*/*.json"))


def load(name: str) -> Fixture:
    fixture = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert fixture["rule"]
    assert fixture["source"]
    format, method, url = fixture["call"].split()
    return Fixture(name, format, method, url, fixture["request"], fixture.get("body"), fixture.get("events"))


def lines(events: Iterable[Mapping[str, Any] | str]) -> Iterator[bytes]:
    """Server-sent event lines; a string is a line as it stands."""
    for event in events:
        if isinstance(event, str):
            yield event.encode()
        else:
            yield b"data: " + json.dumps(event, separators=(",", ":")).encode()
            yield b""


def stream(endpoint: Endpoint, request: Mapping[str, Any], lines: Iterable[bytes]) -> Reading:
    reader = endpoint.stream_reader(request)
    for line in lines:
        reader.feed(line)
    return reader.reading()


def as_events(path: str, body: Mapping[str, Any]) -> list[Mapping[str, Any] | str]:
    """A plain answer, told as the provider would stream it."""
    if path == "/v1/messages":
        return _messages(body)
    return _responses(body) if path == "/responses" else _chat(body)


def _chat(body: Mapping[str, Any]) -> list[Mapping[str, Any] | str]:
    head = {name: value for name, value in body.items() if name not in ("choices", "usage", "usage_breakdown")}
    events: list[Mapping[str, Any] | str] = []
    for choice in body["choices"]:
        index, message = choice["index"], choice.get("message") or {}
        tools = {"executed_tools": message["executed_tools"]} if "executed_tools" in message else {}
        groq = {"x_groq": {"id": "req_1"}} if tools else {}
        first = {"index": index, "delta": {"content": 'Say "usage"'}, "finish_reason": None}
        ran = {"index": index, "delta": {"content": "", **tools}, "finish_reason": None}
        last = {"index": index, "delta": {}, "finish_reason": choice["finish_reason"]}
        events += [{**head, **groq, "choices": [part], "usage": None} for part in (first, ran, last)]
    if "usage" in body:
        events.append({**head, "choices": [], "usage": body["usage"]})
    return [*events, "data: [DONE]"]


def _responses(body: Mapping[str, Any]) -> list[Mapping[str, Any] | str]:
    started = {**body, "status": "in_progress", "output": [], "usage": None, "error": None}
    kind = {"failed": "response.failed", "incomplete": "response.incomplete"}.get(body.get("status") or "")
    if body.get("status") == "queued":
        return [{"type": "response.queued", "response": body}]
    items = [{"type": "response.output_item.done", "item": item} for item in body.get("output", ())]
    return [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_text.delta", "delta": 'Say "response", "error"'},
        *items,
        {"type": kind or "response.completed", "response": body},
    ]


def _messages(body: Mapping[str, Any]) -> list[Mapping[str, Any] | str]:
    usage = body["usage"]
    late = {"output_tokens_details", "server_tool_use", "iterations", "fallback_credit", "video_tokens"}
    first = {name: value for name, value in usage.items() if name not in late}
    last = {name: value for name, value in usage.items() if name in late or name.endswith("_tokens")}
    start = {**body, "content": [], "stop_reason": None, "usage": {**first, "output_tokens": 1}}
    blocks = [
        {"type": "content_block_start", "index": index, "content_block": block}
        for index, block in enumerate(body["content"])
    ]
    return [
        {"type": "message_start", "message": start},
        {"type": "ping"},
        *blocks,
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": '"usage"'}},
        {"type": "message_delta", "delta": {"stop_reason": body["stop_reason"]}, "usage": last},
        {"type": "message_stop"},
    ]
