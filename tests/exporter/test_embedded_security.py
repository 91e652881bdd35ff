"""Embedded ClickHouse on loopback is shut: to a web page, to other programs, and to what its own users must not do."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import stat
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest

from spanledger.exporter.client import ClickHouseError, Client, connect
from spanledger.exporter.embedded import EmbeddedClickHouse


def post(port: int, sql: str, path: str = "/", **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path, sql.encode(), {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.headers, body


def basic(user: str, password: str = "") -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def port(clickhouse: EmbeddedClickHouse) -> int:
    endpoint = clickhouse.endpoint()
    assert endpoint is not None
    return endpoint.port


@pytest.fixture
def reader(clickhouse: EmbeddedClickHouse) -> Client:
    endpoint = clickhouse.reader()
    assert endpoint is not None
    return connect(endpoint)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/", {"Authorization": basic("default")}),
        ("/", {"Authorization": basic("default", "default")}),
        ("/?user=default", {}),
        ("/?user=default&password=", {}),
        ("/", {"X_ClickHouse_User": "default"}),
        ("/", {"X_ClickHouse_User": "spanledger"}),
        ("/", {"X_ClickHouse_User": "spanledger_reader", "X_ClickHouse_Key": "guess"}),
        ("/?session_id=a&user=default", {}),
        ("/", {"X_Forwarded_For": "127.0.0.1", "X_ClickHouse_User": "default"}),
    ],
)
def test_a_request_without_the_password_is_refused(port: int, path: str, headers: dict[str, str]) -> None:
    status, _, body = post(port, "SELECT 'let in'", path, **headers)
    assert status in (401, 403, 500), body
    assert "let in" not in body
    assert any(word in body for word in ("AUTHENTICATION_FAILED", "REQUIRED_PASSWORD", "USER_SESSION_LIMIT_EXCEEDED"))


def test_the_native_port_refuses_the_default_user_too(clickhouse: EmbeddedClickHouse) -> None:
    def text(value: str) -> bytes:
        return bytes([len(value)]) + value.encode()

    hello = b"\x00" + text("test") + bytes([21, 1]) + b"\xd0\xa8\x03" + text("system") + text("default") + text("")
    with socket.create_connection(("127.0.0.1", clickhouse.status().tcp_port or 0), 10) as connection:
        connection.sendall(hello)
        answer = connection.recv(1000)
    assert answer[0] == 2  # an exception; 0 would be Hello
    assert b"USER_SESSION_LIMIT_EXCEEDED" in answer or b"session count" in answer


def test_a_web_page_can_do_nothing(port: int, ledger: Client) -> None:
    """What a page in a browser can send without asking first: a cross-origin POST of text."""
    sql = "CREATE TABLE spanledger.planted (x String) ENGINE = MergeTree ORDER BY x"
    for path in ("/", f"/?query={quote(sql)}", "/?user=default"):
        status, headers, _ = post(port, sql, path, Origin="https://evil.example", Content_Type="text/plain")
        assert status != 200
        assert "Access-Control-Allow-Origin" not in headers
    assert ledger.query("SELECT count() FROM system.tables WHERE name = 'planted'").rows == [(0,)]


def test_nothing_outside_its_tables_is_within_reach_of_the_ledgers_user(ledger: Client, port: int) -> None:
    for sql in (
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        f"SELECT * FROM url('http://127.0.0.1:{port}/', 'LineAsString')",
        f"SELECT * FROM remote('127.0.0.1:{port}', 'system.one')",
        "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'a', 'b', 'CSV')",
        "SELECT * FROM executable('id', 'TSV', 'x String')",
        "SELECT * FROM sqlite('/tmp/x', 'y')",
        "INSERT INTO FUNCTION file('planted', 'CSV') SELECT 1",
        "CREATE TABLE planted (x String) ENGINE = File(CSV)",
        "CREATE TABLE planted (x String) ENGINE = URL('http://127.0.0.1:1/', CSV)",
        "CREATE TABLE planted (x String) ENGINE = Distributed('a', 'b', 'c')",
        "CREATE DICTIONARY planted (k UInt64) PRIMARY KEY k SOURCE(HTTP(url 'http://127.0.0.1:1/')) LAYOUT(FLAT())",
        "CREATE DATABASE planted",
        "CREATE USER planted",
        "CREATE FUNCTION planted AS x -> x",
        "BACKUP TABLE llm_calls TO Disk('default', 'planted')",
        "SYSTEM SHUTDOWN",
        "SYSTEM START LISTEN TCP",
        "SELECT * FROM system.users",
        "DROP DATABASE spanledger",
    ):
        with pytest.raises(ClickHouseError) as caught:
            ledger.command(sql)
        assert caught.value.code in (497, 60, 46), f"{sql}: {caught.value}"


def test_the_reader_can_only_read(reader: Client, ledger: Client) -> None:
    assert reader.read_only
    assert reader.query("SELECT count() FROM llm_calls").rows == [(0,)]
    for sql in (
        "INSERT INTO llm_calls (entry_id) VALUES ('planted')",
        "ALTER TABLE llm_calls DELETE WHERE 1",
        "TRUNCATE TABLE llm_calls",
        "DROP TABLE llm_calls",
        "CREATE TABLE planted (x UInt8) ENGINE = MergeTree ORDER BY x",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    ):
        with pytest.raises(ClickHouseError) as caught:
            reader.command(sql)
        assert caught.value.code in (497, 164), f"{sql}: {caught.value}"
    for sql in ("SELECT 1 SETTINGS readonly = 0", "SELECT 1 SETTINGS max_execution_time = 100000"):
        with pytest.raises(ClickHouseError):
            reader.query(sql)
    reader.close()


def test_the_limit_on_the_engines_own_session_concerns_nobody_else(clickhouse: EmbeddedClickHouse) -> None:
    for endpoint in (clickhouse.endpoint(), clickhouse.reader()):
        assert endpoint is not None
        clients = [connect(endpoint) for _ in range(5)]
        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda client: client.query("SELECT sleep(0.2)").rows, clients))
        assert answers == [[(0,)]] * 5
        for client in clients:
            client.close()


def test_passwords_lie_in_a_private_file_and_only_their_hashes_in_the_configuration(
    clickhouse: EmbeddedClickHouse,
) -> None:
    endpoint, reader = clickhouse.endpoint(), clickhouse.reader()
    assert endpoint is not None
    assert reader is not None
    assert len(endpoint.password) >= 32
    assert endpoint.password != reader.password
    for folder in (clickhouse.home, clickhouse.folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("credentials.json", "users.xml", "config.xml", "server.json", "server.log"):
        assert stat.S_IMODE((clickhouse.folder / name).stat().st_mode) == 0o600
    assert json.loads((clickhouse.folder / "credentials.json").read_text())["spanledger"] == endpoint.password
    users = (clickhouse.folder / "users.xml").read_text()
    assert hashlib.sha256(endpoint.password.encode()).hexdigest() in users
    for name in ("users.xml", "config.xml", "server.json", "server.log"):
        text = (clickhouse.folder / name).read_text()
        assert endpoint.password not in text
        assert reader.password not in text


def test_it_listens_on_loopback_only(clickhouse: EmbeddedClickHouse, port: int) -> None:
    address = socket.gethostbyname(socket.gethostname())
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    with pytest.raises(OSError):
        socket.create_connection((address, port), 1)
