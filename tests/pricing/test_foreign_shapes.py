"""The two shapes that teams already have load unchanged, alone or mixed with the native one."""

from __future__ import annotations

from decimal import Decimal

import pytest

from .conftest import book_of, charge_of
from .test_golden import LLM_CONFIG

FLAT = """
gpt-4o:
  input_cost_per_million: 2.5
  output_cost_per_million: 10.0
claude-x:
  provider: anthropic
  max_tokens: 4096
  input_cost_per_million: 3
  output_cost_per_million: 15
  cache_read_cost_per_million: 0.3
  cache_write_cost_per_million: 3.75
"""


def test_the_flat_shape_prices_a_model_of_any_provider() -> None:
    book = book_of(FLAT)
    for provider in ("openai", "llm.corp.example"):
        charge = charge_of(book, "gpt-4o-2024-08-06", provider=provider, input=10**6, output=10**6)
        assert (charge.status, charge.cost) == ("priced", Decimal("12.5"))
    assert charge_of(book, "claude-x", cache_write_5m=10**6).cost == Decimal("3.75")


def test_the_flat_shape_in_a_file_of_one_provider_is_that_providers() -> None:
    book = book_of("provider: openai\n" + FLAT)
    assert charge_of(book, "gpt-4o", provider="openai", input=1).status == "priced"
    assert charge_of(book, "gpt-4o", provider="azure.ai.openai", input=1).status == "unpriced"


def test_extras_are_the_parts_that_they_mean() -> None:
    book = book_of(LLM_CONFIG)
    asked = {"provider": "openai", "input": 1_000}
    assert charge_of(book, "gpt-5-mini", output_reasoning=1_000, **asked).cost == Decimal("2.55")
    assert charge_of(book, "gpt-5-mini", cache_write=1_000, **asked).cost == Decimal("1.4")
    assert charge_of(book, "gpt-5-mini", cache_write_5m=1_000, **asked).status == "priced"


@pytest.mark.parametrize(
    ("prompt", "cost", "status"),
    [
        (128_000, "19.2", "priced"),
        (128_001, "28.800225", "priced"),
        (1_000_000, "225", "priced"),
        (1_000_001, "225.000225", "estimated"),
    ],
)
def test_max_context_is_inclusive_and_beyond_the_last_tier_is_a_guess(prompt: int, cost: str, status: str) -> None:
    charge = charge_of(book_of(LLM_CONFIG), "gpt-5-mini", provider="openai", input=prompt)
    assert (charge.cost, charge.status) == (Decimal(cost), status)


def test_the_multiplier_is_on_every_token_part_and_on_no_fee() -> None:
    text = LLM_CONFIG.replace(
        "reasoning_token: {", "web_search_requests: {cost_per_1k: 10}\n        reasoning_token: {"
    )
    charge = charge_of(book_of(text), "gpt-5-mini", provider="openai", input=200_000, output=1_000, web_search=1)
    assert charge.cost == Decimal("45") + Decimal("0.9") + Decimal("0.01")


def test_the_models_own_rounding() -> None:
    text = LLM_CONFIG.replace("0.15", "0.00015")
    charge = charge_of(book_of(text), "gpt-5-mini", provider="openai", input=3)
    assert charge.parts_e18 == {"input": 450_000_000_000}
    assert charge.cost == 0
    assert charge_of(book_of(text), "gpt-5-mini", provider="openai", input=10).cost == Decimal("0.000002")


def test_unpriced_extras_pass_through_or_are_left_out() -> None:
    kept = charge_of(
        book_of(LLM_CONFIG), "gpt-5-mini", provider="openai", input=1_000, web_search=2, unmapped={"odd_tokens": 7}
    )
    assert (kept.status, kept.left_out) == ("estimated", ())
    text = LLM_CONFIG.replace("passthrough_unpriced: true", "passthrough_unpriced: false")
    left = charge_of(
        book_of(text), "gpt-5-mini", provider="openai", input=1_000, web_search=2, unmapped={"odd_tokens": 7}
    )
    assert (left.status, left.left_out) == ("priced", ("web_search", "odd_tokens"))
    assert left.cost == kept.cost == Decimal("0.15")


def test_an_extra_that_is_no_part_prices_the_providers_field() -> None:
    text = LLM_CONFIG.replace("reasoning_token: {", "citation_token: {cost_per_1k: 2}\n        reasoning_token: {")
    charge = charge_of(book_of(text), "gpt-5-mini", provider="openai", input=1_000, unmapped={"citation_tokens": 500})
    assert (charge.status, charge.cost) == ("priced", Decimal("1.15"))
    aliased = text.replace("key_aliases: {", "key_aliases: {num_refs: citation_token, ")
    charge = charge_of(book_of(aliased), "gpt-5-mini", provider="openai", input=1_000, unmapped={"num_refs": 500})
    assert (charge.status, charge.cost) == ("priced", Decimal("1.15"))


def test_a_mode_that_the_shape_cannot_say_is_estimated() -> None:
    charge = charge_of(book_of(LLM_CONFIG), "gpt-5-mini", provider="openai", processing="batch", input=1_000)
    assert charge.status == "estimated"


def test_both_shapes_and_the_native_keys_in_one_file() -> None:
    mixed = LLM_CONFIG + FLAT + "overlays: [{tenant: acme, mult: {tokens: 0.5}}]\n"
    book = book_of(mixed)
    assert charge_of(book, "gpt-5-mini", provider="openai", tenant="acme", input=1_000).cost == Decimal("0.075")
    assert charge_of(book, "gpt-4o", provider="openai", tenant="acme", input=10**6).cost == Decimal("1.25")
    native = "schema: 1\nprovider: openai\nmodels:\n- id: m\n  prices: [{rates: {input: 1}}]\n" + FLAT
    assert charge_of(book_of(native), "m", provider="openai", input=10**6).cost == 1


def test_a_teams_other_models_and_keys_are_its_own() -> None:
    text = "models:\n  local:\n    api_base: http://x\n    temperature: 0.2\n" + LLM_CONFIG.partition("models:\n")[2]
    assert charge_of(book_of(text), "gpt-5-mini", provider="openai", input=1_000).status == "priced"


def test_three_ways_to_say_one_price_agree() -> None:
    native = "schema: 1\nprovider: acme\nmodels:\n- id: m\n  prices: [{rates: {input: 2.5, output: 10}}]\n"
    flat = "provider: acme\nm: {input_cost_per_million: 2.5, output_cost_per_million: 10}\n"
    nested = "models: {m: {provider: acme, pricing: {input: {cost_per_1k: 0.0025}, output: {cost_per_1k: 0.01}}}}\n"
    charges = [
        charge_of(book_of(text), "m", input=123_456, output=789, output_reasoning=3) for text in (native, flat, nested)
    ]
    assert charges[0].parts_e18 == charges[1].parts_e18 == charges[2].parts_e18
    assert {charge.status for charge in charges} == {"priced"}
