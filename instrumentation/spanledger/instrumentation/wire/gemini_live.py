"""Gemini's Live API over a WebSocket, of the Developer API and of Vertex AI: one call a generation.

A `usageMetadata` counts one generation. Its prompt is the whole context of the session, which each generation bills
again (https://ai.google.dev/gemini-api/docs/live-api/best-practices#pricing-billing); its output is its own. So the
calls of a session add up to the bill, while several metadata of one generation do not: the last stands, field by
field. A generation ends with the turn (`turnComplete`), or where the model waits for the program's tools
(`toolCall`) and the metadata is there: before that message, in it, or right after it.

Sources: https://ai.google.dev/api/live#BidiGenerateContentServerMessage, `google.genai.types.LiveServerMessage`,
`UsageMetadata`; https://github.com/pydantic/pydantic-ai/pull/7269 for the counts of sessions, turn by turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spanledger.instrumentation.wire import gemini
from spanledger.instrumentation.wire.reading import Reading
from spanledger.instrumentation.wire.session import Step, Words, event_of
from spanledger.pricing.counts import Tally, count, mapping, text

_VERTEX = {"responseTokenCount": "candidatesTokenCount", "responseTokensDetails": "candidatesTokensDetails"}
"""The Developer API's names in a session -> those of Vertex AI, and of both outside sessions."""

_OF_INTEREST = Words.quoted("usageMetadata", "turnComplete", "toolCall", "groundingMetadata", "executableCode")
_OUTPUT = Words.quoted("modelTurn")
_REQUESTS = Words.quoted("client_content", "clientContent", "tool_response", "toolResponse")
_DATA = b'"data"'
_HEAD = 40
_REQUEST = "turn"


class Session:
    """Reads a Live session."""

    __slots__ = ("_asked", "_last", "_model", "_number", "_raw", "_silent", "_stream", "_turn_over", "_waits")

    def __init__(self, model: str = "") -> None:
        """
        Parameters:
            model: the model that the session was opened with; no message names it.
        """
        self._model = model
        self._number = 0
        self._stream: gemini.Stream | None = None
        self._raw: dict[str, Any] = {}
        self._last: Mapping[str, Any] | None = None
        self._asked = False
        self._silent = self._waits = self._turn_over = False

    def sent(self, message: bytes | str) -> str | None:
        if self._asked or not _REQUESTS.in_message(message[:_HEAD]):
            return None
        event = event_of(message)
        content = mapping(event.get("client_content") or event.get("clientContent"))
        results = event.get("tool_response") or event.get("toolResponse")
        if results or content.get("turn_complete") or content.get("turnComplete"):
            self._asked = True
            return _REQUEST
        return None

    def received(self, message: bytes | str) -> Sequence[Step]:
        if not _OF_INTEREST.in_message(_without_media(message)):
            expected = self._stream is None or self._silent or self._waits
            return self._output() if expected and _OUTPUT.in_message(message) else ()
        event = event_of(message)
        content, usage = mapping(event.get("serverContent")), event.get("usageMetadata")
        steps: list[Step] = []
        if content.get("modelTurn") or event.get("toolCall"):
            steps += self._output()
        if self._stream is None:
            if not isinstance(usage, dict) or (usage == self._last and not content):
                return steps
            steps += self._begin()
        self._take(content, usage)
        if content.get("turnComplete"):
            self._waits = self._turn_over = True
        elif event.get("toolCall"):
            self._waits = True
        if self._waits and self._raw:
            steps.append(self._end())
        return steps

    def broken_off(self, key: str) -> Reading:
        if key == _REQUEST or self._stream is None:
            self._asked = False
            usage = Tally().usage(None, why_missing="the session broke off before the turn's usage")
            return Reading(usage=usage, response_model=self._model)
        return self._reading("the session broke off before the turn's usage")

    def _output(self) -> list[Step]:
        """The model says something: of the generation at hand, or of the next one."""
        steps: list[Step] = []
        if self._turn_over:
            steps.append(self._end())
        if self._stream is None:
            steps += self._begin()
        if self._silent or (self._waits and self._asked):  # tools have answered, and the generation goes on
            steps.append(Step(str(self._number), asked=_REQUEST if self._asked else None, speaks=True))
            self._asked = False
        self._silent = self._waits = False
        return steps

    def _begin(self) -> list[Step]:
        self._number += 1
        self._stream = gemini.Stream({})
        self._raw = {}
        self._silent = True
        asked = _REQUEST if self._asked else None
        self._asked = False
        return [Step(str(self._number), model=self._model, asked=asked)]

    def _take(self, content: Mapping[str, Any], usage: object) -> None:
        if self._stream is None:
            return
        reason = text(content.get("turnCompleteReason")) or ("interrupted" if content.get("interrupted") else "")
        candidate = {
            "content": content.get("modelTurn"),
            "groundingMetadata": content.get("groundingMetadata"),
            "finishReason": reason,
        }
        response: dict[str, Any] = {"candidates": [candidate]}
        if isinstance(usage, dict):
            self._last = usage
            told = {name: value for name, value in usage.items() if value is not None}
            self._raw |= told
            response["usageMetadata"] = _outside_sessions(told)
        self._stream.take(response)

    def _end(self) -> Step:
        if self._stream is not None:
            self._stream.finished = True
        step = Step(str(self._number), model=self._model, reading=self._reading("the turn has no usage"))
        self._stream = None
        self._silent = self._waits = self._turn_over = False
        return step

    def _reading(self, why_missing: str) -> Reading:
        if self._stream is None:
            return Reading()
        reading = self._stream.reading(why_missing)
        reading.usage.raw = self._raw or None
        return reading


def _without_media(message: bytes | str) -> bytes | str:
    """The message without the base64 in it, which is long and holds no word."""
    if isinstance(message, str):
        return message
    rest, end = [], 0
    key = message.find(_DATA)
    while key >= 0:
        opening = message.find(b'"', key + len(_DATA))
        if opening < 0 or message[key + len(_DATA) : opening].strip() != b":":  # no string
            key = message.find(_DATA, key + 1)
            continue
        rest.append(message[end : opening + 1])
        end = message.find(b'"', opening + 1)
        if end < 0:
            return message
        key = message.find(_DATA, end)
    return b"".join([*rest, message[end:]]) if rest else message


def _outside_sessions(usage: Mapping[str, Any]) -> dict[str, Any]:
    """A metadata as it would be outside sessions, whose total includes thoughts; here it may leave them out."""
    told = {_VERTEX.get(name, name): value for name, value in usage.items()}
    names = ("promptTokenCount", "candidatesTokenCount", "toolUsePromptTokenCount")
    if told.get("thoughtsTokenCount") and count(told.get("totalTokenCount")) == sum(
        count(told.get(name)) or 0 for name in names
    ):
        del told["totalTokenCount"]
    return told
