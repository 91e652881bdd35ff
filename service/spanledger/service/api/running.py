"""Where a home's API and dashboard are, for those who ask from outside; imports nothing of the service extra."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from spanledger.service import presence

NEEDS = {"starlette": "starlette", "uvicorn": "uvicorn"}
"""Modules of the service extra, and their distributions."""


class ServeError(RuntimeError):
    """The API cannot be served; the message says why and what to do."""


class Running(NamedTuple):
    """An API that is served.

    Attributes:
        pid: its process.
        since_ns: when it came up, ns since the epoch.
        url: of the dashboard, `http://127.0.0.1:14319`.
        token: those who ask must show one.
    """

    pid: int
    since_ns: int
    url: str
    token: bool

    def __str__(self) -> str:
        return self.url


def lock_file(home: Path) -> Path:
    return home / "serve.lock"


def running(home: Path) -> Running | None:
    """The API of `home`, or None where none is served."""
    return presence.running(lock_file(home), Running)


def missing() -> str:
    """Why it cannot be served here: what is not installed; empty where all is."""
    return presence.missing(NEEDS)
