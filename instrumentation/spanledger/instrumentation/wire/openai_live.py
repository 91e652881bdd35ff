"""OpenAI's Live API: one call a session, billed by the second, and the work it delegates, billed as such.

`session.usage.updated` and `session.closed` have the seconds of the whole session so far: the last one stands, they
are never summed. A delegated response comes as the events of a Responses stream inside `response.event`, a decision
whole in `decision.event`; neither is in the session's seconds.

Sources: `openai.types.live.session_usage`, `session_usage_updated_event`, `response_event`, `decision_event`;
https://developers.openai.com/api/docs/guides/voice-latency-cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spanledger.instrumentation.wire import openai_responses, openai_usage
from spanledger.instrumentation.wire.openai_realtime import is_delta
from spanledger.instrumentation.wire.reading import Reading
from spanledger.instrumentation.wire.session import Step, Words, event_of
from spanledger.pricing.counts import mapping, text

_HEAD = 200
_SESSION = "session"
_OF_INTEREST = Words.quoted("session", "usage", "response.event", "decision.event")
_AUDIO_IN = Words.quoted("session.input_audio.append")
_AUDIO_OUT = Words.quoted("session.output_audio.delta")
_DECISION = Words.quoted("decision.event")


class Session:
    """Reads a Live session, as its primary connection, its fork or its sideband sees it."""

    __slots__ = ("_id", "_model", "_open", "_responses", "_silent", "_usage")

    def __init__(self, _model: str = "") -> None:
        """Only the session names its model."""
        self._model = ""
        self._id = ""
        self._open = self._silent = False
        self._usage: Mapping[str, Any] | None = None
        self._responses: dict[str, openai_responses.Stream] = {}

    def sent(self, _message: bytes | str) -> str | None:
        return None

    def received(self, message: bytes | str) -> Sequence[Step]:
        head = message[:_HEAD]
        if is_delta(head) and not _DECISION.in_message(head):
            return self._first_word() if self._silent and _AUDIO_OUT.in_message(head) else ()
        if _AUDIO_IN.in_message(head) or not _OF_INTEREST.in_message(message):
            return ()
        event = event_of(message)
        kind = text(event.get("type"))
        if kind == "response.event":
            return self._delegated(text(event.get("delegation_id")), mapping(event.get("event")))
        if kind == "decision.event":
            return self._decided(mapping(mapping(event.get("event")).get("decision")))
        if not kind.startswith("session."):
            return ()
        session = mapping(event.get("session"))
        self._id = text(session.get("id")) or self._id
        self._model = text(session.get("model")) or self._model
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]
        if kind == "session.closed":
            self._open = self._silent = False
            reading = self._reading(complete=True)
            reason = text(event.get("reason"))
            reading.finish_reasons = (reason,) if reason else ()
            return (Step(_SESSION, model=self._model, reading=reading),)
        if not self._open and (session or self._usage):
            self._open = self._silent = True
            return (Step(_SESSION, model=self._model),)
        return ()

    def broken_off(self, key: str) -> Reading:
        stream = self._responses.get(key)
        return self._reading(complete=False) if stream is None else stream.reading()

    def _first_word(self) -> Sequence[Step]:
        self._silent = False
        return (Step(_SESSION, speaks=True),)

    def _reading(self, *, complete: bool) -> Reading:
        tally = openai_usage.read(self._usage, {}, {})
        why = "the session broke off before its usage"
        return Reading(
            usage=tally.usage(self._usage, complete=complete, why_missing=why),
            response_id=self._id,
            response_model=self._model,
        )

    def _delegated(self, delegation: str, event: Mapping[str, Any]) -> Sequence[Step]:
        key = f"{_SESSION} {delegation}"
        response = mapping(event.get("response"))
        model = text(response.get("model"))
        steps: list[Step] = []
        stream = self._responses.get(key)
        if stream is None:
            if not response:
                return ()
            stream = self._responses[key] = openai_responses.Stream({})
            steps.append(Step(key, model=model))
        stream.take(event)
        if stream.ended:
            del self._responses[key]
            steps.append(Step(key, model=model, reading=stream.reading()))
        return steps

    def _decided(self, decision: Mapping[str, Any]) -> Sequence[Step]:
        if not decision:
            return ()
        reading = openai_responses.read(decision, {})
        key = f"decision {reading.response_id}"
        return (Step(key, operation="decision", model=reading.response_model, reading=reading),)
