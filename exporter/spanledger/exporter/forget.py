"""Forgetting a user, a session or a tenant: their rows are written again under pseudonyms, what they said before goes.

Costs, tokens and times stay as they are; names, and whatever may hold content, do not: neither in the rows, nor in the
rollup, nor in what was told of budgets.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from spanledger.exporter.client import Client
from spanledger.exporter.rewrite import Key, pages, whole_rows, write

COLUMNS: Final = {"user": "user_id", "session": "session_id", "tenant": "tenant"}
"""Who can be forgotten -> the column that names them."""

_NAMES: Final = {
    "user": ("user_id", "session_id"),
    "session": ("session_id", "user_id"),
    "tenant": tuple(COLUMNS.values()),
}
"""Who is forgotten -> the columns that become pseudonyms; the tenant of a user goes on paying."""

_IN_SUMS: Final = ("user", "tenant")
"""Who is named in the rollup and in alerts."""

_PREFIX: Final = "forgotten-"
_NEXT: Final = 1 << 8
_NAMING: Final = {"async_insert": 0, "mutations_sync": 2}


@dataclass(frozen=True, slots=True)
class Found:
    """What the ledger has of somebody.

    Attributes:
        keys: their calls.
        uris: where bodies of these calls are.
    """

    keys: Sequence[Key]
    uris: Sequence[str]


def find(client: Client, who: str, name: str) -> Found:
    """The calls of a user, session or tenant, those that other rows have replaced included.

    Parameters:
        who: a key of `COLUMNS`.

    Raises:
        ClickHouseError: refused, or not reached.
    """
    column = COLUMNS[who]
    keys = [
        Key(*row)
        for row in client.query(
            f"SELECT DISTINCT event_date, entry_id FROM llm_calls WHERE {column} = {{name:String}}"
            f" OR entry_id IN (SELECT entry_id FROM llm_describers WHERE {column} = {{name:String}})"
            " ORDER BY event_date, entry_id",
            {"name": name},
        ).rows
    ]
    uris: set[str] = set()
    for page in pages(keys):
        for row in client.query(
            "SELECT request_body_uri, response_body_uri FROM llm_calls"
            " WHERE (event_date, entry_id) IN {keys:Array(Tuple(Date, String))}",
            {"keys": _texts(page)},
        ).rows:
            uris.update(filter(None, row))
    return Found(keys, sorted(uris))


def forget(client: Client, who: str, name: str, found: Found, secret: bytes) -> int:
    """Write the rows of `found` again without names, delete what they said before, and return how many there are.

    Parameters:
        who, name: as in `find`.
        secret: what the pseudonyms are keyed with.

    Raises:
        ClickHouseError: refused, or not reached; forgetting again does the rest.
    """
    column, mine = COLUMNS[who], pseudonym(name, secret)
    done = 0
    for page in pages(found.keys):
        rows = []
        for _, row in whole_rows(client, page):
            for each in _NAMES[who]:
                if row[each] and not row[each].startswith(_PREFIX):
                    row[each] = pseudonym(row[each], secret)
            row[column] = mine
            row |= {"tags": {}, "prompt_name": "", "error_message": "", "request_body_uri": "", "response_body_uri": ""}
            row["version"] += _NEXT
            rows.append(row)
        write(client, rows)
        done += len(rows)
        client.command(
            "ALTER TABLE llm_calls DELETE WHERE (event_date, entry_id) IN {keys:Array(Tuple(Date, String))}"
            f" AND {column} != {{mine:String}}",
            {"keys": _texts(page), "mine": mine},
            _NAMING,
        )
        client.command(
            "ALTER TABLE llm_describers DELETE WHERE entry_id IN {ids:Array(String)}"
            f" AND {column} != {{mine:String}}",
            {"ids": [key.entry_id for key in page], "mine": mine},
            _NAMING,
        )
    if who in _IN_SUMS:
        # Their dates have new rows by now, so that nobody is answered from these sums, and they are made anew.
        client.command(f"ALTER TABLE llm_calls_rollup DELETE WHERE {who} = {{name:String}}", {"name": name}, _NAMING)
        _rename_alerts(client, f"{who}={name}", f"{who}={mine}")
    return done


def _rename_alerts(client: Client, before: str, after: str) -> None:
    """What was told of somebody's budget stays told, under the pseudonym."""
    for (scope,) in client.query("SELECT DISTINCT scope FROM budget_alerts").rows:
        if f", {before}, " not in f", {scope}, ":
            continue
        renamed = f", {scope}, ".replace(f", {before}, ", f", {after}, ")[2:-2]
        client.command(
            "INSERT INTO budget_alerts SELECT * REPLACE ({renamed:String} AS scope) FROM budget_alerts FINAL"
            " WHERE budget_alerts.scope = {scope:String}",
            {"scope": scope, "renamed": renamed},
            {"async_insert": 0},
        )
        client.command("ALTER TABLE budget_alerts DELETE WHERE scope = {scope:String}", {"scope": scope}, _NAMING)


def pseudonym(name: str, secret: bytes) -> str:
    """What stands for a name; without `secret` nobody can try names against it."""
    return _PREFIX + hmac.new(secret, name.encode(), hashlib.sha256).hexdigest()[:16]


def _texts(keys: Sequence[Key]) -> list[tuple[str, str]]:
    return [(str(key.event_date), key.entry_id) for key in keys]
