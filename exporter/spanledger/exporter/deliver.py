"""Blocks into ClickHouse, each once; rows that it refuses for their content are put aside, and the others go in."""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from spanledger.exporter import health
from spanledger.exporter.client import UNKNOWN_TABLE, ClickHouseError, Client
from spanledger.exporter.journal import locked, read, reject
from spanledger.exporter.migrate import SchemaError, migrate
from spanledger.exporter.shipper import Loaded

logger = logging.getLogger("spanledger")

TABLE = "llm_calls"

# https://clickhouse.com/docs/reference/error-codes: what is wrong with these is the data, and stays wrong.
_CONTENT_CODES = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        25,  # CANNOT_PARSE_ESCAPE_SEQUENCE
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        32,  # ATTEMPT_TO_READ_AFTER_EOF
        33,  # CANNOT_READ_ALL_DATA
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        128,  # TOO_LARGE_ARRAY_SIZE
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        407,  # DECIMAL_OVERFLOW
        467,  # CANNOT_PARSE_BOOL
        469,  # VIOLATED_CONSTRAINT
    }
)

_NAME = re.compile(r"\(([A-Z][A-Z_]{3,})\)")
_REASON = 500


def deliver(client: Client, paths: Iterable[Path], deadline: float = math.inf) -> Loaded:
    """Insert blocks, each under its own lock, and delete those that ClickHouse has.

    Parameters:
        deadline: on `time.monotonic()`; what is not begun by then waits.

    Raises:
        SchemaError: some blocks need a newer schema; they wait, the others are delivered.
        ClickHouseError: ClickHouse is not reached, or takes nothing now.
        OSError: a file cannot be read or deleted, or refused rows not be put aside; the other blocks are delivered.
    """
    blocks = rows = waiting = rejected = 0
    trouble: SchemaError | OSError | None = None
    for path in paths:
        try:
            with locked(path) as descriptor:
                if descriptor is None:
                    waiting += path.exists()
                    continue
                block = read(descriptor)
                refused = _insert(client, block, deadline) if block else []
                if refused:
                    _put_aside(path, block, refused)
                path.unlink()
        except (SchemaError, OSError) as error:
            trouble = error
            continue
        rejected += len(refused)
        taken = block.count(b"\n") - len(refused)
        rows += taken
        blocks += taken > 0
    if trouble is not None:
        raise trouble
    return Loaded(blocks, rows, waiting, rejected)


def deliver_health(client: Client, folder: Path) -> None:
    """Send the counts that wait in the journal; where the ledger has no table for them yet, they wait on.

    Raises:
        ClickHouseError: ClickHouse is not reached.
    """
    counts = health.of(folder)
    unsaved = b""
    try:
        counts.save()
    except OSError:  # the disk takes nothing; the ledger may
        unsaved = counts.rows().encode()
    try:
        for path in folder.glob("*.health"):
            with locked(path) as descriptor:
                if descriptor is not None:
                    health.send(client, read(descriptor))
                    path.unlink(missing_ok=True)
        if unsaved:
            health.send(client, unsaved)
    except ClickHouseError as error:
        if unsaved:
            counts.unsaved()
        if error.unreachable:
            raise


def retry_rejected(folder: Path) -> int:
    """Make blocks again of the rows that were put aside, for the next delivery; their number.

    Raises:
        OSError: a file cannot be read or renamed.
    """
    rows = 0
    for path in sorted(folder.glob("*.rejected")):
        block = path.with_suffix(".block")
        with locked(path) as descriptor:
            if descriptor is None or block.exists():  # the rest of the same segment is not delivered yet
                continue
            rows += read(descriptor).count(b"\n")
            os.rename(path, block)
            path.with_suffix(".reason").unlink(missing_ok=True)
    return rows


def _insert(client: Client, block: bytes, deadline: float) -> list[tuple[bytes, ClickHouseError]]:
    """Insert `block`; where its content is refused, its halves, until the bad rows stand alone: these, and why.

    A half's deduplication token is its own bytes' hash, and a block is always split at the same places: after a
    crash in between, the same inserts come again, and those that were done have no effect.
    """
    if time.monotonic() > deadline:
        raise ClickHouseError("no time is left")
    try:
        _insert_whole(client, block)
    except SchemaError:
        raise
    except ClickHouseError as error:
        if error.code not in _CONTENT_CODES:
            raise
        lines = [line + b"\n" for line in block.removesuffix(b"\n").split(b"\n")]
        if len(lines) == 1:
            return [(block, error)]
        half = len(lines) // 2
        return _insert(client, b"".join(lines[:half]), deadline) + _insert(client, b"".join(lines[half:]), deadline)
    return []


def _insert_whole(client: Client, block: bytes) -> None:
    token = sha256(block).hexdigest()
    try:
        client.insert_block(TABLE, block, token)
    except ClickHouseError as error:
        if not _schema_is_older(error):
            raise
        if not migrate(client):
            raise SchemaError(
                f"the ledger's schema at {client.endpoint} is older than what wrote these rows ({error}):"
                " upgrade the spanledger that loads them",
                error.code,
            ) from error
        client.insert_block(TABLE, block, token)


def _schema_is_older(error: ClickHouseError) -> bool:
    """The table, or a column of it, is not there."""
    return error.code in (UNKNOWN_TABLE, 16) or "Unknown field" in str(error)


def _put_aside(path: Path, block: bytes, refused: list[tuple[bytes, ClickHouseError]]) -> None:
    reject(path, b"".join(row for row, _ in refused), [str(error)[:_REASON] for _, error in refused])
    counts = health.of(path.parent)
    for _, error in refused:
        name = _NAME.search(str(error))
        counts.count(health.ROWS_REJECTED, 1, name[1] if name else f"ClickHouse's error {error.code}")
    rows = block.count(b"\n")
    if len(refused) < rows:
        counts.count(health.BLOCKS_SPLIT, 1, "")
    logger.error(
        "spanledger: ClickHouse refused %d of the %d rows of %s for their content; they are kept in %s,"
        " `spanledger retry` sends them again: %s",
        len(refused),
        rows,
        path.name,
        path.with_suffix(".rejected").name,
        str(refused[0][1])[:_REASON],
    )
