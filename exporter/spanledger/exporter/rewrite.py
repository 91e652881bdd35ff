"""Writing rows of the ledger once more, with another version: how settling and re-pricing change a row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from spanledger.exporter.client import Client

_T = TypeVar("_T")

PAGE: Final = 1_000
"""So many calls are read and written at once."""


class Key(NamedTuple):
    """A call in the ledger; its lines share it."""

    event_date: date
    entry_id: str


def whole_rows(client: Client, keys: Sequence[Key]) -> Iterator[tuple[Key, dict[str, Any]]]:
    """All lines of these calls, deleted ones too, as `JSONEachRow` takes them back; `version` is an int."""
    found = client.query(
        "SELECT formatRowNoNewline('JSONEachRow', * EXCEPT ingested_at) FROM llm_calls"
        " WHERE (event_date, entry_id) IN {keys:Array(Tuple(Date, String))}"
        " ORDER BY event_date, entry_id, line, version DESC, is_deleted DESC LIMIT 1 BY event_date, entry_id, line",
        {"keys": [(str(key.event_date), key.entry_id) for key in keys]},
        {
            "output_format_json_quote_64bit_integers": 1,
            "output_format_json_quote_decimals": 1,
            "date_time_output_format": "simple",
        },
    )
    for (text,) in found.rows:
        row: dict[str, Any] = orjson.loads(text)
        row["version"] = int(row["version"])
        yield Key(date.fromisoformat(row["event_date"]), row["entry_id"]), row


def write(client: Client, rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows; the same rows again insert nothing."""
    block = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    if block:
        client.insert_block("llm_calls", block, hashlib.sha256(block).hexdigest())


def pages(keys: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """`keys`, `PAGE` at a time."""
    for start in range(0, len(keys), PAGE):
        yield keys[start : start + PAGE]
