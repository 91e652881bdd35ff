"""What a charge says of itself, and which rate a part without one falls back to."""

from __future__ import annotations

from decimal import Decimal

import pytest

from spanledger.pricing import book as books
from spanledger.pricing.book import PriceBook, load
from spanledger.pricing.call import Call

from .conftest import assert_sound, at, book_of, charge_of

FULL = """
schema: 1
provider: acme
informational: [billed_elsewhere]
models:
- id: m
  informational: [cached_tokens]
  prices:
  - rates: {input: 1, cache_read: 0.1, cache_write: 2, output: 10}
    unmapped: {citation_tokens: 3}
- id: bare
  prices: [{rates: {input: 1, output: 10}}]
- id: gratis
  prices: [{free: true}]
- id: zero
  prices: [{rates: {input: 0, output: 0}}]
- id: images
  prices: [{rates: {image: {rate: 0.04, per: 1}}}]
"""


@pytest.mark.parametrize(
    ("part", "rate"),
    [
        ("output_reasoning", 10),
        ("input_tool_use", 1),
        ("input_image", 1),
        ("input_video", 1),
        ("input_document", 1),
        ("cache_read_image", Decimal("0.1")),
        ("cache_read_video", Decimal("0.1")),
        ("cache_read_document", Decimal("0.1")),
        ("cache_write_5m", 2),
        ("cache_write_30m", 2),
    ],
)
def test_parts_that_providers_bill_at_anothers_rate_are_priced(part: str, rate: Decimal) -> None:
    charge = charge_of(book_of(FULL), "m", **{part: 10**6})
    assert (charge.status, charge.cost) == ("priced", rate)


@pytest.mark.parametrize(
    ("model", "part", "rate", "at_the_rate_of"),
    [
        ("m", "cache_read_audio", Decimal("0.1"), "cache_read"),
        ("m", "cache_write_1h", 2, "cache_write"),
        ("m", "cache_write_12h", 2, "cache_write"),
        ("m", "input_audio", 1, "input"),
        ("m", "output_audio", 10, "output"),
        ("m", "output_image", 10, "output"),
        ("bare", "cache_read", 1, "input"),
        ("bare", "cache_read_audio", 1, "input"),
        ("bare", "cache_read_document", 1, "input"),
        ("bare", "cache_write", 1, "input"),
        ("bare", "cache_write_5m", 1, "input"),
        ("bare", "cache_write_12h", 1, "input"),
    ],
)
def test_parts_at_a_rate_that_is_a_guess_are_estimated(
    model: str, part: str, rate: Decimal, at_the_rate_of: str
) -> None:
    charge = charge_of(book_of(FULL), model, **{part: 10**6})
    assert (charge.status, charge.cost) == ("estimated", rate)
    assert charge.reasons == (f"{part} has no rate of its own: at the rate of {at_the_rate_of}",)


def test_a_fall_back_never_rests_on_anothers_guess() -> None:
    charge = charge_of(book_of(FULL), "bare", cache_write=1, cache_write_5m=1)
    assert charge.reasons == (
        "cache_write has no rate of its own: at the rate of input",
        "cache_write_5m has no rate of its own: at the rate of input",
    )


@pytest.mark.parametrize("part", ["web_search", "image", "output_video", "audio_second", "tool_call"])
def test_other_parts_are_unpriced_and_the_row_says_so(part: str) -> None:
    charge = charge_of(book_of(FULL), "m", input=10**6, **{part: 2})
    assert (charge.status, charge.cost) == ("estimated", 1)
    assert charge.reasons == (f"{part} has no rate: not in the cost",)
    assert part not in charge.parts_e18
    alone = charge_of(book_of(FULL), "m", **{part: 2})
    assert (alone.status, alone.cost) == ("unpriced", None)
    assert alone.priced_model == "m"


def test_unmapped_fields() -> None:
    book = book_of(FULL)
    unknown = charge_of(book, "m", input=10**6, unmapped={"mystery_tokens": 5})
    assert (unknown.status, unknown.cost) == ("estimated", 1)
    assert unknown.reasons == ("mystery_tokens has no rate: not in the cost",)
    assert charge_of(book, "m", input=10**6, unmapped={"mystery_tokens": 0}).status == "priced"
    assert charge_of(book, "m", input=10**6, unmapped={"cached_tokens": 5, "billed_elsewhere": 1}).status == "priced"
    billed = charge_of(book, "m", input=10**6, unmapped={"citation_tokens": 10**6})
    assert (billed.status, billed.cost) == ("priced", 4)
    assert billed.parts_e18["citation_tokens"] == 3 * 10**18


