"""Settings: the environment over one file, and an error that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanledger.settings import SettingsError, load


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load({})
    assert settings.home == tmp_path / ".spanledger"
    assert (settings.enabled, settings.fail_open, settings.url, settings.config) == (True, True, "", None)
    assert settings.journal == settings.home / "journal"


def test_the_file_in_the_home_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "settings:\n"
        "  url: https://u:p@ch:8443/llm\n"
        "  price_files: [ours.yaml]\n"
        "  hosts: {llm.corp: openai}\n"
        "  api_keys: {pepper: s, aliases: {abc: ci}}\n"
        "  usage_logging: {enabled: false, fail_open: false, base_currency: EUR, default_rounding_decimals: 6}\n"
    )
    settings = load({"SPANLEDGER_HOME": str(tmp_path)})
    assert settings.config == tmp_path / "config.yaml"
    assert settings.url == "https://u:p@ch:8443/llm"
    assert settings.price_files == (tmp_path / "ours.yaml",)
    assert settings.hosts == {"llm.corp": "openai"}
    assert (settings.key_pepper, settings.key_aliases) == ("s", {"abc": "ci"})
    assert (settings.enabled, settings.fail_open) == (False, False)
    assert (settings.base_currency, settings.decimals) == ("EUR", 6)


def test_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("settings: {url: 'http://file', usage_logging: {enabled: false}}\n")
    settings = load(
        {
            "SPANLEDGER_HOME": str(tmp_path),
            "SPANLEDGER_URL": "http://environment",
            "LLM_USAGE_LOGGING_ENABLED": "true",
            "SPANLEDGER_HOSTS": "127.0.0.1:80=openai, llm.corp = x_ai",
        }
    )
    assert (settings.url, settings.enabled) == ("http://environment", True)
    assert settings.hosts == {"127.0.0.1:80": "openai", "llm.corp": "x_ai"}


def test_a_file_with_models_is_also_a_price_file(tmp_path: Path) -> None:
    file = tmp_path / "llm_config.yaml"
    file.write_text("models: {}\nsettings: {usage_logging: {fail_open: true}}\n")
    settings = load({"SPANLEDGER_HOME": str(tmp_path), "SPANLEDGER_CONFIG": str(file)})
    assert settings.price_files == (file,)
    file.write_text("settings: {}\n")
    assert load({"SPANLEDGER_HOME": str(tmp_path), "SPANLEDGER_CONFIG": str(file)}).price_files == ()


@pytest.mark.parametrize(
    ("environ", "text", "named"),
    [
        ({"LLM_USAGE_LOGGING_ENABLED": "maybe"}, "", "LLM_USAGE_LOGGING_ENABLED='maybe'"),
        ({"SPANLEDGER_STREAM_USAGE": "always"}, "", "SPANLEDGER_STREAM_USAGE='always'"),
        ({"SPANLEDGER_SHIP_INTERVAL": "0"}, "", "SPANLEDGER_SHIP_INTERVAL='0'"),
        ({"SPANLEDGER_SYNC": "yes"}, "", "SPANLEDGER_SYNC='yes' is unknown: use none, batch or always"),
        ({"SPANLEDGER_JOURNAL_MAX_BYTES": "lots"}, "", "SPANLEDGER_JOURNAL_MAX_BYTES='lots': use a number of bytes"),
        ({"SPANLEDGER_JOURNAL_MAX_BYTES": "0"}, "", "SPANLEDGER_JOURNAL_MAX_BYTES='0'"),
        ({"SPANLEDGER_JOURNAL_MAX_DAYS": "-1"}, "", "SPANLEDGER_JOURNAL_MAX_DAYS='-1' is not a number of days"),
        ({}, "settings: {sync: true}", "SPANLEDGER_SYNC=True is unknown"),
        ({"SPANLEDGER_HOSTS": "llm.corp"}, "", "SPANLEDGER_HOSTS: 'llm.corp'"),
        ({"SPANLEDGER_CONFIG": "/no/such/file.yaml"}, "", "/no/such/file.yaml"),
        ({}, "settings: [1]", "settings is not a mapping"),
        ({}, "settings: {usage_logging: {enabled: 3}}", "settings.usage_logging.enabled is 3"),
        ({}, "settings: {usage_logging: {default_rounding_decimals: 19}}", "default_rounding_decimals is 19"),
        ({}, "a: [", "is not valid YAML"),
        ({}, "- 1", "is not a mapping"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, environ: dict[str, str], text: str, named: str) -> None:
    if text:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load({"SPANLEDGER_HOME": str(tmp_path)} | environ)
    assert named in str(caught.value)
