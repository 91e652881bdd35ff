"""How fast calls are priced, against genai-prices and LiteLLM's cost function, in one run and taking turns.

    pip install genai-prices litellm
    python benchmarks/pricing.py [--rounds 40] [--json]

Warm: the same mixed calls priced over and over; each library gets the usage in the form it wants, made beforehand.
Cold: fresh processes, from the interpreter's start to the price of one OpenAI call, less those of a process that only
imports the SDK. Whole catalogue: every provider's list loaded in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from time import perf_counter
from typing import Any

from spanledger.pricing.book import load
from spanledger.pricing.call import Call

START = 1_793_491_200 * 10**9  # 2026-11-01
CALLS: list[tuple[str, str, dict[str, int]]] = [
    ("openai", "gpt-4o-2024-08-06", {"input": 86, "cache_read": 1920, "output": 300}),
    ("openai", "gpt-5-mini-2025-08-07", {"input": 900, "cache_read": 0, "output": 120, "output_reasoning": 256}),
    ("openai", "gpt-5.4", {"input": 250_000, "cache_read": 40_000, "output": 900, "output_reasoning": 100}),
    ("anthropic", "claude-sonnet-4-5-20250929", {"input": 100, "cache_read": 1000, "cache_write": 600, "output": 50}),
    ("anthropic", "claude-haiku-5-5", {"input": 20_000, "cache_read": 90_000, "output": 2_000}),
]
PER_ROUND = 200


def ours() -> Callable[[], None]:
    book = load()
    calls = [Call(provider, model, START, parts) for provider, model, parts in CALLS]

    def run() -> None:
        price = book.price
        for _ in range(PER_ROUND):
            for call in calls:
                price(call)

    return run


def theirs(parts: dict[str, int]) -> dict[str, int]:
    found = {
        "input_tokens": sum(q for p, q in parts.items() if not p.startswith("output")),
        "output_tokens": sum(q for p, q in parts.items() if p.startswith("output")),
    }
    if parts.get("cache_read"):
        found["cache_read_tokens"] = parts["cache_read"]
    if parts.get("cache_write"):
        found["cache_write_tokens"] = parts["cache_write"]
    return found


def genai_prices() -> Callable[[], None]:
    from genai_prices import Usage, calc_price

    at = datetime.fromtimestamp(START // 10**9, tz=timezone.utc)
    calls = [(Usage(**theirs(parts)), model, provider) for provider, model, parts in CALLS]

    def run() -> None:
        for _ in range(PER_ROUND):
            for usage, model, provider in calls:
                calc_price(usage, model, provider_id=provider, genai_request_timestamp=at)

    return run


def litellm() -> Callable[[], None]:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    from litellm import cost_per_token
    from litellm.types.utils import Usage

    calls = []
    for provider, model, parts in CALLS:
        counts = theirs(parts)
        usage = Usage(
            prompt_tokens=counts["input_tokens"],
            completion_tokens=counts["output_tokens"],
            total_tokens=counts["input_tokens"] + counts["output_tokens"],
            cache_read_input_tokens=counts.get("cache_read_tokens", 0),
            cache_creation_input_tokens=counts.get("cache_write_tokens", 0),
        )
        calls.append((model.removesuffix("-20250929").removesuffix("-2024-08-06"), provider, usage))

    def run() -> None:
        for _ in range(PER_ROUND):
            for model, provider, usage in calls:
                cost_per_token(model=model, custom_llm_provider=provider, usage_object=usage)

    return run


def warm(rounds: int) -> dict[str, float]:
    """Priced calls a second, the median of rounds that take turns."""
    runners: dict[str, Callable[[], None]] = {"spanledger": ours()}
    for name, make in (("genai-prices", genai_prices), ("litellm", litellm)):
        try:
            runners[name] = make()
        except ImportError:
            print(f"{name} is not installed: left out", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in runners}
    for run in runners.values():
        run()
    for _ in range(rounds):
        for name, run in runners.items():
            started = perf_counter()
            run()
            times[name].append(perf_counter() - started)
    return {name: PER_ROUND * len(CALLS) / statistics.median(found) for name, found in times.items()}


_MEASURE = """
import resource, sys, time
started = time.perf_counter()
{code}
taken = time.perf_counter() - started
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
_SDK = "import openai"
_ONE_CALL = """
import openai
between = time.perf_counter()
from spanledger.pricing.book import load
from spanledger.pricing.call import Call
charge = load().price(Call("openai", "gpt-4o", 1793491200 * 10**9, {"input": 1000, "output": 10}))
assert charge.cost_e18
started = between
"""
_ALONE = _ONE_CALL.replace("import openai\n", "")
_ALL = """
from spanledger.pricing.book import load
book = load()
for provider in book.providers():
    book.prepare(provider)
"""
_OTHERS = {
    "genai-prices": "from genai_prices import Usage, calc_price\n"
    "calc_price(Usage(input_tokens=1000, output_tokens=10), 'gpt-4o', provider_id='openai')",
}


def fresh(code: str, rounds: int = 15) -> tuple[float, float]:
    """Seconds and MB of fresh processes: medians."""
    seconds, sizes = [], []
    for _ in range(rounds):
        found = subprocess.run(
            [sys.executable, "-c", _MEASURE.format(code=code)], check=True, capture_output=True, text=True
        )
        taken, size = found.stdout.split()
        seconds.append(float(taken))
        sizes.append(int(size) / 1024)
    return statistics.median(seconds), statistics.median(sizes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, Any] = {f"{name}: priced calls a second": round(n) for name, n in warm(arguments.rounds).items()}
    mine = found["spanledger: priced calls a second"]
    for name in ("genai-prices", "litellm"):
        if f"{name}: priced calls a second" in found:
            found[f"times {name}"] = round(mine / found[f"{name}: priced calls a second"], 1)
    try:
        _, sdk = fresh(_SDK)
        seconds, size = fresh(_ONE_CALL)
        found["cold: ms to the first price, beyond the SDK"] = round(seconds * 1000, 1)
        found["cold: MB beyond the SDK"] = round(size - sdk, 1)
    except subprocess.CalledProcessError:
        print("openai is not installed: cold start beside it left out", file=sys.stderr)
    seconds, _ = fresh(_ALONE)
    found["cold: ms to the first price, alone"] = round(seconds * 1000, 1)
    seconds, _ = fresh(_ALL, 5)
    found["whole catalogue: ms"] = round(seconds * 1000, 1)
    for name, code in _OTHERS.items():
        try:
            found[f"cold, {name}: ms to the first price"] = round(fresh(code, 5)[0] * 1000, 1)
        except subprocess.CalledProcessError:
            pass
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        for name, value in found.items():
            print(f"{name:<48} {value:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
