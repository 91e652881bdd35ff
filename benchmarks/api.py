"""Dashboard users at once over a large ledger: how long the API takes to answer them.

    python benchmarks/api.py [--rows N] [--users N] [--seconds S] [--home FOLDER]

Rows of 90 days are made inside embedded ClickHouse and rolled up; with `--home` they are kept for the next run. Each
user opens a view of the dashboard, five questions at once, looks at it for ten seconds, and opens another, some of one
tenant. Meanwhile rows keep coming, so that no answer holds for longer than five seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.rollup import roll_up

DAYS: Final = 90
LOOK_S: Final = 10.0
COME_S: Final = 5.0
LIMIT_MS: Final = 400

FILL = """
INSERT INTO llm_calls (event_date, entry_id, version, start_time, duration_ns, time_to_first_token_ns, provider,
  operation, response_model, service_name, environment, status, error_type, input_tokens, output_tokens, total_tokens,
  cache_read_tokens, cache_write_tokens, reasoning_tokens, usage, usage_status, cost, cost_input, cost_output,
  cost_details, currency, cost_base, base_currency, price_status, tenant, user_id, feature, api_key_hash, source,
  ingested_at)
WITH cityHash64(number, {seed:UInt64}) AS h,
  toDateTime64(now(), 9, 'UTC') - toIntervalSecond(h % ({days:UInt32} * 86400)) AS at,
  bitShiftRight(h, 20) % 12 AS model,
  bitShiftRight(h, 24) % 6 AS service,
  bitShiftRight(h, 44) % 5000 AS user,
  100 + bitShiftRight(h, 8) % 5000 AS tokens_in,
  20 + bitShiftRight(h, 16) % 900 AS tokens_out,
  toDecimal128(tokens_in, 18) * toDecimal128('0.00000125', 8) AS cost_in,
  toDecimal128(tokens_out, 18) * toDecimal128('0.00001', 8) AS cost_out,
  bitShiftRight(h, 30) % 100 = 0 AS failed
SELECT toDate(at), lower(hex(MD5(toString((number, {seed:UInt64}))))), 1, at,
  200000000 + bitShiftRight(h, 12) % 9000000000,
  if(model % 2, NULL, 100000000 + bitShiftRight(h, 13) % 900000000),
  ['openai', 'anthropic', 'gcp.gemini'][1 + model % 3], 'chat', concat('model-', toString(model)),
  concat('service-', toString(service)), ['production', 'staging'][1 + bitShiftRight(h, 33) % 8 % 2],
  if(failed, 'error', 'ok'), if(failed, ['429', 'TimeoutError', '500'][1 + bitShiftRight(h, 35) % 3], ''),
  tokens_in, tokens_out, tokens_in + tokens_out, 0, 0, 0,
  map('input', toDecimal128(tokens_in, 9), 'output', toDecimal128(tokens_out, 9)), 'reported',
  cost_in + cost_out, cost_in, cost_out, map('input', cost_in, 'output', cost_out), 'USD', cost_in + cost_out, 'USD',
  'priced', concat('tenant-', toString(user % 20)), concat('user-', toString(user)),
  concat('feature-', toString(bitShiftRight(h, 50) % 5)), concat('key-', toString(service)), 'spanledger',
  if({late:UInt8}, now64(3, 'UTC'), now64(3, 'UTC') - 3600)
