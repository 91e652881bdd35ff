"""OpenAI audio: transcriptions and translations, billed by tokens or by the second, and speech.

Sources: `openai.types.audio.transcription`, `transcription_verbose`, `transcription_diarized`,
`transcription_text_done_event`; https://developers.openai.com/api/reference/resources/audio for the events of
streamed speech, which has usage only with `stream_format: sse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import openai_usage, sse
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import error_of, mapping, text


def read_transcription(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a transcription; text and subtitle formats come without usage."""
    body = mapping(body)
    raw = body.get("usage")
    if raw is None and body.get("duration") is not None:  # older verbose responses
        raw = {"seconds": body["duration"]}
    return _reading(raw, body, mapping(request), "output", True, "the response format carries no usage")


def read_speech(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read what came with plain speech: nothing that tells its usage."""
    body = mapping(body)
    return _reading(body.get("usage"), body, mapping(request), "output_audio", True, "plain speech carries no usage")


class _Stream:
    __slots__ = ("_body", "_raw", "_request", "ended", "finished")

    deltas = b""
    output_part = "output"

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.ended = self.finished = False
        self._request = mapping(request)
        self._body: dict[str, Any] = {}
        self._raw: object = None

    def feed(self, line: bytes) -> None:
        if line.startswith((b"data:", b"{")) and self.deltas not in line[:64]:
            event = sse.event(line)
            if event is not None:
                self.take(event)
            elif line.startswith((b"data: [DONE]", b"data:[DONE]")):
                self.ended = self.finished = True

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event, parsed."""
        if event.get("usage") is not None:
            self._raw = event["usage"]
        if text(event.get("type")).endswith(".done"):
            self.ended = self.finished = True
        if event.get("type") == "error" or event.get("error"):
            self._body["error"] = event.get("error") or event
            self.ended = True

    def reading(self) -> Reading:
        why = "the stream carried no usage"
        return _reading(self._raw, self._body, self._request, self.output_part, self.finished, why)


class TranscriptionStream(_Stream):
    """Reads a stream of transcript events; `transcript.text.done` has the usage."""

    __slots__ = ()
    deltas = b"transcript.text.delta"


class SpeechStream(_Stream):
    """Reads a stream of speech events; `speech.audio.done` has the usage, whose output is audio."""

    __slots__ = ()
    deltas = b"speech.audio.delta"
    output_part = "output_audio"


def _reading(
    raw: object,
    body: Mapping[str, Any],
    request: Mapping[str, Any],
    output_part: str,
    complete: bool,
    why_missing: str,
) -> Reading:
    tally = openai_usage.read(raw, request, body, output_part)
    return Reading(
        usage=tally.usage(raw, complete=complete, why_missing=why_missing),
        response_id=text(body.get("id")),
        response_model=text(body.get("model")),
        service_tier=text(body.get("service_tier")),
        reported_cost=openai_usage.reported_cost(raw),
        error=error_of(body.get("error")),
    )
