"""The ledger as the API asks it: a connection that can only read, limits on each query, and answers kept.

An answer holds as long as the ledger's state is the same. Whether the ledger's parts are the same is asked anew for
each request, or for all requests that wait at the same time; what state it is in, when they are not.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from datetime import date
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from spanledger.exporter.client import ClickHouseError, Client, connect
from spanledger.exporter.rollup import Covered, parts, rolled_up
from spanledger.service.api.settings import ServeSettings
from spanledger.settings import Settings

Value = TypeVar("Value")

TOO_SLOW: Final = 159
TOO_MANY_ROWS: Final = (158, 396)
_AT_ONCE: Final = 4
_KEPT: Final = 512


class TooMuch(Exception):
    """A query reached a limit; the message says which and what to do."""


class _Kept:
    """Answers, those asked for last; what is being made is waited for, and not made twice."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, asyncio.Future[Any]] = OrderedDict()

    async def get(self, key: Hashable, make: Callable[[], Awaitable[Value]]) -> Value:
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = asyncio.ensure_future(make())
            found.add_done_callback(lambda done: self._drop_failed(key, done))
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        else:
            self._answers.move_to_end(key)
        value: Value = await asyncio.shield(found)
        return value

    def _drop_failed(self, key: Hashable, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._answers.pop(key, None)


class Ledger:
    """Asks the ledger; all methods are for the event loop's thread."""

    def __init__(self, now: Settings, chosen: ServeSettings) -> None:
        self._now = now
        self._chosen = chosen
        self._client: Client | None = None
        self._room = CapacityLimiter(_AT_ONCE)
        self._state_room = CapacityLimiter(1)
        self._parts = ""
        self._covered = Covered({}, (), "")
        self._asking: asyncio.Future[Covered] | None = None
        self._next: asyncio.Future[Covered] | None = None
        self._answers = _Kept()
        self._of_old_dates = _Kept()

    @property
    def settings(self) -> dict[str, Any]:
        """ClickHouse's settings for a query of a user."""
        return {
            "max_execution_time": self._chosen.max_query_seconds,
            "timeout_overflow_mode": "throw",
            "max_rows_to_read": self._chosen.max_query_rows,
            "read_overflow_mode": "throw",
            "use_query_cache": 0,
            **({} if self._client and self._client.read_only else {"readonly": 2}),
        }

    async def ask(self, question: Callable[[Client, dict[str, Any]], Value]) -> Value:
        """Run `question` with a client and settings for its queries, beside the event loop.

        Raises:
            TooMuch: it reached a limit.
            ClickHouseError: refused, or not reached.
        """
        return await run_sync(self._ask, question, limiter=self._room)

    async def covered(self) -> Covered:
        """The ledger's state, not older than this request."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._state_after(self._asking))
        return await asyncio.shield(self._next)

    async def _state_after(self, before: asyncio.Future[Covered] | None) -> Covered:
        if before is not None:
            await asyncio.wait([before])
        self._asking, self._next = self._next, None
        return await run_sync(self._ask, self._state, limiter=self._state_room)

    def _state(self, client: Client, _settings: Mapping[str, Any]) -> Covered:
        found = parts(client)
        if found != self._parts:
            self._covered, self._parts = rolled_up(client), found
        return self._covered

    async def answer(self, key: Hashable, make: Callable[[Covered], Awaitable[Value]]) -> Value:
        """What `make` answers in the ledger's present state; the same question is asked once in each state."""
        covered = await self.covered()
        return await self._answers.get((key, covered.state), lambda: make(covered))

    async def of_old_dates(
        self,
        key: Hashable,
        covered: Covered,
        dates: Sequence[date],
        question: Callable[[Client, dict[str, Any]], Value],
    ) -> Value:
        """What `question` answers, which is about the calls of these dates that the rollup covers: asked once as long
        as no call comes for them."""
        generations = tuple(covered.dates[day].generation for day in dates)
        return await self._of_old_dates.get((key, generations), lambda: self.ask(question))

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ask(self, question: Callable[[Client, dict[str, Any]], Value]) -> Value:
        for attempt in (1, 2):
            client = self._connected()
            try:
                return question(client, self.settings)
            except ClickHouseError as error:
                if error.code == TOO_SLOW:
                    raise TooMuch(
                        f"the query took more than {self._chosen.max_query_seconds:g} s: ask for less time,"
                        " or fewer groups"
                    ) from error
                if error.code in TOO_MANY_ROWS:
                    raise TooMuch(
                        f"the query would read more than {self._chosen.max_query_rows} rows: set since and until"
                    ) from error
                if attempt == 2 or not error.unreachable:
                    raise
                self.close()  # embedded ClickHouse may listen elsewhere after a restart
        raise AssertionError("unreachable")

    def _connected(self) -> Client:
        if self._client is None:
            self._client = connect(self._now.url or _embedded(self._now))
        return self._client


def _embedded(now: Settings) -> Any:
    from spanledger.exporter.embedded import EmbeddedClickHouse

    reader = EmbeddedClickHouse(now.home).reader()
    if reader is None:
        raise ClickHouseError("embedded ClickHouse is not up: spanledger up")
    return reader
