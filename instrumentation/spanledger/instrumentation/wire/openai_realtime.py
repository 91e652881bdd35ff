"""OpenAI's Realtime API over a WebSocket, conversations, transcriptions and translations, and who speaks it.

A conversation bills each response, in `response.done`, and each transcription of the user's audio, in
`conversation.item.input_audio_transcription.completed`, at the rates of the transcription's model. The counts are
those of one response: nothing adds up over a session.

Sources: `openai.types.realtime.realtime_response_usage` ("this will correspond to billing"),
`conversation_item_input_audio_transcription_completed_event`, `realtime_translation_server_event`;
https://developers.openai.com/api/docs/guides/realtime-costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spanledger.instrumentation.wire import openai_usage
from spanledger.instrumentation.wire.reading import Reading
from spanledger.instrumentation.wire.session import Step, Words, event_of
from spanledger.pricing.counts import Tally, error_of, mapping, text

_HEAD = 200
"""Characters of a message in which its type stands."""

REQUESTS = Words.quoted("response.create")
_OF_INTEREST = Words.quoted("response.created", "response.done", "session", "usage", "error")
_OF_TRANSLATIONS = Words.quoted("session", "session.closed")

_SESSIONS = frozenset(
    {
        "session.created",
        "session.updated",
        "transcription_session.created",
        "transcription_session.updated",
    }
)
_TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
_NOT_TRANSCRIBED = "conversation.item.input_audio_transcription.failed"
_RESPONSE = "response"
_SESSION = "session"


def asks_nothing(message: bytes | str) -> bool:
    """Whether a message of the program is a piece of input: by far the most are."""
    return b'.append"' in message[:_HEAD] if isinstance(message, bytes) else '.append"' in message[:_HEAD]


def is_delta(message: bytes | str) -> bool:
    """Whether a message is a piece of output: by far the most are, and none has usage."""
    return b'.delta"' in message[:_HEAD] if isinstance(message, bytes) else '.delta"' in message[:_HEAD]


class Session:
    """Reads a conversation or a transcription session."""

    __slots__ = ("_asked_model", "_id", "_model", "_open", "_requests", "_silent", "_transcription_model")

    def __init__(self, model: str = "") -> None:
        """
        Parameters:
            model: the model or deployment that the session's URL names.
        """
        self._asked_model = self._model = model
        self._transcription_model = ""
        self._id = ""
        self._open: set[str] = set()
        self._silent: list[str] = []
        self._requests: list[str] = []

    def sent(self, message: bytes | str) -> str | None:
        if asks_nothing(message) or not REQUESTS.in_message(message):
            return None
        event = event_of(message)
        if event.get("type") != "response.create":
            return None
        self._requests.append(text(event.get("event_id")))
        return _RESPONSE

    def received(self, message: bytes | str) -> Sequence[Step]:
        if is_delta(message):
            return self._first_words() if self._silent else ()
        if not _OF_INTEREST.in_message(message):
            return ()
        event = event_of(message)
        kind = text(event.get("type"))
        if kind == "response.created":
            return self._began(mapping(event.get("response")))
        if kind == "response.done":
            return self._done(mapping(event.get("response")))
        if kind in _SESSIONS:
            self._told(mapping(event.get("session")))
        elif kind in (_TRANSCRIBED, _NOT_TRANSCRIBED):
            return (self._transcription(event, kind == _NOT_TRANSCRIBED),)
        elif kind == "error":
            return self._refused(mapping(event.get("error")))
        return ()

    def broken_off(self, key: str) -> Reading:
        usage = Tally().usage(None, complete=False, why_missing="the session broke off before the response's usage")
        return Reading(usage=usage, response_id=key if key in self._open else "", response_model=self._model)

    def _told(self, session: Mapping[str, Any]) -> None:
        self._id = text(session.get("id")) or self._id
        self._model = text(session.get("model")) or self._model
        self._asked_model = self._asked_model or self._model
        audio = mapping(mapping(mapping(session.get("audio")).get("input")).get("transcription"))
        older = mapping(session.get("input_audio_transcription"))
        self._transcription_model = text(audio.get("model") or older.get("model")) or self._transcription_model

    def _began(self, response: Mapping[str, Any]) -> Sequence[Step]:
        key = text(response.get("id"))
        if not key or key in self._open:
            return ()
        self._open.add(key)
        self._silent.append(key)
        asked = None
        if self._requests:
            self._requests.pop(0)
            asked = _RESPONSE
        return (Step(key, model=self._asked_model, asked=asked),)

    def _first_words(self) -> Sequence[Step]:
        silent, self._silent = self._silent, []
        return (Step(silent[0], speaks=True),) if len(silent) == 1 else ()

    def _done(self, response: Mapping[str, Any]) -> Sequence[Step]:
        key = text(response.get("id"))
        self._open.discard(key)
        if key in self._silent:
            self._silent.remove(key)
        raw = response.get("usage")
        tally = openai_usage.read(raw, {}, response)
        details = mapping(response.get("status_details"))
        reason = text(details.get("reason")) or text(response.get("status"))
        reading = Reading(
            usage=tally.usage(raw, why_missing="the response has no usage"),
            response_id=key,
            response_model=text(response.get("model")) or self._model,
            finish_reasons=(reason,) if reason else (),
            reported_cost=openai_usage.reported_cost(raw),
            error=error_of(details.get("error")) if response.get("status") == "failed" else None,
        )
        return (Step(key, model=self._asked_model, reading=reading),)

    def _transcription(self, event: Mapping[str, Any], failed: bool) -> Step:
        """A transcription has no id but its item's, which the program may choose: the session's makes it unique."""
        item, index = text(event.get("item_id")), event.get("content_index")
        key = f"{item}/{index}" if type(index) is int and index else item
        raw = event.get("usage")
        tally = openai_usage.read(raw, {}, event)
        reading = Reading(
            usage=tally.usage(raw, why_missing="the transcription has no usage"),
            response_id=f"{self._id}/{key}" if self._id and item else "",
            response_model=self._transcription_model,
            reported_cost=openai_usage.reported_cost(raw),
            error=error_of(event.get("error")) if failed else None,
        )
        return Step(
            f"{_TRANSCRIBED} {key}",
            operation="transcription",
            model=self._transcription_model,
            reading=reading,
            not_billed=failed and raw is None,
        )

    def _refused(self, error: Mapping[str, Any]) -> Sequence[Step]:
        """An error: if it answers a request for a response, no response will."""
        named = text(error.get("event_id"))
        if not self._requests or (named and named not in self._requests):
            return ()
        self._requests.remove(named if named else self._requests[-1])
        reading = Reading(usage=Tally().usage(None, why_missing="the request was refused"), error=error_of(error))
        return (Step("refused", model=self._asked_model, asked=_RESPONSE, reading=reading, not_billed=True),)


class Translation:
    """Reads a translation session: one call, billed by the second of audio, which no message tells."""

    __slots__ = ("_id", "_model", "_open", "_silent")

    def __init__(self, model: str = "") -> None:
        self._model = model
        self._id = ""
        self._open = self._silent = False

    def sent(self, _message: bytes | str) -> str | None:
        return None

    def received(self, message: bytes | str) -> Sequence[Step]:
        if is_delta(message):
            speaks, self._silent = self._silent, False
            return (Step(_SESSION, speaks=True),) if speaks else ()
        if not _OF_TRANSLATIONS.in_message(message):
            return ()
        event = event_of(message)
        kind = event.get("type")
        if kind == "session.created" and not self._open:
            session = mapping(event.get("session"))
            self._id = text(session.get("id"))
            self._model = text(session.get("model")) or self._model
            self._open = self._silent = True
            return (Step(_SESSION, operation="translation", model=self._model),)
        if kind == "session.closed" and self._open:
            self._open = False
            return (Step(_SESSION, operation="translation", model=self._model, reading=self.broken_off(_SESSION)),)
        return ()

    def broken_off(self, _key: str) -> Reading:
        usage = Tally().usage(None, why_missing="a translation session reports no usage")
        return Reading(usage=usage, response_id=self._id, response_model=self._model)
