from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanledger.pricing.book import PriceBook
from spanledger.pricing.call import Call, Charge
from spanledger.pricing.price_file import instant_ns, read_text
from spanledger.pricing.verify import recompute

NOVEMBER = "2026-11-01"


def at(day: str) -> int:
    ns = instant_ns(day)
    assert ns is not None
    return ns


def book_of(*texts: str, catalogue: bool = False, **more: Any) -> PriceBook:
    """A price book of these YAML texts, the last one uppermost."""
    documents = [read_text(text.encode(), f"file{i}.yaml") for i, text in enumerate(texts)]
    return PriceBook(documents, catalogue_too=catalogue, **more)


def charge_of(book: PriceBook, model: str, *, provider: str = "acme", day: str = NOVEMBER, **more: Any) -> Charge:
    """The charge of one call; whatever is no field of a call is a part. Checks what holds of every charge."""
    fields = {key: more.pop(key) for key in list(more) if key in Call.__slots__}
    unmapped = fields.pop("unmapped", {})
    call = Call(provider, model, at(day), parts=more, unmapped=unmapped, **fields)
    charge = book.price(call)
    again = book.price(call)
    assert charge == again, "the first and the second price of a call differ"
    assert_sound(call, charge)
    return charge


def assert_sound(call: Call, charge: Charge) -> None:
    """What holds of every charge, whatever the call."""
    assert all(type(amount) is int and amount >= 0 for amount in charge.parts_e18.values())
    if charge.cost_e18 is None:
        assert charge.status in ("unpriced", "usage_missing")
        assert charge.cost_base_e18 is None
        assert charge.snapshot == ""
        assert charge.reasons
        return
    assert charge.cost_e18 >= 0
    assert charge.status != "estimated" or charge.reasons
    if not charge.snapshot:
        assert charge.status == "not_billed"
        return
    again = recompute(call.parts, call.unmapped, charge.snapshot)
    assert again.cost_e18 == charge.cost_e18
    assert again.parts_e18 == charge.parts_e18
    assert again.cost_base_e18 == charge.cost_base_e18
    assert (again.currency, again.base_currency) == (charge.currency, charge.base_currency)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str, name: str = "prices.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
