"""Many calls and streams, every second stream let go; says as JSON what the process holds, at ten moments and after.

python -m tests.chaos.programs.many CALLS STREAMS
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

from openai._base_client import BaseClient, SyncAPIClient
from opentelemetry.sdk.trace import TracerProvider

from spanledger.exporter import shipper
from spanledger.exporter.install import install
from spanledger.instrumentation import OpenAIInstrumentor
from spanledger.instrumentation.stream import Watch, _Tap
from tests.chaos import traffic

HOME = Path(os.environ["SPANLEDGER_HOME"])


def main(calls: int, streams: int) -> None:
    own = (SyncAPIClient.request, SyncAPIClient._process_response, BaseClient._process_response_data)
    before = held()
    provider = TracerProvider(shutdown_on_exit=False)
    install(provider)
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    of = traffic.client()
    rss = []
    for part in range(11):  # the first part warms up, until the last responses' costs are as many as are ever kept
        for _ in range(calls // 10 if part else max(calls // 20, 1500)):
            traffic.plain(of)
        for number in range(streams // 10 if part else streams // 20):
            (traffic.stream if number % 2 else traffic.abandoned_stream)(of)
        for block in (HOME / "journal").glob("*.block"):
            block.unlink()  # as when ClickHouse has them
        gc.collect()
        rss.append(held()["rss"])
    instrumentor.uninstrument()
    shipper.close()
    client = weakref.ref(of)
    del of
    gc.collect()
    restored = own == (SyncAPIClient.request, SyncAPIClient._process_response, BaseClient._process_response_data)
    alive = sum(isinstance(each, (Watch, _Tap)) for each in gc.get_objects())
    result: dict[str, Any] = {"rss": rss, "before": before, "after": held()}
    print(json.dumps(result | {"restored": restored, "client": client() is not None, "streams": alive}))


def held() -> dict[str, Any]:
    return {
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "descriptors": sorted(os.readlink(f"/proc/self/fd/{each}") for each in _descriptors()),
        "threads": sorted(each.name for each in threading.enumerate()),
    }


def _descriptors() -> list[str]:
    return [each for each in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{each}")]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
