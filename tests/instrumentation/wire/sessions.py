"""The hand-written sessions of `tests/fixtures/sessions`, and what a reader makes of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spanledger.instrumentation.wire import gemini_live, openai_live, openai_realtime, openai_responses_session
from spanledger.instrumentation.wire.reading import Reading
from spanledger.instrumentation.wire.session import SessionReader

FOLDER = Path(__file__).parents[2] / "fixtures" / "sessions"
READERS: dict[str, Callable[[str], SessionReader]] = {
    "gemini_live": gemini_live.Session,
    "openai_live": openai_live.Session,
    "openai_realtime": openai_realtime.Session,
    "openai_responses": openai_responses_session.Session,
    "openai_translation": openai_realtime.Translation,
}


@dataclass
class Call:
    """One call of a session, as its reader told of it."""

    operation: str
    model: str
    asked: str | None
    reading: Reading
    spoke: bool = False
    not_billed: bool = False


@dataclass
class Play:
    """A session that has been played to its end."""

    calls: list[Call] = field(default_factory=list)
    unanswered: list[Reading] = field(default_factory=list)


def names() -> list[str]:
    return sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("*/*.json"))


def load(name: str) -> dict[str, Any]:
    fixture: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert fixture["rule"]
    assert fixture["source"]
    return fixture


def messages(name: str) -> list[dict[str, Any]]:
    """What is `sent` and `received` in a session."""
    found: list[dict[str, Any]] = load(name)["messages"]
    return found


def said(name: str) -> list[dict[str, Any]]:
    """What the provider says in a session."""
    return [message["received"] for message in messages(name) if "received" in message]


def reader_of(name: str, fixture: dict[str, Any]) -> SessionReader:
    return READERS[name.partition("/")[0]](fixture.get("model", ""))


def told(message: Any, *, as_text: bool = False) -> bytes | str:
    """A message as it goes over the wire, compact as OpenAI's servers write it."""
    text = message if isinstance(message, str) else json.dumps(message, separators=(",", ":"))
    return text if as_text else text.encode(errors="replace")


def play(reader: SessionReader, messages: Iterable[dict[str, Any]], *, as_text: bool = False) -> Play:
    """What comes of a session that ends after `messages`."""
    done, going, asked = Play(), dict[str, Call](), Counter[str]()
    for message in messages:
        if "sent" in message:
            name = reader.sent(told(message["sent"], as_text=as_text))
            if name is not None:
                asked[name] += 1
            continue
        for step in reader.received(told(message["received"], as_text=as_text)):
            call = going.get(step.key)
            if step.asked is not None:
                asked[step.asked] -= 1
            if step.speaks:
                if call is not None:
                    call.spoke = True
                continue
            if call is None:
                call = going[step.key] = Call(step.operation, step.model, step.asked, Reading())
            if step.reading is not None:
                call.reading, call.not_billed = step.reading, step.not_billed
                done.calls.append(going.pop(step.key))
    for key, call in going.items():
        call.reading = reader.broken_off(key)
        done.calls.append(call)
    done.unanswered = [reader.broken_off(name) for name, number in asked.items() for _ in range(number)]
    return done
