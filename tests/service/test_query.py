"""`query()` gives what the ledger says, in each form, and can only read."""

from __future__ import annotations

import importlib.util
from decimal import Decimal

import pytest

from spanledger.exporter.client import ClickHouseError
from spanledger.query import MissingPackage, query
from spanledger.settings import settings
from tests.service.conftest import environment

SUMS = (
    "SELECT provider, sum(cost_base) AS cost, count() AS rows FROM llm_calls FINAL GROUP BY provider ORDER BY provider"
)


@pytest.fixture
def here(example_home, monkeypatch):
    for name, value in environment(example_home).items():
        if name.startswith("SPANLEDGER_"):
            monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_all_forms_say_the_same_with_exact_amounts(here):
    found = query(SUMS)
    rows = found.arrow().to_pylist()
    assert [row["provider"] for row in rows] == ["anthropic", "openai"]
    assert all(isinstance(row["cost"], Decimal) for row in rows)
    assert found.df().to_dict("records") == rows
    assert found.polars().to_dicts() == rows
    assert len(found) == 2
    assert "provider" in found._repr_html_()


def test_parameters_are_bound(here):
    sql = "SELECT count() AS n FROM llm_calls FINAL WHERE provider = {p:String}"
    assert query(sql, {"p": "openai"}).df()["n"][0] > 0
    assert query(sql, {"p": "' OR 1 = 1 --"}).df()["n"][0] == 0


def test_it_can_only_read(here):
    with pytest.raises(ClickHouseError, match=r"ACCESS_DENIED|READONLY|Not enough privileges"):
        query("INSERT INTO llm_calls (entry_id) VALUES ('x')")


@pytest.mark.parametrize(("package", "form"), [("pandas", "df"), ("polars", "polars")])
def test_a_package_that_is_missing_is_named(here, monkeypatch, package, form):
    found = query("SELECT 1 AS one")
    real = importlib.util.find_spec
    monkeypatch.setattr("spanledger.query.find_spec", lambda name: None if name == package else real(name))
    with pytest.raises(MissingPackage, match=rf"{package} is not installed: pip install 'spanledger\[notebook\]'"):
        getattr(found, form)()


def test_without_pyarrow_there_is_no_query(monkeypatch):
    monkeypatch.setattr("spanledger.query.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="pyarrow"):
        query("SELECT 1")
