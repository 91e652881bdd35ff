"""The tables of supported SDKs are those of the code, and the entry points are those of the instrumentors."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from spanledger.instrumentation import INSTRUMENTORS, SdkInstrumentor
from spanledger.instrumentation.wire.endpoints import operations

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
SCRIPT = ROOT / "scripts" / "support_table.py"

every_instrumentor = pytest.mark.parametrize("instrumentor", INSTRUMENTORS, ids=lambda i: i.sdk.name)


def test_the_tables_are_up_to_date() -> None:
    checked = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@every_instrumentor
def test_each_sdk_has_a_line(instrumentor: type[SdkInstrumentor]) -> None:
    package = Requirement(instrumentor.sdk.requirement).name
    for page in ("README.md", "docs/providers.md"):
        assert f"\n| `{package}` | " in (ROOT / page).read_text(encoding="utf-8"), page


def test_each_instrumentor_has_an_entry_point_and_no_other_has_one() -> None:
    section = PROJECT.partition("[project.entry-points.opentelemetry_instrumentor]\n")[2].partition("\n[")[0]
    found = set(re.findall(r'^spanledger-([a-z0-9_-]+) = "spanledger\.instrumentation:(\w+)"$', section, re.M))
    assert {(name.replace("-", "_"), kind) for name, kind in found} == {
        (i.sdk.name.replace("-", "_"), i.__name__) for i in INSTRUMENTORS
    }
    assert len(section.split()) == 3 * len(found)


@every_instrumentor
def test_each_sdk_says_what_is_there(instrumentor: type[SdkInstrumentor]) -> None:
    sdk = instrumentor.sdk
    versions = Requirement(sdk.requirement).specifier
    assert {clause.operator for clause in versions} == {">=", "<"}, "versions have a lower and an upper bound"
    assert hasattr(import_module(f"spanledger.instrumentation.patches.{sdk.patch}"), "Patch")
    assert set(sdk.operations) <= set(operations(sdk.wire))
    assert instrumentor.__doc__