def test_a_zero_quantity_owes_no_reason_and_no_amount() -> None:
    charge = charge_of(book_of(FULL), "bare", input=10**6, cache_read=0, web_search=0, output_audio=0)
    assert (charge.status, charge.cost, charge.reasons) == ("priced", 1, ())
    assert set(charge.parts_e18) == {"input"}
    nothing = charge_of(book_of(FULL), "bare", input=0, cache_read=0)
    assert (nothing.status, nothing.cost) == ("priced", 0)


def test_free_is_a_zero_price_in_the_book() -> None:
    book = book_of(FULL)
    for model in ("gratis", "zero"):
        charge = charge_of(book, model, input=5, output=7)
        assert (charge.status, charge.cost) == ("free", 0), model
        assert not charge.estimated
    silent = charge_of(book, "gratis", usage_status="missing")
    assert (silent.status, silent.cost, silent.reasons) == ("free", 0, ())
    assert charge_of(book, "gratis", web_search=3, service_tier="odd").status == "free"
    assert charge_of(book, "images", image=0).status == "priced"


def test_missing_usage_is_not_zero() -> None:
    charge = charge_of(book_of(FULL), "m", usage_status="missing", usage_reasons=("the stream was cut",))
    assert (charge.status, charge.cost, charge.cost_base) == ("usage_missing", None, None)
    assert charge.reasons == ("the stream was cut",)
    assert charge.estimated
    assert charge.priced_model == "m"


@pytest.mark.parametrize("status", ["incomplete", "estimated", "contradictory"])
def test_usage_that_is_not_plainly_reported_is_estimated_at_best(status: str) -> None:
    charge = charge_of(book_of(FULL), "m", usage_status=status, input=10**6)
    assert (charge.status, charge.cost) == ("estimated", 1)
    assert charge.reasons == (f"usage is {status}",)


def test_a_failed_call_is_not_billed_unless_it_used_something() -> None:
    book = book_of(FULL)
    charge = charge_of(book, "unheard-of", failed=True, usage_status="missing")
    assert (charge.status, charge.cost, charge.cost_base, charge.snapshot) == ("not_billed", 0, 0, "")
    assert charge_of(book, "m", failed=True, input=10**6).cost == 1


def test_an_unknown_model_is_null_with_a_reason() -> None:
    charge = charge_of(book_of(FULL), "unheard-of", input=1)
    assert (charge.status, charge.cost, charge.cost_base) == ("unpriced", None, None)
    assert charge.reasons == ("model unheard-of of acme is not in the price book",)
    assert charge.estimated


@pytest.mark.parametrize("bad", [-1, Decimal("-0.5"), Decimal("NaN"), Decimal("sNaN"), float("inf"), "12", None])
def test_what_is_no_quantity_is_named_and_never_billed(bad: object) -> None:
    book = book_of(FULL)
    call = Call("acme", "m", at("2026-11-01"), {"input": 10**6, "output": bad})  # type: ignore[dict-item]
    charge = book.price(call)
    assert (charge.status, charge.cost) == ("estimated", 1)
    assert charge.reasons == ("output is not a quantity: not in the cost",)
    assert_sound(call, charge)


def test_a_quantity_may_be_a_decimal() -> None:
    assert charge_of(book_of(FULL), "m", input=Decimal("1.5")).cost == Decimal("0.0000015")


def test_a_rate_of_more_than_eighteen_places_is_rounded_half_even_a_part() -> None:
    text = "schema: 1\nprovider: acme\nmodels:\n- id: m\n  prices: [{rates: {input: 0.0000000000005, output: 1}}]"
    book = book_of(text)
    assert charge_of(book, "m", input=1, output=1).parts_e18 == {"input": 0, "output": 10**12}
    assert charge_of(book, "m", input=3, output=1).parts_e18 == {"input": 2, "output": 10**12}


def test_a_call_without_parts_to_a_free_model_is_free() -> None:
    book = load()
    assert book.price(Call("openai", "omni-moderation-latest", at("2026-11-01"), {})).status == "free"
    assert book.price(Call("openai", "gpt-4o", at("2026-11-01"), {})).status == "priced"


def test_made_up_providers_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "_LISTS_MOST", 20)
    book = PriceBook()
    for number in range(50):
        call = Call(f"host{number}.example", "m", at("2026-11-22"), {"input": 1})
        assert book.price(call).status == "unpriced"
        assert book.price(Call("openai", "gpt-5-mini", at("2026-11-22"), {"input": number + 1})).status == "priced"
        assert len(book._lists) <= 20
