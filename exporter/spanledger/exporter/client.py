"""HTTP to ClickHouse, through clickhouse-connect: a server, a cluster, ClickHouse Cloud or the embedded one.

clickhouse-connect is imported when the first connection is made: a program that only appends to the journal
never pays for it.
"""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

_CODE = re.compile(r"Code: (\d+)")
_COLUMNS = re.compile(r"\((?:\w+, ){3,}\w+\)")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

UNKNOWN_TABLE = 60
UNKNOWN_DATABASE = 81
READONLY = 164
ACCESS_DENIED = 497

# https://clickhouse.com/docs/reference/error-codes
_TODO = {
    UNKNOWN_DATABASE: "create the database, or let this user create it",
    READONLY: "this user can only read: give SPANLEDGER_URL one that may insert (docs/security-clickhouse.sql)",
    ACCESS_DENIED: "grant it, or give SPANLEDGER_URL another user (docs/security-clickhouse.sql)",
    194: "SPANLEDGER_URL has no password, and this user needs one",
    241: "ClickHouse is short of memory",
    243: "ClickHouse's disk is full: make room",
    516: "check user and password in SPANLEDGER_URL",
}


class UrlError(ValueError):
    """`SPANLEDGER_URL` is wrong; the message says what and how it should look, and never holds the password."""


class ClickHouseError(Exception):
    """ClickHouse refused a request, or could not be reached.

    Attributes:
        code: ClickHouse's error code (`SELECT * FROM system.errors`); None: no answer came.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code

    @property
    def unreachable(self) -> bool:
        return self.code is None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a ClickHouse listens for HTTP, and who logs in.

    Attributes:
        cluster: name of the ClickHouse cluster that tables are made on, replicated; empty: one server, or Cloud.
    """

    host: str
    port: int
    username: str = "default"
    password: str = field(default="", repr=False)
    database: str = "default"
    secure: bool = False
    cluster: str = ""

    @property
    def loopback(self) -> bool:
        return self.host in _LOOPBACK

    def __str__(self) -> str:
        """Without the password."""
        scheme = "https" if self.secure else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{self.username}@{host}:{self.port}/{self.database}"


def parse_url(url: str) -> Endpoint:
    """Read `https://user:password@host:8443/database`, with `?cluster=NAME` behind it for a cluster.

    The port is 8443 (https) or 8123 (http), the user and the database are `default` where the URL has none.
    Special characters in user or password are percent-encoded.

    Raises:
        UrlError: the URL is not of this form.
    """
    form = "write it as https://user:password@host:8443/database"
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        reason = "its port is not a number" if "port" in str(error).lower() else "it is malformed"
        raise UrlError(
            f"SPANLEDGER_URL: {reason}; a special character in the password is percent-encoded; {form}"
        ) from None
    if parts.scheme not in ("http", "https"):
        raise UrlError(f"SPANLEDGER_URL: it begins with {parts.scheme or 'no scheme'!r}, not http or https; {form}")
    if not parts.hostname:
        raise UrlError(f"SPANLEDGER_URL: it names no host; {form}")
    name, _, cluster = parts.query.partition("=")
    if parts.fragment or (parts.query and (name != "cluster" or not cluster or "&" in cluster)):
        raise UrlError(
            "SPANLEDGER_URL: something follows after ? or # that is not ?cluster=NAME"
            f" (in a password they are %3F and %23); {form}"
        )
    if port in (9000, 9440):
        raise UrlError(f"SPANLEDGER_URL: {port} is ClickHouse's native port; use the HTTP port, 8123 or 8443")
    database = unquote(parts.path.strip("/"))
    if "/" in database:
        raise UrlError(f"SPANLEDGER_URL: {database!r} is not the name of a database; {form}")
    secure = parts.scheme == "https"
    return Endpoint(
        host=parts.hostname,
        port=port or (8443 if secure else 8123),
        username=unquote(parts.username or "") or "default",
        password=unquote(parts.password or ""),
        database=database or "default",
        secure=secure,
        cluster=unquote(cluster),
    )


