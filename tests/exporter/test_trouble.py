"""ClickHouse in trouble: rows wait, each change of state is one line in the log, and when it is over each row is there
once."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from spanledger.exporter import embedded_config
from spanledger.exporter import migrate as migrate_module
from spanledger.exporter.client import ClickHouseError, Client, Endpoint, connect
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import SchemaError, migrate, migrations, open_ledger
from spanledger.exporter.shipper import Shipper, pending
from tests import faults
from tests.conftest import free_port
from tests.exporter.conftest import row, wait
from tests.faults import FaultProxy

SQL = (Path(__file__).parents[2] / "docs" / "security-clickhouse.sql").read_text(encoding="utf-8")
STATEMENTS = [piece.strip() for piece in re.sub(r"^ *--.*$", "", SQL, flags=re.MULTILINE).split(";\n") if piece.strip()]
(VIEW,) = (statement for statement in STATEMENTS if statement.startswith("ALTER TABLE"))
ROWS = 7
Make = Callable[..., Shipper]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """`make(endpoint, ...)`: a shipper that does not wait long between two tries."""
    monkeypatch.setattr("spanledger.exporter.shipper._MAX_BACKOFF_S", 0.2)
    made: list[Shipper] = []

    def make(to: Endpoint, port: int = 0, user: str = "", password: str = "", database: str = "") -> Shipper:
        who = f"{user or to.username}:{password or to.password}"
        url = f"http://{who}@127.0.0.1:{port or to.port}/{database or to.database}"
        made.append(Shipper(tmp_path / "home", url, 0.05))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def stored(client: Client) -> list[str]:
    """As the table lies on disk, without FINAL: a double shows."""
    return [line[0] for line in client.query("SELECT entry_id FROM llm_calls ORDER BY entry_id").rows]


def ids(count: int = ROWS) -> list[str]:
    return [f"entry-{number:06d}" for number in range(count)]


TROUBLES = {
    "hangs": (faults.hangs, "timed out"),
    "closes before": (faults.closes_before, "no answer from ClickHouse"),
    "closes after": (faults.only_inserts(faults.closes_after), "no answer from ClickHouse"),
    "cuts the answer": (faults.cuts_the_answer, "no answer from ClickHouse"),
    "500": (faults.answers(500, "Internal Server Error"), "500"),
    "503": (faults.answers(503, "<html>Service Unavailable</html>"), "503"),
    "516": (
        faults.answers(403, "spanledger: Authentication failed. (AUTHENTICATION_FAILED)", 516),
        "check user and password in SPANLEDGER_URL",
    ),
    "out of disk": (
        faults.only_inserts(faults.answers(500, "Cannot reserve 1.00 MiB. (NOT_ENOUGH_SPACE)", 243)),
        "disk is full: make room",
    ),
    "too many parts": (
        faults.only_inserts(faults.answers(500, "Too many parts (3000). (TOO_MANY_PARTS)", 252)),
        "Too many parts",
    ),
    "read only": (
        faults.only_inserts(faults.answers(500, "Cannot execute query in readonly mode. (READONLY)", 164)),
        "this user can only read",
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_rows_wait_and_arrive_once(
    name: str,
    ledger: Client,
    make: Make,
    lines: Callable[[], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault, said = TROUBLES[name]
    monkeypatch.setattr("spanledger.exporter.shipper._ANSWER_S", 1.0)
    with FaultProxy(ledger.endpoint.port, fault) as proxy:
        shipper = make(ledger.endpoint, proxy.port)
        for number in range(ROWS):
            shipper.append(row(number))
            time.sleep(0.03)  # several blocks
        tries = 1 if name == "hangs" else 3
        assert wait(lambda: shipper._failures >= tries)
        assert pending(tmp_path / "home").rows >= 1
        assert len(lines()) == 1, lines()
        assert said in lines()[0]
        assert "rows wait in" in lines()[0]

        proxy.mend()
        assert wait(lambda: stored(ledger) == ids())
        assert wait(lambda: len(lines()) == 2)
        assert "ClickHouse is back" in lines()[1]
        assert pending(tmp_path / "home").segments == 0
        assert shipper._failures == 0
        assert ledger.endpoint.password not in "".join(lines())


def test_another_trouble_is_another_line(ledger: Client, make: Make, lines: Callable[[], list[str]]) -> None:
    with FaultProxy(ledger.endpoint.port, faults.answers(503, "busy")) as proxy:
        shipper = make(ledger.endpoint, proxy.port)
        shipper.append(row(0))
        assert wait(lambda: shipper._failures >= 2)
        proxy.fault = faults.answers(403, "Authentication failed", 516)
        assert wait(lambda: len(lines()) == 2)
        failures = shipper._failures
        assert wait(lambda: shipper._failures >= failures + 2)
        proxy.mend()
        assert wait(lambda: stored(ledger) == ids(1))
        assert wait(lambda: len(lines()) == 3)


def test_tries_are_farther_and_farther_apart(ledger: Client, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanledger.exporter.shipper._MAX_BACKOFF_S", 60.0)
    shipper = make(ledger.endpoint)
    shipper._interval = 2.0
    pauses = []
    for _ in range(12):
        before = time.monotonic()
        shipper._went_down(ClickHouseError("gone"))
        pauses.append(shipper._retry_at - before)
    for number, pause in enumerate(pauses, 1):
        longest = min(2.0 * 2**number, 60.0)
        assert longest / 2 - 0.1 <= pause <= longest + 0.1
    assert len({round(pause, 3) for pause in pauses[-6:]}) > 1  # jitter: not all programs at the same moment


def test_a_slow_clickhouse_is_no_trouble(ledger: Client, make: Make, lines: Callable[[], list[str]]) -> None:
    with FaultProxy(ledger.endpoint.port, faults.slow(0.3)) as proxy:
        shipper = make(ledger.endpoint, proxy.port)
        longest = 0.0
        for number in range(ROWS):
            began = time.monotonic()
            shipper.append(row(number))
            longest = max(longest, time.monotonic() - began)
        assert longest < 0.25  # no call waits for it
        assert wait(lambda: stored(ledger) == ids())
        assert lines() == []


def test_a_program_has_one_thread_and_few_descriptors_in_trouble(ledger: Client, make: Make, tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with FaultProxy(ledger.endpoint.port, faults.answers(503, "busy")) as proxy:
        threads = set(threading.enumerate())
        shipper = make(ledger.endpoint, proxy.port)
        shipper.append(row(0))
        assert wait(lambda: shipper._failures >= 1)
        before = descriptors()
        for number in range(ROWS):
            shipper.append(row(number))
        failures = shipper._failures
        assert wait(lambda: shipper._failures >= failures + 20, 30)
        ours = [each for each in set(threading.enumerate()) - threads if "spanledger" in each.name]
        assert ours == [shipper._thread]
        assert descriptors() <= before + 4  # a connection and its other end, in this process


@pytest.mark.parametrize("fault", [faults.hangs, faults.slow(2.5), faults.answers(503, "busy")])
def test_the_end_takes_less_than_five_seconds(fault: faults.Fault, ledger: Client, make: Make, tmp_path: Path) -> None:
    """A connection stands already: the trouble comes while the program runs."""
    with FaultProxy(ledger.endpoint.port) as proxy:
        shipper = make(ledger.endpoint, proxy.port)
        shipper.append(row(0))
        assert wait(lambda: stored(ledger) == ids(1))
        proxy.fault = fault
        shipper.append(row(1))
        began = time.monotonic()
        shipper.close()
        assert time.monotonic() - began < 5
        proxy.mend()
        assert wait(lambda: pending(tmp_path / "home").rows + len(stored(ledger)) >= 2)
        shipper.append(row(2))
        assert wait(lambda: stored(ledger) == ids(3))


# ---- a ClickHouse with users of its own: users.xml takes the grants as docs/security-clickhouse.sql has them


def _users(database: str) -> str:
    """The users of the SQL file, as users.xml has them, and an administrator."""
    grants: dict[str, list[str]] = {}
    for statement in STATEMENTS:
        if found := re.fullmatch(r"GRANT (.*) TO (\w+)", " ".join(statement.split())):
            what = re.sub(r"\bspanledger\.", f"{database}.", found[1])
            grants.setdefault(found[2], []).append(f"<query>GRANT {what}</query>")
    assert set(grants) == {"spanledger_insert", "spanledger_read", "spanledger_owner"}
    grants["admin"] = ["<query>GRANT ALL ON *.* WITH GRANT OPTION</query>"]
    return "".join(
        f"<{user}><password_sha256_hex>{sha256(_password(user).encode()).hexdigest()}</password_sha256_hex>"
        f"<networks><ip>127.0.0.1</ip></networks>"
        f"<profile>{'reader' if user == 'spanledger_read' else 'writer'}</profile><quota>default</quota>"
        f"<grants>{''.join(queries)}</grants></{user}>"
        for user, queries in grants.items()
    )


def _password(user: str) -> str:
    return f"planted-{user}-password"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    users = embedded_config._USERS
    embedded_config._USERS = users.replace("  </users>", _users("costs") + "</users>")
    server = EmbeddedClickHouse(tmp_path_factory.mktemp("users"))
    try:
        server.start(free_port(), free_port())
        yield server
    finally:
        server.stop()
        embedded_config._USERS = users


@pytest.fixture
def as_user(server: EmbeddedClickHouse) -> Callable[..., Endpoint]:
    """`as_user(name)`: that user's endpoint; the database `costs` is not there at first."""
    own = server.endpoint()
    assert own is not None

    def endpoint(user: str, database: str = "costs") -> Endpoint:
        return Endpoint("127.0.0.1", own.port, user, _password(user), database)

    admin = connect(endpoint("admin", "default"))
    admin.command("DROP DATABASE IF EXISTS costs SYNC")
    admin.close()
    return endpoint


