"""Anthropic's legacy text completions (`/v1/complete`), which report no usage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, error_of, mapping, text


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a text completion."""
    seen = Stream(request)
    seen.take(mapping(body))
    return seen.reading()


class Stream:
    """Reads a stream of text completions."""

    __slots__ = ("_error", "_id", "_model", "_stop", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:  # noqa: ARG002
        self.ended = self.finished = False
        self._id = self._model = self._stop = ""
        self._error: tuple[str, str] | None = None

    def feed(self, line: bytes) -> None:
        if line.startswith((b"data:", b"{")):
            event = sse.event(line)
            if event is not None:
                self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, parsed."""
        self._id = text(event.get("id")) or self._id
        self._model = text(event.get("model")) or self._model
        self._error = error_of(event.get("error")) or self._error
        stop = text(event.get("stop_reason"))
        if stop:
            self._stop = stop
            self.ended = self.finished = True

    def reading(self, why_missing: str = "text completions report no usage") -> Reading:
        return Reading(
            usage=Tally().usage(None, why_missing=why_missing),
            response_id=self._id,
            response_model=self._model,
            finish_reasons=(self._stop,) if self._stop else (),
            error=self._error,
        )
