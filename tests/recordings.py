"""The recorded provider traffic beside the project, if it is there: responses, the driver, and the truth."""

from __future__ import annotations

import functools
import gzip
import importlib
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def replayed(driven: list[dict[str, Any]]) -> Iterator[tuple[Any, Callable[..., Any]]]:
    """The server that answers for the providers, and what makes a recorded call through its real SDK.

    Clients and proxies that the driver leaves in the process are taken away at the end.
    """
    folder = str(SHARED / "replay")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import drive

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), drive.ReplayServer(driven) as server:
        for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
            patch.setenv(name, "")
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        if "huggingface_hub" in sys.modules:  # its client of earlier tests knows no proxy
            sys.modules["huggingface_hub"].close_session()
        try:
            yield server, functools.partial(_drive, drive, server)
        finally:
            logging.disable(logging.NOTSET)
            drive.forget_clients()
            if "voyageai" in sys.modules:
                sys.modules["voyageai"].proxy = None  # type: ignore[attr-defined]
                requestor: Any = importlib.import_module("voyageai.api_resources.api_requestor")
                vars(requestor._thread_context).clear()  # this thread's session, which knows the proxy


def _drive(drive: Any, server: Any, recording: dict[str, Any], **options: Any) -> Any:
    return drive.drive(recording, server, **options)


def readings(entry: Mapping[str, Any]) -> list[dict[str, int]]:
    """The parts that count as right for a recording: the truth's, or one of its alternatives."""
    tools = entry.get("tools_executed") or {}
    alternatives = [a["parts"] for a in entry.get("alternatives") or () if "parts" in a]
    return [parts | tools for parts in (entry["parts"], *alternatives)] + alternatives
