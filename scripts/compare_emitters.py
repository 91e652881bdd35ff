"""Compare what other instrumentations say of the recorded calls with the truth.

Each emitter of scripts/emitters/emitters.yaml gets an environment of its own, outside the repository. There the
recorded calls are made through the providers' SDKs against a stand-in server, sync and async, and the emitter's spans
are kept. They are read by the ledger's dialects, and compared with what each call consumed.

scripts/compare-emitters                         # all
scripts/compare-emitters traceloop openlit       # some of them
scripts/compare-emitters --again                 # make the calls again, not only the comparison
scripts/compare-emitters --write                 # and write the tables of docs/other-instrumentations.md
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from spanledger import attributes as names
from spanledger.exporter.dialects import dialect_of
from spanledger.pricing.usage import FEE_PARTS, MISSING, REPORTED, totals

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
EMITTERS = ROOT / "scripts" / "emitters"
PAGE = ROOT / "docs" / "other-instrumentations.md"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "spanledger", "emitters")
BEGIN, END = "<!-- tables: written by scripts/compare-emitters --write -->\n", "<!-- tables: end -->"
TIMEOUT_S = 3600


@dataclasses.dataclass(slots=True)
class Score:
    """How the calls of one provider came through one emitter.

    Attributes:
        calls: calls that succeeded and whose response says what they consumed.
        rows: those with a span that makes a ledger row.
        equal: those whose parts are all as the provider said, the lifetime of cache writes aside.
        silent: those whose cost-bearing totals are wrong in a row that says `reported`.
        ids: those whose row has the provider's response id, of `with_id` that have one.
        streams, streams_equal: the same as `calls` and `equal`, of streams.
        invented: calls whose response has no usage, and whose row has some all the same.
    """

    calls: int = 0
    rows: int = 0
    equal: int = 0
    silent: int = 0
    with_id: int = 0
    ids: int = 0
    streams: int = 0
    streams_equal: int = 0
    invented: int = 0
    several: int = 0
    lost: dict[str, int] = dataclasses.field(default_factory=dict)

    def lose(self, what: str) -> None:
        self.lost[what] = self.lost.get(what, 0) + 1


LOSSES = ("no usage", "input", "output", "cache", "reasoning", "modality", "tool runs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    emitters: dict[str, dict[str, Any]] = yaml.safe_load((EMITTERS / "emitters.yaml").read_text("utf-8"))
    parser.add_argument("emitter", nargs="*", help=f"one of: {', '.join(emitters)}")
    parser.add_argument("--again", action="store_true", help="make the calls again")
    parser.add_argument("--write", action="store_true", help=f"write the tables of {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    if unknown := set(options.emitter) - set(emitters):
        parser.error(f"no such emitter: {', '.join(sorted(unknown))}; there are {', '.join(emitters)}")
    if not (SHARED / "recordings").is_dir():
        parser.error(f"no recorded provider traffic beside the project ({SHARED}): nothing to compare with")
    if options.write and options.emitter:
        parser.error("--write needs all emitters")
    truth = _truth()
    sections = []
    for name in options.emitter or emitters:
        spans = _captured(name, emitters[name], again=options.again)
        versions, lines = _read(spans)
        section = _section(name, emitters[name], versions, _scores(lines, truth))
        print(section)
        sections.append(section)
    if options.write:
        text = PAGE.read_text("utf-8")
        before, rest = text.split(BEGIN)
        PAGE.write_text(before + BEGIN + "\n" + "\n".join(sections) + "\n" + END + rest.split(END)[1], "utf-8")
    return 0


def _captured(name: str, emitter: Mapping[str, Any], *, again: bool) -> Path:
    """The file with the spans of an emitter; made if it is not there, or if what makes it has changed."""
    home = CACHE / name
    home.mkdir(parents=True, exist_ok=True)
    spans, made_from = home / "spans.jsonl", home / "made-from.json"
    recipe = json.dumps(emitter, sort_keys=True)
    if not again and spans.exists() and made_from.exists() and made_from.read_text("utf-8") == recipe:
        return spans
    uv, python = find_uv_bin(), home / "venv" / "bin" / "python"
    run = {"check": True, "timeout": TIMEOUT_S}
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, home / "venv"], **run)  # type: ignore[call-overload]
    packages = [*emitter["packages"], "opentelemetry-sdk"]
    install = [uv, "pip", "install", "--quiet", "--prerelease", "if-necessary-or-explicit", "--python", python]
    subprocess.run([*install, *packages], **run)  # type: ignore[call-overload]
    made_from.unlink(missing_ok=True)
    with spans.open("wb") as out, (home / "errors.log").open("wb") as errors:
        subprocess.run(
            [python, EMITTERS / "capture.py", SHARED, recipe],
            stdout=out,
            stderr=errors,
            env={**os.environ, **emitter.get("environment", {}), "PYTHONPATH": str(EMITTERS)},
            **run,  # type: ignore[call-overload]
        )
    made_from.write_text(recipe, "utf-8")
    return spans


def _read(spans: Path) -> tuple[dict[str, str], Iterator[dict[str, Any]]]:
    lines = map(json.loads, spans.open("r", encoding="utf-8"))
    return next(lines)["versions"], lines


def _truth() -> dict[str, dict[str, Any]]:
    with gzip.open(SHARED / "truth" / "usage.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {entry["id"]: entry for entry in map(json.loads, lines)}


def _scores(lines: Iterable[Mapping[str, Any]], truth: Mapping[str, Mapping[str, Any]]) -> dict[str, Score]:
    scores: dict[str, Score] = {}
    for line in lines:
        entry = truth.get(line["id"])
        if line["status"] == "ok" and entry is not None:
            _add(scores.setdefault(line["provider"], Score()), line, entry)
    return scores


def _add(score: Score, line: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    calls = list(_calls(line["spans"]))
    found = max(calls, key=lambda call: call[names.USAGE_STATUS] != MISSING, default=None)
    parts = _parts(json.loads(found.get(names.USAGE_PARTS, "{}"))) if found else {}
    readings = _readings(entry)
    if not readings[0]:
        score.invented += bool(parts)
        return
    score.calls += 1
    score.streams += line["stream"]
    score.with_id += bool(entry["response_id"])
    if found is None:
        return
    score.rows += 1
    score.several += len(calls) > 1
    score.ids += bool(entry["response_id"]) and found.get(names.RESPONSE_ID) == entry["response_id"]
    if parts in readings:
        score.equal += 1
        score.streams_equal += line["stream"]
        return
    if not parts:
        score.lose("no usage")
        return
    losses = min((_losses(parts, reading) for reading in readings), key=len)
    for what in losses:
        score.lose(what)
    if {"input", "output", "cache"}.intersection(losses) and found[names.USAGE_STATUS] == REPORTED:
        score.silent += 1


def _calls(spans: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for span in spans:
        dialect = dialect_of(span["scope"], span["attributes"], span["scope_version"])
        found = None if dialect is None else dialect.read(span["attributes"])
        if found is not None and names.USAGE_STATUS in found:
            yield found


def _readings(entry: Mapping[str, Any]) -> list[dict[str, int]]:
    """The parts that count as right: the truth's, or one of its alternatives, with or without the tools that ran."""
    tools = entry.get("tools_executed") or {}
    right = [entry["parts"], *(each["parts"] for each in entry.get("alternatives") or () if "parts" in each)]
    return [_parts(parts) for parts in right] + [_parts(parts | tools) for parts in right]


