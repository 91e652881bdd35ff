"""A ledger worth looking at: weeks of calls of a few services, priced by the real price book, and its dashboard."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from spanledger.exporter.client import Client
from spanledger.pricing.book import PriceBook, default_book
from spanledger.pricing.call import Call, amount_text
from spanledger.pricing.usage import CACHE_READ_PARTS, CACHE_WRITE_PARTS, OUTPUT_PARTS, TOKEN_PARTS, totals
from spanledger.settings import Settings

DAYS = 75
DONE = "main:not([aria-busy]):not(:has([aria-busy]))"
"""The page has all that it asked for."""

# provider, model, operation, calls a day, tokens (input, cache read, cache write, output, reasoning), seconds
TRAFFIC = [
    ("anthropic", "claude-sonnet-4-5", "chat", 24, (900, 14_000, 1_200, 1_400, 0), 9.0),
    ("openai", "gpt-5", "responses", 18, (3_400, 6_100, 0, 900, 2_200), 14.0),
    ("openai", "gpt-5-mini", "chat", 40, (2_100, 1_500, 0, 420, 300), 3.1),
    ("gcp.gemini", "gemini-2.5-flash", "chat", 30, (5_200, 0, 0, 640, 500), 2.4),
    ("anthropic", "claude-haiku-4-5", "chat", 26, (1_900, 2_600, 200, 380, 0), 1.9),
    ("mistral_ai", "mistral-large-latest", "chat", 8, (2_600, 0, 0, 700, 0), 4.2),
    ("groq", "llama-3.3-70b-versatile", "chat", 10, (1_400, 0, 0, 350, 0), 0.6),
    ("openai", "text-embedding-3-small", "embeddings", 22, (820, 0, 0, 0, 0), 0.3),
    ("openai", "gpt-5-mini-preview-12", "chat", 1, (1_200, 0, 0, 500, 0), 2.2),
]
FEATURES = {
    "support": ["answer-ticket", "summarise-ticket", "route-ticket"],
    "search": ["rewrite-query", "embed-pages", "answer-question"],
    "reports": ["weekly-report", "extract-table"],
}
ERRORS = [("RateLimitError", "Rate limit reached for requests"), ("APITimeoutError", "Request timed out.")]


def rows(now: datetime, days: int = DAYS, times: int = 1) -> Iterator[dict[str, Any]]:
    """Rows of `llm_calls` up to `now`, three to a trace; the same for the same `now`.

    Parameters:
        times: so many times the traffic.
    """
    book, chance, number = default_book(), random.Random(7), 0
    for age in range(days, -1, -1):
        day = (now - timedelta(days=age)).replace(hour=0, minute=0, second=0, microsecond=0)
        growth = 1.3 - 0.8 * age / max(days, 1)
        quiet = 0.35 if day.weekday() > 4 else 1.0
        wanted = [
            (day + timedelta(hours=min(23.99, max(0.0, chance.gauss(13.5, 3.6)))), chance.random(), traffic)
            for traffic in TRAFFIC
            for _ in range(max(1, round(times * traffic[3] * growth * quiet * chance.uniform(0.75, 1.25))))
        ]
        ends = day
        for i, (at, _, traffic) in enumerate(sorted(wanted, key=lambda each: each[:2])):
            number += 1
            if i % 3 == 0:
                whom = _whom(chance, number)
            else:
                at = ends + timedelta(seconds=chance.uniform(0.01, 0.4))
            row = _row(book, chance, number, at, traffic) | whom
            ends = at + timedelta(microseconds=row["duration_ns"] // 1000)
            if at < now - timedelta(minutes=1):
                yield row


def _whom(chance: random.Random, number: int) -> dict[str, Any]:
    """What the calls of a trace have in common."""
    service = chance.choice(list(FEATURES))
    tenant = chance.choice(["acme", "acme", "globex", "initech", "umbrella"])
    feature = chance.choice(FEATURES[service])
    return {
        "trace_id": sha256(f"trace {number}".encode()).hexdigest()[:32],
        "service_name": service,
        "environment": "production" if chance.random() < 0.85 else "staging",
        "tenant": tenant,
        "user_id": f"{chance.choice(['ada', 'grace', 'alan', 'edsger', 'barbara', 'donald'])}@{tenant}.example",
        "session_id": f"session-{number // 12}",
        "feature": feature,
        "prompt_name": f"{feature}-v{chance.choice([1, 2, 2])}",
        "tags": {"team": chance.choice(["blue", "green"])},
        "api_key_hash": sha256(service.encode()).hexdigest()[:16],
        "api_key_alias": f"{service}-key",
    }


def _row(book: PriceBook, chance: random.Random, number: int, at: datetime, traffic: Any) -> dict[str, Any]:
    provider, model, operation, _, sizes, seconds = traffic
    size = chance.lognormvariate(0, 0.6)
    tokens = [round(tokens * size * chance.uniform(0.6, 1.4)) for tokens in sizes]
    parts = dict(zip(("input", "cache_read", "cache_write_5m", "output", "output_reasoning"), tokens, strict=True))
    parts = {part: quantity for part, quantity in parts.items() if quantity}
    failed = chance.random() < 0.02
    missing = not failed and chance.random() < 0.002
    status = "missing" if failed or missing else "reported"
    if status == "missing":
        parts = {}
    start_ns = int(at.timestamp() * 1e9)
    charge = book.price(Call(provider, model, start_ns, parts, usage_status=status, failed=failed))
    taken = seconds * chance.lognormvariate(0, 0.5)
    error, message = chance.choice(ERRORS) if failed else ("", "")
    sums = totals(parts)
    row: dict[str, Any] = {
        "event_date": at.strftime("%Y-%m-%d"),
        "entry_id": sha256(f"call {number}".encode()).hexdigest()[:32],
        "line": 0,
        "version": 1,
        "span_id": sha256(f"span {number}".encode()).hexdigest()[:16],
        "start_time": f"{start_ns // 10**9}.{start_ns % 10**9:09d}",
        "duration_ns": int(taken * 1e9),
        "time_to_first_token_ns": int(taken * 2e8) if operation == "chat" and not failed else None,
        "source": "spanledger",
        "provider": provider,
        "operation": operation,
        "request_model": model,
        "response_model": "" if failed else model,
        "response_id": "" if failed else f"resp_{number:024d}",
        "stream": operation == "chat",
        "status": "error" if failed else "ok",
        "error_type": error,
        "error_message": message,
        "usage_status": status,
        "price_status": charge.status,
        "cost_estimated": charge.status in ("estimated", "unpriced", "usage_missing"),
        "cost_reasons": list(charge.reasons),
        "currency": charge.currency,
        "base_currency": charge.base_currency,
        "priced_model": charge.priced_model,
        "price_snapshot": charge.snapshot,
        "usage": {part: str(quantity) for part, quantity in parts.items()},
    }
    if status == "reported":
        row |= {
            "input_tokens": sums.input_tokens,
            "output_tokens": sums.output_tokens,
            "total_tokens": sums.total_tokens,
            "cache_read_tokens": sums.cache_read_tokens,
            "cache_write_tokens": sums.cache_write_tokens,
            "reasoning_tokens": sums.reasoning_tokens,
        }
    if charge.cost_e18 is not None and charge.cost_base_e18 is not None:
        details = charge.parts_e18
        groups = dict.fromkeys(("cost_input", "cost_output", "cost_cache", "cost_tools"), 0)
        for part, value in details.items():
            groups[_group(part)] += value
        row |= {name: amount_text(value) for name, value in groups.items()}
        row |= {
            "cost": amount_text(charge.cost_e18),
            "cost_base": amount_text(charge.cost_base_e18),
            "cost_details": {part: amount_text(value) for part, value in details.items()},
        }
    return row


def _group(part: str) -> str:
    if part not in TOKEN_PARTS:
        return "cost_tools"
    if part in CACHE_READ_PARTS + CACHE_WRITE_PARTS:
        return "cost_cache"
    return "cost_output" if part in OUTPUT_PARTS else "cost_input"


def fill(client: Client, now: datetime, days: int = DAYS, times: int = 1) -> list[dict[str, Any]]:
    """Put the calls into the ledger."""
    made = list(rows(now, days, times))
    add(client, made)
    return made


def add(client: Client, made: list[dict[str, Any]]) -> None:
    block = b"".join(orjson.dumps(row) + b"\n" for row in made)
    client.insert_block("llm_calls", block, sha256(block).hexdigest())


@contextmanager
def served(home: Path, now: Settings | None = None, **chosen: Any) -> Iterator[str]:
    """The API and the dashboard of `home`, or of the settings `now`, on a free port of loopback; its URL."""
    from spanledger.service import listening
    from spanledger.service.api.app import application
    from spanledger.service.api.settings import ServeSettings
    from spanledger.service.part_settings import Address

    app = application(now or Settings(home), ServeSettings(**{"requests_per_minute": 100_000, **chosen}))
    listener = listening.bind(Address("127.0.0.1", 0), "PORT", "")
    server = listening.Server(app)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        app.state.ledger.close()
        listener.close()
