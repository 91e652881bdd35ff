"""`scripts/check-sdk-drift`: which versions it takes, what it makes of them, and the page of tested versions."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.conftest import free_port

pytest.importorskip("uv", reason="the script makes environments by uv: pip install -e '.[dev]'")
ROOT = Path(__file__).parents[1]
VERSIONS = ("1.39.0", "1.40.0", "1.40.1", "3.9.0", "3.10.0", "4.0.0b1", "4.0.0")


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("sdk_drift", ROOT / "scripts" / "sdk_drift.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


drift = _script()


def result(sdk: str = "openai", age: str = "oldest", version: str = "1.40.0", **fields: Any) -> Any:
    given = {"passed": 30, "failed": 0, "skipped": 0, "seconds": 1.0, **fields}
    return drift.Result(sdk, age, version, **given)


class _Index(BaseHTTPRequestHandler):
    """A package index with some versions of openai, and no more of them than their metadata."""

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts == ["simple", "openai"]:
            wheels = (f"openai-{version}-py3-none-any.whl" for version in VERSIONS)
            body = "".join(f'<a href="/files/{w}" data-core-metadata="true">{w}</a>' for w in wheels)
        elif parts[0] == "files" and parts[1].endswith(".metadata"):
            body = f"Metadata-Version: 2.1\nName: openai\nVersion: {parts[1].split('-')[1]}\n"
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def own_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_FIND_LINKS", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Index) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        yield
        server.shutdown()


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(("age", "version"), [("oldest", "1.40.0"), ("newest", "3.10.0")])
def test_the_oldest_and_the_newest_that_are_supported(age: str, version: str) -> None:
    assert drift.out(Requirement("openai >= 1.40, < 4"), age) == version


@pytest.mark.usefixtures("index")
def test_a_range_without_versions_is_an_error_that_names_it() -> None:
    with pytest.raises(drift.Problem, match=r"no version of openai<6,>=5: correct it in sdks\.py"):
        drift.out(Requirement("openai >= 5, < 6"), "newest")


def test_without_a_package_index_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free_port()}/simple")
    assert drift.main(["openai", "--oldest", "--cache", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "check-sdk-drift: no package index answers: check the network and UV_DEFAULT_INDEX or PIP_INDEX_URL" in said
    assert "--keep" in said


def test_every_sdk_has_a_check_and_every_check_its_tests() -> None:
    assert set(drift.CHECKS) == set(drift.requirements())
    assert list(drift.CHECKS) == sorted(drift.CHECKS)
    checked = {module for check in drift.CHECKS.values() for module in check.modules + check.newest_modules}
    there = {path.name for path in (ROOT / drift.TESTS).glob("test_*_calls.py")}
    assert there <= checked, "an SDK's tests that no check runs"
    assert all((ROOT / drift.TESTS / module).is_file() for module in checked)


def test_an_sdk_goes_by_its_distribution_or_its_short_name() -> None:
    assert drift.distributions(["mistral_azure", "mistralai", "writer"]) == ["mistralai", "writer-sdk"]
    assert drift.distributions([]) == sorted(drift.CHECKS, key=str.lower)
    with pytest.raises(drift.Problem, match=r"'opnai' is no SDK that spanledger instruments: take some of .*openai"):
        drift.distributions(["opnai"])


def test_the_oldest_is_pinned_and_the_newest_is_what_goes_together() -> None:
    oldest = drift.install_list("botocore", "1.35.0", "oldest")
    assert oldest[:3] == ["botocore == 1.35.0", "boto3", "boto3 == 1.35.0"]
    newest = drift.install_list("anthropic", "2.12.0", "newest")
    assert newest[0] == f"anthropic[bedrock,vertex] {drift.requirements()['anthropic'].specifier}"


def test_an_environment_is_made_anew_when_what_it_is_made_from_changes(tmp_path: Path) -> None:
    made_from = drift.wanted("openai", "1.40.0", "oldest")
    assert drift.kept(tmp_path) == {}
    (tmp_path / drift.MADE_FROM).write_text(json.dumps(made_from))
    assert drift.kept(tmp_path) == made_from
    assert drift.kept(tmp_path) != drift.wanted("openai", "1.41.0", "oldest")


def test_the_counts_are_those_of_the_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    assert drift.counts(report) == (0, 1, 0)
    report.write_text('<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>')
    assert drift.counts(report) == (3, 3, 3)


PAGE = f"""# Tested versions

{drift.BEGIN}
| SDK | oldest | its tests | newest | its tests |
| --- | --- | --- | --- | --- |
| `a-former-sdk` | 1.0 | 9 passed | 2.0 | 9 passed |
| `openai` | 1.39.0 | 20 passed, 9 skipped | 3.53.0 | 29 passed |

{drift.END}

The end.
"""


def test_what_passed_goes_into_the_page_and_the_rest_of_it_stays() -> None:
    results = [
        result(),
        result("groq", "newest", "1.7.0", passed=12, skipped=2),
        result("openai", "newest", "3.54.0", failed=1),
        result("groq", "oldest", "0.11.0", passed=0, skipped=5),
    ]
    page = drift.page(PAGE, results)
    table = drift.parse_table(page)
    assert table["openai", "oldest"] == ("1.40.0", "30 passed")
    assert table["openai", "newest"] == ("3.53.0", "29 passed"), "a version that failed is not one that is tested"
    assert table["groq", "newest"] == ("1.7.0", "12 passed, 2 skipped")
    assert table["groq", "oldest"] == ("", "")
    assert {sdk for sdk, _ in table} == set(drift.CHECKS)
    assert page.startswith("# Tested versions\n")
    assert page.endswith("\nThe end.\n")
    assert drift.page(page, []) == page


def test_a_page_without_a_place_for_the_table_is_an_error() -> None:
    with pytest.raises(drift.Problem, match="no place for the table"):
        drift.page("# Tested versions\n", [])


def test_the_exit_status_tells_of_failures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"openai": result(failed=1, output="what went wrong"), "groq": result("groq", "oldest", "0.11.0")}
    monkeypatch.setattr(drift, "check_one", lambda name, *_: bad[name])
    assert drift.main(["groq", "--oldest"]) == 0
    assert drift.main(["groq", "openai", "--oldest", "--json"]) == 1
    told = capsys.readouterr()
    assert "== openai 1.40.0\nwhat went wrong" in told.err
    results = json.loads(told.out[told.out.index("[") :])
    assert [(r["sdk"], r["passed"], r["failed"]) for r in results] == [("groq", 30, 0), ("openai", 30, 1)]


def test_nothing_that_ran_is_no_success() -> None:
    assert not result(passed=0, skipped=9).good


@pytest.mark.parametrize("sdk", drift.CHECKS)
def test_the_page_has_the_versions_that_are_supported(sdk: str) -> None:
    table = drift.parse_table(drift.PAGE.read_text(encoding="utf-8"))
    versions = [table.get((sdk, age), ("", ""))[0] for age in drift.AGES]
    assert all(version and version in drift.requirements()[sdk].specifier for version in versions), (
        f"{versions}: run scripts/check-sdk-drift {sdk} --write"
    )
