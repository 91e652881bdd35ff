"""CONTRIBUTING.md shows the way of a call by names that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_files_it_names_exist():
    named = re.findall(r"`((?:instrumentation|exporter|pricing|service|docs|examples|benchmarks)/[\w./*-]*)`", TEXT)
    assert len(named) >= 14
    assert [name for name in named if not list(ROOT.glob(name.rstrip("/")))] == []


def test_the_make_targets_it_names_exist():
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    named = re.findall(r"make (?:PYTHON=\S+ )?([a-z0-9-]+)", TEXT)
    assert set(named) - {"the"} <= set(targets)
    assert set(targets) <= set(named) | {"clean"}
