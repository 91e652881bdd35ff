"""A stand-in for OpenAI's Chat Completions and Responses: every answer has an id and a usage of its own.

An answer calls the first tool that the request offers, unless a tool's result is among its messages; else it says
hello. What it was asked, and what it said that it used, is kept: the truth that the bills are compared with.
"""

from __future__ import annotations

import itertools
import json
import threading
from dataclasses import dataclass
from typing import Any

from tests.provider import Answer, Provider, stream

CREATED = 1_795_366_399
MODEL = "gpt-4o-2024-08-06"
CACHED = 256


@dataclass(frozen=True, slots=True)
class Given:
    """One answer: its id and what the call used; no two have the same."""

    case: str
    response_id: str
    input_tokens: int
    output_tokens: int
    told: bool
    """Whether the answer says what it used: a stream of Chat Completions does only when asked to."""


class Answering(Provider):
    """`with Answering() as server: ...; server.given`."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Given] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def answer(self, body: bytes) -> Answer:
        asked = json.loads(body)
        number = next(self._numbers)
        responses = "input" in asked
        streamed = bool(asked.get("stream"))
        given = Given(
            case=_case(body.decode()),
            response_id=f"{'resp_' if responses else 'chatcmpl-'}Fw{number:022d}x",
            input_tokens=1000 + number,
            output_tokens=100 + number,
            told=responses or not streamed or bool((asked.get("stream_options") or {}).get("include_usage")),
        )
        with self._lock:
            self.given.append(given)
        made = _response(asked, given) if responses else _completion(asked, given)
        if not streamed:
            return Answer(made)
        if responses:
            return stream(*_response_events(made), done=False, event_names=True)
        return stream(*_chunks(made, given.told))


def _case(text: str) -> str:
    """The program's prompt begins with the case's name: `case:agent `."""
    return text.partition("case:")[2].partition(" ")[0]


def _tool(asked: dict[str, Any]) -> str:
    """The tool to call; empty for none."""
    tools = asked.get("tools")
    turns = [turn for turn in asked.get("input") or asked.get("messages") or () if isinstance(turn, dict)]
    if not tools or any(turn.get("role") == "tool" or turn.get("type") == "function_call_output" for turn in turns):
        return ""
    return str(tools[0].get("name") or tools[0]["function"]["name"])


def _arguments() -> str:
    return json.dumps({"city": "Bergen"})


def _completion(asked: dict[str, Any], given: Given) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "hello", "refusal": None}
    tool = _tool(asked)
    if tool:
        function = {"name": tool, "arguments": _arguments()}
        call = {"id": f"call_{given.response_id[-8:]}", "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    return {
        "id": given.response_id,
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if tool else "stop"}
        ],
        "usage": {
            "prompt_tokens": given.input_tokens,
            "completion_tokens": given.output_tokens,
            "total_tokens": given.input_tokens + given.output_tokens,
            "prompt_tokens_details": {"cached_tokens": CACHED, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def _chunks(made: dict[str, Any], told: bool) -> list[dict[str, Any]]:
    head = {key: made[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    choice = made["choices"][0]
    delta = dict(choice["message"])
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": 0, **call} for call in delta["tool_calls"]]
    usage = {"usage": None} if told else {}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **usage},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}], **usage},
    ]
    return [*chunks, {**head, "choices": [], "usage": made["usage"]}] if told else chunks


def _response(asked: dict[str, Any], given: Given) -> dict[str, Any]:
    tool = _tool(asked)
    tail = given.response_id[-8:]
    if tool:
        called = {"type": "function_call", "id": f"fc_{tail}", "call_id": f"call_{tail}", "name": tool}
        output = {**called, "arguments": _arguments(), "status": "completed"}
    else:
        text = {"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}
        output = {
            "type": "message",
            "id": f"msg_{tail}",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        }
    return {
        "id": given.response_id,
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "model": MODEL,
        "output": [output],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "default",
        "usage": {
            "input_tokens": given.input_tokens,
            "input_tokens_details": {"cached_tokens": CACHED, "cache_write_tokens": 0},
            "output_tokens": given.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": given.input_tokens + given.output_tokens,
        },
    }


def _response_events(made: dict[str, Any]) -> list[dict[str, Any]]:
    begun = {**made, "status": "in_progress", "output": [], "usage": None}
    (item,) = made["output"]
    place = {"output_index": 0, "item_id": item["id"]}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    if item["type"] == "message":
        (part,) = item["content"]
        empty = {**part, "text": ""}
        events += [
            {
                "type": "response.output_item.added",
                "output_index": 0,
                "item": {**item, "status": "in_progress", "content": []},
            },
            {"type": "response.content_part.added", "content_index": 0, "part": empty, **place},
            {"type": "response.output_text.delta", "content_index": 0, "delta": "hello", "logprobs": [], **place},
            {"type": "response.output_text.done", "content_index": 0, "text": "hello", "logprobs": [], **place},
            {"type": "response.content_part.done", "content_index": 0, "part": part, **place},
        ]
    else:
        arguments = item["arguments"]
        events += [
            {
                "type": "response.output_item.added",
                "output_index": 0,
                "item": {**item, "status": "in_progress", "arguments": ""},
            },
            {"type": "response.function_call_arguments.delta", "delta": arguments, **place},
            {
                "type": "response.function_call_arguments.done",
                "arguments": arguments,
                "name": item["name"],
                **place,
            },
        ]
    events += [
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": made},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]
