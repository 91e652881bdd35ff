"""OpenAI's Responses API over a WebSocket: the events of `openai_responses`, of several responses on one connection.

A `stream_id` tells the lanes of a connection apart; the responses of one lane come one after the other.

Source: `openai.types.responses.responses_client_event`, `responses_server_event`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from spanledger.instrumentation.wire import openai_responses
from spanledger.instrumentation.wire.openai_realtime import REQUESTS, is_delta
from spanledger.instrumentation.wire.reading import Reading
from spanledger.instrumentation.wire.session import Step, Words, event_of
from spanledger.pricing.counts import Tally, error_of, mapping, sequence, text

_OPTIONS = ("model", "service_tier", "prompt_cache_options")
_OF_INTEREST = Words.quoted("response", "error")


class _Response(NamedTuple):
    key: str
    model: str
    stream: openai_responses.Stream


class Session:
    """Reads a connection of the Responses API."""

    __slots__ = ("_current", "_requests", "_silent")

    def __init__(self, _model: str = "") -> None:
        """Each request names its model."""
        self._current: dict[str, _Response] = {}
        self._requests: dict[str, deque[Mapping[str, Any]]] = {}
        self._silent: list[str] = []

    def sent(self, message: bytes | str) -> str | None:
        if not REQUESTS.in_message(message):
            return None
        event = event_of(message)
        if event.get("type") != "response.create":
            return None
        lane = text(event.get("stream_id"))
        self._requests.setdefault(lane, deque()).append(_options(event))
        return lane

    def received(self, message: bytes | str) -> Sequence[Step]:
        if is_delta(message):
            return self._first_words() if self._silent else ()
        if not (_OF_INTEREST.in_message(message) or _tool_ran(message)):
            return ()
        event = event_of(message)
        lane, response = text(event.get("stream_id")), mapping(event.get("response"))
        steps: list[Step] = []
        current = self._current.get(lane)
        if response and (current is None or current.key != text(response.get("id"))):
            if current is not None:
                steps.append(Step(current.key, model=current.model, reading=current.stream.reading()))
            current = self._began(lane, response, steps)
        if current is not None:
            current.stream.take(event)
            if current.stream.ended:
                del self._current[lane]
                if current.key in self._silent:
                    self._silent.remove(current.key)
                steps.append(Step(current.key, model=current.model, reading=current.stream.reading()))
        elif event.get("type") == "error" and self._requests.get(lane):
            request = self._requests[lane].popleft()
            usage = Tally().usage(None, why_missing="the request was refused")
            reading = Reading(usage=usage, error=error_of(event.get("error") or event))
            steps.append(
                Step("refused", model=text(request.get("model")), asked=lane, reading=reading, not_billed=True)
            )
        return steps

    def broken_off(self, key: str) -> Reading:
        for current in self._current.values():
            if current.key == key:
                return current.stream.reading()
        requests = self._requests.get(key)
        request = requests.popleft() if requests else {}
        reading = openai_responses.Stream(request).reading()
        reading.response_model = text(request.get("model"))
        return reading

    def _began(self, lane: str, response: Mapping[str, Any], steps: list[Step]) -> _Response:
        requests = self._requests.get(lane)
        request = requests.popleft() if requests else {}
        key = text(response.get("id"))
        model = text(request.get("model")) or text(response.get("model"))
        self._current[lane] = current = _Response(key, model, openai_responses.Stream(request))
        self._silent.append(key)
        steps.append(Step(key, model=model, asked=lane if request else None))
        return current

    def _first_words(self) -> Sequence[Step]:
        silent, self._silent = self._silent, []
        return (Step(silent[0], speaks=True),) if len(silent) == 1 else ()


def _tool_ran(message: bytes | str) -> bool:
    if isinstance(message, str):
        return '.output_item.done"' in message and '_call"' in message
    return b'.output_item.done"' in message and b'_call"' in message


def _options(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the bill may depend on in a request; of its tools only the model that makes images."""
    kept = {name: event[name] for name in _OPTIONS if event.get(name) is not None}
    tools = [
        {"type": "image_generation", "model": tool.get("model")}
        for tool in sequence(event.get("tools"))
        if isinstance(tool, dict) and tool.get("type") == "image_generation"
    ]
    return {**kept, "tools": tools, "type": "response.create"}
