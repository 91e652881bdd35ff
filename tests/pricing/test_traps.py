"""One golden case for each trap of `docs/pricing-traps.md`."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from spanledger.pricing.book import PriceBook, PriceFileError, load
from spanledger.pricing.call import Charge

from .conftest import book_of, charge_of
from .test_golden import SOL

PAGE = (Path(__file__).parents[2] / "docs" / "pricing-traps.md").read_text(encoding="utf-8")
TODAY = "2026-11-22"


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return load()


def price(book: PriceBook, provider: str, model: str, day: str = TODAY, **asked: object) -> Charge:
    return charge_of(book, model, provider=provider, day=day, **asked)


def test_every_trap_has_its_case_and_every_case_its_trap() -> None:
    traps = set(re.findall(r"^\*\*([a-z_]+)\.\*\*", PAGE, re.M))
    cases = {name.removeprefix("test_trap_") for name in globals() if name.startswith("test_trap_")}
    assert traps == cases
    assert len(traps) == len(re.findall(r"^\*\*", PAGE, re.M))


def test_trap_inclusive_input(book: PriceBook) -> None:
    assert price(book, "openai", "gpt-4o", input=86, cache_read=1920, output=300).cost == Decimal("0.005615")


def test_trap_exclusive_input(book: PriceBook) -> None:
    parts = {"input": 100, "cache_read": 1000, "cache_write_5m": 600, "cache_write_1h": 400, "output": 50}
    charge = price(book, "anthropic", "claude-sonnet-4-5-20250929", **parts)
    assert (charge.status, charge.cost) == ("priced", Decimal("0.006"))


def test_trap_cached_audio(book: PriceBook) -> None:
    charge = price(book, "gcp.gemini", "gemini-2.5-flash", input_audio=200, cache_read_audio=800)
    assert (charge.status, charge.cost) == ("priced", Decimal("0.00028"))
    text = "schema: 1\nprovider: acme\nmodels:\n- id: m\n  prices: [{rates: {input_audio: 1, cache_read: 0.1}}]"
    charge = charge_of(book_of(text), "m", input_audio=200, cache_read_audio=800)
    assert (charge.status, charge.cost) == ("estimated", Decimal("0.00028"))


def test_trap_reasoning_once(book: PriceBook) -> None:
    split = price(book, "openai", "gpt-5", input=10, output=36, output_reasoning=64)
    plain = price(book, "openai", "gpt-5", input=10, output=100)
    assert split.cost == plain.cost
    assert split.status == "priced"


def test_trap_tier_edge(book: PriceBook) -> None:
    assert price(book, "openai", "gpt-6.1-sol", input=272_000).cost == Decimal("0.544")
    assert price(book, "openai", "gpt-6.1-sol", input=272_001).cost == Decimal("1.088004")
    assert price(book, "x_ai", "grok-4.5", input=199_999).cost == Decimal("0.399998")
    assert price(book, "x_ai", "grok-4.5", input=200_000).cost == Decimal("0.8")


def test_trap_whole_request(book: PriceBook) -> None:
    assert price(book, "openai", "gpt-6.1-sol", input=272_001, output=1_000).cost == Decimal("1.103004")
    cached = price(book, "openai", "gpt-6.1-sol", input=1, cache_read=272_000)
    assert cached.cost == Decimal("0.054404")


def test_trap_batch_with_cache(book: PriceBook) -> None:
    parts = {"input": 10**5, "cache_read": 10**4, "output": 10**4}
    anthropic = price(book, "anthropic", "claude-opus-5-5", processing="batch", web_search=2, **parts)
    assert anthropic.cost == Decimal("0.2") + Decimal("0.001") + Decimal("0.1") + Decimal("0.02")
    openai = price(book, "openai", "o3", processing="batch", **parts)
    assert openai.cost == Decimal("0.1") + Decimal("0.005") + Decimal("0.04")
    assert (anthropic.status, openai.status) == ("priced", "priced")


def test_trap_flex_cache(book: PriceBook) -> None:
    assert price(book, "openai", "gpt-5.4", service_tier="flex", cache_read=10**5).cost == Decimal("0.013")


def test_trap_tier_served(book: PriceBook) -> None:
    assert price(book, "openai", "gpt-5-mini", service_tier="default", input=10**6).cost == Decimal("0.25")
    assert price(book, "openai", "gpt-5-mini", service_tier="priority", input=10**6).cost == Decimal("0.45")


def test_trap_unknown_tier(book: PriceBook) -> None:
    charge = price(book, "openai", "gpt-5-mini", service_tier="platinum", input=10**6)
    assert (charge.status, charge.cost) == ("estimated", Decimal("0.25"))
    assert charge.reasons == ("service_tier platinum is not in the price of gpt-5-mini: at its standard rate",)


def test_trap_fast_is_not_a_model(book: PriceBook) -> None:
    charge = price(book, "anthropic", "claude-opus-5-5", processing="fast", region="us", input=10**5)
    assert (charge.status, charge.cost) == ("priced", Decimal("0.88"))  # 4 x 2 x 1.1


def test_trap_unknown_ttl(book: PriceBook) -> None:
    model = "claude-sonnet-4-5"
    assert price(book, "anthropic", model, cache_write=10**5).cost == Decimal("0.375")
    assert price(book, "anthropic", model, cache_write_1h=10**5).cost == Decimal("0.6")
    text = "schema: 1\nprovider: acme\nmodels:\n- id: m\n  prices: [{rates: {input: 3, cache_write: 3.75}}]"
    charge = charge_of(book_of(text), "m", cache_write_1h=10**6)
    assert (charge.status, charge.cost) == ("estimated", Decimal("3.75"))


def test_trap_twelve_hours(book: PriceBook) -> None:
    charge = price(book, "openai", "gpt-6.1-sol", cache_write_30m=10**5, cache_write_12h=10**5)
    assert (charge.status, charge.cost) == ("priced", Decimal("0.25") + Decimal("0.5"))


def test_trap_regional_ids(book: PriceBook) -> None:
    answered = "claude-haiku-4-5-20251001"
    for geo, cost in (("global", "1"), ("eu", "1.1"), ("us", "1.1")):
        asked = f"{geo}.anthropic.claude-haiku-4-5-20251001-v1:0"
        assert price(book, "aws.bedrock", asked, input=10**6).cost == Decimal(cost)
        assert price(book, "aws.bedrock", answered, request_model=asked, input=10**6).cost == Decimal(cost)


def test_trap_dated_snapshots(book: PriceBook) -> None:
    assert price(book, "openai", "gpt-4o-2024-08-06", input=10**6).cost == Decimal("2.5")
    assert price(book, "openai", "gpt-4o-2024-05-13", input=10**6).cost == 5
    assert price(book, "openai", "gpt-3.5-turbo-0613", input=10**6).cost == Decimal("1.5")
    assert price(book, "openai", "gpt-3.5-turbo", input=10**6).cost == Decimal("0.5")


def test_trap_arns(book: PriceBook) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:"
    profile = arn + "inference-profile/us.anthropic.claude-3-7-sonnet-20250219-v1:0"
    assert price(book, "aws.bedrock", profile, input=10**6).cost == 3
    opaque = arn + "application-inference-profile/mi1dadi0g15f"
    assert price(book, "aws.bedrock", opaque, input=10**6).status == "unpriced"
    known = book_of(
        "aliases: {aws.bedrock/mi1dadi0g15f: anthropic.claude-3-7-sonnet-20250219-v1:0}",
        catalogue=True,
    )
    assert price(known, "aws.bedrock", opaque, input=10**6).cost == 3


def test_trap_azure_deployments(book: PriceBook) -> None:
    deployment = {"request_model": "my-deployment", "input": 10**6}
    assert price(book, "azure.ai.openai", "gpt-4o-2024-11-20", **deployment).cost == Decimal("2.5")
    assert price(book, "azure.ai.openai", "", **deployment).status == "unpriced"
    alias = book_of(
        "schema: 1\nprovider: azure.ai.openai\nmodels: []\naliases: {My-Deployment: text-embedding-3-large}",
        catalogue=True,
    )
    assert price(alias, "azure.ai.openai", "", **deployment).cost == Decimal("0.13")
    borrowed = price(book, "azure.ai.openai", "gpt-5-search-api", input=10**6)
    assert (borrowed.status, borrowed.cost) == ("estimated", Decimal("1.25"))


def test_trap_openrouter_slugs(book: PriceBook) -> None:
    assert price(book, "openrouter", "openai/gpt-4o-mini", input=10**6).cost == Decimal("0.15")
    assert price(book, "openrouter", "minimax/minimax-m2:free", input=10**6).status == "free"
    assert price(book, "novita", "openai/gpt-oss-20b:free", input=10**6).status == "unpriced"


def test_trap_fine_tunes(book: PriceBook) -> None:
    assert price(book, "openai", "ft:gpt-4o-2024-08-06:acme::abc", input=10**6).cost == Decimal("3.75")
    assert price(book, "openai", "ft:gpt-5-nano-2025-08-07:acme::abc", input=10**6).status == "unpriced"


def test_trap_response_model(book: PriceBook) -> None:
    charge = price(book, "openai", "gpt-5-mini-2025-08-07", request_model="gpt-5", input=10**6)
    assert (charge.priced_model, charge.cost) == ("gpt-5-mini", Decimal("0.25"))


def test_trap_unknown_model(book: PriceBook) -> None:
    charge = price(book, "openai", "gpt-99", input=10**6)
    assert (charge.status, charge.cost, charge.cost_base) == ("unpriced", None, None)


def test_trap_unpriced_part(book: PriceBook) -> None:
    charge = price(book, "openai", "gpt-5-mini", input=10**6, code_execution=2)
    assert (charge.status, charge.cost) == ("estimated", Decimal("0.25"))
    assert charge.reasons == ("code_execution has no rate: not in the cost",)


def test_trap_free_quota(book: PriceBook) -> None:
    charge = price(book, "gcp.gemini", "gemini-2.5-flash", grounded_request=1)
    assert (charge.status, charge.cost) == ("estimated", Decimal("0.035"))
    assert charge.reasons == ("1500/day of grounded_request are free: priced as if they were used up",)


def test_trap_grounding_unit(book: PriceBook) -> None:
    counts = {"grounded_request": 1, "web_search": 4}
    assert price(book, "gcp.gemini", "gemini-2.5-flash", **counts).cost == Decimal("0.035")
    assert price(book, "gcp.gemini", "gemini-3.5-flash", **counts).cost == Decimal("0.056")


def test_trap_zero_price(book: PriceBook) -> None:
    charge = price(book, "openai", "omni-moderation-latest", usage_status="missing")
    assert (charge.status, charge.cost, charge.reasons) == ("free", 0, ())


def test_trap_negative_and_missing_rates() -> None:
    for prices in ("{rates: {input: -1}}", "{rates: {}}", "{}", "{rates: {input: null}}"):
        with pytest.raises(PriceFileError):
            book_of(f"schema: 1\nprovider: acme\nmodels:\n- id: m\n  prices: [{prices}]")


def test_trap_minimum(book: PriceBook) -> None:
    charge = price(book, "groq", "whisper-large-v3", audio_second=Decimal("3.2"))
    assert charge.cost == Decimal("0.000308333333333333")
    assert price(book, "groq", "whisper-large-v3", audio_second=3600).cost == Decimal("0.111")


def test_trap_off_peak(book: PriceBook) -> None:
    asked = {"provider": "deepseek", "model": "deepseek-flash", "input": 10**6}
    assert price(book, day="2026-11-20T06:00:00Z", **asked).cost == Decimal("0.3")
    assert price(book, day="2026-11-20T05:59:59Z", **asked).cost == Decimal("0.15")
    assert price(book, day="2026-11-21T06:00:00Z", **asked).cost == Decimal("0.15")


def test_trap_binary_floats() -> None:
    text = "schema: 1\nprovider: acme\nmodels:\n- id: m\n  prices: [{rates: {input: 0.10, output: 0.20}}]"
    charge = charge_of(book_of(text), "m", input=3, output=10**6)
    assert charge.parts_e18 == {"input": 300_000_000_000, "output": 2 * 10**17}


def test_trap_fx() -> None:
    text = """
schema: 1
provider: acme
models: [{id: m, currency: EUR, prices: [{rates: {input: 1}}]}]
fx:
- {from: 2026-01-01, currency: EUR, to: USD, rate: 1.08}
- {from: 2026-11-01, currency: EUR, to: USD, rate: 1.16}
"""
    book = book_of(text)
    charge = charge_of(book, "m", day="2026-11-22", input=10**6)
    assert (charge.currency, charge.cost, charge.cost_base) == ("EUR", 1, Decimal("1.16"))
    assert charge_of(book, "m", day="2026-10-31", input=10**6).cost_base == Decimal("1.08")
    assert charge_of(book, "m", day="2025-12-31", input=10**6).cost_base is None


def test_trap_price_change(book: PriceBook) -> None:
    assert price(book, "openai", "o3", day="2025-06-09", input=10**6).cost == 10
    assert price(book, "openai", "o3", day="2025-06-10", input=10**6).cost == 2
    assert charge_of(book_of(SOL), "gpt-6.1-sol", provider="openai", day="2026-09-28", input=1).status == "unpriced"
