"""Each rule of `docs/usage.md` on sessions, on a session of `tests/fixtures/sessions` that was written for it."""

from __future__ import annotations

import copy
import json
import random
from decimal import Decimal
from typing import Any

import pytest

from spanledger.instrumentation.wire import session
from spanledger.pricing.usage import INCOMPLETE, MISSING, REPORTED, Quantity, totals
from tests.instrumentation.wire import sessions
from tests.instrumentation.wire.test_hostile import MUTATIONS, _check, _mutate

Parts = dict[str, Quantity]


def first_turn() -> Parts:
    """`prompt 132 (119 text, 13 audio), cached 64, all text; 30 text and 91 audio out`."""
    return {
        "cache_read": 64,
        "cache_read_audio": 0,
        "cache_read_image": 0,
        "input": 119 - 64,
        "input_audio": 13,
        "input_image": 0,
        "output": 30,
        "output_audio": 91,
    }


def second_turn() -> Parts:
    return {
        "cache_read": 128,
        "cache_read_audio": 192,
        "cache_read_image": 0,
        "input": 180 - 128,
        "input_audio": 250 - 192,
        "input_image": 0,
        "output": 40,
        "output_audio": 150,
    }


LIVE_TURN: Parts = {"input": 143 - 43, "input_audio": 43, "output": 0, "output_audio": 19}
NEXT_TURN: Parts = {"input": 181 - 81, "input_audio": 81, "output": 0, "output_audio": 24}
RESPONSE: Parts = {"cache_read": 600, "input": 1000 - 600, "output": 200 - 128, "output_reasoning": 128}
OTHER_RESPONSE: Parts = {**RESPONSE, "input": 700 - 600}

PARTS: dict[str, list[Parts]] = {
    "gemini_live/turns": [LIVE_TURN, NEXT_TURN],
    "gemini_live/metadata_of_one_turn": [{"input": 143, "output": 12}],
    "gemini_live/metadata_after_the_turn": [LIVE_TURN, NEXT_TURN],
    "gemini_live/tool_call": [{"input": 200, "output": 14}, {"input": 240, "output": 30}],
    "gemini_live/tool_call_metadata_after": [{"input": 200, "output": 14}, {"input": 240, "output": 30}],
    "gemini_live/tool_call_without_metadata": [{"input": 240, "output": 30}],
    "gemini_live/thoughts_outside_the_total": [
        {"input": 522 - 165, "input_audio": 165, "output": 0, "output_audio": 42, "output_reasoning": 136}
    ],
    "gemini_live/thoughts_in_the_total": [
        {"input": 100, "output": 20, "output_reasoning": 500, "input_tool_use": 1120 - 100 - 20 - 500}
    ],
    "gemini_live/cached_audio": [
        {
            "cache_read": 864 - 800,
            "cache_read_audio": 800,
            "input": 1000 - 864 - 100 - 36,
            "input_audio": 900 - 800,
            "input_video": 36,
            "output": 10,
        }
    ],
    "gemini_live/vertex": [{"input": 11, "input_audio": 58, "output": 26, "output_audio": 150}],
    "gemini_live/interrupted": [{"input": 143, "output": 7}],
    "gemini_live/grounding": [
        {"input": 300, "output": 20, "web_search": 2, "grounded_request": 1, "code_execution": 1},
        LIVE_TURN,
    ],
    "gemini_live/broken_off": [{"input": 143, "output": 5}],
    "gemini_live/no_usage": [{}, LIVE_TURN, {}],
    "gemini_live/unanswered": [],
    "gemini_live/quiet": [],
    "openai_live/session": [{"audio_second": Decimal("90.5")}],
    "openai_live/broken_off": [{"audio_second": Decimal("42.25")}],
    "openai_live/sideband": [{"audio_second": 125}],
    "openai_live/delegated_response": [{**RESPONSE, "web_search": 1}, {"audio_second": 30}],
    "openai_live/decision": [
        {"cache_read": 0, "input": 300, "output": 4, "output_reasoning": 0},
        {"audio_second": 12},
    ],
    "openai_realtime/turns": [first_turn(), second_turn()],
    "openai_realtime/cached_audio_and_images": [
        {
            "cache_read": 128,
            "cache_read_audio": 512,
            "cache_read_image": 256,
            "input": 300 - 128,
            "input_audio": 800 - 512,
            "input_image": 400 - 256,
            "output": 10,
            "output_audio": 0,
        }
    ],
    "openai_realtime/cancelled": [{"cache_read": 0, "input": 119, "input_audio": 13, "output": 12, "output_audio": 36}],
    "openai_realtime/cancelled_without_usage": [{}],
    "openai_realtime/incomplete": [{"input": 100, "input_audio": 0, "output": 50, "output_audio": 0}],
    "openai_realtime/failed": [{"input": 0, "input_audio": 0, "output": 0, "output_audio": 0}],
    "openai_realtime/broken_off": [{}],
    "openai_realtime/unanswered": [],
    "openai_realtime/refused": [{}, first_turn(), second_turn()],
    "openai_realtime/errors": [first_turn()],
    "openai_realtime/beta": [
        {"cache_read": 64, "input": 200 - 64 - 80, "input_audio": 80, "output": 20, "output_audio": 80}
    ],
    "openai_realtime/transcription_by_tokens": [{"input": 4, "input_audio": 13, "output": 9}, first_turn()],
    "openai_realtime/transcription_by_seconds": [
        {"audio_second": Decimal("3.25")},
        {"audio_second": 4},
        {"audio_second": 1},
    ],
    "openai_realtime/transcription_model_changes": [
        {"audio_second": 2},
        {"input": 0, "input_audio": 20, "output": 10},
    ],
    "openai_realtime/transcription_failed": [{}],
    "openai_realtime/unknown_fields": [{"input": 10, "output": 5}],
    "openai_responses/responses": [RESPONSE, OTHER_RESPONSE],
    "openai_responses/lanes": [{**OTHER_RESPONSE, "web_search": 1}, RESPONSE],
    "openai_responses/refused": [{}, RESPONSE],
    "openai_responses/failed": [{}],
    "openai_responses/broken_off": [{}],
    "openai_translation/session": [{}],
}
SUMS = {
    "gemini_live/turns": [162, 205],
    "gemini_live/thoughts_outside_the_total": [564 + 136],
    "gemini_live/cached_audio": [1010],
    "openai_live/delegated_response": [1200, 0],
    "openai_realtime/turns": [253, 620],
    "openai_realtime/cached_audio_and_images": [1510],
    "openai_realtime/beta": [300],
}
"""Where the provider states a total: that of each call."""

