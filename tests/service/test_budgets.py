"""Budgets of the configuration on a real ledger: what was spent, who is told, and that nobody is told twice."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from spanledger.exporter.client import Client
from spanledger.service.budgets import settings as budget_settings
from spanledger.service.budgets.settings import AlertSettings, alerts, budgets
from spanledger.service.budgets.spending import Anomaly, anomaly, evaluate, window
from spanledger.service.budgets.watch import Watch, look
from spanledger.service.cli import cli
from spanledger.settings import Settings, SettingsError, load, settings
from tests.exporter.test_queries import call, insert

UTC = timezone.utc
NOW = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
ALERTS = AlertSettings()
MONEY = Decimal("0.100000000000000001")


def spend(number: int, cost: str | None = str(MONEY), at: datetime = NOW - timedelta(minutes=1), **more: str) -> bytes:
    return call(number, cost=cost, at=int(at.timestamp()), **{k: f'"{v}"' for k, v in more.items()})


def configured(**given: dict[str, Any]) -> Settings:
    return Settings(home=Path("/nowhere"), config=Path("config.yaml"), budgets=given)


# what was spent


def test_the_sum_of_a_window_is_exact(ledger: Client) -> None:
    insert(
        ledger,
        *[spend(number) for number in range(30)],
        spend(30, None),
        spend(31, "5", NOW.replace(day=21, hour=23, minute=59)),
        spend(32, "7", NOW.replace(day=1, hour=0, minute=0)),
        spend(33, "100", NOW.replace(month=10, day=31, hour=23)),
    )
    today, month, rolling = evaluate(
        ledger,
        configured(
            today={"amount": 5, "window": "day"},
            month={"amount": "20.5", "window": "month"},
            rolling={"amount": 8.5, "window": "rolling 2d"},
        ),
        NOW,
    )
    assert (today.spent, today.calls, today.unpriced) == (30 * MONEY, 31, 1)
    assert month.spent == 30 * MONEY + 12
    assert (rolling.spent, rolling.exceeded, rolling.budget.amount) == (30 * MONEY + 5, False, Decimal("8.5"))
    assert (rolling.since, rolling.until) == (NOW - timedelta(days=2), NOW)
    assert today.share == Decimal("0.600000")
    assert (today.crossed, month.crossed) == ((), ())
    assert evaluate(ledger, configured(today={"amount": 3, "window": "day"}), NOW)[0].exceeded


def test_the_window_of_a_month_ends_where_the_next_begins() -> None:
    (budget,) = budgets(configured(b={"amount": 1, "window": "month"}))
    assert window(budget, datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == (
        datetime(2026, 12, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("scope", "column"),
    [
        ("tenant", "tenant"),
        ("user", "user_id"),
        ("feature", "feature"),
        ("key", "api_key_alias"),
        ("model", "response_model"),
        ("service", "service_name"),
        ("environment", "environment"),
        ("provider", "provider"),
    ],
)
def test_a_scope_takes_only_its_calls(ledger: Client, scope: str, column: str) -> None:
    assert scope in budget_settings.SCOPES
    insert(ledger, spend(1, "1", **{column: "mine"}), spend(2, "2", **{column: "other"}), spend(3, "4"))
    one = configured(b={"amount": 10, "window": "hour", "scope": {scope: "mine"}})
    assert [each.spent for each in evaluate(ledger, one, NOW)] == [1]
    each = configured(b={"amount": 10, "window": "hour", "scope": {scope: "*"}})
    found = {spending.scope[scope]: spending.spent for spending in evaluate(ledger, each, NOW)}
    assert {value: found[value] for value in ("mine", "other")} == {"mine": 1, "other": 2}


def test_a_tag_is_a_scope_and_a_value_is_never_sql(ledger: Client) -> None:
    row = call(1, cost="1", at=int(NOW.timestamp()) - 60, tags='{"team":"blue\' OR 1=1"}')
    insert(ledger, row, spend(2, "2"))
    found = evaluate(ledger, configured(b={"amount": 10, "window": "day", "scope": {"tag:team": "blue' OR 1=1"}}), NOW)
    assert [each.spent for each in found] == [1]
    assert [each.scope_text for each in found] == ["tag:team=blue' OR 1=1"]


# who is told


class Hook(ThreadingHTTPServer):
    """A webhook on loopback that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hooked)
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_port}/services/secret"


