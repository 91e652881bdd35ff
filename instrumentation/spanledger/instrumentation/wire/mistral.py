"""Mistral: chat completions as OpenAI has them, and conversations, OCR and transcriptions of its own.

Sources: `mistralai.client.models`: `usageinfo`, `conversationusageinfo`, `ocrusageinfo`, `transcriptionstreamdone`,
`responsedoneevent`; https://docs.mistral.ai/api and https://docs.mistral.ai/agents/agents_introduction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import openai_audio, openai_chat, openai_usage, sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, count, error_of, mapping, sequence, text

_CONNECTORS = {
    "web_search": "web_search",
    "web_search_premium": "web_search",
    "code_interpreter": "code_execution",
    "document_library": "file_search",
    "image_generation": "image",
}
"""`usage.connectors`, how often each of Mistral's own tools ran -> part; others are `tool_call`."""

_CONNECTOR_COUNTS = ("connector_tokens", "connectors")

INFORMATIONAL = frozenset({"doc_size_bytes"})
"""Usage fields that add nothing to the bill; `docs/usage.md` lists them."""


def read_chat(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a chat, fill-in-the-middle or agent completion, or embeddings."""
    body = mapping(body)
    return _as_sent(openai_chat.read(_without_audio_total(body), request), body.get("usage"))


class ChatStream(openai_chat.Stream):
    """Reads a stream of completion chunks; the tier comes with the usage."""

    __slots__ = ("_sent",)

    def __init__(self, request: Mapping[str, Any]) -> None:
        super().__init__(request)
        self._sent: object = None

    def take(self, event: Mapping[str, Any]) -> None:
        self._sent = event.get("usage") or self._sent
        super().take(_without_audio_total(event))

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        return _as_sent(super().reading(why_missing), self._sent)


def read_transcription(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a transcription: seconds of audio, and the tokens beside them."""
    body = mapping(body)
    return _as_sent(openai_audio.read_transcription(_without_audio_total(body), request), body.get("usage"))


class TranscriptionStream(openai_audio.TranscriptionStream):
    """Reads a stream of transcription events; `transcription.done` has the usage and the model."""

    __slots__ = ("_sent",)
    deltas = b"transcription.text.delta"

    def __init__(self, request: Mapping[str, Any]) -> None:
        super().__init__(request)
        self._sent: object = None

    def take(self, event: Mapping[str, Any]) -> None:
        self._sent = event.get("usage") or self._sent
        model = text(event.get("model"))
        if model:
            self._body["model"] = model
        super().take(_without_audio_total(event))

    def reading(self) -> Reading:
        return _as_sent(super().reading(), self._sent)


def read_ocr(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read an OCR response: billed by the page."""
    body = mapping(body)
    raw = body.get("usage_info")
    usage = mapping(raw)
    tally = Tally()
    if raw is not None and not isinstance(raw, dict):
        tally.reasons.append("usage_info is not an object")
    pages = tally.count(usage, "pages_processed")
    if pages is not None:
        tally.parts["page"] = pages
    tally.keep_unmapped(usage, INFORMATIONAL | {"pages_processed"})
    return Reading(
        usage=tally.usage(raw, why_missing="the response has no usage"),
        response_id=text(body.get("id")),
        response_model=text(body.get("model")),
        service_tier=text(mapping(request).get("service_tier")),
        error=error_of(body.get("error")),
    )


def read_conversation(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a conversation's answer. Its id is the whole conversation's, so it does not name the response."""
    seen = ConversationStream(request)
    body = mapping(body)
    for output in sequence(body.get("outputs")):
        seen.take(mapping(output))
    seen.take({"type": _DONE, "usage": body.get("usage"), "error": body.get("error")})
    return seen.reading("the response has no usage")


_DONE = "conversation.response.done"


class ConversationStream:
    """Reads a stream of conversation events; `conversation.response.done` has the usage."""

    __slots__ = ("_error", "_model", "_usage", "ended", "finished")

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._error: tuple[str, str] | None = None
        self._model = text(mapping(request).get("model"))
        self._usage: object = None

    def feed(self, line: bytes) -> None:
        if line.startswith((b"data:", b"{")) and (not self._model or b"message.output.delta" not in line[:64]):
            event = sse.event(line)
            if event is not None:
                self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, parsed."""
        self._model = text(event.get("model")) or self._model
        if event.get("error"):
            self._error = error_of(event["error"])
            self.ended = True
        kind = event.get("type")
        if kind == _DONE:
            self._usage = event.get("usage")
            self.ended = True
            self.finished = self._error is None
        elif kind == "conversation.response.error":
            self._error = error_of({"code": event.get("code"), "message": event.get("message")})
            self.ended = True

    def reading(self, why_missing: str = "the stream carried no usage") -> Reading:
        return Reading(
            usage=_conversation_tally(self._usage).usage(self._usage, complete=self.finished, why_missing=why_missing),
            response_model=self._model,
            error=self._error,
        )


def _conversation_tally(raw: object) -> Tally:
    """What Mistral's tools read comes on top of the prompt: total = prompt + completion + connector tokens."""
    usage = mapping(raw)
    connector_tokens = count(usage.get("connector_tokens")) or 0
    total = count(usage.get("total_tokens"))
    plain = {name: usage[name] for name in usage if name not in _CONNECTOR_COUNTS}
    if total is not None:
        plain["total_tokens"] = max(0, total - connector_tokens)
    tally = openai_usage.read(plain if isinstance(raw, dict) else raw, {}, {})
    connectors = tally.count(usage, "connector_tokens")
    if connectors is not None:
        tally.parts["input_tool_use"] = connectors
    runs = mapping(usage.get("connectors"))
    for name in runs:
        number = tally.count(runs, name)
        if number:
            tally.add(_CONNECTORS.get(name, "tool_call"), number)
    return tally


def _without_audio_total(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Audio is billed by the second: its tokens, which only the total holds, are not reasoning."""
    usage = body.get("usage")
    if isinstance(usage, dict) and usage.get("prompt_audio_seconds") and "total_tokens" in usage:
        return {**body, "usage": {name: value for name, value in usage.items() if name != "total_tokens"}}
    return body


def _as_sent(reading: Reading, raw: object) -> Reading:
    """`reading` with the tier that the usage names, and with the usage as sent."""
    usage = mapping(raw)
    reading.service_tier = text(usage.get("service_tier")) or reading.service_tier
    if usage and reading.usage.raw is not None:
        reading.usage.raw = usage
    return reading