def _parts(parts: Mapping[str, int]) -> dict[str, int]:
    """Without zeros, and without the lifetime of what was written to the cache."""
    found: dict[str, int] = {}
    for part, quantity in parts.items():
        if quantity:
            part = "cache_write" if part.startswith("cache_write_") else part
            found[part] = found.get(part, 0) + quantity
    return found


def _losses(parts: Mapping[str, int], right: Mapping[str, int]) -> list[str]:
    ours, theirs = totals(parts), totals(right)
    losses = []
    if ours.input_tokens != theirs.input_tokens:
        losses.append("input")
    if ours.output_tokens != theirs.output_tokens:
        losses.append("output")
    if (ours.cache_read_tokens, ours.cache_write_tokens) != (theirs.cache_read_tokens, theirs.cache_write_tokens):
        losses.append("cache")
    if ours.reasoning_tokens != theirs.reasoning_tokens:
        losses.append("reasoning")
    if any(parts.get(part, 0) != right.get(part, 0) for part in FEE_PARTS):
        losses.append("tool runs")
    if not losses:
        losses.append("modality")
    return losses


def _section(name: str, emitter: Mapping[str, Any], versions: Mapping[str, str], scores: Mapping[str, Score]) -> str:
    installed = {canonicalize_name(package): version for package, version in versions.items()}
    wanted = dict.fromkeys(canonicalize_name(Requirement(package).name) for package in emitter["packages"])
    used = ", ".join(f"{package} {installed[package]}" for package in wanted)
    lines = [
        f"### {emitter.get('title', name)}",
        "",
        *([emitter["note"].strip(), ""] if "note" in emitter else []),
        f"Measured with {used}.",
        "",
        "| provider | calls | rows | all equal | streams equal | wrong, not marked | response id | what is lost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for provider, score in scores.items():
        if not score.calls:
            continue
        lost = [f"{what} {score.lost[what]}" for what in LOSSES if what in score.lost]
        if score.calls > score.rows:
            lost.insert(0, f"the call {score.calls - score.rows}")
        if score.invented:
            lost.append(f"*invented* {score.invented}")
        if score.several:
            lost.append(f"*two rows* {score.several}")
        streams = f"{score.streams_equal} of {score.streams}" if score.streams else ""
        lines.append(
            f"| {provider} | {score.calls} | {score.rows} | {score.equal} | {streams} | {score.silent or ''} |"
            f" {score.ids} of {score.with_id} | {', '.join(lost)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
