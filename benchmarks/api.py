"""Dashboard users at once over a large ledger: how long the API takes to answer them.

    python benchmarks/api.py [--rows N] [--users N] [--seconds S] [--home FOLDER]

Rows of 90 days are made inside embedded ClickHouse and rolled up; with `--home` they are kept for the next run. Each
user has an overview of the dashboard open, with a range, a grouping, a time zone and perhaps a tenant of their own, and
asks what the page asks, in its order, six questions at a time as browsers do. The page asks all of it again every 15
seconds; every fourth time the user looks at something else. Users come within the first minute; what is asked later
counts. Meanwhile calls keep coming, so that no answer holds for longer than five seconds.
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
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx

from spanledger.exporter.client import Client
from spanledger.exporter.embedded import EmbeddedClickHouse
from spanledger.exporter.migrate import open_ledger
from spanledger.exporter.rollup import roll_up, tidy

DAYS: Final = 90
REFRESH_S: Final = 15.0
COMING_S: Final = 60.0
COME_S: Final = 5.0
LIMIT_MS: Final = 400

FILL = """
INSERT INTO llm_calls (event_date, entry_id, version, start_time, duration_ns, time_to_first_token_ns, provider,
  operation, response_model, service_name, environment, status, error_type, input_tokens, output_tokens, total_tokens,
  cache_read_tokens, cache_write_tokens, reasoning_tokens, usage, usage_status, cost, cost_input, cost_output,
  cost_details, currency, cost_base, base_currency, price_status, tenant, user_id, feature, api_key_hash, source,
  ingested_at)
WITH cityHash64(number, {seed:UInt64}) AS h,
  toDateTime64(now(), 9, 'UTC') - toIntervalSecond(h % {seconds:UInt32}) AS at,
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
  if({now:UInt8}, now64(3, 'UTC'), now64(3, 'UTC') - 3600)