@pytest.fixture
def made(as_user: Callable[..., Endpoint]) -> Iterator[Client]:
    """The database with its schema, as the SQL file leaves it; its administrator."""
    admin = open_ledger(as_user("admin"))
    admin.command(VIEW.replace("spanledger.", "costs."))
    yield admin
    admin.close()


def test_the_sql_is_what_clickhouse_understands(as_user: Callable[..., Endpoint]) -> None:
    """users.xml cannot be added to by SQL: whatever is understood and allowed ends there, or goes on."""
    admin = connect(as_user("admin", "default"))
    users = [statement for statement in STATEMENTS if not statement.startswith("ALTER TABLE")]
    assert len(users) >= 10
    for statement in users:
        with pytest.raises(ClickHouseError) as caught:
            admin.command(statement)
        assert caught.value.code in (514, 493, 495), caught.value  # no storage for users; users.xml is read-only
    admin.close()


def test_who_may_only_insert_ships_and_reads_nothing(
    as_user: Callable[..., Endpoint], made: Client, make: Make, lines: Callable[[], list[str]]
) -> None:
    shipper = make(as_user("spanledger_insert"))
    for number in range(ROWS):
        shipper.append(row(number).replace(b'"version":1', b'"version":256'))  # a describer's: the view takes it
    shipper.journal.health.count("rows_lost", 3, "a test")
    assert wait(lambda: stored(made) == ids())
    assert lines() == []
    describers = "SELECT count() FROM llm_describers FINAL"  # the view works for this user
    assert wait(lambda: made.query(describers).rows == [(ROWS,)])
    assert wait(lambda: made.query("SELECT sum(count) FROM spanledger_health FINAL").rows == [(3,)])

    insert = connect(as_user("spanledger_insert"))
    for sql in (
        "SELECT entry_id FROM llm_calls",
        "SELECT * FROM llm_describers",
        "SELECT * FROM price_history",
        "SELECT * FROM spanledger_health",
        "INSERT INTO price_history (entry_id) VALUES ('x')",
        "INSERT INTO schema_migrations (id) VALUES (99)",
        "ALTER TABLE llm_calls DELETE WHERE 1",
        "TRUNCATE TABLE llm_calls",
        "DROP TABLE llm_calls",
        "CREATE TABLE planted (x Int8) ENGINE = MergeTree ORDER BY x",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM system.users",
        "SELECT * FROM system.query_log",
    ):
        with pytest.raises(ClickHouseError) as caught:
            insert.command(sql)
        assert caught.value.code in (497, 60), f"{sql}: {caught.value}"
    insert.close()


