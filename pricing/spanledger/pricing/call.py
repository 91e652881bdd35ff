"""What goes into the price book and what comes out: a call, and its charge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from spanledger.pricing.usage import REPORTED, Quantity

SCALE = 18
"""Decimal places of a cost. Amounts are ints in units of 1e-18, so that sums and products are exact."""

_ONE = 10**SCALE

PRICED = "priced"
ESTIMATED = "estimated"
UNPRICED = "unpriced"
USAGE_MISSING = "usage_missing"
NOT_BILLED = "not_billed"
FREE = "free"
_NOT_EXACT = (ESTIMATED, UNPRICED, USAGE_MISSING)


def amount(e18: int) -> Decimal:
    """`e18` units of 1e-18 as a Decimal with 18 places."""
    return Decimal(f"{e18}E-{SCALE}")  # the constructor is exact, scaleb rounds to 28 digits


def amount_text(e18: int) -> str:
    """`e18` units of 1e-18 in plain digits with 18 places, as ClickHouse's Decimal(38, 18) reads it."""
    if e18 < 0:
        return "-" + amount_text(-e18)
    return "%d.%018d" % divmod(e18, _ONE)  # noqa: UP031 - the quickest, and a row has some ten amounts


@dataclass(slots=True)
class Call:
    """One call, as far as its price depends on it.

    Attributes:
        provider: canonical provider name (`openai`, `azure.ai.openai`, `anthropic`, ...) or a host name.
        model: the response's model, else the request's.
        start_ns: the call's start, ns since the epoch, UTC; the prices in force then apply.
        parts: usage part -> quantity.
        unmapped: provider usage fields without a part -> quantity.
        usage_status: see `spanledger.pricing.usage.Usage.status`.
        usage_reasons: why the usage is not plainly reported; they become the charge's reasons.
        service_tier: the tier served, in the provider's words; empty if unknown.
        processing: `batch`, `fast`, ...; empty for an ordinary call.
        region: where it was served, in the provider's words (`us`, `eu`, ...); empty if unknown.
        tenant: the attribution's tenant, for overlays.
        api_key: hash or alias of the key, for overlays.
        request_model: the request's model, tried when the response's is unknown to the book.
        failed: the provider refused or failed the call before anything was generated.
    """

    provider: str
    model: str
    start_ns: int
    parts: Mapping[str, Quantity]
    unmapped: Mapping[str, Quantity] = field(default_factory=dict)
    usage_status: str = REPORTED
    usage_reasons: tuple[str, ...] = ()
    service_tier: str = ""
    processing: str = ""
    region: str = ""
    tenant: str = ""
    api_key: str = ""
    request_model: str = ""
    failed: bool = False


@dataclass(slots=True)
class Charge:
    """What one call cost, with the proof.

    Attributes:
        status: `priced`, `estimated`, `unpriced`, `usage_missing`, `not_billed` or `free`.
        cost_e18: total in `currency`, units of 1e-18; None where unknown (`unpriced`, `usage_missing`).
        parts_e18: part -> amount in `currency`; they sum to the total unless a `decimals` setting rounds it.
        currency: the price row's currency.
        cost_base_e18: total in `base_currency`; None where the cost is.
        base_currency: what reports sum.
        reasons: why the charge is not plainly priced, one short sentence each.
        priced_model: id of the model in the price book; empty if none matched.
        snapshot: JSON with everything that the amounts were computed from (catalogue version, price row,
            effective rate per part, tier, modes, region, overlays, currency, FX); empty if no price applied.
        left_out: parts and fields whose counts the price file asks to leave out of the row
            (`passthrough_unpriced: false`).
    """

    status: str
    cost_e18: int | None = None
    parts_e18: Mapping[str, int] = field(default_factory=dict)
    currency: str = "USD"
    cost_base_e18: int | None = None
    base_currency: str = "USD"
    reasons: tuple[str, ...] = ()
    priced_model: str = ""
    snapshot: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def cost(self) -> Decimal | None:
        return None if self.cost_e18 is None else amount(self.cost_e18)

    @property
    def cost_base(self) -> Decimal | None:
        return None if self.cost_base_e18 is None else amount(self.cost_base_e18)

    @property
    def estimated(self) -> bool:
        """The row's `cost_estimated`: the amount is not the provider's bill to the last digit."""
        return self.status in _NOT_EXACT
