"""IBM watsonx.ai: text generation, chat, embeddings, rerank and forecasts.

A stream of text has the prompt's tokens in its first event alone, where later ones say 0, and the tokens generated
so far in every event. A chat has OpenAI's usage. Embeddings and rerank report their input, forecasts data points.

Sources: https://cloud.ibm.com/apidocs/watsonx-ai, the response classes of IBM's watsonx-ai-java-sdk, recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import gemini_usage, openai_chat, sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, count, error_of, mapping, sequence, text

_COUNTS = (("input_token_count", "input"), ("generated_token_count", "output"))
_NAMES = tuple(name for name, _ in _COUNTS)
_DATA_POINTS = ("input_data_points", "output_data_points")
_UNDER_WAY = "not_finished"


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read generated text, embeddings, a ranking or a forecast."""
    seen = Stream(request)
    seen.take(mapping(body))
    seen.finished = True
    return seen.reading("the response has no usage")


def read_chat(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a chat, whose model stands in `model_id`."""
    seen = ChatStream(request)
    seen.take(mapping(body))
    seen.finished = True
    return seen.reading("the response has no usage")


class Stream:
    """Reads a stream of generated text; of each count, the largest stands."""

    __slots__ = ("_created_ns", "_error", "_finish", "_model", "_request", "_usages", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._model = ""
        self._created_ns: int | None = None
        self._finish: dict[int, str] = {}
        self._usages: dict[int, dict[str, Any]] = {}
        self._error: tuple[str, str] | None = None

    def feed(self, line: bytes) -> None:
        event = sse.event(line)
        if event is not None:
            self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, or a whole body, parsed."""
        self._model = self._model or text(event.get("model_id")) or text(event.get("model"))
        if self._created_ns is None and "created_at" in event:
            self._created_ns = gemini_usage.time_ns(event["created_at"])
        error = _error(event)
        if error is not None:
            self._error = error
            self.ended = True
        if "input_token_count" in event or "input_data_points" in event:
            self._count(0, event)
            return
        for index, result in enumerate(sequence(event.get("results"))):
            if type(result) is dict:
                self._count(index, result)
                reason = text(result.get("stop_reason"))
                if reason and reason != _UNDER_WAY:
                    self._finish[index] = reason
        self.finished = bool(self._finish) and len(self._finish) == len(self._usages)
        self.ended = self.ended or self.finished

    def _count(self, index: int, result: Mapping[str, Any]) -> None:
        for name in (*_NAMES, *_DATA_POINTS):
            value = result.get(name)
            if value is not None:
                usage = self._usages.setdefault(index, {})
                if name not in usage or (count(value) or 0) >= (count(usage[name]) or 0):
                    usage[name] = value

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        tally = Tally()
        for usage in self._usages.values():
            for name, part in _COUNTS:
                number = tally.count(usage, name)
                if number is not None:
                    tally.add(part, number)
            tally.keep_unmapped(usage, frozenset(_NAMES))
        usages = list(self._usages.values())
        raw = usages[0] if len(usages) == 1 else {"results": usages} if usages else None
        return Reading(
            usage=tally.usage(raw, complete=self.finished, why_missing=why_missing),
            response_model=self._model,
            finish_reasons=tuple(map(self._finish.__getitem__, sorted(self._finish))),
            created_ns=self._created_ns,
            error=self._error,
        )


class ChatStream(openai_chat.Stream):
    """Reads a stream of a chat; a last chunk with the usage ends it."""

    __slots__ = ()

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one chunk, parsed."""
        super().take(event)
        self._model = self._model or text(event.get("model_id"))
        self._error = _error(event) or self._error
        self.ended = self.ended or self.finished or self._error is not None


def _error(event: Mapping[str, Any]) -> tuple[str, str] | None:
    """`errors`, of which the first tells the most; `error` where a gateway stands between."""
    errors = sequence(event.get("errors"))
    return error_of(next(iter(errors), None)) or error_of(event.get("error"))
