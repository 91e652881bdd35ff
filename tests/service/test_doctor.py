"""`spanledger doctor`: each trouble is found and comes with what to do."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from spanledger.exporter.migrate import migrations
from spanledger.service import doctor
from spanledger.settings import Settings
from tests.service.conftest import BIN, call_once, spanledger


def findings(home: Path, **more: str) -> tuple[int, list[dict]]:
    result = spanledger(home, "doctor", "--json", **more)
    assert result.stderr == ""
    return result.returncode, json.loads(result.stdout)


def wrong(found: list[dict]) -> list[dict]:
    return [finding for finding in found if finding["level"] == "wrong"]


def test_a_sound_ledger_has_nothing_wrong(run):
    result = run("doctor", "--json", SPANLEDGER_KEY_PEPPER="pepper", SPANLEDGER_HOSTS="llm.example=openai")
    found = json.loads(result.stdout)
    assert wrong(found) == []
    assert result.exit_code == 0
    topics = {finding["topic"] for finding in found}
    assert topics - {"health"} == {  # what others of these tests have left there
        "settings",
        "home",
        "SDK",
        "OpenTelemetry",
        "prices",
        "collector",
        "dashboard",
        "journal",
        "ClickHouse",
        "ledger",
    }
    texts = " / ".join(finding["text"] for finding in found)
    for part in (
        "openai 3.",
        "anthropic 2.",
        "26.9",
        f"schema {max(migrations()):04}",
        "13 calls",
        "models of",
        "nothing is waiting",
        "key_pepper, hosts {'llm.example': 'openai'}",
    ):
        assert part in texts


def test_people_read_level_topic_text_and_what_to_do(run):
    lines = run("doctor").stdout.splitlines()
    note = next(i for i, line in enumerate(lines) if "no key pepper" in line)
    assert lines[note].startswith("note ")
    assert lines[note + 1].strip().startswith("do: set SPANLEDGER_KEY_PEPPER")


def test_everything_wrong_has_something_to_do(home):
    home.mkdir(mode=0o755)
    os.chmod(home, 0o755)
    code, found = findings(
        home,
        LLM_USAGE_LOGGING_ENABLED="false",
        OTEL_SDK_DISABLED="true",
        OTEL_TRACES_EXPORTER="jaeger",
        SPANLEDGER_URL="http://127.0.0.1:1/llm",
    )
    assert code == 1
    texts = {finding["text"]: finding["todo"] for finding in wrong(found)}
    assert all(texts.values())
    for part in (
        "usage logging is off",
        "others can look into",
        "OTEL_SDK_DISABLED=true",
        "OTEL_TRACES_EXPORTER names 'jaeger'",
        "no answer from ClickHouse at http://default@127.0.0.1:1/llm",
    ):
        assert any(part in text for text in texts), part


def test_a_settings_file_with_secrets_that_others_can_read_is_wrong(home):
    home.mkdir(mode=0o700)
    file = home / "config.yaml"
    file.write_text("settings:\n  api_keys:\n    pepper: long-and-random\n")
    for mode, told in ((0o644, True), (0o600, False)):
        file.chmod(mode)
        _, found = findings(home, SPANLEDGER_URL="http://127.0.0.1:1/llm")
        assert any(finding["todo"] == f"chmod 600 {file}" for finding in found) is told


def test_a_wrong_setting_is_named(home):
    code, found = findings(home, SPANLEDGER_STREAM_USAGE="sometimes")
    assert code == 1
    assert "SPANLEDGER_STREAM_USAGE='sometimes'" in found[0]["text"]


def test_a_wrong_price_file_is_named(home):
    home.mkdir(mode=0o700)
    (home / "config.yaml").write_text("settings: {price_files: [mine.yaml]}")
    (home / "mine.yaml").write_text(
        "schema: 1\nprovider: openai\nper: 1M\nmodels: [{id: x, prices: [{rates: {input: -1}}]}]"
    )
    code, found = findings(home)
    assert code == 1
    (price,) = [finding for finding in wrong(found) if finding["topic"] == "prices"]
    assert "mine.yaml" in price["text"]


def test_unpriced_and_unmetered_calls_are_counted_by_model(home):
    body = (
        'client.chat.completions.create(model="gpt-none", messages=[{"role": "user", "content": "hi"}]);'
        ' list(client.chat.completions.create(model="gpt-5-mini", stream=True,'
        ' messages=[{"role": "user", "content": "hi"}]))'
    )
    assert call_once(home, body).returncode == 0
    code, found = findings(home)
    assert code == 1
    texts = [finding["text"] for finding in wrong(found)]
    assert any(text.startswith("1 of openai gpt-none in 30 days have no price") for text in texts), texts
    assert any(text.startswith("1 of openai gpt-5-mini") and "without usage" in text for text in texts), texts


def test_rows_that_wait_are_shown_with_their_age(home):
    call_once(home)
    _, found = findings(home)
    (journal,) = [finding for finding in found if finding["topic"] == "journal"]
    assert journal["text"].startswith("1 row in 1 segment waiting, the oldest for ")
    assert journal["level"] == "ok"


def test_rows_that_wait_too_long_are_wrong(home, tmp_path):
    call_once(home)
    (segment,) = (home / "journal").glob("*.block")
    os.utime(segment, (0, 0))
    (late,) = doctor.check_journal(Settings(home, url="http://127.0.0.1:1/llm"))
    assert (late.level, late.topic) == ("wrong", "journal")
    assert late.todo


def test_refused_rows_are_shown_with_the_reason(home):
    journal = home / "journal"
    journal.mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (journal / "host-1-1-1.rejected").write_text('{"entry_id": 1}\n')
    (journal / "host-1-1-1.reason").write_text("Cannot parse input")
    code, found = findings(home)
    assert code == 1
    assert any("host-1-1-1.rejected: Cannot parse input" in finding["text"] for finding in wrong(found))


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER names 'zipkin'"),
        ({"OTEL_LOGS_EXPORTER": "otlp,nowhere"}, "OTEL_LOGS_EXPORTER names 'nowhere'"),
        ({"OTEL_SDK_DISABLED": "TRUE"}, "OTEL_SDK_DISABLED=true"),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "x, spanledger-openai"}, "leaves out spanledger-openai"),
        ({"PATH": "/nowhere"}, "opentelemetry-instrument is not on PATH"),
    ],
)
def test_trouble_in_the_set_up_of_opentelemetry(environ, said):
    sound = {"PATH": str(BIN), **{f"OTEL_{what}_EXPORTER": "none" for what in ("TRACES", "METRICS", "LOGS")}}
    texts = [finding.text for finding in doctor.check_opentelemetry({**sound, **environ})]
    assert any(said in text for text in texts), texts
    assert not any(said in finding.text for finding in doctor.check_opentelemetry(sound))


@pytest.mark.parametrize("listens", [True, False])
def test_a_collector_that_does_not_answer_is_a_note(listens):
    with socket.socket() as collector:
        collector.bind(("127.0.0.1", 0))
        if listens:
            collector.listen()
        host, port = collector.getsockname()
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{host}:{port}", "PATH": str(BIN)}
        texts = [finding.text for finding in doctor.check_opentelemetry(environ)]
    assert any(f"no collector answers at {host}:{port}" in text for text in texts) is not listens


def test_an_sdk_of_a_version_that_is_not_instrumented(monkeypatch):
    installed = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "99.0" if name == "openai" else installed(name))
    found = {finding.text: finding for finding in doctor.check_sdks()}
    (old,) = [finding for finding in found.values() if finding.level == "wrong"]
    assert old.text.startswith("openai 99.0 is not instrumented")
    assert old.todo.startswith("pip install 'openai")


def test_a_home_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    (found,) = doctor.check_home(tmp_path / "file")
    assert (found.level, found.todo) == ("wrong", "set SPANLEDGER_HOME to a folder of yours")
    (absent,) = doctor.check_home(tmp_path / "absent")
    assert absent.level == "note"


def test_without_an_engine_and_a_url_it_says_what_to_install(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "chdb", None)
    (found,) = doctor.check_clickhouse(Settings(home))
    assert found.level == "wrong"
    assert "pip install 'spanledger[local]'" in found.todo