def test_who_may_only_read_reads_and_changes_nothing(as_user: Callable[..., Endpoint]) -> None:
    owner = open_ledger(as_user("admin"))
    reader = open_ledger(as_user("spanledger_read"))
    assert reader.read_only
    assert reader.query("SELECT count() FROM llm_calls FINAL").rows == [(0,)]
    for sql in (
        "INSERT INTO llm_calls (entry_id) VALUES ('x')",
        "TRUNCATE TABLE llm_calls",
        "CREATE TABLE planted (x Int8) ENGINE = MergeTree ORDER BY x",
        "SET readonly = 0",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    ):
        with pytest.raises(ClickHouseError) as caught:
            reader.command(sql)
        assert caught.value.code in (164, 497), f"{sql}: {caught.value}"
    reader.close()
    owner.close()


def test_the_owner_may_bring_the_schema_up_to_date(as_user: Callable[..., Endpoint]) -> None:
    admin = connect(as_user("admin", "default"))
    admin.command("CREATE DATABASE costs")
    owner = open_ledger(as_user("spanledger_owner"))
    assert owner.query("SELECT count() FROM schema_migrations").rows == [(len(migrations()),)]
    owner.close()
    admin.close()


def test_a_database_that_is_missing_is_waited_for(
    as_user: Callable[..., Endpoint], make: Make, lines: Callable[[], list[str]], tmp_path: Path
) -> None:
    shipper = make(as_user("spanledger_insert"))
    for number in range(ROWS):
        shipper.append(row(number))
    assert wait(lambda: shipper._failures >= 3)
    assert pending(tmp_path / "home").rows == ROWS
    (line,) = lines()
    assert "grant it" in line or "create the database" in line
    admin = open_ledger(as_user("admin"))
    admin.command(VIEW.replace("spanledger.", "costs."))
    assert wait(lambda: stored(admin) == ids())
    assert wait(lambda: "ClickHouse is back" in lines()[-1])
    admin.close()


