"""deploy/clickhouse/users.xml, which compose.yaml gives ClickHouse, does for a ledger, and shuts everybody else out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import free_port
from tests.service.conftest import ROOT

from spanledger.exporter import embedded_config
from spanledger.exporter.client import ClickHouseError, Endpoint, connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger

PASSWORDS = {"spanledger": "writer-password", "spanledger_reader": "reader-password"}

# What the embedded engine needs to start, in place of the image's own users.xml, and somebody who may do everything.
ENGINE = """
<clickhouse>
  <profiles><default/><engine><max_sessions_for_user>1</max_sessions_for_user></engine></profiles>
  <quotas><default/></quotas>
  <users>
  <administrator>
    <password>administrator-password</password>
    <networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
  </administrator>
  <default>
    <password></password>
    <networks><ip>127.0.0.1</ip></networks>
    <profile>engine</profile>
    <quota>default</quota>
    <grants>
      <query>GRANT SYSTEM LISTEN, CREATE TEMPORARY TABLE ON *.*</query>
      <query>GRANT READ ON FILE</query>
      <query>GRANT CREATE DATABASE ON spanledger.*</query>
      <query>GRANT TABLE ENGINE ON Atomic</query>
    </grants>
  </default>
  </users>
</clickhouse>
"""


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A ClickHouse with the shipped users."""
    folder = tmp_path / "clickhouse"
    (folder / "users.d").mkdir(parents=True)
    folder.chmod(0o700)
    shutil.copy(ROOT / "deploy" / "clickhouse" / "users.xml", folder / "users.d" / "spanledger.xml")
    (folder / "users.d" / "z-engine.xml").write_text(ENGINE)  # the file removes `default`, whom the engine needs
    (folder / "credentials.json").write_text(json.dumps(PASSWORDS))
    monkeypatch.setattr(embedded_config, "_USERS", ENGINE)
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", PASSWORDS["spanledger"])
    monkeypatch.setenv("CLICKHOUSE_READER_PASSWORD", PASSWORDS["spanledger_reader"])
    server = EmbeddedClickHouse(tmp_path)
    yield server.start(free_port(), free_port())
    server.stop()


def test_the_first_start_makes_the_database(endpoint):
    administrator = connect(
        replace(endpoint, username="administrator", password="administrator-password", database="default")
    )
    administrator.command("DROP DATABASE spanledger SYNC")
    administrator.close()
    ledger = open_ledger(endpoint)
    assert ledger.query("SELECT count() FROM llm_calls").rows == [(0,)]
    ledger.close()


def test_one_user_writes_the_ledger_and_one_only_reads_it(endpoint):
    writer = open_ledger(endpoint)
    assert writer.query("SELECT count() FROM llm_calls").rows == [(0,)]
    writer.close()
    reader = connect(replace(endpoint, username="spanledger_reader", password=PASSWORDS["spanledger_reader"]))
    assert reader.query("SELECT count() FROM llm_calls FINAL").rows == [(0,)]
    with pytest.raises(ClickHouseError, match=r"readonly|ACCESS_DENIED|privileges"):
        reader.command("TRUNCATE TABLE llm_calls")
    reader.close()


@pytest.mark.parametrize("user", ["spanledger", "spanledger_reader"])
def test_a_file_of_the_server_or_another_host_cannot_be_read(endpoint, user):
    client = connect(replace(endpoint, username=user, password=PASSWORDS[user]))
    for table in ("file('/etc/passwd', 'LineAsString')", "url('http://127.0.0.1:1/', 'LineAsString', 'a String')"):
        with pytest.raises(ClickHouseError, match=r"privileges|ACCESS_DENIED|readonly"):
            client.query(f"SELECT * FROM {table}")
    client.close()


def test_nobody_comes_in_without_the_password(endpoint):
    for user in ("spanledger", "spanledger_reader", "default", ""):
        with pytest.raises(ClickHouseError):
            connect(replace(endpoint, username=user, password="")).close()
