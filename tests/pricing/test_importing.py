"""The converter from genai-prices, and what it made."""

from __future__ import annotations

import importlib.util
import sys
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType

import pytest

from spanledger.pricing import catalogue
from spanledger.pricing.importing import ImportingError, import_genai_prices
from spanledger.pricing.price_file import read

ROOT = Path(__file__).parents[2]
CHECKED = "2026-11-22"
"""The day on which the shipped lists were imported."""

DIFFERENT = {"deepseek"}
"""Providers whose prices of today differ from theirs: hours by weekday and holiday, which they cannot say."""


def test_the_shipped_lists_are_what_the_converter_makes(tmp_path: Path) -> None:
    made = import_genai_prices(tmp_path / "prices", CHECKED)
    shipped = {path.name: path.read_text(encoding="utf-8") for path in (catalogue.FOLDER / "imported").glob("*.yaml")}
    assert {path.name: path.read_text(encoding="utf-8") for path in made.files} == shipped
    assert made.models > 2_300
    assert set(made.left_out) >= {"openai/moderation"}
    assert all(reason for reason in made.left_out.values())


def test_every_imported_file_can_be_read(tmp_path: Path) -> None:
    for path in import_genai_prices(tmp_path, "").files:
        read(path)


def test_without_the_package_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(ImportingError, match="pip install -U genai-prices"):
        import_genai_prices(tmp_path / "prices")
    assert not (tmp_path / "prices").exists()


def comparison() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prices_against_genai", ROOT / "benchmarks/prices_against_genai.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_plain_price_of_today_equals_theirs() -> None:
    """All instants and modes are compared by `benchmarks/prices_against_genai.py`."""
    compared, differences = comparison().compare([datetime(2026, 11, 19, 17, tzinfo=timezone.utc)], modes=False)
    assert compared > 10_000
    unexplained = [
        d
        for d in differences
        if d["provider"] not in DIFFERENT and not (d["theirs"] == "0" and d["status"] == "unpriced")
    ]
    assert unexplained == []
