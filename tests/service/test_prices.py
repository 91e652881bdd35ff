"""`spanledger prices`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from spanledger.service.cli import cli
from spanledger.settings import settings


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SPANLEDGER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SPANLEDGER_CONFIG", raising=False)
    settings.cache_clear()

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["prices", *words])

    yield run
    settings.cache_clear()


def test_list(run: Any) -> None:
    result = run("list", "gpt-5.6-sol", "--provider", "openai", "--at", "2026-08-20")
    assert result.exit_code == 0
    assert "1 models" in result.output
    listed = json.loads(run("list", "gpt-5.6-sol", "--provider", "openai", "--json").output)
    assert (listed[0]["model"], listed[0]["input"]) == ("gpt-5.6-sol", "4")
    assert run("list", "--at", "whenever").exit_code == 2


def test_show(run: Any) -> None:
    text = run("show", "deepseek-v4-pro", "--provider", "deepseek").output
    assert "01:00-04:00 UTC mon,tue,wed,thu,fri" in text
    shown = json.loads(run("show", "eu.anthropic.claude-haiku-4-5-20251001-v1:0", "--json").output)
    assert {entry["provider"] for entry in shown} >= {"aws.bedrock"}
    missing = run("show", "gtp-5")
    assert missing.exit_code == 1


def test_check(run: Any, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("gpt-x: {input_cost_per_million: 1}\n")
    bad.write_text("gpt-x: {input_cost_per_million: x}\n")
    assert run("check", str(good)).exit_code == 0
    result = run("check", str(good), str(bad))
    assert result.exit_code == 1
    assert f"{bad}:1: input_cost_per_million is not a decimal number" in result.output
    assert [bool(c["error"]) for c in json.loads(run("check", str(good), str(bad), "--json").output)] == [False, True]


def test_diff(run: Any, tmp_path: Path) -> None:
    for name, rate in (("old", 1), ("new", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(f"gpt-x: {{input_cost_per_million: {rate}}}\n")
    (change,) = json.loads(run("diff", str(tmp_path / "old"), str(tmp_path / "new"), "--json").output)
    assert (change["what"], change["before"], change["after"]) == ("input", "1", "2")
    assert "1 changes" in run("diff", str(tmp_path / "old"), str(tmp_path / "new")).output


def test_import_says_what_it_needs(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "genai_prices", None)
    result = run("import", "--into", str(tmp_path / "prices"))
    assert result.exit_code == 1
    assert not (tmp_path / "prices").exists()


def test_try(run: Any) -> None:
    asked = ("try", "--provider", "openai", "--model", "gpt-5", "--tier", "flex")
    found = json.loads(run(*asked, "--json", "input=1000", "cache_read=200", "output=50").output)
    assert (found["status"], found["cost"]) == ("priced", "0.000887500000000000")
    assert found["snapshot"]["modes"] == {"service_tier": "flex"}
    text = run(*asked, "input=1000").output
    assert "0.625 per 1M" in text
    assert "priced as gpt-5" in text
    unknown = run("try", "--provider", "nobody.example", "--model", "x", "input=1").output
    assert "unpriced" in unknown
    assert "- provider nobody.example is not in the price book" in unknown
    assert run(*asked, "oops").exit_code == 1
