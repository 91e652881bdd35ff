"""Reports: exact sums, unknown costs never shown as 0, and nothing that a user types becomes SQL."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from spanledger.exporter.client import ClickHouseError, Client, connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.queries import DIMENSIONS, MEASURES, QueryError, explain_row, report, run_sql
from tests.exporter.conftest import row

UTC = dt.timezone.utc


def insert(ledger: Client, *rows: bytes) -> None:
    ledger.insert_block("llm_calls", b"".join(rows), str(hash(rows)))


def call(number: int, model: str = "gpt-4o", cost: str | None = "0.1", at: int = 1_795_366_399, **more: str) -> bytes:
    known = {"cost": f'"{cost}"', "cost_base": f'"{cost}"', "price_status": '"priced"'} if cost is not None else {}
    columns = {
        "start_time": f'"{at}.000000001"',
        "response_model": f'"{model}"',
        "input_tokens": "100",
        "output_tokens": "10",
        "status": '"ok"',
        "base_currency": '"USD"',
        "price_status": '"unpriced"',
        **known,
        **more,
    }
    return row(number, **columns)


def as_dicts(table: object) -> list[dict[str, object]]:
    return [dict(zip(table.columns, line, strict=True)) for line in table.rows]  # type: ignore[attr-defined]


def test_costs_by_model_are_exact(ledger: Client) -> None:
    insert(ledger, *[call(number) for number in range(10)], call(10, "claude", "0.000000000000000001"))
    table = report(ledger)
    assert table.columns == ("model", *MEASURES)
    first, second = as_dicts(table)
    assert (first["model"], first["calls"], first["cost"]) == ("gpt-4o", 10, Decimal(1))
    assert (first["input_tokens"], first["output_tokens"], first["currency"]) == (1000, 100, "USD")
    assert (second["model"], second["cost"]) == ("claude", Decimal("1E-18"))


def test_an_unknown_cost_is_not_zero(ledger: Client) -> None:
    insert(
        ledger,
        call(1, "a", None, input_tokens="null", output_tokens="null"),
        call(2, "b", "0.5"),
        call(3, "b", None),
        call(4, "b", "0.25", price_status='"estimated"'),
        call(5, "free", "0"),
    )
    found = {line["model"]: line for line in as_dicts(report(ledger))}
    assert found["a"]["cost"] is None
    assert found["a"]["input_tokens"] is None
    assert (found["a"]["calls"], found["a"]["unpriced"]) == (1, 1)
    assert (found["b"]["cost"], found["b"]["unpriced"], found["b"]["estimated"]) == (Decimal("0.75"), 1, 1)
    assert (found["free"]["cost"], found["free"]["unpriced"]) == (Decimal(0), 0)


def test_a_calls_further_lines_count_as_cost_and_not_as_calls(ledger: Client) -> None:
    share = call(1, "advisor", "0.3").replace(b'"line":0', b'"line":1')
    insert(ledger, call(1, "main", "0.2"), share)
    (total,) = as_dicts(report(ledger, by=()))
    assert (total["calls"], total["cost"]) == (1, Decimal("0.5"))
    assert {line["model"]: line["calls"] for line in as_dicts(report(ledger))} == {"main": 1, "advisor": 0}


def test_only_the_best_version_of_a_call_counts(ledger: Client) -> None:
    insert(ledger, call(1, cost="0.1"))
    insert(ledger, call(1, cost="0.4").replace(b'"version":1', b'"version":3'))
    insert(ledger, call(1, cost="0.2").replace(b'"version":1', b'"version":2'))
    (total,) = as_dicts(report(ledger, by=()))
    assert (total["calls"], total["cost"]) == (1, Decimal("0.4"))


def test_every_dimension_groups_and_filters(ledger: Client) -> None:
    insert(ledger, call(1, tags='{"team":"red"}', tenant='"acme"', api_key_hash='"k1"', user_id='"ann"'))
    for name in (*DIMENSIONS, "tag:team"):
        (line,) = report(ledger, by=[name]).rows
        value = line[0]
        assert report(ledger, by=[name], where={name: str(value)}).rows == [line]
        if name != "day":
            assert report(ledger, by=[name], where={name: "something else"}).rows == []
    assert report(ledger, by=["tag:team", "tenant", "key", "user"]).rows[0][:4] == ("red", "acme", "k1", "ann")


def test_since_is_inclusive_and_until_exclusive(ledger: Client) -> None:
    noon = int(dt.datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp())
    insert(ledger, *[call(hour, at=noon + hour * 3600) for hour in range(4)])
    first = dt.datetime(2026, 11, 22, 13, tzinfo=UTC)

    def calls(since: dt.datetime | None, until: dt.datetime | None) -> int:
        rows = report(ledger, by=(), since=since, until=until).rows
        return int(rows[0][0]) if rows else 0

    assert calls(first, None) == 3
    assert calls(None, first) == 1
    assert calls(first, first + dt.timedelta(hours=2)) == 2
    assert calls(first.replace(tzinfo=None), None) == 3  # without a zone it is UTC
    assert calls(first.astimezone(dt.timezone(dt.timedelta(hours=5))), None) == 3
    assert calls(first + dt.timedelta(days=1), None) == 0


def test_days_come_latest_first_and_the_limit_holds(ledger: Client) -> None:
    insert(ledger, *[call(day, at=1_795_366_399 + day * 86_400, cost=str(day)) for day in range(5)])
    rows = report(ledger, by=["day"], limit=2).rows
    assert [line[0] for line in rows] == [dt.date(2026, 11, 26), dt.date(2026, 11, 25)]
    assert [line[1] for line in report(ledger, by=["model"], limit=1).rows] == [5]


def test_currencies_are_never_added_up(ledger: Client) -> None:
    insert(ledger, call(1, cost="1"), call(2, cost="2", base_currency='"EUR"'))
    assert {(line["currency"], line["cost"]) for line in as_dicts(report(ledger, by=()))} == {
        ("USD", Decimal(1)),
        ("EUR", Decimal(2)),
    }


def test_what_a_user_types_is_never_sql(ledger: Client) -> None:
    insert(ledger, call(1))
    nasty = "x'] OR 1=1 --{p0:String}"
    assert report(ledger, by=[f"tag:{nasty}"]).rows[0][0] == ""
    assert report(ledger, where={"model": "' OR '1'='1"}).rows == []
    assert report(ledger, where={f"tag:{nasty}": nasty}).rows == []
    assert explain_row(ledger, "' OR '1'='1") == []
    for name in ("", "tag:", "cost", "model; DROP TABLE llm_calls"):
        with pytest.raises(QueryError, match="cannot group or filter"):
            report(ledger, by=[name])
    with pytest.raises(QueryError, match="format"):
        run_sql(ledger, "SELECT 1", "CSV SETTINGS x=1")


def test_a_row_is_found_by_entry_response_or_span_id(ledger: Client) -> None:
    share = call(1, "advisor").replace(b'"line":0', b'"line":1')
    insert(ledger, share, call(1, response_id='"resp_1"', span_id='"ab12"', price_snapshot='"{}"'), call(2))
    for identifier in ("entry-000001", "resp_1", "ab12"):
        assert explain_row(ledger, identifier)[0]["price_snapshot"] == "{}"
    assert [line["line"] for line in explain_row(ledger, "entry-000001")] == [0, 1]
    assert explain_row(ledger, "nothing") == []


def test_a_users_sql_can_only_read(ledger: Client, clickhouse: EmbeddedClickHouse) -> None:
    insert(ledger, call(1))
    endpoint = clickhouse.reader()
    assert endpoint is not None
    reader = connect(endpoint)
    for client in (reader, ledger):  # the reader, and the user of a URL, who may write
        assert run_sql(client, "SELECT count() AS n FROM llm_calls;", "JSONEachRow") == b'{"n":1}\n'
        with pytest.raises(ClickHouseError):
            run_sql(client, "TRUNCATE TABLE llm_calls")
        with pytest.raises(ClickHouseError):
            run_sql(client, "SELECT 1; SELECT 2")
    reader.close()
