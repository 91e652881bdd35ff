"""A ledger of all recorded calls: each made once through its SDK, for a tenant and a user, five to a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider

from spanledger.attribution import attribute
from spanledger.exporter import shipper
from spanledger.exporter.install import install
from spanledger.instrumentation import INSTRUMENTORS
from spanledger.settings import settings
from tests import recordings
from tests.test_recordings import DRIVEN

TENANTS = ("acme", "globex", "initech")
USERS = ("ann", "bob", "cyd", "dee", "eve", "fay", "gus")


@dataclass(frozen=True, slots=True)
class Made:
    """A recorded call that was made.

    Attributes:
        truth: what it consumed; None where an HTTP error was recorded.
    """

    id: str
    tenant: str
    user: str
    truth: dict[str, Any] | None


def make(home: Path) -> list[Made]:
    """Make all recorded calls, into the journal of `home`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANLEDGER_HOME", str(home))
        patch.setattr(shipper, "_shipper", None)
        settings.cache_clear()
        try:
            with _instrumented() as tracer:
                return list(_drive(tracer))
        finally:
            shipper.close()
            settings.cache_clear()


def _drive(tracer: trace.Tracer) -> Iterator[Made]:
    truth = recordings.truth()
    driven = [recording for name in DRIVEN for recording in recordings.load(name)]
    root = context.get_current()
    with recordings.replayed(driven) as (_, call):
        for number, recording in enumerate(driven):
            tenant, user = TENANTS[number % len(TENANTS)], USERS[number % len(USERS)]
            if number % 5 == 0:
                span = tracer.start_span("a request")
                root = trace.set_span_in_context(span)
                span.end()
            token = context.attach(root)
            try:
                with attribute(tenant=tenant, user=user, tags={"recording": recording["id"]}):
                    call(recording, mode="sync", raw=False)
            finally:
                context.detach(token)
            yield Made(recording["id"], tenant, user, truth.get(recording["id"]))


@contextmanager
def _instrumented() -> Iterator[trace.Tracer]:
    provider = TracerProvider()
    install(provider)
    instrumentors = [instrumentor() for instrumentor in INSTRUMENTORS]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=provider)
    try:
        yield provider.get_tracer("recordings")
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
        provider.shutdown()
