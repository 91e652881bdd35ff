"""Where a home's collector listens, for those who ask from outside; imports nothing of the service extra."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from spanledger.service import presence

NEEDS = {
    "grpc": "grpcio",
    "prometheus_client": "prometheus-client",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "zstandard": "zstandard",
}
"""Modules of the service extra, and their distributions."""


class CollectorError(RuntimeError):
    """The collector cannot start; the message says why and what to do."""


class Running(NamedTuple):
    """A collector that runs.

    Attributes:
        pid: its process.
        since_ns: when it came up, ns since the epoch.
        grpc, http: `HOST:PORT`; empty where it does not listen.
        tls: senders must use TLS.
        token: senders must show a token.
        forward: where spans are sent on to; empty: nowhere.
    """

    pid: int
    since_ns: int
    grpc: str
    http: str
    tls: bool
    token: bool
    forward: str

    def __str__(self) -> str:
        places = []
        if self.grpc:
            places.append(f"OTLP/gRPC {self.grpc}")
        if self.http:
            places.append(f"OTLP/HTTP {'https' if self.tls else 'http'}://{self.http}")
        return ", ".join(places)


def lock_file(home: Path) -> Path:
    return home / "collector.lock"


def running(home: Path) -> Running | None:
    """The collector of `home`, or None if none runs."""
    return presence.running(lock_file(home), Running)


def missing() -> str:
    """Why the collector cannot run here: what is not installed; empty where all is."""
    return presence.missing(NEEDS)


def now_ns() -> int:
    return time.time_ns()
