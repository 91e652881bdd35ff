"""Who may ask, what they see, and how often."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

_MANY: Final = 10_000


class Unauthenticated(Exception):
    """The request shows no token that is known."""


class Misdirected(Exception):
    """Without tokens only loopback is served; the request came under another host's name."""


class TooOften(Exception):
    """Too many requests.

    Attributes:
        retry_after: whole seconds after which there is room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests: ask again in {retry_after} s")
        self.retry_after = retry_after


class Access:
    """Knows the tokens."""

    def __init__(self, tokens: Mapping[str, str], requests_per_minute: int) -> None:
        self._tokens = [(token.encode(), tenant) for token, tenant in tokens.items()]
        self._rate = requests_per_minute / 60
        self._burst = max(10.0, requests_per_minute / 6)
        self._room: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def tenant(self, authorization: str | None, host: str) -> str:
        """The only tenant that the bearer sees; empty: all.

        Parameters:
            host: the request's `host` header.

        Raises:
            Unauthenticated: tokens are set, and this is none of them.
            Misdirected: none are set, and the host is not loopback: a web page could have led a browser here.
        """
        if not self._tokens:
            name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
            if name not in ("localhost", "127.0.0.1", "[::1]"):
                raise Misdirected(f"{host!r} is not loopback: set a token (SPANLEDGER_SERVE_TOKEN_FILE)")
            return ""
        kind, _, shown = (authorization or "").partition(" ")
        found = None
        for token, tenant in self._tokens:  # all of them: the time tells nothing
            if hmac.compare_digest(shown.strip().encode("utf-8", "replace"), token):
                found = tenant
        if found is None or kind.lower() != "bearer":
            raise Unauthenticated("send `authorization: Bearer` with a token of SPANLEDGER_SERVE_TOKEN_FILE")
        return found

    def admit(self, who: str) -> None:
        """Count a request.

        Parameters:
            who: token or address.

        Raises:
            TooOften: there is no room for it.
        """
        now = time.monotonic()
        room, at = self._room.pop(who, (self._burst, now))
        room = min(self._burst, room + (now - at) * self._rate)
        self._room[who] = (max(room - 1, 0.0) if room >= 1 else room, now)
        while len(self._room) > _MANY:
            self._room.popitem(last=False)
        if room < 1:
            raise TooOften(max(1, round((1 - room) / self._rate)))
