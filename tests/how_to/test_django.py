"""docs/how-to/django.md, as printed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.how_to.conftest import Reader
from tests.service.conftest import BIN

LOGGED_IN = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "helpdesk.settings"
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create(pk=17, username="ada"))
print(client.cookies["sessionid"].value)
"""

MORE = """

from asgiref.sync import sync_to_async


async def later(request):
    with attribute(feature="later"):
        return await sync_to_async(answer)(request)


urlpatterns = [path("later", later), path("answer", answer), path("chat", chat)]
"""


def test_the_development_server_and_gunicorn(
    reader: Callable[..., Reader], billed: Callable[..., list[tuple[Any, ...]]]
) -> None:
    page = reader("django", PATH=str(BIN) + ":/usr/bin:/bin")
    page.run("django-admin")
    page.write()
    session = subprocess.run(
        [sys.executable, "-c", LOGGED_IN], cwd=page.folder, env=page.env, capture_output=True, text=True, check=True
    ).stdout.strip()
    server = page.start("opentelemetry-instrument python manage.py")
    assert page.answered("curl")
    assert page.run("curl")
    assert billed("tenant", "user_id", "feature", calls=2) == [("acme", "", "answer"), ("acme", "", "chat")]
    report = page.run("spanledger report")
    assert all(word in report for word in ("acme", "answer", "chat"))
    page.end(server)

    # Nothing is sent but at the end of the workers.
    page.env["SPANLEDGER_SHIP_INTERVAL"] = "3600"
    server = page.start("opentelemetry-instrument gunicorn")
    curl = f"curl --fail --silent --cookie sessionid={session} 'http://acme.localhost:8000/answer?question=Hello'"
    page.until_it_answers(curl)
    page.end(server)
    rows = billed("tenant", "user_id", "feature", calls=3)
    assert rows == [("acme", "", "answer"), ("acme", "", "chat"), ("acme", "17", "answer")]
    page.done()


def test_under_asgi(reader: Callable[..., Reader], billed: Callable[..., list[tuple[Any, ...]]]) -> None:
    page = reader("django")
    page.run("django-admin")
    page.write()
    urls = (page.folder / "helpdesk" / "urls.py").read_text()
    views = (page.folder / "helpdesk" / "views.py").read_text()
    (page.folder / "helpdesk" / "urls.py").write_text(views + urls.partition("urlpatterns")[0] + MORE)
    server = page.started("opentelemetry-instrument uvicorn helpdesk.asgi:application --port 8000")
    for name in ("later", "chat"):
        page.until_it_answers(f"curl --fail --silent 'http://acme.localhost:8000/{name}?question=Hello'")
    assert billed("tenant", "feature", calls=2) == [("acme", "answer"), ("acme", "chat")]
    page.end(server)
    assert "Failed to detach context" not in page.output.read_text()
