"""Questions to the price book."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from spanledger.pricing.book import load
from spanledger.pricing.inquiry import (
    InquiryError,
    Mismatch,
    check,
    diff,
    list_models,
    price_line,
    quantities,
    show,
    try_call,
    verify_row,
)

from .conftest import at, book_of, charge_of
from .test_golden import SOL


def test_models_are_listed_with_the_prices_of_a_day() -> None:
    book = load()
    (listed,) = list_models(book, at("2026-08-20"), "openai", "gpt-5.6-sol")
    assert (listed.input, listed.cache_read, listed.output) == ("5", "0.5", "30")
    (listed,) = list_models(book, at("2026-08-21"), "api.openai.com", "gpt-5.6-s*")
    assert (listed.input, listed.since) == ("4", "2026-08-21")
    assert len(list_models(book, at("2026-11-22"))) > 2_300
    with pytest.raises(InquiryError, match="there is no price list of opnai; is it openai"):
        list_models(book, at("2026-11-22"), "opnai")


def test_a_model_is_shown_under_any_of_its_names() -> None:
    (shown,) = show(book_of(SOL), "GPT-6.1-sol-2026-09-29", "openai")
    assert shown["model"] == "gpt-6.1-sol"
    (price,) = shown["prices"]
    assert price["from"] == "2026-09-29"
    assert price["rates"]["web_search"] == "10 per 1K"
    assert price["modes"]["service_tier"]["fast"]["is"] == "priority"
    with pytest.raises(InquiryError, match=r"no price list has gpt-6\.1-soll; is it gpt-6\.1-sol"):
        show(book_of(SOL), "gpt-6.1-soll")


def test_files_are_checked_by_themselves_and_over_the_catalogue(write: Callable[..., Path]) -> None:
    good = write(SOL, "good.yaml")
    bad = write("schema: 3\n", "bad.yaml")
    euro = write(SOL.replace("currency: USD", "currency: EUR"), "euro.yaml")
    first, second, third = check([good, bad, euro])
    assert (first.models, first.prices, first.overlays, first.error) == (1, 1, 1, "")
    assert second.error == f"{bad}:1: schema is 3: this version reads schema 1"
    assert "no exchange rate" in third.error


def test_a_diff_names_what_changed(write: Callable[..., Path]) -> None:
    old = write(SOL, "old.yaml")
    new = write(SOL.replace("output: 10", "output: 12").replace("alias: [fast], ", ""), "new.yaml")
    changes = {(c.change, c.what): (c.before, c.after) for c in diff([old], [new])}
    assert changes[("changed", "output")] == ("10", "12")
    assert ("changed", "modes") in changes
    assert len(changes) == 2
    assert diff([old], [old]) == []
    assert [c.change for c in diff([old], [write("schema: 1\n", "none.yaml")])] == ["removed"]


def test_quantities_as_typed() -> None:
    parts, unmapped = quantities(["input=1_000", "audio_second=2.50", "citation_tokens=3"])
    assert parts == {"input": 1000, "audio_second": Decimal("2.50")}
    assert unmapped == {"citation_tokens": 3}
    for bad in ("input", "input=", "=5", "input=-5", "input=1e3", "input=½"):
        with pytest.raises(InquiryError, match="is not PART=QUANTITY"):
            quantities([bad])


def test_a_call_that_was_never_made_is_priced_in_steps() -> None:
    _, charge, steps = try_call(
        book_of(SOL), "openai", "gpt-6.1-sol", at("2026-11-01"), {"input": 5, "image": 1}, service_tier="flex"
    )
    assert charge.status == "estimated"
    assert [(s.part, s.rate, s.amount) for s in steps] == [
        ("input", "0.000001", Decimal("0.000005")),
        ("image", None, None),
    ]
    _, _, unknown = try_call(book_of(SOL), "openai", "nothing", at("2026-11-01"), {"input": 5})
    assert [(s.part, s.rate) for s in unknown] == [("input", None)]


def test_a_stored_row_is_verified_to_the_last_digit() -> None:
    parts = {"input": 7, "output": 11}
    charge = charge_of(book_of(SOL), "gpt-6.1-sol", provider="openai", **parts)
    details = {part: Decimal(e18).scaleb(-18) for part, e18 in charge.parts_e18.items()}
    cost = charge.cost
    assert cost is not None
    assert verify_row(parts, {}, charge.snapshot, cost, cost, details) == []
    last_digit = Decimal("0.000000000000000001")
    assert verify_row(parts, {}, charge.snapshot, cost + last_digit, cost, details) == [
        Mismatch("cost", format(cost + last_digit, "f"), format(cost, "f"))
    ]
    (wrong,) = verify_row(parts, {}, charge.snapshot, cost, cost, details | {"output": Decimal(1)})
    assert wrong.what == "output"
    (extra,) = verify_row(parts, {}, charge.snapshot, cost, cost, details | {"image": Decimal(1)})
    assert (extra.what, extra.computed) == ("image", "NULL")
    assert [m.what for m in verify_row(parts, {}, charge.snapshot, None, None, details)] == ["cost", "cost_base"]
    assert verify_row(parts, {}, "", None, None, {}) == []
    assert verify_row({}, {}, "", Decimal(0), Decimal(0), {}) == []
    assert [m.what for m in verify_row(parts, {}, "", Decimal(1), None, {})] == ["cost"]
    assert [m.what for m in verify_row(parts, {}, "{", cost, cost, details)] == ["price_snapshot"]


def test_an_unpriced_model_comes_with_the_line_that_would_price_it() -> None:
    book = load()
    line = price_line(book, "azure.ai.openai", "gpt-4o-mini-weu-prod")
    assert line == "aliases: {'azure.ai.openai/gpt-4o-mini-weu-prod': gpt-4o-mini}"
    priced = book_of(line, catalogue=True)
    charge = charge_of(priced, "GPT-4o-mini-weu-prod", provider="azure.ai.openai", input=10**6)
    assert (charge.status, charge.priced_model) == ("priced", "gpt-4o-mini")
    assert "NAME-OF-A-LISTED-MODEL" in price_line(book, "openai", "qqqqqqq")
