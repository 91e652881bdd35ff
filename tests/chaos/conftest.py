"""A short form of each trouble in `make test`, the long one in `make chaos`, with a table of what came of it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.chaos.kills import HEADER, Outcome

LONG = "SPANLEDGER_CHAOS" in os.environ
SEED = int(os.environ.get("SPANLEDGER_CHAOS", "20261122"))

_outcomes: list[Outcome] = []
_figures: list[str] = []


@pytest.fixture(scope="session")
def told() -> Any:
    """`told(outcome)` or `told("a figure")`: for the table."""

    def tell(what: Outcome | str) -> None:
        if isinstance(what, Outcome):
            _outcomes.append(what)
        else:
            _figures.append(what)

    return tell


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if LONG and (_outcomes or _figures):
        terminalreporter.section(f"chaos, seed {SEED}")
        for line in [HEADER, *map(str, _outcomes), "", *_figures]:
            terminalreporter.write_line(line)
