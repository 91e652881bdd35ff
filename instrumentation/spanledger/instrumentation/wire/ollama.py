"""Ollama: chat, generate and embed, whose last line has the counts; either of them may be missing.

Source: https://docs.ollama.com/api/usage; `ollama._types.BaseGenerateResponse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, error_of, mapping, text

_COUNTS = (("prompt_eval_count", "input"), ("eval_count", "output"))
_WORDS = (b'"done":true', b'"done": true', b'"error"')


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a chat, a generation or embeddings."""
    seen = Stream(request)
    if isinstance(body, dict):
        seen.take(body)
    seen.finished = True
    return seen.reading("the response has no usage")


def read_systemone(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read the answers of a System One model, whose counts stand in a `usage` under the common names."""
    body = mapping(body)
    usage = mapping(body.get("usage"))
    spelt = {ours: usage[theirs] for theirs, ours in _SPELT if theirs in usage}
    reading = read({"model": body.get("model"), **spelt}, request)
    reading.usage.raw = usage or None
    return reading


_SPELT = (
    ("prompt_tokens", "prompt_eval_count"),
    ("input_tokens", "prompt_eval_count"),
    ("completion_tokens", "eval_count"),
    ("output_tokens", "eval_count"),
)


class Stream:
    """Reads a stream of JSON lines; the one that says `done` has the counts."""

    __slots__ = ("_error", "_finish", "_model", "_usage", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:  # noqa: ARG002, what a stream reader takes
        self.ended = self.finished = False
        self._model = ""
        self._finish: tuple[str, ...] = ()
        self._usage: dict[str, Any] | None = None
        self._error: tuple[str, str] | None = None

    def feed(self, line: bytes) -> None:
        if any(word in line for word in _WORDS):
            event = sse.event(line)
            if event is not None:
                self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one line, or a whole body, parsed."""
        self._model = text(event.get("model")) or self._model
        counts = {name: event[name] for name, _ in _COUNTS if name in event}
        self._usage = counts or self._usage
        reason = text(event.get("done_reason"))
        self._finish = (reason,) if reason else self._finish
        if event.get("error"):
            self._error = error_of(event["error"])
            self.ended = True
        elif event.get("done") is True:
            self.ended = self.finished = True

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        tally = Tally()
        for name, part in _COUNTS:
            number = tally.count(mapping(self._usage), name)
            if number is not None:
                tally.parts[part] = number
        return Reading(
            usage=tally.usage(self._usage, complete=self.finished, why_missing=why_missing),
            response_model=self._model,
            finish_reasons=self._finish,
            error=self._error,
        )