STATUS = {"gemini_live/broken_off": INCOMPLETE, "openai_live/broken_off": INCOMPLETE}
MODELS = {
    "gemini_live/thoughts_outside_the_total": [("gemini-3.8-live", "")],
    "openai_live/delegated_response": [("gpt-5.4-mini", "gpt-5.4-mini"), ("gpt-live-1", "gpt-live-1")],
    "openai_live/sideband": [("", "gpt-live-1")],
    "openai_realtime/transcription_by_tokens": [
        ("gpt-4o-transcribe", "gpt-4o-transcribe"),
        ("gpt-realtime", "gpt-realtime-2025-08-28"),
    ],
    "openai_realtime/errors": [("gpt-realtime-2025-08-28", "gpt-realtime-2025-08-28")],
    "openai_realtime/transcription_model_changes": [
        ("whisper-1", "whisper-1"),
        ("gpt-4o-mini-transcribe", "gpt-4o-mini-transcribe"),
    ],
    "openai_responses/responses": [("gpt-5.4", "gpt-5.4-2026-03-05"), ("gpt-5.4", "gpt-5.4-2026-03-05")],
    "openai_translation/session": [("gpt-realtime-translate", "gpt-realtime-translate")],
}
IDS = {
    "gemini_live/turns": ["", ""],
    "openai_live/session": ["live_sess_0123456789abcdef"],
    "openai_live/delegated_response": ["resp_live_0123456789", "live_sess_0123456789abcdef"],
    "openai_realtime/turns": ["resp_CCXHw0UJld10EzIUXQCNh", "resp_CCXIk3PsYyVXFvPQ8BLsP"],
    "openai_realtime/broken_off": ["resp_CCXHw0UJld10EzIUXQCNh"],
    "openai_realtime/transcription_by_seconds": [
        "sess_C9G5QPteg4UIbotdKLoYQ/item_1",
        "sess_C9G5QPteg4UIbotdKLoYQ/item_2",
        "sess_C9G5QPteg4UIbotdKLoYQ/item_2/1",
    ],
}
FINISH = {
    "gemini_live/interrupted": ("interrupted",),
    "openai_live/session": ("close_requested",),
    "openai_realtime/cancelled": ("turn_detected",),
    "openai_realtime/incomplete": ("max_output_tokens",),
    "openai_realtime/failed": ("failed",),
}
ERRORS = {
    "openai_realtime/failed": "rate_limit_exceeded",
    "openai_realtime/refused": "conversation_already_has_active_response",
    "openai_realtime/transcription_failed": "audio_unintelligible",
    "openai_responses/failed": "server_error",
    "openai_responses/refused": "previous_response_not_found",
}
"""The error of the first call."""