FROM numbers({rows:UInt64})
"""


NO_PARTS: Final = "&parts=false"
BRIEF: Final = "&parts=false&latency=false"
RANGES: Final = ("30d", "30d", "30d", "30d", "7d", "7d", "24h", "90d", "month")
GROUPS: Final = ("model", "model", "model", "model", "model", "provider", "tenant", "service", "feature", "key", "user")
ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York")
NAMES: Final = {"provider": ["openai", "anthropic", "gcp.gemini"]}
"""Values that have a series of their own in the chart, where they are not `NAME-0` to `NAME-6`."""


class View:
    """What an overview of the dashboard asks (`web/overview.js`)."""

    def __init__(self, chosen: random.Random) -> None:
        zone = chosen.choice(ZONES)
        self.by = chosen.choice(GROUPS)
        span = chosen.choice(RANGES)
        tenant = f"&tenant=tenant-{chosen.randrange(20)}" if chosen.random() < 0.2 else ""
        now = datetime.now(ZoneInfo(zone))
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        hour = timedelta(hours=1)
        if span == "24h":
            begin = now.astimezone(timezone.utc).replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
            since = begin.strftime("%Y-%m-%dT%H:%MZ")
        else:
            begin = today.replace(day=1) if span == "month" else today - timedelta(days=int(span[:-1]) - 1)
            since = f"{begin:%Y-%m-%d}"
        self.bucket = "hour" if now - begin <= timedelta(days=2.1) else "day"
        month = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
        earliest = f"{min(begin, month):%Y-%m-%d}" if self.bucket == "day" else f"{month:%Y-%m-%d}"
        ends = [
            f"{at.astimezone(timezone.utc):%Y-%m-%dT%H:%MZ}" for at in (begin - (now - begin) // hour * hour, begin)
        ]
        self.range = f"since={since}&time_zone={zone}{tenant}"
        self.every_day = f"since={earliest}&time_zone={zone}{tenant}&group_by=day&limit=10000{BRIEF}"
        self.before = f"since={ends[0]}&until={ends[1]}&time_zone={zone}{tenant}{BRIEF}"
        self.tenant = tenant

    def steps(self) -> Iterator[list[str]]:
        """Questions: those of a step are asked at once, when the step before is answered."""
        by_time = [f"stats?{self.range}&group_by=hour&limit=10000{BRIEF}"] if self.bucket == "hour" else []
        yield [
            f"stats?{self.range}",
            f"stats?{self.range}&group_by={self.by}&limit=50&sort=-cost{NO_PARTS}",
            f"stats?{self.every_day}",
            f"stats?{self.before}",
            *by_time,
        ]
        names = NAMES.get(self.by) or [f"{self.by}-{number}" for number in range(7)]
        slowest = [f"stats?{self.range}&group_by=model&sort=-duration_p95&limit=7{NO_PARTS}"] * (self.by != "model")
        own = "" if self.by == "tenant" and self.tenant else "".join(f"&{self.by}={name}" for name in names)
        yield [f"stats?{self.range}&group_by={self.bucket},{self.by}&limit=10000&sort=time{BRIEF}{own}"]
        yield [
            "budgets",
            f"savings?{self.range}&group_by=provider,model&limit=100",
            f"stats?{self.range}&group_by={self.bucket}&limit=10000{NO_PARTS}",
            *slowest,
            f"calls?{self.range}&sort=-cost&limit=8",
            f"stats?{self.range}&group_by=user&limit=8{BRIEF}",
            f"stats?{self.range}&group_by=prompt&limit=8{BRIEF}",
        ]


def fill(client: Client, rows: int, seed: int, now: bool = False) -> None:
    """Make rows: calls of the last seconds that come now, or those of all days, which came an hour ago."""
    client.command(
        FILL,
        {"rows": rows, "seed": seed, "seconds": 30 if now else DAYS * 86400, "now": int(now)},
        {"async_insert": 0, "max_partitions_per_insert_block": 0, "max_insert_block_size": 500_000},
    )


Answered = tuple[str, int, float, float]
"""Path, HTTP status (0: none within a minute), ms, and when it was asked."""


async def look(client: httpx.AsyncClient, user: int, until: float, answered: list[Answered]) -> None:
    """One user, until the time is up."""
    chosen = random.Random(user)
    six = asyncio.Semaphore(6)

    async def ask(question: str) -> None:
        async with six:
            began = time.perf_counter()
            try:
                status = (await client.get(f"/api/v1/llm/{question}", timeout=60)).status_code
            except httpx.TimeoutException:
                status = 0
            answered.append((question.partition("?")[0], status, (time.perf_counter() - began) * 1000, began))

    await asyncio.sleep(chosen.uniform(0, COMING_S))
    view = View(chosen)
    while time.monotonic() < until:
        again = time.monotonic() + REFRESH_S
        for step in view.steps():
            await asyncio.gather(*map(ask, step))
        if chosen.random() < 0.25:
            view = View(chosen)
        await asyncio.sleep(max(0.0, again - time.monotonic()))


async def come(client: Client, until: float) -> int:
    """Rows that keep coming, and the rollup as `spanledger up` makes it; how many came."""
    number = 0
    while time.monotonic() < until:
        number += 1
        await asyncio.to_thread(fill, client, 20, time.time_ns(), True)
        await asyncio.to_thread(roll_up, client)
        await asyncio.sleep(COME_S)
    return number * 20


async def load(url: str, client: Client, users: int, seconds: float) -> tuple[list[Answered], int]:
    answered: list[Answered] = []
    counted = time.perf_counter() + COMING_S
    until = time.monotonic() + COMING_S + seconds
    limits = httpx.Limits(max_connections=users * 6, keepalive_expiry=2.0)  # the server closes what is idle for 5 s
    async with httpx.AsyncClient(base_url=url, limits=limits, trust_env=False) as asking:
        coming = asyncio.create_task(come(client, until))
        await asyncio.gather(*(look(asking, user, until, answered) for user in range(users)))
        return [each for each in answered if each[3] >= counted], await coming


def processor_s(pid: int) -> float:
    """Seconds of the processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served(home: Path) -> Iterator[tuple[str, int]]:
    """The API as a process of its own: where it listens, and its id."""
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
        yield f"http://127.0.0.1:{port}", process.pid
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
            tidy(client)
            print(
                f"{client.query('SELECT count() FROM llm_calls').rows[0][0]:,} rows in {made - began:.0f} s,"
                f" {rolled.dates} dates rolled up in {time.monotonic() - made:.0f} s"
            )
            with served(home) as (url, api):
                clickhouse = server.status().pid
                pids = {"API": api, "ClickHouse": clickhouse or api, "users": os.getpid()}
                before = {name: processor_s(pid) for name, pid in pids.items()}
                answered, came = asyncio.run(load(url, client, chosen.users, chosen.seconds))
                used = {name: processor_s(pid) - before[name] for name, pid in pids.items()}
        finally:
            client.close()
            server.stop()
    each = ", ".join(f"{name} {spent:.1f}" for name, spent in used.items())
    failed = sum(status != 200 for _, status, *_ in answered)
    print(
        f"{chosen.users} users, {len(answered)} answers in {chosen.seconds:.0f} s, {failed} failed, {came} rows came;"
        f" processor, s: {each};"
        f" load of the machine {os.getloadavg()[0]:.1f}"
    )
    show("all", [ms for _, _, ms, _ in answered])
    for path in sorted({path for path, *_ in answered}):
        show(path, [ms for other, _, ms, _ in answered if other == path])


def show(name: str, took: list[float]) -> None:
    took.sort()
    middle, high, last = (took[int(len(took) * share)] for share in (0.5, 0.95, 0.99))
    limit = f" (limit {LIMIT_MS})" if name == "all" else ""
    print(f"  {name:8} {len(took):6}: p50 {middle:.0f} ms, p95 {high:.0f} ms{limit}, p99 {last:.0f} ms")


if __name__ == "__main__":
    main()
