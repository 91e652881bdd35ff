"""Compares every price of ours with genai-prices at the same instants; lists each disagreement.

    pip install genai-prices
    python benchmarks/prices_against_genai.py [--json]

For every model of their data, under each of its exact names and at several instants: plain input, output and cache
usage, below and above the context tiers, standard and in each mode that they know.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from genai_prices import Usage, __version__, data

from spanledger.pricing.book import load
from spanledger.pricing.call import Call
from spanledger.pricing.importing import _PROVIDERS, _patterns
from spanledger.pricing.names import canonical_provider

INSTANTS = [
    datetime(2024, 6, 5, 12, tzinfo=timezone.utc),
    datetime(2025, 7, 2, 2, tzinfo=timezone.utc),
    datetime(2026, 3, 14, 12, tzinfo=timezone.utc),
    datetime(2026, 8, 25, 8, tzinfo=timezone.utc),
    datetime(2026, 11, 19, 2, tzinfo=timezone.utc),
    datetime(2026, 11, 19, 17, tzinfo=timezone.utc),
]
ALIKE = Decimal("1e-11")
"""Rates in their data that went through a binary float carry its tail; ours do not."""
SIZES = [(1_000, 100), (90_000, 1_000), (150_000, 1_000), (250_000, 1_000), (600_000, 1_000)]


def usages(prices: Any) -> list[tuple[dict[str, int], dict[str, int]]]:
    """(theirs, ours) of the same usage, with the caches that the model has a price for."""
    found = []
    keys = {key for key, value in vars(prices).items() if value is not None}
    for inputs, outputs in SIZES:
        theirs = {"input_tokens": inputs, "output_tokens": outputs}
        ours = {"input": inputs, "output": outputs}
        if "cache_read_mtok" in keys:
            theirs["cache_read_tokens"] = ours["cache_read"] = inputs // 4
            ours["input"] -= inputs // 4
        if "cache_write_mtok" in keys:
            theirs["cache_write_tokens"] = ours["cache_write"] = inputs // 8
            ours["input"] -= inputs // 8
        found.append((theirs, ours))
    return found


def names(model: Any) -> list[str]:
    """Names that the model answers to: the exact ones, and a snapshot of each prefix."""
    found = []
    for pattern in _patterns(model.match):
        kind, colon, rest = pattern.partition(":")
        if kind == "prefix" and colon:
            found.append(rest)
        elif kind not in ("glob", "regex"):
            found.append(pattern.removeprefix("exact:"))
    return found or [model.id]


def contexts(model: Any) -> list[dict[str, str]]:
    return [{}, *({str(k): str(v) for k, v in variant.when.items()} for variant in model.price_variants or ())]


def compare(instants: Sequence[datetime] = INSTANTS, modes: bool = True) -> tuple[int, list[dict[str, Any]]]:
    """How many prices were compared, and those that differ; `modes` false compares plain usage only."""
    book = load()
    compared = 0
    differences: list[dict[str, Any]] = []
    for provider in data.providers:
        ours_name = _PROVIDERS.get(provider.id, canonical_provider(provider.id))
        for listed in provider.models:
            for name in names(listed):
                model = provider.find_model(name)
                if model is None:
                    continue
                for when in contexts(model) if modes else [{}]:
                    if not set(when) <= {"service_tier", "processing", "speed"}:
                        continue
                    for instant in instants:
                        found = one(book, provider, ours_name, model, name, when, instant)
                        compared += found[0]
                        differences += found[1]
    return compared, differences


def one(
    book: Any, provider: Any, ours_name: str, model: Any, name: str, when: dict[str, str], instant: datetime
) -> tuple[int, list[dict[str, Any]]]:
    prices = model.get_prices(instant, when)
    since = instant - datetime(1970, 1, 1, tzinfo=timezone.utc)
    start_ns = since // timedelta(microseconds=1) * 1000
    compared, differences = 0, []
    for theirs, ours in usages(prices):
        if not any(value is not None for value in vars(prices).values()):
            continue
        usage = Usage(**theirs)
        expected = model.calc_price(usage, provider, genai_request_timestamp=instant, price_context=when).total_price
        requests = getattr(prices, "requests_kcount", None)
        if requests is not None:
            expected -= requests / Decimal(1000)
        call = Call(
            ours_name,
            name,
            start_ns,
            ours,
            service_tier=when.get("service_tier", ""),
            processing=when.get("processing", when.get("speed", "")),
        )
        charge = book.price(call)
        compared += 1
        got = charge.cost
        if got is None or abs(got - expected) > ALIKE * expected:
            differences.append(
                {
                    "provider": ours_name,
                    "model": model.id,
                    "name": name,
                    "when": when,
                    "at": instant.isoformat(),
                    "usage": ours,
                    "ours": None if got is None else format(got.normalize(), "f"),
                    "theirs": format(expected.normalize(), "f"),
                    "status": charge.status,
                    "reasons": list(charge.reasons),
                }
            )
            break
    return compared, differences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    compared, differences = compare()
    if arguments.json:
        json.dump({"genai_prices": __version__, "compared": compared, "differences": differences}, sys.stdout, indent=1)
        return 0
    seen = set()
    for d in differences:
        key = (d["provider"], d["model"], str(d["when"]), d["ours"], d["theirs"])
        if key not in seen:
            seen.add(key)
            why = f"{d['status']} {'; '.join(d['reasons'])}"
            print(f"{d['provider']}/{d['name']} {d['when']} {d['at']}: ours {d['ours']} theirs {d['theirs']} {why}")
    print(f"{compared} prices compared with genai-prices {__version__}, {len(differences)} differ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
