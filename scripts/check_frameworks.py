"""Run frameworks' programs with our instrumentation, with others', and with both: each call must be one bill.

Each framework of scripts/frameworks/frameworks.yaml gets an environment of its own, outside the repository. Its
program talks to a stand-in of OpenAI whose every answer has a usage of its own, so each bill is known again.

scripts/check-frameworks                         # all
scripts/check-frameworks langchain litellm       # some of them
scripts/check-frameworks --write                 # and write the tables of docs/frameworks.md
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import sdk_drift
import yaml
from answers import CACHED, Answering, Given

from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.settle import Settled, settle
from spanledger.exporter.shipper import load_journal

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "scripts" / "frameworks"
PAGE = ROOT / "docs" / "frameworks.md"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "spanledger", "frameworks")
BEGIN, END = "<!-- table: written by scripts/check-frameworks --write -->\n", "<!-- table: end -->"
TIMEOUT_S = 300

OURS = {"instrumentors": ["spanledger.instrumentation:OpenAIInstrumentor"]}
OURS_TOO = {"litellm": "spanledger.instrumentation:LiteLLMInstrumentor"}
NEEDS = ("opentelemetry-exporter-otlp-proto-common",)

Frameworks = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a framework's program came to.

    Attributes:
        framework, theirs: names in frameworks.yaml; `theirs` is empty where only ours was on.
        ours: our instrumentation was on.
        calls: answers that the stand-in gave.
        bills: of them, those with exactly one bill, with their tokens.
        without: bills without usage.
        exact: of the bills, those whose cost is exact, and not marked as estimated.
        problems: what is wrong.
        versions: package -> version.
    """

    framework: str
    theirs: str
    ours: bool
    calls: int
    bills: int
    without: int
    exact: int
    problems: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.framework}: {' + '.join(filter(None, ('ours' if self.ours else '', self.theirs)))}"


def frameworks() -> Frameworks:
    """Name -> what frameworks.yaml says of it."""
    found: Frameworks = yaml.safe_load((FOLDER / "frameworks.yaml").read_text("utf-8"))
    return found


def environment(name: str, framework: Mapping[str, Any], cache: Path) -> Path:
    """The Python of a framework's environment, which is made if it is not there.

    Raises:
        Problem: a package could not be installed.
    """
    packages = [*framework["packages"], *NEEDS]
    for theirs in framework["instrumentations"].values():
        packages += [package for package in theirs["packages"] if package not in packages]
    folder = cache / name
    made_from = {"install": packages, "python": sys.version, "spanledger": str(ROOT)}
    sdk_drift.make_environment(folder, made_from)
    return folder / "bin" / "python"


def check(
    name: str, framework: Mapping[str, Any], python: Path, ledger: Client, *, unsampled: bool = False
) -> Iterator[Outcome]:
    """Run a framework's program with ours, and with each instrumentation of others without and with ours.

    Parameters:
        unsampled: with a sampler that drops every span.
    """
    yield run(name, framework, "", True, python, ledger, unsampled=unsampled)
    for theirs in framework["instrumentations"]:
        for ours in (False, True):
            yield run(name, framework, theirs, ours, python, ledger, unsampled=unsampled)