class _Hooked(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Mail(socketserver.ThreadingTCPServer):
    """An SMTP server on loopback that keeps what it gets."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Mailed)
        self.got: list[str] = []
        self.url = f"smtp://127.0.0.1:{self.server_address[1]}"


class _Mailed(socketserver.StreamRequestHandler):
    server: Mail

    def handle(self) -> None:
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    text += line
                self.server.got.append(text.decode())
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


@pytest.fixture
def hook() -> Iterator[Hook]:
    yield from _served(Hook())


@pytest.fixture
def mail() -> Iterator[Mail]:
    yield from _served(Mail())


def _served(server: Any) -> Iterator[Any]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_threshold_is_told_once(ledger: Client, hook: Hook) -> None:
    now = configured(acme={"amount": 1, "window": "day", "scope": {"tenant": "acme"}, "thresholds": ["50%", "100%"]})
    to = replace(ALERTS, webhook=hook.url)
    assert look(ledger, now, to, NOW) == []
    assert hook.got == []
    insert(ledger, spend(1, "0.6", tenant="acme"))
    assert look(ledger, now, to, NOW) == look(ledger, now, to, NOW) == []
    (told,) = hook.got
    assert told["text"] == "Budget acme (tenant=acme, day): 50 % reached, 0.60 of 1.00 USD"
    fields = {field["title"]: field["value"] for field in told["attachments"][0]["fields"]}
    assert (fields["spent"], fields["amount"], fields["since"]) == (
        "0.600000000000000000",
        "1",
        "2026-11-22T00:00:00+00:00",
    )
    insert(ledger, spend(2, "0.4", tenant="acme"))
    look(ledger, now, to, NOW)
    look(ledger, now, to, NOW)
    assert [each["text"][:45] for each in hook.got[1:]] == ["Budget acme (tenant=acme, day): 100 % reached"]
    insert(ledger, spend(3, "2", NOW + timedelta(days=1), tenant="acme"))
    look(ledger, now, to, NOW + timedelta(days=1, hours=1))
    assert len(hook.got) == 3
    assert "100 % reached, 2.00" in hook.got[2]["text"]  # of both thresholds the higher alone


def test_a_rolling_window_is_told_again_once_it_was_below(ledger: Client, hook: Hook) -> None:
    now = configured(b={"amount": 1, "window": "rolling 3h", "thresholds": ["100%"]})
    to = replace(ALERTS, webhook=hook.url)
    insert(ledger, spend(1, "1.5", NOW))
    for hours in (0.5, 1, 2):  # over, and still over
        look(ledger, now, to, NOW + timedelta(hours=hours))
    assert len(hook.got) == 1
    look(ledger, now, to, NOW + timedelta(hours=4))  # below
    insert(ledger, spend(2, "1.5", NOW + timedelta(hours=4)))
    look(ledger, now, to, NOW + timedelta(hours=5))
    look(ledger, now, to, NOW + timedelta(hours=5))
    assert len(hook.got) == 2


def test_a_channel_that_fails_is_tried_again_and_the_others_are_not(ledger: Client, hook: Hook, mail: Mail) -> None:
    now = configured(b={"amount": 1, "window": "day", "scope": {"tenant": "*"}})
    to = replace(ALERTS, webhook=hook.url, email_to=("a@example.com", "b@example.com"), smtp=mail.url)
    insert(ledger, spend(1, "1", tenant="acme"), spend(2, "3", tenant="globex"), spend(3, "0.1", tenant="small"))
    hook.status = 500
    assert look(ledger, now, to, NOW) == ["the webhook at 127.0.0.1 answered 500"] * 2
    assert len(mail.got) == 2
    assert "Subject: Budget b (tenant=globex, day): 100 % reached, 3.00 of 1.00 USD" in "".join(mail.got)
    assert "To: a@example.com, b@example.com" in mail.got[0]
    hook.status, hook.got = 200, []
    assert look(ledger, now, to, NOW) == []
    assert (len(hook.got), len(mail.got)) == (2, 2)


def test_a_command_gets_json(ledger: Client, tmp_path: Path) -> None:
    into = tmp_path / "told.json"
    copy = f"import sys; open({str(into)!r}, 'w').write(sys.stdin.read())"
    insert(ledger, spend(1, "0.000000000000000001"), spend(2, "2"), spend(3, None))
    now = configured(b={"amount": 1, "window": "hour"})
    assert look(ledger, now, replace(ALERTS, command=(sys.executable, "-c", copy)), NOW) == []
    told = json.loads(into.read_text())
    assert "100 % reached, 2.00 of 1.00 USD" in told["text"]
    assert (told["spent"], told["unpriced"], told["urgent"]) == ("2.000000000000000001", 1, True)
    assert told["text"].endswith("; 1 row has no known cost")
    insert(ledger, spend(4, "1", tenant="x"))
    other = configured(c={"amount": 1, "window": "hour"})
    command = (sys.executable, "-c", "raise SystemExit(3)")
    assert look(ledger, other, replace(ALERTS, command=command), NOW) == [f"the command {sys.executable} ended with 3"]


def test_the_service_looks_in_a_thread_of_its_own(ledger: Client, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANLEDGER_ALERTS_WEBHOOK", hook.url)
    insert(ledger, spend(1, "2", datetime.now(UTC)))
    watch = Watch(configured(b={"amount": 1, "window": "rolling 12h"}))
    watch.keep(ledger.endpoint)
    watch._thread.join(30)
    assert len(hook.got) == 1
    watch.keep(ledger.endpoint)  # not due yet
    assert not watch._thread.is_alive()
    assert not Watch(configured()).active


# an unusual hour


def weeks(ledger: Client, costs: list[str | None]) -> None:
    """The same hour of former weeks cost so much; None: the ledger was off that day."""
    hour = NOW.replace(minute=0) - timedelta(hours=1)
    rows = []
    for week, cost in enumerate(costs, 1):
        if cost is not None:
            rows.append(spend(100 + week, cost, hour - week * timedelta(days=7)))
            rows.append(spend(200 + week, "50", hour - week * timedelta(days=7) - timedelta(hours=2)))
    insert(ledger, *rows)


@pytest.mark.parametrize(
    ("costs", "spent", "unusual"),
    [
        (["1", "1.1", "0.9", "1", "1", "1.05"], "9", True),
        (["1", "1.1", "0.9", "1", "1", "1.05"], "1.4", False),
        (["1", "40", "0.9", None, "1.1", "1"], "9", True),  # one odd week moves neither median nor MAD
        (["10", "2", "14", "6", "12", "1"], "16", False),  # it varies anyway
        (["1", None, "1", None, None, None], "9", False),  # two weeks are not enough
        (["0", "0", "0", "0"], "1.5", True),
        (["0", "0", "0", "0"], "0.9", False),  # below the minimum
        (["8", "8", "8", "8"], "11", False),  # a tenth of the median counts as deviation
    ],
)
def test_an_hour_is_compared_with_the_same_hours_of_former_weeks(
    ledger: Client, costs: list[str | None], spent: str, unusual: bool
) -> None:
    weeks(ledger, costs)
    insert(ledger, spend(1, spent, NOW - timedelta(hours=1)), spend(2, "1000", NOW))
    found = anomaly(ledger, configured(), replace(ALERTS, anomaly_minimum=Decimal(1)), NOW)
    assert (found is not None) is unusual
    if isinstance(found, Anomaly):
        assert found.spent == Decimal(spent)
        assert found.weeks == len([cost for cost in costs if cost is not None])
    assert anomaly(ledger, configured(), ALERTS, NOW) is None


def test_an_unusual_hour_is_told_once(ledger: Client, hook: Hook) -> None:
    weeks(ledger, ["1", "1", "1"])
    insert(ledger, spend(1, "30", NOW - timedelta(hours=1)))
    to = replace(ALERTS, webhook=hook.url, anomaly_minimum=Decimal(5))
    look(ledger, configured(), to, NOW)
    look(ledger, configured(), to, NOW + timedelta(minutes=20))
    assert [each["text"] for each in hook.got] == [
        "Unusual spend: 30.00 USD in the hour from 2026-11-22 16:00 UTC, usually 1.00 (median of 3 weeks)"
    ]


# settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, r"settings\.budgets\.b is not a mapping"),
        ({"window": "day"}, r"settings\.budgets\.b\.amount is missing"),
        ({"amount": 1}, r"settings\.budgets\.b\.window is missing"),
        ({"amount": -1, "window": "day"}, r"settings\.budgets\.b\.amount is -1: use an amount above 0"),
        ({"amount": "ten", "window": "day"}, "b.amount is 'ten'"),
        ({"amount": 1, "window": "week"}, "b.window is 'week': use hour, day, month, or rolling 30d"),
        ({"amount": 1, "window": "rolling 0d"}, "b.window"),
        ({"amount": 1, "window": "day", "scope": "tenant"}, r"b.scope is 'tenant': use a mapping, as \{tenant: acme\}"),
        ({"amount": 1, "window": "day", "scope": {"team": "x"}}, "'team' is no scope: use tenant, user"),
        ({"amount": 1, "window": "day", "thresholds": [0.8]}, "b.thresholds.*use a list of percentages"),
        ({"amount": 1, "window": "day", "currency": "EUR"}, "b.currency is 'EUR': costs are summed in USD"),
        ({"amount": 1, "window": "day", "limit": 3}, "b.limit is no setting; known: amount, currency"),
    ],
)
def test_a_wrong_budget_is_named(given: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        budgets(configured(b=given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"webhook": "hooks.slack.com/secret"}, r"settings\.alerts\.webhook: use a URL that begins with https://"),
        ({"smtp": "mail:secret@host"}, r"settings\.alerts\.smtp: use smtp://"),
        ({"email_to": "nobody"}, r"settings\.alerts\.email_to is 'nobody': 'nobody' is not an e-mail address"),
        ({"anomaly_minimum": 0}, r"settings\.alerts\.anomaly_minimum is 0"),
        ({"sms": "1"}, r"settings\.alerts\.sms is no setting"),
    ],
)
def test_a_wrong_alert_setting_is_named_without_secrets(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        alerts(replace(configured(), alerts=given), {})
    assert "secret" not in str(refused.value)


# the command line


@pytest.fixture
def run(ledger: Client, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    end = ledger.endpoint
    (tmp_path / "config.yaml").write_text(
        "settings:\n  budgets:\n    tight: {amount: 1, window: rolling 12h}\n"
        "    wide: {amount: 10, window: rolling 12h}\n"
    )
    env = {
        "SPANLEDGER_HOME": str(tmp_path),
        "SPANLEDGER_URL": f"http://{end.username}:{end.password}@{end.host}:{end.port}/{end.database}",
    }
    settings.cache_clear()
    yield lambda *args, **more: CliRunner().invoke(cli, ["budgets", *args], env={**env, **more})
    settings.cache_clear()


def test_check_exits_1_over_budget(ledger: Client, run: Callable[..., Any]) -> None:
    assert run("check").exit_code == 0
    insert(ledger, spend(1, "1", datetime.now(UTC)))
    assert run("check").exit_code == 0  # all of it, and no more
    insert(ledger, spend(2, "0.000000000000000001", datetime.now(UTC)))
    over = run("check", "--json")
    assert (over.exit_code, over.stderr) == (1, "over budget: tight (all calls)\n")
    tight, wide = json.loads(over.stdout)
    assert (tight["exceeded"], tight["spent"], tight["left"]) == (
        True,
        "1.000000000000000001",
        "-0.000000000000000001",
    )
    assert wide["exceeded"] is False
    assert run("check", "wide").exit_code == 0
    unknown = run("check", "narrow")
    assert (unknown.exit_code, "there is no budget 'narrow'; known: tight, wide" in unknown.stderr) == (2, True)


def test_list_shows_every_budget(ledger: Client, run: Callable[..., Any]) -> None:
    insert(ledger, spend(1, "8.5", datetime.now(UTC)))
    shown = run("list")
    assert shown.exit_code == 0
    assert "850.0 %" in shown.stdout
    assert ["tight" in shown.stdout, "over budget" in shown.stdout, "near" in shown.stdout] == [True] * 3


def test_the_channels_can_be_tested(run: Callable[..., Any], hook: Hook) -> None:
    assert "nobody is told" in run("test").stderr
    assert run("test", SPANLEDGER_ALERTS_WEBHOOK=hook.url).stdout == "webhook: told\n"
    assert hook.got[0]["text"] == "A test of spanledger's alerts"
    hook.status = 404
    failed = run("test", SPANLEDGER_ALERTS_WEBHOOK=hook.url)
    assert (failed.exit_code, failed.stderr) == (1, "webhook: the webhook at 127.0.0.1 answered 404\n")


def test_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "settings:\n  budgets:\n    b: {amount: 49.90, window: rolling 7d, thresholds: [50%, 100%]}\n"
        "  alerts: {command: [notify-send, LLM], email_to: [a@example.com]}\n"
    )
    now = load({"SPANLEDGER_HOME": str(tmp_path)})
    (budget,) = budgets(now)
    assert (budget.amount, budget.window_text, budget.thresholds) == (
        Decimal("49.9"),
        "rolling 7d",
        (Decimal("0.5"), 1),
    )
    assert alerts(now, {"SPANLEDGER_ALERTS_EMAIL_TO": "b@example.com,c@example.com"}) == AlertSettings(
        command=("notify-send", "LLM"), email_to=("b@example.com", "c@example.com")
    )
