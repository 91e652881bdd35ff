"""A charge can be recomputed from its own snapshot, whatever the book says today."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from spanledger.pricing.verify import recompute

from .conftest import book_of, charge_of
from .test_golden import SOL

ASKED = {"provider": "openai", "service_tier": "priority", "region": "us", "tenant": "acme"}


def test_a_snapshot_names_all_that_the_amounts_came_from_and_no_quantity() -> None:
    book = book_of(SOL)
    charge = charge_of(book, "gpt-6.1-sol", input=300_000, output_reasoning=11, web_search=1, **ASKED)
    found = json.loads(charge.snapshot)
    assert found.pop("file").startswith("file0.yaml@")
    assert found == {
        "provider": "openai",
        "model": "gpt-6.1-sol",
        "price": {"from": "2026-09-29"},
        "rates": {
            "cache_read": "0.0000003872",
            "cache_write": "0.00000968",
            "cache_write_12h": "0.00001936",
            "input": "0.000007744",
            "output": "0.00002904",
            "output_reasoning": "0.00002904",
            "web_search": "0.01",
        },
        "over": 272000,
        "modes": {"service_tier": "priority"},
        "region": "us",
        "overlays": ["file0.yaml:20"],
        "currency": "USD",
    }
    other = charge_of(book, "gpt-6.1-sol", input=300_001, output_reasoning=12, web_search=2, **ASKED)
    assert other.snapshot == charge.snapshot


def test_a_changed_digit_does_not_verify() -> None:
    charge = charge_of(book_of(SOL), "gpt-6.1-sol", provider="openai", input=3, output=4)
    assert recompute({"input": 3, "output": 4}, {}, charge.snapshot).cost_e18 == charge.cost_e18
    assert recompute({"input": 3, "output": 5}, {}, charge.snapshot).cost_e18 != charge.cost_e18
    forged = charge.snapshot.replace('"input":"0.000002"', '"input":"0.000003"')
    assert recompute({"input": 3, "output": 4}, {}, forged).cost_e18 != charge.cost_e18


def test_a_rate_whose_digits_do_not_end_is_kept_as_a_fraction() -> None:
    text = "schema: 1\nprovider: acme\nmodels:\n- id: m\n  prices: [{rates: {audio_second: {rate: 1, per: 7}}}]"
    charge = charge_of(book_of(text), "m", audio_second=Decimal("3.1"))
    assert json.loads(charge.snapshot)["rates"] == {"audio_second": "1/7"}
    assert charge.cost == Decimal("0.442857142857142857")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"rates":{"input":"x"},"currency":"USD"}', "nonsense"])
def test_what_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a price snapshot"):
        recompute({"input": 1}, {}, text)
