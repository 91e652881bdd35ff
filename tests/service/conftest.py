"""A ledger with the example program's calls in it, behind `spanledger up`, and ways to run commands on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from spanledger.service.cli import cli
from spanledger.settings import settings
from tests.service import dashboard

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

ONE_CALL = """
import os, sys
sys.path.insert(0, {examples!r})
import openai
from standin import StandIn
with StandIn() as server:
    client = openai.OpenAI(base_url=f"http://localhost:{{server.server_port}}/v1", api_key="sk-test")
    {body}
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user whose home of spanledger is `home`, and who has set nothing else."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPANLEDGER_", "LLM_USAGE_", "OTEL_", "DEMO"))}
    return {
        **kept,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
        "SPANLEDGER_HOME": str(home),
        "SPANLEDGER_HOSTS": "localhost=openai,127.0.0.1=anthropic",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "SPANLEDGER_COLLECTOR": "false",  # its ports are the same in every home
        "SPANLEDGER_SERVE": "false",
        **more,
    }


def spanledger(home: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the console script as a process of its own."""
    return subprocess.run(
        [str(BIN / "spanledger"), *args], env=environment(home, **more), capture_output=True, text=True, check=False
    )


def call_once(home: Path, body: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run an instrumented program that makes one call (or `body`, with `client` at hand)."""
    body = body or 'client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hi"}])'
    return subprocess.run(
        [str(BIN / "opentelemetry-instrument"), sys.executable, "-c", program(body)],
        env=environment(home, **more),
        capture_output=True,
        text=True,
        check=False,
    )


def program(body: str) -> str:
    return ONE_CALL.format(examples=str(ROOT / "examples"), body=body)


@pytest.fixture(scope="session")
def example_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that is up, with the calls of examples/app.py; for tests that only read."""
    home = tmp_path_factory.mktemp("ledger") / "home"
    subprocess.run(
        [str(BIN / "opentelemetry-instrument"), sys.executable, str(ROOT / "examples" / "app.py")],
        env=environment(home, OTEL_SERVICE_NAME="help-desk"),
        check=True,
    )
    up = spanledger(home, "up")
    assert up.returncode == 0, up.stderr
    assert spanledger(home, "report").returncode == 0  # loads what waits
    yield home
    assert spanledger(home, "down").returncode == 0


@pytest.fixture
def run(example_home: Path) -> Iterator[object]:
    """Runs a command in this process on the ledger of `example_home`."""
    env: Mapping[str, str | None] = {
        **{name: None for name in os.environ if name.startswith(("SPANLEDGER_", "LLM_USAGE_", "OTEL_"))},
        **{k: v for k, v in environment(example_home).items() if k.startswith(("SPANLEDGER_", "OTEL_", "PATH"))},
    }

    def command(*args: str, **more: str) -> Result:
        return CliRunner().invoke(cli, args, env={**env, **more}, prog_name="spanledger")

    yield command
    settings.cache_clear()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty home of the test's own; whatever the test starts there is stopped."""
    folder = tmp_path / "home"
    yield folder
    assert spanledger(folder, "down").returncode == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not on this machine: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install 'spanledger[dev]'", exc_type=ImportError
    )
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opens(browser: Any) -> Iterator[Callable[..., Any]]:
    """`opens(url)`: the page there, when all of it is shown. What it throws or fetches elsewhere fails the test."""
    contexts, trouble = [], []

    def page(
        address: str, done: str = dashboard.DONE, before: Callable[[Any], None] = lambda _: None, **options: Any
    ) -> Any:
        given = {"viewport": {"width": 1360, "height": 900}, "timezone_id": "UTC", "locale": "en-GB", **options}
        context = browser.new_context(**given)
        contexts.append(context)
        opened = context.new_page()
        origin = "/".join(address.split("/")[:3])
        opened.on("pageerror", lambda error: trouble.append(str(error)))
        opened.on("request", lambda asked: asked.url.startswith((origin, "blob:")) or trouble.append(asked.url))
        opened.on("console", lambda said: "Content Security" in said.text and trouble.append(said.text))
        before(opened)
        opened.goto(address)
        opened.wait_for_selector(done)
        return opened

    yield page
    for context in contexts:
        context.close()
    assert trouble == []
