"""Random usages and mangled price files: nothing but the documented errors, and never a negative, NaN or silent price.

python -m tests.pricing.fuzzing --count 100000 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from decimal import Decimal
from typing import Any

from spanledger.pricing.book import PriceBook, PriceFileError, load
from spanledger.pricing.call import Call
from spanledger.pricing.price_file import read_text
from spanledger.pricing.usage import PARTS

from .conftest import assert_sound, at

MODELS = [
    ("openai", "gpt-6.1-sol"),
    ("openai", "gpt-5-mini"),
    ("openai", "ft:gpt-4o-2024-08-06:x::y"),
    ("openai", "omni-moderation-latest"),
    ("anthropic", "claude-haiku-5-5"),
    ("anthropic", "claude-opus-4-6"),
    ("aws.bedrock", "eu.anthropic.claude-haiku-4-5-20251001-v1:0"),
    ("gcp.vertex_ai", "publishers/google/models/gemini-2.5-pro@001"),
    ("deepseek", "deepseek-v4-pro"),
    ("groq", "whisper-large-v3"),
    ("openrouter", "openai/gpt-oss-20b:free"),
    ("nobody", "nothing"),
    ("", ""),
    ("azure.ai.openai", "../../etc/passwd"),
]
_PARTS = sorted(PARTS)
_WORDS = ["", "default", "flex", "priority", "batch", "fast", "us", "eu", "\x00", "ß", "x" * 300]
_PIECES = [
    "-1",
    "0",
    "1e9",
    ".nan",
    ".inf",
    "null",
    "[]",
    "{}",
    "'",
    '"',
    ":",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "!!float ",
    "\t",
]
_PIECES += ["tokens", "input", "per: 7", "2026-02-30", "é", "\x00", "#", "|", ">", "true", "99999999999999999999"]
_FIRST, _LAST = at("2022-01-01"), at("2028-01-01")


def random_quantity(source: random.Random) -> Any:
    kind = source.randrange(12)
    if kind < 7:
        return source.randrange(10 ** source.randrange(1, 8))
    if kind < 9:
        return Decimal(source.randrange(10**9)).scaleb(-source.randrange(9))
    return [0, -5, Decimal("NaN"), Decimal("-0.1"), float("nan"), 1.5, 10**15, None, "7", True][source.randrange(10)]


def random_call(source: random.Random) -> Call:
    provider, model = source.choice(MODELS)
    return Call(
        provider,
        model,
        source.randrange(_FIRST, _LAST),
        {source.choice(_PARTS): random_quantity(source) for _ in range(source.randrange(7))},
        unmapped={source.choice(["a", "citation_tokens", "input"]): random_quantity(source)}
        if source.random() < 0.2
        else {},
        usage_status=source.choice(["reported"] * 6 + ["missing", "incomplete", "contradictory"]),
        service_tier=source.choice(_WORDS),
        processing=source.choice(_WORDS),
        region=source.choice(_WORDS),
        tenant=source.choice(["", "acme"]),
        request_model=source.choice(["", "gpt-4o", "global.x.y"]),
        failed=source.random() < 0.05,
    )


def mutate(source: random.Random, text: str) -> str:
    for _ in range(source.randrange(1, 5)):
        at_ = source.randrange(len(text) + 1)
        kind = source.randrange(4)
        if kind == 0:
            text = text[:at_] + source.choice(_PIECES) + text[at_:]
        elif kind == 1:
            text = text[:at_] + text[at_ + source.randrange(1, 12) :]
        elif kind == 2:
            lines = text.splitlines(keepends=True)
            lines.insert(source.randrange(len(lines) + 1), source.choice(lines) if lines else "")
            text = "".join(lines)
        else:
            text = text[:at_] + chr(source.randrange(32, 127)) + text[at_ + 1 :]
    return text


def try_file(text: str) -> bool:
    """Whether `text` is a price file; if it is, a call is priced by it."""
    try:
        book = PriceBook([read_text(text.encode("utf-8", "surrogatepass"), "mangled.yaml")], catalogue_too=False)
    except PriceFileError:
        return False
    for provider, model in (("openai", "gpt-6.1-sol"), ("openai", "gpt-5-mini"), ("anthropic", "claude-haiku-5-5")):
        parts: dict[str, Any] = {"input": 1_000, "cache_read": 7, "output": 100, "web_search": 1}
        call = Call(provider, model, at("2026-11-01"), parts, service_tier="fast", region="eu", tenant="acme")
        charge = book.price(call)
        assert_sound(call, charge)
    return True


def main() -> int:
    from .test_golden import HAIKU, LLM_CONFIG, SOL

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    source = random.Random(arguments.seed)
    book = load()
    started = time.perf_counter()
    for _ in range(arguments.count):
        call = random_call(source)
        assert_sound(call, book.price(call))
    between = time.perf_counter()
    good = sum(try_file(mutate(source, source.choice((SOL, HAIKU, LLM_CONFIG)))) for _ in range(arguments.count))
    print(f"{arguments.count} usages in {between - started:.0f} s, all sound")
    print(f"{arguments.count} mangled files in {time.perf_counter() - between:.0f} s, {good} of them still price files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