def test_who_may_not_migrate_ships_to_an_older_schema_what_it_takes(
    as_user: Callable[..., Endpoint],
    make: Make,
    lines: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    everything = migrations()
    with monkeypatch.context() as older:
        older.setattr(migrate_module, "migrations", lambda: {1: everything[1]})
        admin = open_ledger(as_user("admin"))
    shipper = make(as_user("spanledger_insert"))
    shipper.append(row(0))
    assert wait(lambda: stored(admin) == ids(1))
    (line,) = lines()
    assert "lacks 0002_settling" in line
    assert "may not create tables: run `spanledger settle`" in line

    shipper.journal.append(row(1, invented="1"))
    shipper.journal.seal()
    shipper.append(row(2))
    assert wait(lambda: shipper._failures >= 3)
    assert stored(admin) == ["entry-000000", "entry-000002"]  # what fits goes on
    found = pending(tmp_path / "home")
    assert (found.rows, found.rejected) == (1, 0)
    assert len(lines()) == 2, lines()
    assert "older" in lines()[1] or "lacks" in lines()[1]

    admin.command("ALTER TABLE llm_calls ADD COLUMN invented UInt8")
    assert wait(lambda: stored(admin) == ids(3))
    admin.close()


def test_a_pending_migration_is_applied_by_who_may(
    as_user: Callable[..., Endpoint], make: Make, lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is newer than the schema, and the connection stands already."""
    everything = migrations()
    with monkeypatch.context() as older:
        older.setattr(migrate_module, "migrations", lambda: {1: everything[1]})
        admin = open_ledger(as_user("admin"))
        shipper = make(as_user("admin"))
        shipper.append(row(0))
        assert wait(lambda: stored(admin) == ids(1))
    newest = max(everything) + 1
    adds = Path(f"{newest:04}_invented.sql")

    class File:
        stem = adds.stem

        def read_text(self, encoding: str) -> str:
            return "ALTER TABLE {database}.llm_calls {on_cluster} ADD COLUMN IF NOT EXISTS invented UInt8;\n"

    monkeypatch.setattr(migrate_module, "migrations", lambda: {**everything, newest: File()})
    shipper.append(row(1, invented="1"))
    assert wait(lambda: stored(admin) == ids(2))
    assert lines() == []
    assert migrate(admin) == []
    admin.close()


def test_a_user_who_may_not_migrate_is_told_what_to_do(as_user: Callable[..., Endpoint]) -> None:
    admin = connect(as_user("admin", "default"))
    admin.command("CREATE DATABASE costs")
    admin.close()
    with pytest.raises(SchemaError, match=r"lacks 0001_llm_calls.*run `spanledger settle`") as caught:
        open_ledger(as_user("spanledger_insert"))
    assert _password("spanledger_insert") not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "said"), [("spanledger_read", "grant INSERT ON costs.llm_calls"), ("nobody", "user and password")]
)
def test_a_wrong_user_is_said_once_and_the_right_one_ships(
    user: str,
    said: str,
    as_user: Callable[..., Endpoint],
    make: Make,
    lines: Callable[[], list[str]],
    made: Client,
    tmp_path: Path,
) -> None:
    wrong = make(as_user(user))
    for number in range(ROWS):
        wrong.append(row(number))
    assert wait(lambda: wrong._failures >= 3)
    assert pending(tmp_path / "home").rows == ROWS
    (line,) = lines()
    assert said in line
    assert _password(user) not in line
    wrong.close()
    right = make(as_user("spanledger_insert"))
    right.append(row(ROWS))
    assert wait(lambda: stored(made) == ids(ROWS + 1))


def test_a_restart_is_waited_for(
    server: EmbeddedClickHouse,
    as_user: Callable[..., Endpoint],
    made: Client,
    make: Make,
    lines: Callable[[], list[str]],
) -> None:
    made.close()
    shipper = make(as_user("spanledger_insert"))
    state = server.status()
    shipper.append(row(0))
    assert wait(lambda: pending(shipper.journal.folder.parent).rows == 0)
    server.stop()
    for number in range(1, ROWS):
        shipper.append(row(number))
    assert wait(lambda: shipper._failures >= 2)
    server.start(state.http_port, state.tcp_port)
    admin = connect(as_user_again(server, "admin"))
    assert wait(lambda: stored(admin) == ids())
    assert wait(lambda: len(lines()) == 2)
    admin.close()


def as_user_again(server: EmbeddedClickHouse, user: str) -> Endpoint:
    own = server.endpoint()
    assert own is not None
    return Endpoint("127.0.0.1", own.port, user, _password(user), "costs")