NOT_BILLED = {"openai_realtime/refused", "openai_realtime/transcription_failed", "openai_responses/refused"}
UNANSWERED = {"gemini_live/unanswered": 1, "openai_realtime/unanswered": 1, "openai_responses/broken_off": 1}
OPERATIONS = {
    "openai_live/decision": ["decision", "chat"],
    "openai_realtime/transcription_by_tokens": ["transcription", "chat"],
    "openai_realtime/transcription_by_seconds": ["transcription"] * 3,
    "openai_realtime/transcription_model_changes": ["transcription"] * 2,
    "openai_realtime/transcription_failed": ["transcription"],
    "openai_translation/session": ["translation"],
}
TIERS = {"gemini_live/vertex": ["priority"], "openai_responses/responses": ["flex", "priority"]}

every_session = pytest.mark.parametrize("name", sorted(PARTS))


def held(thing: object) -> object:
    """Everything that `thing` holds, slot by slot."""
    if isinstance(thing, dict):
        return [(key, held(value)) for key, value in thing.items()]
    if isinstance(thing, (list, tuple, set)) or type(thing).__name__ == "deque":
        return [held(each) for each in thing]  # type: ignore[attr-defined]
    slots = getattr(type(thing), "__slots__", ())
    return [(slot, held(getattr(thing, slot))) for slot in slots] or thing


def play(name: str, *, as_text: bool = False) -> sessions.Play:
    fixture = sessions.load(name)
    return sessions.play(sessions.reader_of(name, fixture), fixture["messages"], as_text=as_text)


def test_each_session_has_a_rule() -> None:
    assert sorted(PARTS) == sessions.names()


@every_session
def test_the_calls_of_a_session(name: str) -> None:
    played = play(name)
    calls = played.calls
    assert [dict(call.reading.usage.parts) for call in calls] == PARTS[name]
    for call in calls:
        whole = REPORTED if call.reading.usage.parts else MISSING
        assert call.reading.usage.status == STATUS.get(name, whole)
        assert bool(call.reading.usage.reasons) == (call.reading.usage.status != REPORTED)
    assert [call.operation for call in calls] == OPERATIONS.get(name, ["chat"] * len(calls))
    assert (calls[0].reading.error or ("",))[0] == ERRORS.get(name, "") if calls else not ERRORS.get(name)
    assert (calls[0].not_billed if calls else False) == (name in NOT_BILLED)
    assert not any(call.not_billed or call.reading.error for call in calls[1:])
    assert len(played.unanswered) == UNANSWERED.get(name, 0)
    assert all(reading.usage.status == MISSING for reading in played.unanswered)


@every_session
def test_a_message_of_text_says_what_its_bytes_say(name: str) -> None:
    assert play(name, as_text=True) == play(name)


@pytest.mark.parametrize("name", sorted(SUMS))
def test_the_parts_sum_to_what_the_provider_states(name: str) -> None:
    sums = [totals(call.reading.usage.parts) for call in play(name).calls]
    assert [each.input_tokens + each.output_tokens for each in sums] == SUMS[name]


@pytest.mark.parametrize("name", sorted({*MODELS, *IDS, *FINISH, *TIERS}))
def test_whose_calls_they_are(name: str) -> None:
    calls = play(name).calls
    if name in MODELS:
        assert [(call.model, call.reading.response_model) for call in calls] == MODELS[name]
    if name in IDS:
        assert [call.reading.response_id for call in calls] == IDS[name]
    if name in FINISH:
        assert calls[0].reading.finish_reasons == FINISH[name]
    if name in TIERS:
        assert [call.reading.service_tier for call in calls] == TIERS[name]


def test_a_call_answers_the_request_that_asked_for_it() -> None:
    assert [call.asked for call in play("openai_realtime/turns").calls] == ["response", None]
    assert [call.asked for call in play("openai_realtime/refused").calls] == ["response", None, None]
    assert [call.asked for call in play("openai_responses/lanes").calls] == ["two", "one"]
    assert [call.asked for call in play("gemini_live/tool_call").calls] == ["turn", "turn"]


@pytest.mark.parametrize("name", ["openai_realtime/turns", "openai_live/session", "gemini_live/turns"])
def test_the_first_output_of_a_call_is_told(name: str) -> None:
    assert all(call.spoke for call in play(name).calls)


def test_the_usage_is_kept_as_sent() -> None:
    messages = sessions.load("gemini_live/vertex")["messages"]
    assert play("gemini_live/vertex").calls[0].reading.usage.raw == messages[-1]["received"]["usageMetadata"]