class Result(NamedTuple):
    """Rows of a query, with the names of their columns."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


class External(NamedTuple):
    """A table that is sent along with a query.

    Attributes:
        structure: its columns, `name Type, name Type`.
        data: its rows, in ClickHouse's format Native.
    """

    structure: str
    data: bytes


# What an insert means must not depend on the server's version or profile.
_INSERT_SETTINGS: Mapping[str, Any] = {
    "async_insert": 0,
    "wait_for_async_insert": 1,
    "deduplicate_insert": "enable",
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_partitions_per_insert_block": 0,  # calls of any months may wait in one block
    "input_format_parallel_parsing": 0,  # a block stays one block, so that its token stands for all of it
    "input_format_skip_unknown_fields": 0,  # a column that the table lacks is an error, not a loss
    "input_format_null_as_default": 0,
    "input_format_defaults_for_omitted_fields": 1,
    "date_time_input_format": "basic",
}


class Client:
    """One connection pool to one ClickHouse; safe to share between threads.

    Attributes:
        behind: what the schema lacks, in a sentence; empty where it is current, or was not looked at.
    """

    def __init__(self, endpoint: Endpoint, driver: Any, pool: Any) -> None:
        self.endpoint = endpoint
        self.behind = ""
        self._driver = driver
        self._pool = pool
        known = driver.server_settings
        self._insert_settings = {name: value for name, value in _INSERT_SETTINGS.items() if name in known}

    @property
    def version(self) -> str:
        """The server's version, `26.9.2.1`."""
        return str(self._driver.server_version)

    @property
    def read_only(self) -> bool:
        """Whether this user can only read, whatever a query asks for."""
        setting = self._driver.server_settings.get("readonly")
        return setting is not None and str(setting.value) != "0"

    def query(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        external: Mapping[str, External] | None = None,
    ) -> Result:
        """Run a SELECT; `{name:Type}` in it is bound by the server to `parameters[name]`.

        Parameters:
            external: tables that it reads besides the database's, by name.

        Raises:
            ClickHouseError: refused, or not reached.
        """
        with _translated(self.endpoint):
            found = self._driver.query(
                sql,
                parameters=dict(parameters or {}),
                settings=dict(settings or {}),
                use_none=True,
                external_data=_external_data(external) if external else None,
            )
            return Result(tuple(found.column_names), found.result_rows)

    def native(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> bytes:
        """Run a SELECT and return its rows in format Native, as `External` takes them.

        Raises:
            ClickHouseError: refused, or not reached.
        """
        with _translated(self.endpoint):
            found: bytes = self._driver.raw_query(
                sql, parameters=dict(parameters or {}), fmt="Native", settings=dict(settings or {})
            )
            return found

    def command(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one statement that returns nothing or one value.

        Raises:
            ClickHouseError: refused, or not reached.
        """
        with _translated(self.endpoint):
            return self._driver.command(sql, parameters=dict(parameters or {}), settings=dict(settings or {}))

    def text(self, sql: str, fmt: str, settings: Mapping[str, Any] | None = None) -> bytes:
        """Run a query and return its result as ClickHouse writes it in format `fmt`.

        Raises:
            ClickHouseError: refused, or not reached.
        """
        with _translated(self.endpoint):
            found: bytes = self._driver.raw_query(sql, fmt=fmt, settings=dict(settings or {}))
            return found

    def arrow(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a SELECT and return a `pyarrow.Table`; needs pyarrow.

        Raises:
            ClickHouseError: refused, or not reached.
        """
        with _translated(self.endpoint):
            return self._driver.query_arrow(
                sql, parameters=dict(parameters or {}), settings=dict(settings or {}), use_strings=True
            )

    def insert_block(self, table: str, block: bytes, token: str) -> None:
        """Insert `block`, JSON lines, as one block. The same token again inserts nothing.

        Raises:
            ClickHouseError: refused, or not reached.
        """
        compression = None
        if not self.endpoint.loopback:
            import gzip

            block, compression = gzip.compress(block, 1), "gzip"
        with _translated(self.endpoint):
            self._driver.raw_insert(
                table,
                insert_block=block,
                fmt="JSONEachRow",
                compression=compression,
                settings={**self._insert_settings, "insert_deduplication_token": token},
            )

    def close(self) -> None:
        """Close all connections; a server that is asked to stop waits for those it still has."""
        self._driver.close()
        if self._pool is not None:
            self._pool.clear()


def connect(to: Endpoint | str, connect_timeout: float = 5.0, timeout: float = 60.0) -> Client:
    """Connect to ClickHouse and log in.

    Parameters:
        to: an endpoint, or a URL for `parse_url`.
        connect_timeout: seconds for the connection to stand.
        timeout: seconds without a byte of answer.

    Raises:
        UrlError: the URL is wrong.
        ClickHouseError: refused (wrong password, unknown database), or not reached.
    """
    endpoint = parse_url(to) if isinstance(to, str) else to
    if endpoint.loopback or not _proxied(endpoint):
        try:
            socket.create_connection((endpoint.host, endpoint.port), max(connect_timeout, 0.1)).close()
        except OSError as error:  # known at once, and without importing the driver
            raise _no_answer(endpoint, str(error)) from error
    import clickhouse_connect
    from clickhouse_connect.driver.httputil import get_pool_manager

    _hush()
    pool = get_pool_manager() if endpoint.loopback else None  # a proxy has no business on loopback
    try:
        with _translated(endpoint):
            driver = clickhouse_connect.get_client(
                host=endpoint.host,
                port=endpoint.port,
                username=endpoint.username,
                password=endpoint.password,
                database=endpoint.database,
                interface="https" if endpoint.secure else "http",
                secure=endpoint.secure,
                autogenerate_session_id=False,
                connect_timeout=math.ceil(connect_timeout),
                send_receive_timeout=math.ceil(timeout),
                query_retries=0,
                compress=not endpoint.loopback,
                pool_mgr=pool,
                client_name="spanledger",
            )
    except ClickHouseError:
        if pool is not None:
            pool.clear()
        raise
    return Client(endpoint, driver, pool)


def _external_data(tables: Mapping[str, External]) -> Any:
    from clickhouse_connect.driver.external import ExternalData

    found = ExternalData()
    for name, table in tables.items():
        found.add_file(file_name=name, fmt="Native", structure=table.structure, data=table.data)
    return found


class _translated:
    """Turns the driver's exceptions into ours, and keeps its loggers quiet: the exception says it all."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __enter__(self) -> None:
        _asking.now = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        _asking.now = False
        if error is None or not isinstance(error, Exception):
            return
        import urllib3
        from clickhouse_connect.driver.exceptions import ClickHouseError as DriverError

        if not isinstance(error, (DriverError, urllib3.exceptions.HTTPError, OSError)):
            return
        traceback.clear_frames(error.__traceback__)  # they hold the connection, and so hold up a server's end
        text = str(error)
        found = _CODE.search(text)
        if found is None:
            raise _no_answer(self._endpoint, text) from error
        detail = text[text.index(found.group()) :].split(" (for url ")[0].strip()
        detail = _COLUMNS.sub("", detail)  # a grant that is missing comes with all columns
        code = int(found.group(1))
        todo = f" -- {_TODO[code]}" if code in _TODO else ""
        raise ClickHouseError(f"ClickHouse at {self._endpoint}: {detail[:_DETAIL]}{todo}", code) from error


_DETAIL = 1000
_asking = threading.local()
_hushed: set[str] = set()


def _hush() -> None:
    """Let urllib3 and clickhouse-connect not log each failed attempt of ours; those of the program stay as they are."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("urllib3.", "clickhouse_connect.")) and name not in _hushed:
            _hushed.add(name)
            logging.getLogger(name).addFilter(_not_ours)


def _not_ours(_record: logging.LogRecord) -> bool:
    return not getattr(_asking, "now", False)


def _proxied(endpoint: Endpoint) -> bool:
    """Whether the environment may lead the driver through a proxy."""
    names = ("https_proxy" if endpoint.secure else "http_proxy", "all_proxy")
    return any(os.environ.get(name) or os.environ.get(name.upper()) for name in names)


def _no_answer(endpoint: Endpoint, text: str) -> ClickHouseError:
    return ClickHouseError(f"no answer from ClickHouse at {endpoint}: {_reason(text)}")


def _reason(text: str) -> str:
    """What went wrong on the way, without urllib3's wrapping."""
    for known in ("Connection refused", "timed out", "Name or service not known", "CERTIFICATE_VERIFY_FAILED"):
        if known in text:
            return known
    return text[:300]