FROM numbers({rows:UInt64})
"""


_BARE: Final = "&parts=false&latency=false"
VIEWS: Final = (
    (
        _BARE,
        f"group_by=day,model{_BARE}",
        "group_by=model",
        f"group_by=tenant&limit=10{_BARE}",
        f"group_by=error&status=error{_BARE}",
    ),
    (
        _BARE,
        f"group_by=day,feature{_BARE}",
        "group_by=service,feature&latency=false",
        f"group_by=key{_BARE}",
        f"group_by=hour&since=24h{_BARE}",
    ),
    (
        "latency=false",
        f"group_by=week,provider{_BARE}",
        "group_by=model&sort=-duration_p95&limit=10",
        f"group_by=model,tenant&limit=20{_BARE}",
        f"group_by=price_status{_BARE}",
    ),
)
SPANS: Final = ("since=7d", "since=30d", "since=90d", "since=yesterday", "")


def fill(client: Client, rows: int, seed: int, late: bool = False) -> None:
    """Make rows; late ones come now, the others came an hour ago."""
    client.command(
        FILL,
        {"rows": rows, "seed": seed, "days": 1 if late else DAYS, "late": int(late)},
        {"async_insert": 0, "max_partitions_per_insert_block": 0, "max_insert_block_size": 500_000},
    )


async def look(client: httpx.AsyncClient, user: int, until: float, took: list[float], status: list[int]) -> None:
    """One user, until the time is up."""
    chosen = random.Random(user)
    await asyncio.sleep(chosen.uniform(0, LOOK_S))
    while time.monotonic() < until:
        tenant = f"&tenant=tenant-{chosen.randrange(20)}" if chosen.random() < 0.2 else ""
        span = chosen.choice(SPANS)

        async def ask(query: str, more: str = f"&{span}{tenant}") -> None:
            if "since" in query:
                more = ""
            began = time.perf_counter()
            try:
                status.append((await client.get(f"/api/v1/llm/stats?{query}{more}", timeout=60)).status_code)
            except httpx.TimeoutException:
                status.append(0)
            took.append((time.perf_counter() - began) * 1000)

        await asyncio.gather(*(ask(query) for query in chosen.choice(VIEWS)))
        await asyncio.sleep(chosen.uniform(0.5, 1.5) * LOOK_S)


async def come(client: Client, until: float) -> int:
    """Rows that keep coming; how many."""
    number = 0
    while time.monotonic() < until:
        number += 1
        await asyncio.to_thread(fill, client, 20, time.time_ns(), True)
        await asyncio.sleep(COME_S)
    return number * 20


async def load(url: str, client: Client, users: int, seconds: float) -> tuple[list[float], list[int], int]:
    took: list[float] = []
    status: list[int] = []
    until = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=users * 5)
    async with httpx.AsyncClient(base_url=url, limits=limits, trust_env=False) as asking:
        coming = asyncio.create_task(come(client, until))
        await asyncio.gather(*(look(asking, user, until, took, status) for user in range(users)))
        return took, status, await coming


@contextlib.contextmanager
def served(home: Path) -> Iterator[str]:
    """The API as a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPANLEDGER_")}
    environment |= {
        "SPANLEDGER_HOME": str(home),
        "SPANLEDGER_SERVE_HTTP": f"127.0.0.1:{port}",
        "SPANLEDGER_SERVE_REQUESTS_PER_MINUTE": "1000000",
        "SPANLEDGER_SERVE_MAX_QUERY_SECONDS": "60",
    }
    process: Any = subprocess.Popen(
        [sys.executable, "-m", "spanledger.service.api.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        assert process.stdout.readline().strip() == "ready"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--home", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spanledger-bench-") as folder:
        home = chosen.home or Path(folder)
        server = EmbeddedClickHouse(home)
        client = open_ledger(server.start(), timeout=600)
        try:
            began = time.monotonic()
            if not client.query("SELECT count() FROM llm_calls").rows[0][0]:
                fill(client, chosen.rows, 1)
            made = time.monotonic()
            rolled = roll_up(client, 0, 3600)
            print(
                f"{client.query('SELECT count() FROM llm_calls').rows[0][0]:,} rows in {made - began:.0f} s,"
                f" {rolled.dates} dates rolled up in {time.monotonic() - made:.0f} s"
            )
            with served(home) as url:
                took, status, came = asyncio.run(load(url, client, chosen.users, chosen.seconds))
        finally:
            client.close()
            server.stop()
    took.sort()
    middle, high, last = (took[int(len(took) * share)] for share in (0.5, 0.95, 0.99))
    failed = sum(code != 200 for code in status)
    print(
        f"{chosen.users} users, {len(took)} answers in {chosen.seconds:.0f} s, {failed} failed, {came} rows came:"
        f" p50 {middle:.0f} ms, p95 {high:.0f} ms (limit {LIMIT_MS}), p99 {last:.0f} ms"
    )


if __name__ == "__main__":
    main()
