"""A gateway and its client, two instrumented processes with a journal each: every call is one bill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spanledger.exporter.client import Client
from spanledger.exporter.settle import settle
from spanledger.exporter.shipper import load_journal
from tests.chaos.conftest import LONG
from tests.chaos.kills import ROOT
from tests.chaos.test_processes import BIN, environment

BILLS = "SELECT response_id, provider, tenant, feature, input_tokens, cost_base, price_status FROM llm_calls FINAL"


def run(home: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A program of ours under the bare `opentelemetry-instrument`, on a machine of its own."""
    home.mkdir()
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "-m", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment(home), text=True, **pipes, **options)


@pytest.mark.parametrize(
    ("ids", "first"),
    [
        ("the provider's", "client"),
        ("the provider's", "gateway"),
        *([("own", "client"), ("own", "gateway")] if LONG else []),
    ],
)
def test_a_call_through_a_gateway_is_one_bill(tmp_path: Path, ledger: Client, ids: str, first: str) -> None:
    homes = {"client": tmp_path / "client", "gateway": tmp_path / "gateway"}
    gateway = run(homes["gateway"], "tests.chaos.programs.gateway", ids)
    with gateway:
        assert gateway.stdout is not None
        port = gateway.stdout.readline().strip()
        client = run(homes["client"], "tests.chaos.programs.behind_gateway", f"http://127.0.0.1:{port}")
        out, error = client.communicate(timeout=60)
        assert client.returncode == 0, error
        _, error = gateway.communicate(timeout=60)
        assert gateway.returncode == 0, error
    had = out.split()
    assert len(had) == 2
    for name in sorted(homes, key=lambda name: name != first):
        load_journal(homes[name], ledger)
        settle(ledger)
    bills = ledger.query(BILLS).rows
    assert len(bills) == 2, bills
    for response_id, provider, tenant, feature, input_tokens, cost, price_status in bills:
        assert (response_id in had) is (ids != "own")
        assert (provider, tenant, feature, input_tokens) == ("openai", "acme", "answer", 2006)
        assert (price_status, cost > 0) == ("priced", True)
