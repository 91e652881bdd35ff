"""The recorded provider traffic beside the project, if it is there: responses, the driver, and the truth."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

needed = pytest.mark.skipif(
    not (SHARED / "recordings").is_dir(),
    reason="no recorded provider traffic beside the project (../shared/recordings): nothing to compare with",
)


def load(provider: str) -> list[dict[str, Any]]:
    """The recordings of one provider."""
    with gzip.open(SHARED / "recordings" / f"{provider}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def truth() -> dict[str, dict[str, Any]]:
    """Recording id -> what the call consumed."""
    with gzip.open(SHARED / "truth" / "usage.jsonl.gz", "rt", encoding="utf-8") as lines:
        return {entry["id"]: entry for entry in map(json.loads, lines)}


def driver() -> Any:
    """The module that makes recorded calls through the real SDKs."""
    folder = str(SHARED / "replay")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import drive

    return drive


def readings(entry: Mapping[str, Any]) -> list[dict[str, int]]:
    """The parts that count as right for a recording: the truth's, or one of its alternatives."""
    tools = entry.get("tools_executed") or {}
    alternatives = [a["parts"] for a in entry.get("alternatives") or () if "parts" in a]
    return [parts | tools for parts in (entry["parts"], *alternatives)] + alternatives
