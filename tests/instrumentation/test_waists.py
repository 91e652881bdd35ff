"""SDKs that are not what their patches are made for: one warning each that says what to do, and the program runs on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from spanledger.instrumentation import INSTRUMENTORS, post_import, sdks
from spanledger.instrumentation.sdks import Sdk

SDKS = tuple(instrumentor.sdk for instrumentor in INSTRUMENTORS)
PROGRAM = """
import importlib, json, logging, sys

logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(levelname)s %(message)s")
from spanledger.instrumentation import INSTRUMENTORS

for instrumentor in INSTRUMENTORS:
    instrumentor().instrument(skip_dep_check=True)
for name in json.loads(sys.argv[1]):
    print(name, importlib.import_module(name).call(), flush=True)
for instrumentor in INSTRUMENTORS:
    instrumentor().uninstrument()
    instrumentor().instrument(skip_dep_check=True)
print("the program goes on")
"""


def version(sdk: Sdk, operator: str) -> str:
    """The version of the bound `operator` (`>=` is supported, `<` is not)."""
    return next(clause.version for clause in Requirement(sdk.requirement).specifier if clause.operator == operator)


def run(folder: Path, *, bound: str, waists: bool) -> list[str]:
    """What a program prints that imports an SDK of each name, made up in `folder`.

    Parameters:
        bound: which version they say they are.
        waists: whether each has a module in its waist's place; it has none of the waist's classes.
    """
    for sdk in SDKS:
        distribution = Requirement(sdk.requirement).name
        told = folder / f"{distribution.replace('-', '_')}-{version(sdk, bound)}.dist-info" / "METADATA"
        told.parent.mkdir(exist_ok=True)
        told.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version(sdk, bound)}\n")
        inside = folder / sdk.package.replace(".", "/")
        inside.mkdir(parents=True, exist_ok=True)
        (inside / "__init__.py").write_text("def call():\n    return 'answer'\n")
        if waists and sdk.waist != sdk.package:
            for part in sdk.waist.removeprefix(f"{sdk.package}.").split("."):
                inside = inside / part
                inside.mkdir(exist_ok=True)
                (inside / "__init__.py").write_text("def call():\n    return 'answer'\n")
    imported = json.dumps(sorted({sdk.waist if waists else sdk.package for sdk in SDKS}))
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, imported],
        env={**os.environ, "PYTHONPATH": str(folder), "SPANLEDGER_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout.splitlines()


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return run(tmp_path_factory.mktemp("gone"), bound=">=", waists=False)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return run(tmp_path_factory.mktemp("changed"), bound=">=", waists=True)


@pytest.fixture(scope="module")
def too_new(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return run(tmp_path_factory.mktemp("too-new"), bound="<", waists=True)


each_sdk = pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.name)


def check(printed: list[str], sdk: Sdk, what: str, *, bound: str, imported: str) -> None:
    distribution = Requirement(sdk.requirement).name
    warning = (
        f"WARNING spanledger: calls by {distribution} {version(sdk, bound)} are not recorded, the program goes on: "
    )
    mine = [line for line in printed if line.startswith(warning) and what in line]
    assert len(mine) == 1, printed
    assert mine[0].endswith(
        f"Install another version that spanledger supports ({sdk.requirement}), or a newer spanledger"
    )
    assert f"{imported} answer" in printed
    assert printed[-1] == "the program goes on"


@each_sdk
def test_a_waist_that_is_gone(sdk: Sdk, gone: list[str]) -> None:
    what = f": {sdk.waist} " if sdk.waist == sdk.package else f": there is no module {sdk.waist}. "
    check(gone, sdk, what, bound=">=", imported=sdk.package)


@each_sdk
def test_a_waist_that_has_changed(sdk: Sdk, changed: list[str]) -> None:
    check(changed, sdk, f": {sdk.waist} ", bound=">=", imported=sdk.waist)


@each_sdk
def test_a_version_that_is_not_supported(sdk: Sdk, too_new: list[str]) -> None:
    check(too_new, sdk, "this version is not one that spanledger is made for", bound="<", imported=sdk.waist)


def test_nothing_else_is_said(gone: list[str], changed: list[str], too_new: list[str]) -> None:
    distributions = {sdk.requirement for sdk in SDKS}
    for printed, warnings in ((gone, len(SDKS)), (changed, len(SDKS)), (too_new, len(distributions))):
        assert sum(line.startswith("WARNING ") for line in printed) == warnings, printed


def test_a_package_that_is_not_the_sdks_is_not_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def not_installed(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setitem(post_import._wanted, sdks.OPENAI.waist, None)
    monkeypatch.delitem(sys.modules, sdks.OPENAI.waist, raising=False)
    monkeypatch.setattr(post_import, "_told", set())
    post_import._look_for_waist(sdks.OPENAI, ModuleType("openai"))
    assert len(caplog.records) == 1
    monkeypatch.setattr(metadata, "version", not_installed)
    monkeypatch.setattr(post_import, "_told", set())
    post_import._look_for_waist(sdks.OPENAI, ModuleType("openai"))
    assert len(caplog.records) == 1
