"""The reference pages say what the code says, and the entry points are those of the instrumentors."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from spanledger import attributes
from spanledger.exporter.migrate import migrations
from spanledger.instrumentation import INSTRUMENTORS, SdkInstrumentor
from spanledger.instrumentation.wire.endpoints import operations
from spanledger.service.api.openapi import document
from spanledger.service.api.settings import ServeSettings
from spanledger.service.budgets.settings import AlertSettings
from spanledger.service.collector.settings import CollectorSettings
from spanledger.settings import Settings, size

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
SCRIPT = ROOT / "scripts" / "reference.py"

every_instrumentor = pytest.mark.parametrize("instrumentor", INSTRUMENTORS, ids=lambda i: i.sdk.name)


def test_the_tables_are_up_to_date() -> None:
    checked = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def text_of(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def test_every_attribute_has_a_line() -> None:
    known = {value for name, value in vars(attributes).items() if name.isupper() and name != "SCOPE"}
    assert set(re.findall(r"^\| `([\w.]+)` \|", text_of("attributes.md"), re.M)) == known


def test_every_column_has_its_type() -> None:
    """The types that the migrations give, without codecs, defaults and the zone, which is always UTC."""
    schema = "\n".join(path.read_text(encoding="utf-8") for path in migrations().values())
    calls = schema.partition("llm_calls {on_cluster}\n(")[2].partition("\n)")[0]
    columns = re.findall(r"^    ([a-z]\w*) +([A-Z].*?)(?: CODEC.*| DEFAULT.*)?,?$", calls, re.M)
    columns += re.findall(r"llm_calls \{on_cluster\} ADD COLUMN IF NOT EXISTS (\w+) (\w+)", schema)
    assert len(columns) > 60
    page = re.findall(r"^\| `(\w+)` \| ([A-Z][\w(), ]+) \|", text_of("ledger.md").partition("### All tables")[0], re.M)
    assert set(page) == {(name, kind.replace(", 'UTC'", "")) for name, kind in columns}


@pytest.mark.parametrize(
    ("section", "holder"),
    [
        ("", Settings(Path())),
        ("collector", CollectorSettings()),
        ("serve", ServeSettings()),
        ("alerts", AlertSettings()),
    ],
    ids=["settings", "collector", "serve", "alerts"],
)
def test_every_setting_has_its_default(section: str, holder: object) -> None:
    """Those that the page gives as a literal; the others are words, such as `one a processor`."""
    rows = [line.split(" | ") for line in text_of("settings.md").splitlines() if "`settings." in line]
    compared = 0
    for keys, default in ((row[1], row[2]) for row in rows):
        for key in re.findall(r"`settings\.([\w.]+)`", keys):
            before, _, name = key.rpartition(".")
            if (before if before in ("collector", "serve", "alerts") else "") != section or not hasattr(holder, name):
                continue
            value, literal = getattr(holder, name), re.fullmatch(r"`(.+)`", default)
            if literal is None:
                assert default.strip() or not value, key
                continue
            if isinstance(value, bool):
                shown: object = literal[1] == "true"
            elif isinstance(value, int):
                shown = size(literal[1]) if value else int(literal[1])
            else:
                shown = type(value)(literal[1]) if isinstance(value, float) else literal[1]
                value = value if isinstance(value, float) else str(value)
            assert shown == value, key
            compared += 1
    assert compared > 2


def test_every_field_of_an_answer_is_explained() -> None:
    page = text_of("api.md")
    fields = document()["components"]["schemas"]["Group"]["properties"]
    assert [name for name in fields if f"`{name}`" not in page] == []


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
