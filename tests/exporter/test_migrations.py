"""The schema: applied once, again without effect, and with every column that the ledger promises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanledger.exporter import migrate as migrate_module
from spanledger.exporter.client import ClickHouseError, Client, Endpoint
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import migrate, migrations, open_ledger
from tests.conftest import free_port

PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"

COLUMNS = [
    "event_date",
    "entry_id",
    "line",
    "version",
    "is_deleted",
    "ingested_at",
    "trace_id",
    "span_id",
    "parent_span_id",
    "ancestor_span_ids",
    "describes",
    "service_name",
    "environment",
    "scope",
    "scope_version",
    "source",
    "start_time",
    "duration_ns",
    "time_to_first_token_ns",
    "provider",
    "operation",
    "request_model",
    "response_model",
    "response_id",
    "region",
    "service_tier",
    "processing",
    "stream",
    "retries",
    "status",
    "error_type",
    "error_message",
    "finish_reasons",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage",
    "unmapped",
    "usage_status",
    "raw_usage",
    "cost",
    "cost_input",
    "cost_output",
    "cost_cache",
    "cost_tools",
    "cost_details",
    "currency",
    "cost_base",
    "base_currency",
    "price_status",
    "cost_estimated",
    "cost_reasons",
    "reported_cost",
    "priced_model",
    "price_snapshot",
    "tenant",
    "user_id",
    "session_id",
    "feature",
    "prompt_name",
    "agent_name",
    "tags",
    "api_key_hash",
    "api_key_alias",
    "given_names",
    "request_body_uri",
    "response_body_uri",
]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Client]:
    """A ClickHouse without the ledger's schema."""
    server = EmbeddedClickHouse(tmp_path)
    endpoint = server.start(free_port(), free_port())
    client = migrate_module.connect(endpoint)
    yield client
    client.close()
    server.stop()


def test_migrations_are_applied_once(fresh: Client) -> None:
    names = [path.stem for path in migrations().values()]
    assert migrate(fresh) == names
    assert migrate(fresh) == []
    assert fresh.query("SELECT name FROM schema_migrations ORDER BY id").rows == [(name,) for name in names]


def test_a_migration_that_broke_off_is_applied_again(fresh: Client) -> None:
    migrate(fresh)
    fresh.command("TRUNCATE TABLE schema_migrations")
    assert migrate(fresh) == [path.stem for path in migrations().values()]


def test_who_may_not_create_tables_can_still_use_a_current_schema(clickhouse: EmbeddedClickHouse) -> None:
    reader = clickhouse.reader()
    assert reader is not None
    open_ledger(reader).close()


def test_the_table_has_the_ledgers_columns_in_order(ledger: Client) -> None:
    found = ledger.query("SELECT name, type FROM system.columns WHERE table = 'llm_calls' ORDER BY position").rows
    assert [name for name, _ in found] == COLUMNS
    types = dict(found)
    for name in COLUMNS:
        if re.fullmatch(r"(reported_)?cost|cost_(input|output|cache|tools|base)", name):
            assert types[name] == "Nullable(Decimal(38, 18))", name
    assert types["usage"] == types["unmapped"] == "Map(LowCardinality(String), Decimal(38, 9))"
    assert types["cost_details"] == "Map(LowCardinality(String), Decimal(38, 18))"
    assert types["start_time"] == "DateTime64(9, 'UTC')"


def test_the_page_explains_every_column(ledger: Client) -> None:
    explained = re.findall(r"^\| `(\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name in explained if name in COLUMNS] == COLUMNS


def test_the_key_holds_only_what_every_describer_of_a_call_agrees_on(ledger: Client) -> None:
    ((engine, sorting, partition, statement),) = ledger.query(
        "SELECT engine, sorting_key, partition_key, create_table_query FROM system.tables WHERE name = 'llm_calls'"
    ).rows
    assert engine == "ReplacingMergeTree"
    assert sorting == "event_date, entry_id, line"
    assert partition == "toYYYYMM(event_date)"
    assert "non_replicated_deduplication_window" in statement
    assert "bloom_filter" in statement


def test_templates_give_a_cluster_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicated tables need more than embedded ClickHouse has: here only what would be sent."""
    sent: list[str] = []

    class Recorder:
        endpoint = Endpoint("ch.example", 8123, database="odd`name", cluster="main")

        def query(self, sql: str) -> object:
            raise ClickHouseError("no table", migrate_module.UNKNOWN_TABLE)

        def command(self, sql: str, *_: object) -> None:
            sent.append(sql)

    migrate(Recorder())  # type: ignore[arg-type]
    creates = [sql for sql in sent if "CREATE " in sql]
    assert len(creates) > len(migrations())
    for sql in creates:
        assert "`odd\\`name`." in sql
        assert "ON CLUSTER `main`" in sql
        assert re.search(r"ENGINE = Replicated\w*MergeTree\b", sql) or "CREATE MATERIALIZED VIEW" in sql
        assert not re.search(r"\{(database|on_cluster|engine)\}", sql)


@pytest.mark.parametrize(("on", "where"), [("", ""), ("?cluster=main", " ON CLUSTER `main`")])
def test_a_missing_database_is_created(monkeypatch: pytest.MonkeyPatch, on: str, where: str) -> None:
    """Embedded ClickHouse's user may not create databases: here only which connections are made."""
    calls: list[str] = []

    class Recorder:
        def __init__(self, endpoint: object) -> None:
            self.endpoint = endpoint

        def command(self, sql: str) -> None:
            calls.append(sql)

        def close(self) -> None:
            calls.append("close")

    def connect(endpoint: object, *_: float) -> Recorder:
        database = endpoint.database  # type: ignore[attr-defined]
        calls.append(f"connect {database}")
        if database == "costs" and not any(call.startswith("CREATE") for call in calls):
            raise ClickHouseError("unknown database", migrate_module.UNKNOWN_DATABASE)
        return Recorder(endpoint)

    monkeypatch.setattr(migrate_module, "connect", connect)
    monkeypatch.setattr(migrate_module, "migrate", lambda client: [])
    open_ledger("http://ch.example/costs" + on)
    assert calls == [
        "connect costs",
        "connect default",
        f"CREATE DATABASE IF NOT EXISTS `costs`{where}",
        "close",
        "connect costs",
    ]
