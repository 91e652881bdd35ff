"""What a session over a WebSocket tells of the calls made in it; pure data, as in `reading.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson

from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import mapping


@dataclass(slots=True)
class Step:
    """A call has begun, has said its first word, or has ended.

    Attributes:
        key: tells the calls of one session apart.
        operation: `gen_ai.operation.name`.
        model: the model asked for.
        asked: the name of the request that the call answers, as `SessionReader.sent` gave it; None if the program
            did not ask for it by a message of its own, as where the provider heard the user stop talking.
        speaks: the call's first output is here.
        reading: the call has ended, with this; None as long as it goes on.
        not_billed: nothing was generated.
    """

    key: str
    operation: str = "chat"
    model: str = ""
    asked: str | None = None
    speaks: bool = False
    reading: Reading | None = None
    not_billed: bool = False


class SessionReader(Protocol):
    """Reads the messages of one session, keeping nothing but what the bill needs.

    A message is JSON, text or bytes as it goes over the wire; one that cannot matter is not parsed.
    """

    def sent(self, message: bytes | str, /) -> str | None:
        """Take a message of the program; the name of what it asks for, None if it asks for no response."""

    def received(self, message: bytes | str, /) -> Sequence[Step]:
        """Take a message of the provider; what it tells, in order."""

    def broken_off(self, key: str, /) -> Reading:
        """What has been seen of a call that has not ended.

        Parameters:
            key: the call's, or the name of a request that was never answered: its reading has the model asked for.
        """


class Words(NamedTuple):
    """Words in double quotes, one of which a message must hold to be worth parsing."""

    of_bytes: tuple[bytes, ...]
    of_text: tuple[str, ...]

    @classmethod
    def quoted(cls, *words: str) -> Words:
        return cls(tuple(f'"{word}"'.encode() for word in words), tuple(f'"{word}"' for word in words))

    def in_message(self, message: bytes | str) -> bool:
        """Whether one of the words is in `message`."""
        if isinstance(message, bytes):
            return any(word in message for word in self.of_bytes)
        return any(word in message for word in self.of_text)


def event_of(message: bytes | str) -> Mapping[str, Any]:
    """The JSON object of a message; an empty one if it is none."""
    try:
        return mapping(orjson.loads(message))
    except ValueError:
        return {}
