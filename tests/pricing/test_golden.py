"""The four worked examples of the price book's description."""

from __future__ import annotations

from decimal import Decimal

from .conftest import book_of, charge_of

SOL = """
schema: 1
provider: openai
currency: USD
per: 1M
models:
- id: gpt-6.1-sol
  match: [gpt-6.1-sol, "glob:gpt-6.1-sol-20??-??-??"]
  prices:
  - from: 2026-09-29
    rates:
      {input: 2, cache_read: 0.10, cache_write: 2.50, cache_write_12h: 5, output: 10,
       web_search: {rate: 10, per: 1K}}
    context: [{over: 272000, mult: {input: 2, "cache_*": 2, output: 1.5}}]
    modes:
      service_tier: {priority: {alias: [fast], mult: {tokens: 2}}, flex: {mult: {tokens: 0.5}}}
      processing:   {batch: {mult: {tokens: 0.5}, excludes: [service_tier]}}
    region: [{when: [eu, us], mult: {tokens: 1.1}}]
overlays:
- {tenant: acme, mult: {tokens: 0.88}}
"""

HAIKU = """
schema: 1
provider: anthropic
models:
- id: claude-haiku-5-5
  prices:
  - rates: {input: 0.10, cache_write_1h: 0.20, cache_read: 0.01, output: 0.50, web_search: {rate: 10, per: 1K}}
    context: [{over: 100000, mult: {tokens: 5}}]
    modes: {processing: {batch: {mult: {tokens: 0.5}}}}
"""

LLM_CONFIG = """
models:
  gpt-5-mini:
    provider: 'openai'
    pricing:
      currency: USD
      input: {cost_per_1k: 0.15}
      output: {cost_per_1k: 0.60}
      extras:
        reasoning_token: {cost_per_1k: 2.40}
        cache_write_token: {cost_per_1k: 1.25}
      key_aliases: {reasoning_tokens: reasoning_token, prompt_tokens: input_tokens, completion_tokens: output_tokens}
      context_tiers: [{max_context: 128000, multiplier: 1.0}, {max_context: 1000000, multiplier: 1.5}]
      rounding: {decimals: 6}
      extras_policy: {passthrough_unpriced: true}
settings:
  usage_logging: {enabled: true, base_currency: USD, fail_open: true, default_rounding_decimals: 6}
"""


def test_a_priority_tier_in_the_eu_beyond_the_context_edge_with_a_tenants_discount() -> None:
    charge = charge_of(
        book_of(SOL),
        "gpt-6.1-sol",
        provider="openai",
        service_tier="fast",
        region="EU",
        tenant="acme",
        input=60_000,
        cache_read=230_000,
        cache_write=10_000,
        output=4_000,
        web_search=2,
    )
    assert charge.status == "priced"
    assert charge.cost == Decimal("0.786656")
    assert {part: Decimal(e18).scaleb(-18) for part, e18 in charge.parts_e18.items()} == {
        "input": Decimal("0.46464"),
        "cache_read": Decimal("0.089056"),
        "cache_write": Decimal("0.0968"),
        "output": Decimal("0.11616"),
        "web_search": Decimal("0.02"),
    }


def test_b_batch_with_hour_long_cache_writes_and_a_field_without_a_price() -> None:
    charge = charge_of(
        book_of(HAIKU),
        "claude-haiku-5-5",
        provider="anthropic",
        processing="batch",
        unmapped={"citation_tokens": 50},
        input=20_000,
        cache_write_1h=30_000,
        cache_read=40_000,
        output=2_000,
        web_search=1,
    )
    assert charge.cost == Decimal("0.0147")
    assert [Decimal(e18).scaleb(-18) for e18 in charge.parts_e18.values()] == [
        Decimal("0.001"),
        Decimal("0.003"),
        Decimal("0.0002"),
        Decimal("0.0005"),
        Decimal("0.01"),
    ]
    assert charge.status == "estimated"
    assert charge.reasons == ("citation_tokens has no rate: not in the cost",)


def test_c_a_teams_own_configuration_with_a_rate_for_reasoning() -> None:
    charge = charge_of(
        book_of(LLM_CONFIG), "gpt-5-mini", provider="openai", input=1_000, output=300, output_reasoning=200
    )
    assert charge.status == "priced"
    assert charge.cost == Decimal("0.81")


def test_d_the_tiers_edge() -> None:
    book = book_of(SOL)
    assert charge_of(book, "gpt-6.1-sol", provider="openai", input=272_000).cost == Decimal("0.544")
    assert charge_of(book, "gpt-6.1-sol", provider="openai", input=272_001).cost == Decimal("1.088004")
    mixed = charge_of(book, "gpt-6.1-sol", provider="openai", input=1, cache_read=272_000, output=1)
    assert mixed.cost == Decimal("0.000004") + Decimal("0.0544") + Decimal("0.000015")
