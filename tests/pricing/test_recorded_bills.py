"""OpenRouter says what it billed: computed equals billed, but for the bills listed here with their reason."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest

from spanledger.pricing.book import PriceBook, load
from spanledger.pricing.call import Call, Charge

from .. import recordings
from .conftest import assert_sound, at

DIFFERENT = {
    "14eddb09f15d3143": "0.002 more: the PDF file-parser plugin, which no usage field counts",
    "7325418be89d1365": "gpt-oss-20b of a provider and a day whose price the list does not have",
    "976253b627d1ee1f": "is_byok: the bill is OpenRouter's fee alone",
    "aded091f0ed22912": "most of it is an advisor's sub-call, whose tokens are reported nowhere",
    "b6af10376dac46de": "a web search of 0.0067 that the list has no price for, and a dearer upstream",
    "d084d76ec0349650": "is_byok: the bill is OpenRouter's fee alone",
    "d7efe66e70b85521": "most of it is an advisor's sub-call, whose tokens are reported nowhere",
}
LAST_DIGIT_OF_A_DOUBLE = Decimal("1e-16")


def bills() -> dict[str, tuple[dict[str, Any], Charge, Decimal]]:
    book: PriceBook = load()
    truth = recordings.truth()
    found = {}
    for recording in recordings.load("openrouter"):
        entry = truth.get(recording["id"])
        if entry is None or entry["reported_cost_usd"] is None:
            continue
        created = re.search(r'"(?:created|created_at)"\s*:\s*(\d{10})', recording["response_body"])
        start = int(created[1]) * 10**9 if created else at("2026-07-15")
        call = Call(
            "openrouter",
            entry["response_model"] or "",
            start,
            entry["parts"],
            request_model=entry["request_model"] or "",
            service_tier=entry["service_tier"] or "",
        )
        charge = book.price(call)
        assert_sound(call, charge)
        found[recording["id"]] = (entry, charge, Decimal(str(entry["reported_cost_usd"])))
    return found


@recordings.needed
def test_computed_equals_billed() -> None:
    found = bills()
    assert len(found) >= 30
    different = {
        key: (entry["request_model"], charge.cost, billed, charge.reasons)
        for key, (entry, charge, billed) in found.items()
        if charge.cost is None or abs(charge.cost - billed) > LAST_DIGIT_OF_A_DOUBLE
    }
    assert {key: value for key, value in different.items() if key not in DIFFERENT} == {}
    assert different.keys() == DIFFERENT.keys(), "a bill listed as different is equal now"


@recordings.needed
@pytest.mark.parametrize("provider", ["openai", "anthropic", "azure"])
def test_every_recorded_call_of_the_main_providers_has_a_price(provider: str) -> None:
    book = load()
    names = {"azure": "azure.ai.openai"}
    unpriced = set()
    for entry in recordings.truth().values():
        if entry["provider"] != provider or entry["usage_status"] == "missing":
            continue
        call = Call(
            names.get(provider, provider),
            entry["response_model"] or "",
            at("2026-08-01"),
            entry["parts"],
            request_model=entry["request_model"] or "",
            service_tier=entry["service_tier"] or "",
        )
        charge = book.price(call)
        assert_sound(call, charge)
        if charge.cost is None:
            unpriced.add((entry["request_model"], entry["response_model"]))
    assert unpriced <= {
        (None, None),
        ("dall-e-2", None),  # by size and quality, which the response does not say
        ("openllmetry-testing", None),  # a deployment's name alone
    }
