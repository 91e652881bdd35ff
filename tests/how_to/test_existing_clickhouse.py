"""docs/how-to/existing-clickhouse.md, as printed, with a second server as theirs."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanledger.exporter import embedded_config
from spanledger.exporter.client import ClickHouseError, Client, Endpoint, connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from tests.conftest import free_port
from tests.exporter.conftest import wait
from tests.exporter.test_trouble import STATEMENTS, _password, _users
from tests.how_to.conftest import Reader
from tests.service.conftest import ROOT

CLIENT = f"""#!{sys.executable}
'''ClickHouse's own client, as far as the page uses it.'''
import argparse
from clickhouse_connect import get_client
from clickhouse_connect.driver.exceptions import DatabaseError

parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["client"])
for name in ("--host", "--user", "--password", "--queries-file", "--port"):
    parser.add_argument(name, required=True)
asked = parser.parse_args()
client = get_client(host=asked.host, port=int(asked.port), username=asked.user, password=asked.password)
lines = [line for line in open(asked.queries_file) if not line.lstrip().startswith("--")]
for statement in filter(str.strip, "".join(lines).split(";\\n")):
    try:
        client.command(statement)
        print("done")
    except DatabaseError as error:
        if error.code not in (514, 493, 495):  # users.xml has them
            raise
        print("understood")
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A ClickHouse with nothing of ours in it.

    The embedded engine keeps no users that SQL makes, so they are in its users.xml, with the grants of the SQL file.
    """
    users = _users("spanledger").replace(
        "GRANT SHOW, SELECT ON spanledger.*</query>",
        "GRANT SHOW, SELECT ON spanledger.*</query><query>GRANT SELECT ON crm.customers</query>",
    )
    assert "crm" in users
    monkeypatch.setattr(embedded_config, "_USERS", embedded_config._USERS.replace("  </users>", users + "</users>"))
    server = EmbeddedClickHouse(tmp_path / "theirs")
    try:
        endpoint = server.start(free_port(), free_port())
        yield Endpoint("127.0.0.1", endpoint.port, "admin", _password("admin"), "default")
    finally:
        server.stop()


def test_a_ledger_in_a_clickhouse_that_is_there(
    reader: Callable[..., Reader], theirs: Endpoint, tmp_path: Path
) -> None:
    page = reader("existing-clickhouse")
    page.write()
    (page.folder / "security-clickhouse.sql").write_text((ROOT / "docs" / "security-clickhouse.sql").read_text())
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "clickhouse").write_text(CLIENT)
    (tools / "clickhouse").chmod(0o755)
    serving = free_port()
    del page.env["SPANLEDGER_URL"]
    page.env["PATH"] = f"{tools}:{page.env['PATH']}"
    page.env["SPANLEDGER_SERVE_HTTP"] = f"127.0.0.1:{serving}"
    page.swaps = {
        "ADMIN_PASSWORD='...'": f"ADMIN_PASSWORD={_password('admin')}",
        **{
            f"{user}_PASSWORD=$(openssl rand -hex 24)": f"{user}_PASSWORD={_password(f'spanledger_{user.lower()}')}"
            for user in ("OWNER", "INSERT", "READ")
        },
        "https://": "http://",
        "clickhouse.example.com:8443": f"127.0.0.1:{theirs.port}",
        "--host clickhouse.example.com --secure": f"--host 127.0.0.1 --port {theirs.port}",
    }
    admin = connect(theirs)
    page.run("SPANLEDGER_URL=")
    page.run("sed ")
    told = page.run("clickhouse client").split()
    assert (told.count("understood"), told.count("done")) == (len(STATEMENTS) - 1, 1)
    page.run("rm ")
    assert page.run("opentelemetry-instrument") == ""
    server = page.start("SPANLEDGER_URL=")
    assert wait(lambda: calls_served(serving) == 1, 30), page.output.read_text()
    page.end(server)
    assert "acme" in page.run("spanledger report")
    assert "spanledger_read" in page.run("spanledger doctor")

    for statement in (
        "CREATE DATABASE crm",
        "CREATE TABLE crm.customers (id String, plan String) ENGINE = MergeTree ORDER BY id",
        "INSERT INTO crm.customers VALUES ('acme', 'pro')",
    ):
        admin.command(statement)
    assert "pro" in page.run("spanledger sql")
    page.done()

    for user, may_not in (
        ("insert", "SELECT count() FROM llm_calls"),
        ("read", "INSERT INTO llm_calls (entry_id) VALUES ('x')"),
        ("owner", "SELECT count() FROM crm.customers"),
    ):
        name = f"spanledger_{user}"
        own = connect(Endpoint("127.0.0.1", theirs.port, name, _password(name), "spanledger"))
        refused(own, may_not)
        own.close()
    admin.close()


def calls_served(port: int) -> int:
    """What the API of `spanledger serve` counts; -1 while it does not answer."""
    url = f"http://127.0.0.1:{port}/api/v1/llm/stats?group_by=tenant"
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
            return sum(total["calls"] for total in json.load(answer)["totals"])
    except OSError:
        return -1


def refused(client: Client, sql: str) -> None:
    with pytest.raises(ClickHouseError) as caught:
        client.command(sql)
    assert caught.value.code in (164, 497), caught.value
