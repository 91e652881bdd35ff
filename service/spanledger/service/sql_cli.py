"""`spanledger sql`: any question to the ledger."""

from __future__ import annotations

import re
import sys

import click

FORMATS = {"table": "PrettyCompactMonoBlock", "json": "JSONEachRow", "csv": "CSVWithNames"}
"""Our names for formats of ClickHouse; any other of its formats goes by its own."""

_FORMAT_CLAUSE = re.compile(r"\s+FORMAT\s+(\w+)\s*\Z", re.IGNORECASE)


@click.command()
@click.argument("query")
@click.option(
    "--format",
    "form",
    metavar="FORMAT",
    help="table (default), json (one object a line), csv, or a format of ClickHouse: Vertical, Parquet, ...",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def sql(query: str, form: str | None, as_json: bool) -> None:
    """Run a query on the ledger and print the answer. It can only read.

    The table is llm_calls; `FINAL` after its name shows each call once. QUERY may be - for standard input.

    \b
    Examples:
      spanledger sql "SELECT count(), sum(cost_base) FROM llm_calls FINAL"
      spanledger sql "SELECT * FROM llm_calls FINAL ORDER BY start_time DESC LIMIT 1" --format Vertical
      spanledger sql "SELECT tenant, cost FROM llm_calls FINAL" --format csv > calls.csv
      spanledger sql - < query.sql
    """
    from spanledger.exporter.queries import run_sql
    from spanledger.service.ledger import opened
    from spanledger.settings import settings

    if query == "-":
        query = sys.stdin.read()
    query = query.strip().rstrip(";").rstrip()
    if not query:
        raise click.UsageError("the query is empty")
    if clause := _FORMAT_CLAUSE.search(query):
        query, named = query[: clause.start()], clause[1]
        form = form or named
    form = "json" if as_json else form or "table"
    with opened(settings(), read_only=True) as client:
        answer = run_sql(client, query, FORMATS.get(form, form))
    sys.stdout.buffer.write(answer)
    sys.stdout.flush()