@pytest.mark.parametrize(
    "name",
    [
        "gemini_live/broken_off",
        "gemini_live/turns",
        "openai_live/session",
        "openai_realtime/broken_off",
        "openai_realtime/transcription_by_tokens",
        "openai_responses/broken_off",
    ],
)
def test_nothing_of_the_content_stays_with_a_reader(name: str) -> None:
    fixture, marker = sessions.load(name), "SECRET CONTENT"
    messages = json.dumps(fixture["messages"])
    for content in ("AAAA", "Hi", "Hello."):
        messages = messages.replace(f'"{content}"', f'"{marker}"')
    assert marker in messages
    reader = sessions.reader_of(name, fixture)
    sessions.play(reader, json.loads(messages))
    assert marker not in repr(held(reader))


AUDIO = "A" * 30_000


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("openai_realtime", "received", {"type": "response.output_audio.delta", "event_id": "e", "delta": AUDIO}),
        ("openai_realtime", "sent", {"type": "input_audio_buffer.append", "audio": AUDIO}),
        ("openai_responses", "received", {"type": "response.output_text.delta", "delta": "Hi"}),
        ("openai_live", "received", {"type": "session.output_audio.delta", "event_id": "e", "delta": AUDIO}),
        ("openai_live", "received", {"type": "session.input_audio.append", "audio": AUDIO}),
        ("gemini_live", "received", {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": AUDIO}}]}}}),
        ("gemini_live", "sent", {"realtime_input": {"audio": {"data": AUDIO, "mime_type": "audio/pcm"}}}),
    ],
)
def test_a_message_that_cannot_matter_is_not_parsed(
    monkeypatch: pytest.MonkeyPatch, name: str, side: str, message: dict[str, Any]
) -> None:
    reader = sessions.READERS[name]("m")
    monkeypatch.setattr(session, "orjson", None)
    tell = reader.sent if side == "sent" else reader.received
    for as_text in (False, True):
        tell(sessions.told(message, as_text=as_text))
        assert not tell(sessions.told(message, as_text=as_text))


@pytest.mark.parametrize("data", ['"AAAA"', '"say \\"hi\\""', "5", "null", '{"a": "b"}', '["c"]', '"', ""])
@pytest.mark.parametrize("pretty", [False, True])
def test_whatever_stands_under_data_a_metadata_beside_it_is_seen(data: str, pretty: bool) -> None:
    usage = json.dumps({"promptTokenCount": 143, "responseTokenCount": 19, "totalTokenCount": 162})
    said = f'{{"toolCall": {{"args": {{"data": {data}}}}}, "usageMetadata": {usage}}}'
    beside = f'{{"data": {data}, "toolCall": {{"id": 1}}, "usageMetadata": {usage}}}'
    for message in (said, beside):
        try:
            told = json.dumps(json.loads(message), indent=2 if pretty else None).encode()
        except ValueError:
            continue
        (*_, last) = sessions.READERS["gemini_live"]("m").received(told)
        assert last.reading is not None
        assert last.reading.usage.parts == {"input": 143, "output": 19}


def test_mutated_sessions() -> None:
    chance = random.Random(20_260_102)
    fixtures = [(name, sessions.load(name)) for name in sessions.names()]
    for number in range(MUTATIONS):
        name, fixture = chance.choice(fixtures)
        messages: list[Any] = copy.deepcopy(fixture["messages"])
        for _ in range(chance.randint(1, 4)):
            _mutate(chance.choice(messages), chance)
        if chance.random() < 0.2:
            chance.shuffle(messages)
        if chance.random() < 0.2:
            other = copy.deepcopy(chance.choice(fixtures)[1]["messages"])
            messages = [each for pair in zip(messages, other, strict=False) for each in pair]
        messages = [_garbled(message, chance) for message in messages if "sent" in message or "received" in message]
        played = sessions.play(sessions.reader_of(name, fixture), messages, as_text=chance.random() < 0.5)
        told = f"mutation {number} of {name}: {messages!r}"
        for reading in (*(call.reading for call in played.calls), *played.unanswered):
            _check(reading, told)
        for call in played.calls:
            assert all(isinstance(each, str) for each in (call.operation, call.model, call.asked or "")), told


def _garbled(message: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The message, or now and then what is left of it when a part of it is lost or wrong."""
    if chance.random() < 0.9:
        return message
    side = "sent" if "sent" in message else "received"
    text = str(sessions.told(message[side], as_text=True))
    at = chance.randrange(len(text) + 1)
    return {side: text[:at] if chance.random() < 0.5 else text[:at] + chr(chance.randrange(256)) + text[at + 1 :]}
