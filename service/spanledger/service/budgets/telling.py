"""Telling people: by a webhook that takes Slack's JSON, by e-mail, or by a command of theirs."""

from __future__ import annotations

import json
import smtplib
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

from spanledger.failures import logger
from spanledger.service.budgets.settings import AlertSettings

_TIMEOUT = 10.0
_COMMAND_TIMEOUT = 30.0


class NotTold(RuntimeError):
    """A channel did not take an alert; the message says why, without secrets."""


@dataclass(frozen=True, slots=True)
class Alert:
    """What is told.

    Attributes:
        text: one line for people.
        facts: name -> value, for programs and for the lines of an e-mail; money is text.
        urgent: the budget is used up, or an hour is unusual.
    """

    text: str
    facts: Mapping[str, Any]
    urgent: bool


def channels(settings: AlertSettings) -> dict[str, Callable[[Alert], None]]:
    """Name -> what tells an alert there and raises `NotTold` where it cannot."""
    found: dict[str, Callable[[Alert], None]] = {}
    if settings.webhook:
        found["webhook"] = lambda alert: _webhook(settings.webhook, alert)
    if settings.email_to:
        found["email"] = lambda alert: _email(settings, alert)
    if settings.command:
        found["command"] = lambda alert: _command(settings.command, alert)
    return found


def _webhook(url: str, alert: Alert) -> None:
    """https://api.slack.com/reference/messaging/payload; Mattermost, Rocket.Chat and Discord (`/slack`) take it too."""
    text = _escaped(alert.text)
    fields = [{"title": name, "value": _escaped(value), "short": True} for name, value in alert.facts.items()]
    body = {
        "text": text,
        "attachments": [{"color": "danger" if alert.urgent else "warning", "fallback": text, "fields": fields}],
    }
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", "User-Agent": "spanledger"}
    )
    host = urlsplit(url).hostname
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT):
            return
    except urllib.error.HTTPError as error:
        raise NotTold(f"the webhook at {host} answered {error.code}") from None
    except (OSError, ValueError) as error:
        raise NotTold(f"the webhook at {host} is not reached: {getattr(error, 'reason', error)}") from None


def _escaped(value: Any) -> str:
    """https://docs.slack.dev/messaging/formatting-message-text: else a tenant's name could call everybody."""
    return str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _email(settings: AlertSettings, alert: Alert) -> None:
    text = " ".join(alert.text.split())  # a name may have line ends, a header may not
    message = EmailMessage()
    message["Subject"] = text
    message["From"] = settings.email_from
    message["To"] = ", ".join(settings.email_to)
    message.set_content("\n".join([text, "", *(f"{name}: {value}" for name, value in alert.facts.items())]))
    host = urlsplit(settings.smtp).hostname
    try:
        refused = _send(settings.smtp, message)
    except smtplib.SMTPAuthenticationError as error:
        raise NotTold(f"the mail server {host} refused user and password ({error.smtp_code})") from None
    except smtplib.SMTPRecipientsRefused as error:
        codes = ", ".join(f"{to}: {code}" for to, (code, _) in error.recipients.items())
        raise NotTold(f"the mail server {host} refused the recipients ({codes})") from None
    except smtplib.SMTPResponseException as error:
        raise NotTold(f"the mail server {host} did not take it ({error.smtp_code})") from None
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", "") or error.reason or type(error).__name__
        raise NotTold(f"no secure connection to the mail server {host}: {why}") from None
    except OSError as error:
        if isinstance(error, smtplib.SMTPException):
            raise NotTold(f"the mail server {host} did not take it: {type(error).__name__}") from None
        raise NotTold(f"the mail server {host} is not reached: {error.strerror or type(error).__name__}") from None
    except UnicodeError:
        raise NotTold(f"the mail server {host} is not asked: user and password of SMTP are ASCII") from None
    if refused:
        logger.error("the mail server %s refused %s, and took the alert for the others", host, ", ".join(refused))


def _send(url: str, message: EmailMessage) -> Mapping[str, Any]:
    """Send by a server; the recipients that it refused, if it took others.

    Raises:
        OSError: not reached, not secure, or refused.
        UnicodeError: user or password are not ASCII.
        NotTold: the server would get the password in the clear.
    """
    server = urlsplit(url)
    host = server.hostname or ""
    if server.scheme == "smtps":
        context = ssl.create_default_context()
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, server.port or 465, timeout=_TIMEOUT, context=context)
    else:
        smtp = smtplib.SMTP(host, server.port or 25, timeout=_TIMEOUT)
    with smtp:
        smtp.ehlo()
        if server.scheme == "smtp" and smtp.has_extn("starttls"):
            smtp.starttls(context=ssl.create_default_context())
            smtp.ehlo()
        elif server.scheme == "smtp" and server.username:
            raise NotTold(f"the mail server {host} has no STARTTLS, and a password is not sent without: use smtps://")
        if server.username:
            smtp.login(unquote(server.username), unquote(server.password or ""))
        return smtp.send_message(message)


def _command(words: tuple[str, ...], alert: Alert) -> None:
    told = {"text": alert.text, "urgent": alert.urgent, **alert.facts}
    try:
        done = subprocess.run(
            words,
            input=json.dumps(told, default=str).encode(),
            capture_output=True,
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotTold(f"the command {words[0]} did not run: {type(error).__name__}") from None
    if done.returncode:
        raise NotTold(f"the command {words[0]} ended with {done.returncode}")
