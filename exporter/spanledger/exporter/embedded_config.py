"""Configuration files of embedded ClickHouse.

The engine itself logs in as `default` without a password, from the same loopback address as any client, so this
user cannot be removed. It is shut to everybody else instead: `max_sessions_for_user` is 1 and the engine's own
session, open as long as the server runs, is that one; a request without a user name is resolved to `nobody`, who
does not exist; and the grants of `default` are what the start needs, no table of ours among them. The server
refuses to serve when a request without a password gets an answer (`embedded_server.py`).
"""

from __future__ import annotations

import json
import secrets
from hashlib import sha256
from pathlib import Path

from spanledger.exporter.private import write_private

DATABASE = "spanledger"
WRITER = "spanledger"
READER = "spanledger_reader"

_CONFIG = """\
<clickhouse>
  <http_port>{http_port}</http_port>
  <tcp_port>{tcp_port}</tcp_port>
  <listen_host>127.0.0.1</listen_host>
  <users_config>users.xml</users_config>
  <default_session_user>nobody</default_session_user>
  <!-- In place of the engine's own answer, which lets every web page read: no Access-Control-Allow-Origin. -->
  <http_options_response><header><name>Access-Control-Max-Age</name><value>0</value></header></http_options_response>
  <mark_cache_size>268435456</mark_cache_size>
  <background_pool_size>4</background_pool_size>
  <background_schedule_pool_size>8</background_schedule_pool_size>
  <max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>
</clickhouse>
"""

_USERS = """\
<clickhouse>
  <profiles>
    <default/>
    <engine><max_sessions_for_user>1</max_sessions_for_user></engine>
    <writer/>
    <reader>
      <readonly>2</readonly>
      <allow_ddl>0</allow_ddl>
      <max_execution_time>120</max_execution_time>
      <max_memory_usage>4000000000</max_memory_usage>
      <max_concurrent_queries_for_user>20</max_concurrent_queries_for_user>
      <constraints>
        <max_execution_time><max>600</max></max_execution_time>
        <max_memory_usage><max>4000000000</max></max_memory_usage>
        <max_concurrent_queries_for_user><readonly/></max_concurrent_queries_for_user>
      </constraints>
    </reader>
  </profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>engine</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT SYSTEM LISTEN, CREATE TEMPORARY TABLE ON *.*</query>
        <query>GRANT READ ON FILE</query>
        <query>GRANT CREATE DATABASE ON {database}.*</query>
        <query>GRANT TABLE ENGINE ON Atomic</query>
      </grants>
    </default>
    <{writer}>
      <password_sha256_hex>{writer_hash}</password_sha256_hex>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>writer</profile>
      <quota>default</quota>
      <default_database>{database}</default_database>
      <grants>
        <query>GRANT SHOW, SELECT, INSERT, ALTER TABLE, ALTER VIEW, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, \
TRUNCATE, OPTIMIZE ON {database}.*</query>
        <query>GRANT SELECT ON system.parts</query>
{engines}
      </grants>
    </{writer}>
    <{reader}>
      <password_sha256_hex>{reader_hash}</password_sha256_hex>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>reader</profile>
      <quota>default</quota>
      <default_database>{database}</default_database>
      <grants><query>GRANT SHOW, SELECT ON {database}.*</query></grants>
    </{reader}>
  </users>
</clickhouse>
"""

_ENGINES = ("MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree")


def passwords(folder: Path) -> dict[str, str]:
    """User -> password, as `credentials.json` (mode 0600) has them.

    Raises:
        OSError: the file is not there.
        ValueError: it is damaged.
    """
    kept = json.loads((folder / "credentials.json").read_text(encoding="utf-8"))
    if not isinstance(kept, dict) or not all(isinstance(kept.get(user), str) for user in (WRITER, READER)):
        raise ValueError("a user is missing")
    return kept


def write_config(folder: Path, http_port: int, tcp_port: int) -> None:
    """Write `config.xml` and `users.xml`, mode 0600, with the passwords' hashes; passwords are made once."""
    try:
        known = passwords(folder)
    except (OSError, ValueError):
        known = {user: secrets.token_urlsafe(24) for user in (WRITER, READER)}
        write_private(folder / "credentials.json", json.dumps(known, indent=1))
    write_private(folder / "config.xml", _CONFIG.format(http_port=http_port, tcp_port=tcp_port))
    users = _USERS.format(
        database=DATABASE,
        writer=WRITER,
        reader=READER,
        writer_hash=sha256(known[WRITER].encode()).hexdigest(),
        reader_hash=sha256(known[READER].encode()).hexdigest(),
        engines="\n".join(f"        <query>GRANT TABLE ENGINE ON {engine}</query>" for engine in _ENGINES),
    )
    write_private(folder / "users.xml", users)
