"""Alerts by e-mail to a real SMTP server: encrypted, with a password, refused; told once, and no secret shown."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from spanledger.exporter.client import Client
from spanledger.service.budgets.settings import AlertSettings
from spanledger.service.budgets.watch import Watch, look
from tests.conftest import free_port
from tests.service.test_budgets import NOW, configured, insert, spend

PASSWORD = "p4ss/w@rd:1"
QUOTED = "p4ss%2Fw%40rd:1"
BUDGET = configured(b={"amount": 1, "window": "day"})


class Post:
    """What the server took, and what it was asked."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.encrypted: list[bool] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.refuses = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.got.append(envelope.content.decode())
        self.encrypted.append(server.transport.get_extra_info("cipher") is not None)
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address == self.refuses:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    def login(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        right = (data.login, data.password) == (b"alerts", PASSWORD.encode())
        return AuthResult(success=right, handled=False)


Serve = Callable[..., str]


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority of the server's certificate is one of this machine's."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))


@pytest.fixture
def serve(post: Post, authority: trustme.CA) -> Iterator[Serve]:
    """Start a server; returns `host:port`."""
    started: list[Controller] = []

    def start(port: int = 0, *, starttls: bool = True, implicit: bool = False) -> str:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        how: dict[str, Any] = {"ssl_context": context} if implicit else {"tls_context": context if starttls else None}
        port = port or free_port()
        controller = Controller(
            post,
            "127.0.0.1",
            port,
            authenticator=post.login,
            auth_required=starttls and not implicit,
            auth_require_tls=starttls and not implicit,
            **how,
        )
        controller.start()
        started.append(controller)
        return f"127.0.0.1:{port}"

    yield start
    for controller in started:
        controller.stop()


def mailing(smtp: str, *to: str) -> AlertSettings:
    return replace(AlertSettings(), email_to=to or ("finance@example.com",), smtp=smtp)


@pytest.fixture
def spent(ledger: Client) -> Client:
    """A ledger in which the budget is used up."""
    insert(ledger, spend(1, "2"))
    return ledger


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_password_and_the_mail_go_encrypted(spent: Client, serve: Serve, post: Post, scheme: str) -> None:
    to = mailing(f"{scheme}://alerts:{QUOTED}@{serve(implicit=scheme == 'smtps')}")
    assert look(spent, BUDGET, to, NOW) == look(spent, BUDGET, to, NOW) == []
    (mail,) = post.got
    assert "Subject: Budget b (all calls, day): 100 % reached, 2.00 of 1.00 USD" in mail
    assert "To: finance@example.com" in mail
    assert post.encrypted == [True]
    assert post.logins == [(b"alerts", PASSWORD.encode())]


@pytest.mark.usefixtures("trusted")
def test_a_wrong_password_is_said_without_it_and_the_right_one_tells_once(
    spent: Client, serve: Serve, post: Post
) -> None:
    where = serve()
    wrong = mailing(f"smtp://alerts:wrong-secret@{where}")
    assert look(spent, BUDGET, wrong, NOW) == ["the mail server 127.0.0.1 refused user and password (535)"]
    assert post.got == []
    right = mailing(f"smtp://alerts:{QUOTED}@{where}")
    for _ in range(3):
        assert look(spent, BUDGET, right, NOW) == []
    assert len(post.got) == 1


def test_a_certificate_that_is_not_trusted_gets_nothing(
    spent: Client, serve: Serve, post: Post, request: pytest.FixtureRequest
) -> None:
    to = mailing(f"smtp://alerts:{QUOTED}@{serve()}")
    (why,) = look(spent, BUDGET, to, NOW)
    assert why.startswith("no secure connection to the mail server 127.0.0.1: ")
    assert "certificate" in why
    assert PASSWORD not in why
    assert (post.got, post.logins) == ([], [])
    request.getfixturevalue("trusted")
    assert look(spent, BUDGET, to, NOW) == look(spent, BUDGET, to, NOW) == []
    assert len(post.got) == 1


def test_a_password_is_not_sent_in_the_clear(spent: Client, serve: Serve, post: Post) -> None:
    where = serve(starttls=False)
    (why,) = look(spent, BUDGET, mailing(f"smtp://alerts:{QUOTED}@{where}"), NOW)
    assert why == "the mail server 127.0.0.1 has no STARTTLS, and a password is not sent without: use smtps://"
    assert (post.got, post.logins) == ([], [])
    assert look(spent, BUDGET, mailing(f"smtp://{where}"), NOW) == []  # a relay that asks for no password
    assert len(post.got) == 1


@pytest.mark.usefixtures("trusted")
def test_a_server_that_is_away_is_tried_again(spent: Client, serve: Serve, post: Post) -> None:
    port = free_port()
    to = mailing(f"smtp://alerts:{QUOTED}@127.0.0.1:{port}")
    assert look(spent, BUDGET, to, NOW) == ["the mail server 127.0.0.1 is not reached: Connection refused"]
    serve(port)
    assert look(spent, BUDGET, to, NOW) == look(spent, BUDGET, to, NOW) == []
    assert len(post.got) == 1


@pytest.mark.usefixtures("trusted")
def test_one_recipient_that_is_refused_keeps_it_from_nobody_else(
    spent: Client, serve: Serve, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    post.refuses = "gone@example.com"
    url = f"smtp://alerts:{QUOTED}@{serve()}"
    to = mailing(url, "finance@example.com", "gone@example.com")
    assert look(spent, BUDGET, to, NOW) == look(spent, BUDGET, to, NOW) == []
    assert len(post.got) == 1
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "the mail server 127.0.0.1 refused gone@example.com, and took the alert for the others"
    ]
    other = configured(c={"amount": 1, "window": "day"})
    assert look(spent, other, mailing(url, "gone@example.com"), NOW) == [
        "the mail server 127.0.0.1 refused the recipients (gone@example.com: 550)"
    ]


@pytest.mark.usefixtures("trusted")
def test_the_name_of_a_tenant_is_no_header(ledger: Client, serve: Serve, post: Post) -> None:
    insert(ledger, spend(1, "2", tenant=r"a\r\nBcc: all@example.com"))
    each = configured(b={"amount": 1, "window": "day", "scope": {"tenant": "*"}})
    assert look(ledger, each, mailing(f"smtp://alerts:{QUOTED}@{serve()}"), NOW) == []
    (mail,) = post.got
    assert message_from_string(mail)["Bcc"] is None


def test_the_log_has_one_line_while_it_lasts_and_no_password(
    ledger: Client, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    insert(ledger, spend(1, "2"))
    monkeypatch.setenv("SPANLEDGER_ALERTS_EMAIL_TO", "finance@example.com")
    monkeypatch.setenv("SPANLEDGER_ALERTS_SMTP", f"smtp://alerts:{QUOTED}@{serve()}")
    caplog.set_level(logging.DEBUG)
    watch = Watch(configured(b={"amount": 1, "window": "rolling 30d"}))
    watch._look(ledger.endpoint)
    watch._look(ledger.endpoint)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("spanledger")]
    assert len(lines) == 1
    assert lines[0].startswith("no secure connection to the mail server 127.0.0.1")
    assert lines[0].endswith("; trying again")
    assert PASSWORD not in caplog.text
    assert QUOTED not in caplog.text
    assert QUOTED not in repr(watch._settings)
