"""OpenAI chat completions and legacy completions, and the many endpoints that speak them.

Sources: `openai.types.chat.chat_completion`, `chat_completion_chunk`, `openai.types.completion`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import gemini_usage, openai_usage, sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import count, error_of, mapping, sequence, text, time_ns

_EXECUTED = {
    "search": "web_search",
    "web_search": "web_search",
    "browser_search": "web_search",
    "browser.search": "web_search",
    "visit": "web_fetch",
    "visit_website": "web_fetch",
    "python": "code_execution",
    "code_execution": "code_execution",
    "code_interpreter": "code_execution",
}
"""Groq's `executed_tools[].type` -> part; others are `tool_call`.

Their types and identifiers: https://console.groq.com/docs/compound, https://console.groq.com/docs/browser-search.
"""

_NULL = (b":null", b": null")
_DONE = (b"data: [DONE]", b"data:[DONE]")

_HEAD_LINES = 4
"""Azure's first chunk names neither id nor model; after so many lines a stream that names none has none."""


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a chat completion or completion."""
    seen = Stream(request)
    if isinstance(body, dict):
        seen.take(body)
    seen.finished = True
    return seen.reading("the response has no usage")


class Stream:
    """Reads a stream of chunks. The last usage seen stands; it may come on any chunk, or on every one."""

    __slots__ = (
        "_choices",
        "_created_ns",
        "_error",
        "_executed",
        "_finish",
        "_head",
        "_id",
        "_model",
        "_request",
        "_tier",
        "_usage",
        "_wide",
        "ended",
        "finished",
    )

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._choices = count(self._request.get("n")) or 1
        self._head = _HEAD_LINES
        self._wide = self._choices > 1
        self._id = self._model = self._tier = ""
        self._created_ns: int | None = None
        self._usage: object = None
        self._finish: dict[int, str] = {}
        self._error: tuple[str, str] | None = None
        self._executed: dict[object, str] = {}

    def feed(self, line: bytes) -> None:
        if self._head:
            self._feed_head(line)
            return
        # rfind, since it is twice as fast as `in` here
        usage = line.rfind(b'"usage"')
        finish = line.rfind(b'"finish_reason"')
        if (
            (usage >= 0 and line[usage + 8 : usage + 9] != b"n" and not line.startswith(_NULL, usage + 7))
            or (finish >= 0 and line[finish + 16 : finish + 17] != b"n" and not line.startswith(_NULL, finish + 15))
            or line.rfind(b'"error"') >= 0
            or (self._wide and (line.count(b'"finish_reason"') > 1 or b'"executed_tools"' in line))
        ):
            event = sse.event(line)
            if event is not None:
                self.take(event)
        elif len(line) < 32 and line.startswith(_DONE):
            self.ended = self.finished = True

    def _feed_head(self, line: bytes) -> None:
        event = sse.event(line)
        if event is None:
            if line.startswith(_DONE):
                self.ended = self.finished = True
            return
        self.take(event)
        self._head = 0 if self._id and self._model else self._head - 1

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one chunk, parsed."""
        self._id = self._id or text(event.get("id"))
        self._model = text(event.get("model")) or self._model
        self._tier = text(event.get("service_tier")) or self._tier
        if self._created_ns is None:
            self._created_ns = time_ns(event.get("created"))
        usage = event.get("usage")
        groq = event.get("x_groq")
        if isinstance(groq, dict):
            self._wide = True
            usage = usage if usage is not None else groq.get("usage")
            self._error = error_of(groq.get("error")) or self._error
        if event.get("error"):
            self._error = error_of(event["error"])
        if self._error is not None:
            self.ended = True
        choices = sequence(event.get("choices"))
        for choice in choices:
            if isinstance(choice, dict):
                if usage is None:
                    usage = choice.get("usage")  # Moonshot
                self._take_choice(choice)
        if usage or (usage is not None and self._usage is None):
            self._usage = usage
        if self._usage is not None and self._finish and (not choices or len(self._finish) >= self._choices):
            self.finished = True

    def _take_choice(self, choice: Mapping[str, Any]) -> None:
        reason = choice.get("finish_reason")
        index = count(choice.get("index")) or 0
        if reason and isinstance(reason, str):
            self._finish[index] = reason
        if choice.get("error"):
            self._error = error_of(choice["error"])
        for holder in ("message", "delta"):
            message = choice.get(holder)
            if isinstance(message, dict) and "executed_tools" in message:
                for place, tool in enumerate(sequence(message["executed_tools"])):
                    if isinstance(tool, dict):
                        self._executed[(index, count(tool.get("index")) or place)] = text(tool.get("type"))

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        tally = openai_usage.read(self._usage, self._request, {})
        for kind in self._executed.values():
            tally.add(_EXECUTED.get(kind, "tool_call"), 1)
        finish = self._finish
        return Reading(
            usage=tally.usage(self._usage, complete=self.finished, why_missing=why_missing),
            response_id=self._id,
            response_model=self._model,
            service_tier=self._tier or _tier(self._usage, self._request),
            finish_reasons=tuple(map(finish.__getitem__, sorted(finish))),
            created_ns=self._created_ns,
            reported_cost=openai_usage.reported_cost(self._usage),
            error=self._error,
        )


def _tier(usage: object, request: Mapping[str, Any]) -> str:
    """Vertex AI's tier is in the type of traffic, where the response has one; else it is the tier asked for."""
    google = mapping(mapping(mapping(usage).get("extra_properties")).get("google"))
    traffic = text(google.get("traffic_type")).upper()
    return gemini_usage.TRAFFIC.get(traffic, "") if traffic else text(request.get("service_tier"))