def run(
    name: str,
    framework: Mapping[str, Any],
    theirs: str,
    ours: bool,
    python: Path,
    ledger: Client,
    *,
    unsampled: bool = False,
) -> Outcome:
    """Run a framework's program once, and compare its bills with the answers it got."""
    how = framework["instrumentations"][theirs] if theirs else {}
    own = {"instrumentors": [*OURS["instrumentors"], *([OURS_TOO[name]] if name in OURS_TOO else [])]}
    told = {
        "program": f"with_{name.replace('-', '_')}",
        "instrumentations": [framework, *([own] if ours else []), *([how] if how else [])],
        "packages": sorted(
            {package.partition("[")[0] for package in (*framework["packages"], *how.get("packages", ()))}
        ),
        "unsampled": unsampled,
    }
    with tempfile.TemporaryDirectory() as folder, Answering() as server:
        home = Path(folder, "home")
        told |= {"spans": f"{folder}/spans", "versions": f"{folder}/versions"}
        ran = subprocess.run(
            [python, FOLDER / "run.py", json.dumps(told)],
            env={**_environment(server, home), **framework.get("environment", {}), **how.get("environment", {})},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if ran.returncode:
            return Outcome(
                name, theirs, ours, len(server.given), 0, 0, 0, (f"the program failed: {ran.stderr[-600:]}",), {}
            )
        versions = json.loads(Path(told["versions"]).read_text("utf-8"))
        empty(ledger)
        load_journal(home, ledger)
        settle(ledger)
        bills = bills_of(ledger)
        problems = list(compare(server.given, bills, how, ours=ours))
        if settle(ledger) != Settled():
            problems.append("settling again changes something")
    right = Counter((given.input_tokens, given.output_tokens) for given in server.given)
    billed = Counter((bill["input_tokens"], bill["output_tokens"]) for bill in bills)
    one = sum(1 for key in right if billed[key] == 1)
    exact = sum(1 for bill in bills if not bill["cost_estimated"])
    without = billed[None, None]
    return Outcome(name, theirs, ours, len(server.given), one, without, exact, tuple(problems), versions)


def compare(
    given: Sequence[Given], bills: Sequence[Mapping[str, Any]], how: Mapping[str, Any], *, ours: bool
) -> Iterator[str]:
    """What is wrong with the bills of the answers that were given."""
    names = how.get("names", {})
    answers = {(each.input_tokens, each.output_tokens): each for each in given}
    billed = Counter((bill["input_tokens"], bill["output_tokens"]) for bill in bills)
    for key, each in answers.items():
        if billed[key] > 1 or (ours and not billed[key]):
            yield f"{each.case}: {billed[key]} bills of {each.response_id}"
    without = billed.pop((None, None), 0)
    if without > sum(1 for key in answers if not billed[key]):
        yield f"{without} bills without usage: more than there are other calls"
    for key in billed.keys() - answers.keys():
        (bill, *_) = [bill for bill in bills if (bill["input_tokens"], bill["output_tokens"]) == key]
        yield f"a bill of no call: {bill['scope']} {bill['operation']} {key}, {bill['usage_status']}"
    for bill in bills:
        answer = answers.get((bill["input_tokens"], bill["output_tokens"]))
        if answer is None:
            continue
        right = cost_of(answer)
        if bill["cost"] != right and not (bill["cost_estimated"] and not ours):
            yield f"{answer.case}: cost {bill['cost']} of {bill['scope']}, and it is {right}: {bill['cost_reasons']}"
        if ours and bill["source"] != "spanledger" and not how.get("suppresses_others"):
            yield f"{answer.case}: the bill is not ours, but {bill['scope']}'s"
        agents = (names.get("agent"), "forecaster")
        if answer.case.endswith("agent") and names.get("agent") and bill["agent_name"] not in agents:
            yield f"{answer.case}: agent_name {bill['agent_name']!r} of {answer.response_id}"
    inner = [bill for bill in bills if bill["tags"].get("tool") == names.get("tool")]
    cases = {answers[key].case for key in answers if answers[key].case.endswith("agent")}
    if names.get("tool") and len(inner) < len(cases):
        yield f"{len(inner)} calls have the tag tool={names['tool']}, and there are {len(cases)} inside a tool"


def table(known: Frameworks, outcomes: Sequence[Outcome]) -> str:
    """The table of docs/frameworks.md."""
    lines = [
        "| framework | instrumentation | calls | alone: one bill | exact | beside ours: one bill | exact |",
        "|---|---|---|---|---|---|---|",
    ]
    by = {(outcome.framework, outcome.theirs, outcome.ours): outcome for outcome in outcomes}
    for name, framework in known.items():
        alone = by[name, "", True]
        lines.append(
            f"| {framework['title']} {_versions(framework, alone)} | spanledger's own | {alone.calls} |"
            f" {alone.bills} | {alone.exact} | | |"
        )
        for theirs, how in framework["instrumentations"].items():
            first, both = by[name, theirs, False], by[name, theirs, True]
            told = f"{first.bills}" + (f", {first.without} more without usage" if first.without else "")
            versions = _versions({"packages": [p for p in how["packages"] if p not in framework["packages"]]}, first)
            lines.append(
                f"| {framework['title']} | {how['title']} {versions} | {first.calls} | {told} | {first.exact} |"
                f" {both.bills} | {both.exact} |"
            )
    return "\n".join(lines) + "\n"


def _versions(of: Mapping[str, Any], outcome: Outcome) -> str:
    found = [outcome.versions.get(package.partition("[")[0], "") for package in of["packages"]]
    return ", ".join(filter(None, found))


def cost_of(given: Given) -> Decimal:
    """gpt-4o: 2.5, 1.25 and 10 USD a million tokens."""
    return (
        (given.input_tokens - CACHED) * Decimal("2.5") + CACHED * Decimal("1.25") + given.output_tokens * Decimal(10)
    ) / 10**6


def empty(ledger: Client) -> None:
    for table in ("llm_calls", "llm_describers", "ledger_marks"):
        ledger.command(f"TRUNCATE TABLE {table}")


def bills_of(ledger: Client) -> list[dict[str, Any]]:
    found = ledger.query("SELECT * FROM llm_calls FINAL WHERE line = 0 ORDER BY start_time")
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def _environment(server: Answering, home: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "SPANLEDGER_", "OPENAI_", "PYTHON")) and name.lower() != "http_proxy"
    }
    return kept | {
        "PYTHONPATH": str(FOLDER),
        "SPANLEDGER_HOME": str(home),
        "SPANLEDGER_HOSTS": f"{server.host}=openai",
        "OPENAI_API_KEY": "test",
        "OPENAI_BASE_URL": f"{server.url}/v1",
        "OPENAI_API_BASE": f"{server.url}/v1",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "TRACELOOP_TRACE_CONTENT": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "DO_NOT_TRACK": "1",
    }


@contextmanager
def _ledger() -> Iterator[Client]:
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedClickHouse(Path(folder))
        try:
            client = open_ledger(server.start(_free_port(), _free_port()))
            yield client
            client.close()
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    known = frameworks()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("framework", nargs="*", help=f"one of: {', '.join(known)}")
    parser.add_argument("--unsampled", action="store_true", help="with a sampler that drops every span")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"environments (default {CACHE})")
    parser.add_argument("--write", action="store_true", help=f"write the table of {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    if options.write and (options.framework or options.unsampled):
        parser.error("--write needs all frameworks, sampled")
    if unknown := set(options.framework) - set(known):
        parser.error(f"no such framework: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    outcomes = []
    with _ledger() as ledger:
        for name in options.framework or known:
            framework = known[name]
            python = environment(name, framework, options.cache.resolve())
            for outcome in check(name, framework, python, ledger, unsampled=options.unsampled):
                outcomes.append(outcome)
                print(
                    f"{outcome.name}: {outcome.calls} calls, {outcome.bills} billed once, {outcome.exact} exact",
                    flush=True,
                )
                for problem in outcome.problems:
                    print(f"    {problem}", flush=True)
    bad = any(outcome.problems for outcome in outcomes)
    if options.write and not bad:
        before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table(known, outcomes)}\n{END}{rest.partition(END)[2]}", "utf-8")
    failed = sum(bool(outcome.problems) for outcome in outcomes)
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
