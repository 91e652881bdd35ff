"""The ledger's schema: `migrations/` holds numbered SQL files, applied once each, in order, never undone.

In a file, `{database}` is the ledger's database, `{on_cluster}` is empty or `ON CLUSTER 'name'`, and `{engine}` before
`ReplacingMergeTree` is empty or `Replicated`. Statements end with `;` at the end of a line. A file may be run again
after it broke off halfway: `IF NOT EXISTS` everywhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spanledger.exporter.client import (
    ACCESS_DENIED,
    READONLY,
    UNKNOWN_DATABASE,
    UNKNOWN_TABLE,
    ClickHouseError,
    Client,
    Endpoint,
    connect,
    parse_url,
)

_FOLDER = Path(__file__).parent / "migrations"

_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS {database}.schema_migrations {on_cluster}
(
    id         UInt32,
    name       String,
    applied_at DateTime('UTC') DEFAULT now('UTC')
)
ENGINE = {engine}ReplacingMergeTree(applied_at)
ORDER BY id
"""


class SchemaError(ClickHouseError):
    """The ledger's schema is older than this program, or than the rows; the message says what to do."""


def migrations() -> dict[int, Path]:
    """Number -> file, in order."""
    return {int(path.name.split("_")[0]): path for path in sorted(_FOLDER.glob("[0-9]*_*.sql"))}


def migrate(client: Client) -> list[str]:
    """Bring the schema in the client's database up to date, and return the names of what was applied.

    Parameters:
        client: a connection whose user may create tables; nothing is written when the schema is current. Where its
            endpoint names a cluster, the tables are made on all its nodes, replicated.

    Raises:
        SchemaError: this user may not.
        ClickHouseError: ClickHouse refuses for another reason, or is not reached.
    """
    names = {
        "database": _quoted(client.endpoint.database),
        "on_cluster": _on_cluster(client.endpoint),
        "engine": "Replicated" if client.endpoint.cluster else "",
    }
    missing = {number: path for number, path in migrations().items() if number not in _applied(client)}
    if not missing:
        return []
    try:
        _apply(client, missing, names)
    except ClickHouseError as error:
        if error.code not in (ACCESS_DENIED, READONLY):
            raise
        raise SchemaError(
            f"the ledger's schema at {client.endpoint} lacks {', '.join(path.stem for path in missing.values())}, and"
            " this user may not create tables: run `spanledger settle` of this version once with SPANLEDGER_URL naming"
            f" a user who may ({error})",
            error.code,
        ) from error
    return [path.stem for path in missing.values()]


def _apply(client: Client, missing: dict[int, Path], names: dict[str, str]) -> None:
    client.command(_fill(_MIGRATIONS_TABLE, names))
    for number, path in missing.items():
        for statement in _statements(path.read_text(encoding="utf-8")):
            client.command(_fill(statement, names))
        client.command(
            f"INSERT INTO {names['database']}.schema_migrations (id, name) VALUES ({{id:UInt32}}, {{name:String}})",
            {"id": number, "name": path.stem},
            {"async_insert": 0},
        )


def open_ledger(
    to: Endpoint | str, connect_timeout: float = 5.0, timeout: float = 60.0, *, current: bool = True
) -> Client:
    """Connect to a ledger whose database and schema are made, or brought up to date, where need be.

    Parameters:
        current: False: a schema that this user may not bring up to date will do, `Client.behind` says so. Rows that
            need what it lacks are refused when they are inserted.

    Raises:
        UrlError, ClickHouseError: as `connect` and `migrate` do.
    """
    endpoint = parse_url(to) if isinstance(to, str) else to
    try:
        client = connect(endpoint, connect_timeout, timeout)
    except ClickHouseError as error:
        if error.code != UNKNOWN_DATABASE:
            raise
        first = connect(replace(endpoint, database="default"), connect_timeout, timeout)
        first.command(f"CREATE DATABASE IF NOT EXISTS {_quoted(endpoint.database)} {_on_cluster(endpoint)}".rstrip())
        first.close()
        client = connect(endpoint, connect_timeout, timeout)
    try:
        migrate(client)
    except BaseException as error:
        if isinstance(error, SchemaError) and not current:
            client.behind = str(error)
            return client
        client.close()
        raise
    return client


def _applied(client: Client) -> set[int]:
    try:
        return {int(row[0]) for row in client.query("SELECT id FROM schema_migrations").rows}
    except ClickHouseError as error:
        if error.code == UNKNOWN_TABLE:
            return set()
        raise


def _statements(text: str) -> list[str]:
    return [part.strip() for part in text.split(";\n") if part.strip()]


def _fill(template: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _on_cluster(endpoint: Endpoint) -> str:
    return f"ON CLUSTER {_quoted(endpoint.cluster)}" if endpoint.cluster else ""


def _quoted(name: str) -> str:
    """An identifier in backticks; ClickHouse reads backslash escapes inside."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
