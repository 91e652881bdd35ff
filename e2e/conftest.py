"""Fixtures of the end-to-end tests: `make e2e` runs them, not `make test`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.conftest import ROOT

from e2e.stack import HAS_NODE, Program, Stack, node_program, python_program
from e2e.variants import CONFIG

sys.path.insert(0, str(ROOT / "examples"))

from standin import StandIn


@pytest.fixture(scope="session")
def standin() -> Iterator[int]:
    """The port of a server that stands in for OpenAI and Anthropic."""
    with StandIn() as server:
        yield server.server_port


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, with the configuration that is shipped."""
    with Stack(tmp_path_factory.mktemp("stack"), CONFIG) as running:
        yield running


@pytest.fixture
def programs(stack: Stack, standin: int, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[list[Program]]:
    """The Python program, and the Node.js one where there is Node.js.

    The Python one has a journal of its own, which nobody loads: its calls reach the ledger through the Collector alone.
    """
    name = request.node.name.removeprefix("test_")[:40]
    running = [python_program(stack, standin, tmp_path / "home", f"python-{name}")]
    if HAS_NODE:
        running.append(node_program(stack, standin, tmp_path / "home", f"node-{name}"))
    yield running
    for program in running:
        program.end()
