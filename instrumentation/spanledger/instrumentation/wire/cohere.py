"""Cohere: what is billed is `billed_units`, not `tokens`.

Sources: `cohere.types`: `api_meta_billed_units`, `usage_billed_units`, `api_meta`, `usage`;
https://docs.cohere.com/docs/how-does-cohere-pricing-work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, error_of, mapping, sequence, text

_PARTS = (
    ("input_tokens", "input"),
    ("image_tokens", "input_image"),
    ("output_tokens", "output"),
    ("search_units", "search_unit"),
    ("pages", "page"),
)
_KNOWN = frozenset({name for name, _ in _PARTS} | {"images", "text_tokens"})
_USAGE = ("billed_units", "tokens", "cached_tokens")
_WORDS = (b"usage", b"billed_units", b"-start", b'"error"', b"stream-end", b"message-end")


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a chat, generation, embedding, reranking or classification, of either version of the API."""
    seen = Stream(request)
    if isinstance(body, dict):
        seen.take(body)
    seen.finished = True
    return seen.reading("the response has no usage")


class Stream:
    """Reads a stream of either version: `message-end` has the usage, or the response inside `stream-end`."""

    __slots__ = ("_error", "_finish", "_id", "_model", "_usage", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:  # noqa: ARG002, what a stream reader takes
        self.ended = self.finished = False
        self._id = self._model = ""
        self._finish: tuple[str, ...] = ()
        self._usage: dict[str, Any] | None = None
        self._error: tuple[str, str] | None = None

    def feed(self, line: bytes) -> None:
        if not line.startswith((b"data:", b"{")) or b'"content-delta"' in line[:48]:
            return
        for word in _WORDS:
            if word in line:
                break
        else:
            return
        event = sse.event(line)
        if event is not None:
            self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, or a whole body, parsed."""
        kind = event.get("type") or event.get("event_type")
        response = mapping(event.get("response")) or event
        self._id = text(response.get("response_id")) or text(response.get("id")) or self._id
        self._model = text(response.get("model")) or self._model
        self._take_end(mapping(event.get("delta")) or response)
        if event.get("error"):
            self._error = error_of(event["error"])
            self.ended = True
        if kind in ("message-end", "stream-end"):
            self.ended = True
            self.finished = self._error is None

    def _take_end(self, end: Mapping[str, Any]) -> None:
        """Take what a message, or the end of its stream, says of its usage."""
        usage = end.get("usage")
        if usage is None:
            usage = end.get("meta")
        if isinstance(usage, dict):
            self._usage = {name: usage[name] for name in _USAGE if name in usage} or self._usage
        reasons = [
            end.get("finish_reason"),
            *(mapping(g).get("finish_reason") for g in sequence(end.get("generations"))),
        ]
        self._finish = tuple(reason for reason in reasons if reason and isinstance(reason, str)) or self._finish
        if "ERROR" in self._finish and isinstance(end.get("error"), str):
            self._error = ("ERROR", text(end["error"]))

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        return Reading(
            usage=_tally(self._usage).usage(self._usage, complete=self.finished, why_missing=why_missing),
            response_id=self._id,
            response_model=self._model,
            finish_reasons=self._finish,
            error=self._error,
        )


def _tally(raw: Mapping[str, Any] | None) -> Tally:
    tally = Tally()
    usage = mapping(raw)
    billed = mapping(usage.get("billed_units"))
    if not billed and mapping(usage.get("tokens")):
        billed = mapping(usage["tokens"])
        tally.estimates.append("billed_units are missing, the tokens stand in for them")
    for name, part in _PARTS:
        quantity = tally.count(billed, name)
        if quantity is not None:
            tally.parts[part] = quantity
    if "input" not in tally.parts:
        text_tokens = tally.count(billed, "text_tokens")
        if text_tokens is not None:
            tally.parts["input"] = text_tokens
    if "input_image" not in tally.parts:
        images = tally.count(billed, "images")
        if images is not None:
            tally.parts["image"] = images
    tally.keep_unmapped(billed, _KNOWN)
    tally.keep_unmapped({"cached_tokens": usage.get("cached_tokens")}, frozenset())
    return tally
