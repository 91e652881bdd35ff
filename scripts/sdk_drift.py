"""Test the newest and the oldest supported version of each SDK, each in an environment of its own.

scripts/check-sdk-drift                          # all SDKs, oldest and newest version
scripts/check-sdk-drift openai groq --newest     # some of them
scripts/check-sdk-drift --write                  # and write docs/tested-versions.md
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.requirements import Requirement
from uv import find_uv_bin

from spanledger.instrumentation import INSTRUMENTORS

ROOT = Path(__file__).resolve().parents[1]
TESTS = "tests/instrumentation"
PAGE = ROOT / "docs" / "tested-versions.md"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "spanledger", "sdk-drift")
AGES = ("oldest", "newest")
MADE_FROM = "made-from.json"
UV = find_uv_bin()
BEGIN, END = "<!-- versions: written by scripts/check-sdk-drift --write -->\n", "<!-- versions: end -->"


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """How one SDK is tested.

    Attributes:
        modules: its test modules, in `tests/instrumentation/`.
        select: which of their tests are its own (pytest's `-k`); all by default.
        extra: the SDK's extra to install.
        needs: what its tests import beside the SDK.
        oldest_needs: what stands beside its oldest version: newer ones, which it allows, break it; `{version}` is
            its own.
        newest_modules: test modules that are made for new versions, and for those of several SDKs at once.
        newest_needs: what those import.
    """

    modules: tuple[str, ...]
    select: str = ""
    extra: str = ""
    needs: tuple[str, ...] = ()
    oldest_needs: tuple[str, ...] = ()
    newest_modules: tuple[str, ...] = ()
    newest_needs: tuple[str, ...] = ()


CHECKS: dict[str, Check] = {
    "aiobotocore": Check(("test_bedrock_calls.py",), needs=("boto3",)),
    "anthropic": Check(("test_anthropic_calls.py",), extra="bedrock,vertex"),
    "botocore": Check(("test_bedrock_calls.py",), needs=("boto3",), oldest_needs=("boto3 == {version}",)),
    "cerebras-cloud-sdk": Check(("test_calls_of_openais_kin.py",), select="cerebras", oldest_needs=("httpx < 0.28",)),
    "cohere": Check(("test_cohere_calls.py",), needs=("boto3",)),
    "google-cloud-aiplatform": Check(("test_vertexai_calls.py",)),
    "google-genai": Check(("test_google_genai_calls.py", "test_gemini_live_calls.py"), extra="aiohttp"),
    "groq": Check(("test_calls_of_openais_kin.py",), select="groq", oldest_needs=("httpx < 0.28",)),
    "huggingface_hub": Check(("test_huggingface_calls.py",)),
    "ibm-watsonx-ai": Check(("test_watsonx_calls.py",)),
    "litellm": Check(("test_litellm_calls.py",), needs=("boto3", "fastapi", "soundfile", "tenacity")),
    "mistralai": Check(("test_mistral_calls.py",), needs=("google-auth", "requests")),
    "ollama": Check(("test_ollama_calls.py",)),
    "openai": Check(
        ("test_openai_calls.py", "test_living_with_others.py"),
        oldest_needs=("httpx < 0.28",),
        newest_modules=("test_batch_calls.py", "test_realtime_calls.py", "test_video_calls.py"),
        newest_needs=("openai[realtime]", "anthropic", "google-genai[aiohttp]", "groq", "mistralai", "together"),
    ),
    "replicate": Check(("test_replicate_calls.py",)),
    "together": Check(("test_calls_of_openais_kin.py",), select="together"),
    "voyageai": Check(("test_voyage_calls.py",)),
    "writer-sdk": Check(("test_calls_of_openais_kin.py",), select="writer"),
    "xai-sdk": Check(("test_xai_calls.py",)),
}
"""Distribution -> how it is tested; each distribution of `sdks.py` is here."""


class Problem(Exception):
    """What keeps a check from being made; the message says what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What the tests of one version of one SDK came to."""

    sdk: str
    age: str
    version: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    output: str = ""

    @property
    def good(self) -> bool:
        """Tests ran, and none failed."""
        return self.passed > 0 and self.failed == 0


# which versions


def requirements() -> dict[str, Requirement]:
    """Distribution -> the versions of it that the patches are made for."""
    return {
        r.name: r
        for r in sorted({i.sdk.requirement: Requirement(i.sdk.requirement) for i in INSTRUMENTORS}.values(), key=str)
    }


def distributions(names: Iterable[str]) -> list[str]:
    """The distributions that go by `names`: their own, or those of our SDKs; all for none.

    Raises:
        Problem: a name is not known.
    """
    known = requirements()
    short = {i.sdk.name: Requirement(i.sdk.requirement).name for i in INSTRUMENTORS}
    chosen = []
    for name in names:
        if name not in known and name not in short:
            raise Problem(f"{name!r} is no SDK that spanledger instruments: take some of {', '.join(sorted(known))}")
        chosen.append(name if name in known else short[name])
    return list(dict.fromkeys(chosen)) or list(known)


def out(requirement: Requirement, age: str) -> str:
    """The oldest or the newest version of a distribution that is out and that `requirement` allows.

    Raises:
        Problem: there is no package index, or it has no such version for this Python.
    """
    old = ["--resolution", "lowest-direct"] if age == "oldest" else []
    asked = _uv("pip", "compile", "--no-deps", "--no-header", "--no-annotate", *old, "-", told=str(requirement))
    if asked.returncode == 0:
        return pinned(asked.stdout)
    if asked.returncode == 1:
        raise Problem(
            f"the package index has no version of {requirement}: correct it in sdks.py\n{asked.stderr.strip()}"
        )
    raise Problem(
        "no package index answers: check the network and UV_DEFAULT_INDEX or PIP_INDEX_URL, "
        f"or take --keep, which uses the environments that are there\n{asked.stderr.strip()}"
    )


def pinned(resolved: str) -> str:
    """The version of the only distribution in what `uv pip compile` prints."""
    return resolved.strip().partition("==")[2].partition(" ")[0]


# environments


def install_list(distribution: str, version: str, age: str) -> list[str]:
    """What is installed beside spanledger to test `version` of `distribution`.

    Of the newest, uv may take an older one: a version may be out before what it needs of others.
    """
    check, requirement = CHECKS[distribution], requirements()[distribution]
    versions = f"== {version}" if age == "oldest" else f"{requirement.specifier}"
    extra = f"[{check.extra}]" if check.extra else ""
    own = check.oldest_needs if age == "oldest" else check.newest_needs
    needs = [need.format(version=version) for need in (*check.needs, *own)]
    return [f"{distribution}{extra} {versions}", *needs, "pytest >= 8, < 10", "pytest-timeout >= 2.3, < 3"]


def wanted(distribution: str, version: str, age: str) -> dict[str, object]:
    """What an environment is made from: one that was made from the same is used again."""
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return {
        "version": version,
        "install": install_list(distribution, version, age),
        "python": sys.version,
        "spanledger": f"{ROOT} {project}",
    }


def kept(folder: Path) -> dict[str, object]:
    """What the environment in `folder` was made from; empty if there is none."""
    try:
        return dict(json.loads((folder / MADE_FROM).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def make_environment(folder: Path, made_from: Mapping[str, object]) -> None:
    """Make the environment in `folder`, unless it is there.

    Raises:
        Problem: what it needs could not be installed.
    """
    if kept(folder) == made_from:
        return
    install = made_from["install"]
    assert isinstance(install, list)
    made = _uv("venv", "--clear", "--python", sys.executable, str(folder))
    if made.returncode == 0:
        made = _uv("pip", "install", "--python", str(_python(folder)), "--editable", str(ROOT), *install)
    if made.returncode != 0:
        raise Problem(f"could not install {', '.join(install)}\n{made.stderr.strip()}")
    (folder / MADE_FROM).write_text(json.dumps(made_from, indent=1), encoding="utf-8")


def installed_version(folder: Path, distribution: str) -> str:
    """The version of `distribution` in the environment in `folder`."""
    program = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    command = [_python(folder), "-c", program, distribution]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _uv(*arguments: str, told: str = "") -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if "PIP_INDEX_URL" in environment:
        environment.setdefault("UV_DEFAULT_INDEX", environment["PIP_INDEX_URL"])
    command = [UV, "--quiet", "--no-progress", *arguments]
    return subprocess.run(command, input=told, env=environment, capture_output=True, text=True, check=False)


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


# tests


def counts(report: Path) -> tuple[int, int, int]:
    """How many tests passed, failed and were skipped, of pytest's JUnit report; no report is a failure."""
    try:
        suites = ElementTree.parse(report).getroot().iter("testsuite")
    except (OSError, ElementTree.ParseError):
        return 0, 1, 0
    ran = failed = skipped = 0
    for suite in suites:
        ran += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return ran - failed - skipped, failed, skipped


def run_tests(distribution: str, age: str, version: str, folder: Path) -> Result:
    """Run the tests of `distribution` in the environment in `folder`."""
    check = CHECKS[distribution]
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [
        _python(folder),
        "-m",
        "pytest",
        "--quiet",
        "--tb=short",
        "--show-capture=no",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
    ]
    command += ["-k", check.select] if check.select else []
    modules = check.modules + (check.newest_modules if age == "newest" else ())
    command += [f"{TESTS}/{module}" for module in modules]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    start = time.monotonic()
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    passed, failed, skipped = counts(report)
    failed = failed or int(ran.returncode != 0)
    return Result(distribution, age, version, passed, failed, skipped, seconds, ran.stdout + ran.stderr)


def check_one(distribution: str, age: str, cache: Path, keep: bool) -> Result:
    """Test the oldest or newest version of one SDK.

    Parameters:
        keep: take the environment that is there, of whatever version it is, and ask no package index.
    """
    requirement = requirements()[distribution]
    folder = cache / f"{distribution}-{age}"
    version = str(kept(folder).get("version", "")) if keep else ""
    if not version or version not in requirement.specifier:
        version = out(requirement, age)
    _say(f"{distribution} {version}")
    try:
        make_environment(folder, wanted(distribution, version, age))
    except Problem as problem:
        return Result(distribution, age, version, 0, 1, 0, 0.0, str(problem))
    installed = installed_version(folder, distribution)
    if installed != version:
        _say(f"{distribution} {version} needs what the package index has not: took {installed}")
    return run_tests(distribution, age, installed, folder)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


# tables


def text_table(results: Sequence[Result]) -> str:
    """The results, for a terminal."""
    head = ("SDK", "", "version", "passed", "failed", "skipped", "seconds")
    rows = [
        (r.sdk, r.age, r.version, str(r.passed), str(r.failed), str(r.skipped), f"{r.seconds:.1f}") for r in results
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )


def parse_table(text: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(SDK, age) -> version and tests, as the table of tested versions in `text` has them."""
    found = {}
    for sdk, *cells in re.findall(r"^\| `([^`]+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.M):
        for age, version, tests in zip(AGES, cells[::2], cells[1::2], strict=True):
            found[sdk, age] = (version, tests)
    return found


def versions_table(rows: Mapping[tuple[str, str], tuple[str, str]]) -> str:
    """The table of tested versions; SDKs that are supported no more are left out."""
    lines = ["| SDK | oldest | its tests | newest | its tests |", "| --- | --- | --- | --- | --- |"]
    for sdk in requirements():
        cells = [cell for age in AGES for cell in rows.get((sdk, age), ("", ""))]
        lines.append(f"| `{sdk}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page(text: str, results: Iterable[Result]) -> str:
    """`text` with the good ones of `results` in its table; what they do not name stays.

    Raises:
        Problem: `text` has no place for the table.
    """
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not (begin and end):
        raise Problem(f"{PAGE.name} has no place for the table: it stands between {BEGIN.strip()!r} and {END!r}")
    rows = parse_table(old)
    for r in results:
        if r.good:
            tests = f"{r.passed} passed" + (f", {r.skipped} skipped" if r.skipped else "")
            rows[r.sdk, r.age] = (r.version, tests)
    return f"{before}{begin}\n{versions_table(rows)}\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="check-sdk-drift",
        description="Test the newest and the oldest supported version of each SDK, each in an environment of its own.",
        epilog="Exit status: 0 all tests passed, 1 some failed, 2 the check could not be made.",
    )
    parser.add_argument("sdks", nargs="*", metavar="SDK", help="distribution, or name in sdks.py; all by default")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--oldest", dest="ages", action="store_const", const=("oldest",), help="oldest version only")
    which.add_argument("--newest", dest="ages", action="store_const", const=("newest",), help="newest version only")
    which.add_argument("--all", dest="ages", action="store_const", const=AGES, help="both (the default)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many to test at a time (default 1)")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help=f"environments (default {CACHE})")
    parser.add_argument(
        "--keep", action="store_true", help="use an environment that is there, even if a newer version is out"
    )
    parser.add_argument("--write", action="store_true", help=f"write what passed into {PAGE.relative_to(ROOT)}")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args(arguments)
    try:
        pairs = [(name, age) for name in distributions(given.sdks) for age in given.ages or AGES]
        with ThreadPoolExecutor(max(1, given.jobs)) as pool:
            results = list(pool.map(lambda pair: check_one(*pair, given.cache.resolve(), given.keep), pairs))
        if given.write:
            PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    except Problem as problem:
        print(f"check-sdk-drift: {problem}", file=sys.stderr)
        return 2
    bad = [result for result in results if not result.good]
    for result in bad:
        print(f"== {result.sdk} {result.version}\n{result.output}", file=sys.stderr)
    if given.json:
        print(json.dumps([dataclasses.asdict(result) for result in results], indent=1))
    else:
        print(text_table(results))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
