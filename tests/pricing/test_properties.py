"""What holds of any usage, any price and any price file."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spanledger.pricing.book import PriceBook, load
from spanledger.pricing.call import Call
from spanledger.pricing.price_file import read_text
from spanledger.pricing.usage import FEE_PARTS, PARTS, TOKEN_PARTS
from spanledger.pricing.verify import recompute

from .conftest import assert_sound, at, book_of
from .fuzzing import mutate, random_call, try_file
from .test_golden import HAIKU, LLM_CONFIG, SOL

NOW = at("2026-11-01")
BOOK = load()
SOL_BOOK = book_of(SOL)
MODELS = [
    ("openai", "gpt-6.1-sol"),
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-5.4"),
    ("anthropic", "claude-haiku-5-5"),
    ("anthropic", "claude-opus-4-6"),
    ("gcp.gemini", "gemini-2.5-pro"),
    ("deepseek", "deepseek-v4-pro"),
    ("groq", "whisper-large-v3"),
    ("azure.ai.openai", "gpt-5.5"),
]
quantities = st.one_of(st.integers(0, 10**9), st.decimals(0, 10**6, places=6))
usages = st.dictionaries(st.sampled_from(sorted(PARTS)), quantities, max_size=8)
modes = st.fixed_dictionaries(
    {
        "service_tier": st.sampled_from(["", "default", "flex", "priority", "fast", "odd"]),
        "processing": st.sampled_from(["", "batch", "fast", "odd"]),
        "region": st.sampled_from(["", "us", "eu", "mars"]),
    }
)
instants = st.integers(at("2023-01-01"), at("2027-01-01"))


@given(st.sampled_from(MODELS), usages, modes, instants)
@settings(max_examples=300, deadline=None)
def test_the_parts_sum_to_the_total_and_the_snapshot_gives_it_again(
    model: tuple[str, str], parts: dict[str, Any], mode: dict[str, str], start: int
) -> None:
    call = Call(*model, start, parts, **mode)
    charge = BOOK.price(call)
    assert_sound(call, charge)
    if charge.cost_e18 is not None:
        assert charge.cost_e18 == sum(charge.parts_e18.values())
        assert set(charge.parts_e18) <= {part for part, quantity in parts.items() if quantity}


@given(st.sampled_from(MODELS), usages, st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_parts_never_matters(
    model: tuple[str, str], parts: dict[str, Any], shuffle: random.Random
) -> None:
    items = list(parts.items())
    shuffle.shuffle(items)
    one = BOOK.price(Call(*model, NOW, parts))
    two = BOOK.price(Call(*model, NOW, dict(items)))
    assert (one.status, one.cost_e18, one.cost_base_e18) == (two.status, two.cost_e18, two.cost_base_e18)
    assert one.parts_e18 == two.parts_e18
    assert sorted(one.reasons) == sorted(two.reasons)
    assert one.snapshot == two.snapshot


@given(st.dictionaries(st.sampled_from(sorted(TOKEN_PARTS)), st.integers(0, 10_000), max_size=6), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_below_a_tiers_edge_a_larger_request_costs_in_proportion(parts: dict[str, int], factor: int) -> None:
    parts = {part: quantity // len(parts) // 20 * 20 for part, quantity in parts.items()}
    one = SOL_BOOK.price(Call("openai", "gpt-6.1-sol", NOW, parts))
    larger = {part: quantity * factor for part, quantity in parts.items()}
    many = SOL_BOOK.price(Call("openai", "gpt-6.1-sol", NOW, larger))
    if one.cost_e18 is not None and many.cost_e18 is not None:
        assert many.cost_e18 == one.cost_e18 * factor


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**4))
@settings(max_examples=100, deadline=None)
def test_more_tokens_never_cost_less(inputs: int, outputs: int, more: int) -> None:
    def cost(extra: int) -> int:
        parts = {"input": inputs + extra, "output": outputs}
        found = SOL_BOOK.price(Call("openai", "gpt-6.1-sol", NOW, parts)).cost_e18
        assert found is not None
        return found

    assert cost(0) <= cost(more)


rates = st.decimals(0, 1000, places=4)


@given(rates, rates, st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7))
@settings(max_examples=100, deadline=None)
def test_the_foreign_shapes_agree_with_the_native_one(
    given_in: Decimal, given_out: Decimal, inputs: int, outputs: int, reasoning: int
) -> None:
    prices = f"[{{rates: {{input: {given_in}, output: {given_out}}}}}]"
    native = f"schema: 1\nprovider: acme\nmodels:\n- id: m\n  prices: {prices}\n"
    flat = f"provider: acme\nm: {{input_cost_per_million: {given_in}, output_cost_per_million: {given_out}}}\n"
    sides = f"input: {{cost_per_1k: {given_in / 1000}}}, output: {{cost_per_1k: {given_out / 1000}}}"
    nested = f"models: {{m: {{provider: acme, pricing: {{{sides}}}}}}}\n"
    parts = {"input": inputs, "output": outputs, "output_reasoning": reasoning}
    charges = [book_of(text).price(Call("acme", "m", NOW, parts)) for text in (native, flat, nested)]
    exact = Fraction(given_in) * inputs / 10**6 + Fraction(given_out) * (outputs + reasoning) / 10**6
    for charge in charges:
        assert charge.cost_e18 == exact * 10**18
        assert charge.status == charges[0].status
        assert charge.parts_e18 == charges[0].parts_e18


@given(usages)
@settings(max_examples=50, deadline=None)
def test_a_price_file_survives_its_compiled_form(parts: dict[str, Any]) -> None:
    import json

    for text in (SOL, HAIKU, LLM_CONFIG):
        document = read_text(text.encode(), "file0.yaml")
        again = json.loads(json.dumps(document))
        assert again == document
        provider, model = document["sections"][0]["provider"], document["sections"][0]["models"][0]["id"]
        call = Call(provider, model, NOW, parts)
        assert PriceBook([again], catalogue_too=False).price(call) == PriceBook([document], catalogue_too=False).price(
            call
        )


@given(st.sampled_from(MODELS), usages)
@settings(max_examples=100, deadline=None)
def test_recomputing_is_deaf_to_the_book(model: tuple[str, str], parts: dict[str, Any]) -> None:
    charge = BOOK.price(Call(*model, NOW, parts))
    if charge.snapshot:
        first = recompute(parts, {}, charge.snapshot)
        assert first == recompute(dict(reversed(list(parts.items()))), {}, charge.snapshot)
        assert first.cost_e18 == charge.cost_e18


def test_fuzz_of_usages() -> None:
    """The long run of this is `python -m tests.pricing.fuzzing`."""
    source = random.Random(20261122)
    books = [BOOK, SOL_BOOK, book_of(LLM_CONFIG), book_of(HAIKU, decimals=6)]
    for _ in range(3_000):
        call = random_call(source)
        for book in books:
            charge = book.price(call)
            assert_sound(call, charge)
            if charge.status == "free":
                assert not any(charge.parts_e18.values())
            elif charge.status == "priced" and book is BOOK:
                assert charge.cost_e18 or not charge.parts_e18, "silently free"


def test_fuzz_of_price_files() -> None:
    source = random.Random(20261122)
    for i in range(600):
        try_file(mutate(source, (SOL, HAIKU, LLM_CONFIG)[i % 3]))


def test_the_parts_are_known() -> None:
    assert not TOKEN_PARTS & FEE_PARTS
