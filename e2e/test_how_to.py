"""docs/how-to/existing-collector.md, as printed: their Collector, Jaeger behind it, and a Node.js program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import free_port
from tests.how_to.conftest import Reader
from tests.service.conftest import BIN, environment

from e2e.stack import HAS_NODE, Server, built, fetch, wait_until
from e2e.variants import CONFIG


@pytest.fixture
def page(tmp_path: Path, standin: int) -> Iterator[Reader]:
    folder = tmp_path / "work"
    folder.mkdir()
    ports = {port: str(free_port()) for port in ("4317", "4318", "13133", "24317", "14317", "14318")}
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "otelcol-contrib").symlink_to(built("otelcol"))
    env = environment(
        tmp_path / "home",
        PATH=f"{tools}:{BIN}:{os.environ['PATH']}",
        OPENAI_BASE_URL=f"http://localhost:{standin}/v1",
        OPENAI_API_KEY="sk-stand-in",
        SPANLEDGER_COLLECTOR="true",
        SPANLEDGER_COLLECTOR_GRPC=f"127.0.0.1:{ports['14317']}",
        SPANLEDGER_COLLECTOR_HTTP=f"127.0.0.1:{ports['14318']}",
    )
    env = {name: value for name, value in env.items() if not name.startswith("OTEL_")}
    reader = Reader(
        "existing-collector", folder, env, {f"127.0.0.1:{port}": f"127.0.0.1:{own}" for port, own in ports.items()}
    )
    yield reader
    reader.close()
    reader.also("spanledger down --quiet")


@pytest.fixture
def jaeger(page: Reader, tmp_path: Path) -> Iterator[str]:
    """Where Jaeger, which their Collector sends spans to, answers queries."""
    query, health = free_port(), free_port()
    server = Server(
        [built("jaeger"), "--config", CONFIG.parent / "deploy" / "jaeger.yaml"],
        {
            **page.env,
            "JAEGER_OTLP_LISTEN": page.theirs("127.0.0.1:24317"),
            "JAEGER_QUERY_LISTEN": f"127.0.0.1:{query}",
            "JAEGER_QUERY_GRPC_LISTEN": f"127.0.0.1:{free_port()}",
            "JAEGER_HEALTH_LISTEN": f"127.0.0.1:{health}",
            "OTEL_TRACES_SAMPLER": "always_off",
        },
        tmp_path / "jaeger.log",
        f"http://127.0.0.1:{health}/status",
    )
    server.start()
    yield f"http://127.0.0.1:{query}"
    server.stop()


def test_the_collector_that_is_there_feeds_the_ledger_too(page: Reader, jaeger: str) -> None:
    page.write()
    page.run("spanledger up")
    page.start("otelcol-contrib")
    wait_until(lambda: fetch(page.theirs("http://127.0.0.1:13133/")), "the Collector is there")
    if not HAS_NODE:
        pytest.skip("Node.js is not on this machine")
    modules = built("node") / "node_modules"
    assert all((modules / name).is_dir() for name in page.skip("npm install ").split()[2:])
    page.env["NODE_PATH"] = str(modules)
    page.run("node program.js")
    report = ""

    def reported() -> bool:
        nonlocal report
        report = page.also("spanledger report --by service,tenant,feature,user")
        return "help-desk" in report

    wait_until(reported, "the call is in the ledger")
    assert all(word in report for word in ("acme", "answer", "ada"))
    report = page.run("spanledger report")
    assert all(word in report for word in ("help-desk", "acme", "answer"))
    traces = f"{jaeger}/api/traces?service=help-desk"
    wait_until(lambda: b"gen_ai.response.id" in (fetch(traces) or b""), "what the Collector did before goes on")
    page.done()


def test_the_filter_is_that_of_the_shipped_configuration() -> None:
    (condition,) = [line for line in CONFIG.read_text().splitlines() if line.strip().startswith("- not IsMatch")]
    page = (CONFIG.parent / "docs" / "how-to" / "existing-collector.md").read_text()
    assert condition.strip() in page
