"""A budget inside the program that makes the calls.

from spanledger.budgets import BudgetExceeded, budget

with budget(usd="0.50") as b:
    ...                      # any calls, also in tasks and threads that start in here
print(b.cost, b.left)
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation

from opentelemetry.context import attach, detach

from spanledger.failures import Wanted
from spanledger.settings import usable
from spanledger.tracking import Outcome, Tracker, told

ON_EXCEED = ("raise", "warn")


class BudgetExceeded(Wanted):
    """A call was not made, because the budget around it is used up.

    Attributes:
        budget: what was spent, and of how much.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__(f"the budget of {budget.amount} {budget.currency} is used up: {budget.spent_text}")
        self.budget = budget


class BudgetWarning(UserWarning):
    """A budget with `on_exceed="warn"` is used up, and a call was made nevertheless."""


class Budget:
    """What the calls inside a `budget()` block have cost so far, and may cost.

    Attributes:
        amount: what they may cost, in `currency`.
        currency: ISO code of the base currency.
    """

    def __init__(self, amount: Decimal, currency: str, on_exceed: str) -> None:
        self.amount = amount
        self.currency = currency
        self._raises = on_exceed == "raise"
        self._spent = Tracker()
        self._warned = False
        self._lock = threading.Lock()

    @property
    def cost(self) -> Decimal:
        """The sum so far, in `currency`, of the calls whose cost is known."""
        return self._spent.cost

    @property
    def calls(self) -> int:
        """Calls that have ended."""
        return self._spent.calls

    @property
    def unknown(self) -> int:
        """Calls whose cost is not known; while it is above 0, `cost` is a lower bound."""
        return self._spent.unknown

    @property
    def left(self) -> Decimal:
        """What may still be spent; below 0 where the last call went over."""
        return self.amount - self.cost

    @property
    def exceeded(self) -> bool:
        """Whether the next call is refused."""
        return self.cost >= self.amount

    @property
    def spent_text(self) -> str:
        unknown = f", and {self.unknown} whose cost is unknown" if self.unknown else ""
        return f"{self.cost} {self.currency} for {self.calls} calls{unknown}"

    def __call__(self, outcome: Outcome) -> None:
        """A call has ended."""
        self._spent.add(outcome)

    def before_call(self) -> None:
        """A call is about to be made.

        Raises:
            BudgetExceeded: what was spent has reached the amount, and nobody asked for a mere warning.
        """
        if not self.exceeded:
            return
        if self._raises:
            raise BudgetExceeded(self)
        with self._lock:
            first, self._warned = not self._warned, True
        if first:
            try:
                warnings.warn(str(BudgetExceeded(self)), BudgetWarning, stacklevel=2)
            except BudgetWarning as error:  # warnings are errors in this program
                raise BudgetExceeded(self) from error

    def __repr__(self) -> str:
        return f"<Budget {self.cost} of {self.amount} {self.currency}, {self.calls} calls>"


@contextmanager
def budget(
    amount: str | int | Decimal | None = None,
    *,
    usd: str | int | Decimal | None = None,
    currency: str | None = None,
    on_exceed: str = "raise",
) -> Iterator[Budget]:
    """Refuse further LLM calls inside the block once those made in it have cost `amount`.

    A call's cost is known when it ends. So the call that reaches the amount is still made and paid, the next one is
    not; calls that are under way at the same time may each go over. Blocks nest: each counts all calls inside it.

    Parameters:
        amount: what the calls may cost: a text like `"0.50"`, a whole number or a Decimal, not a float.
        usd: the same in US dollars: `budget(usd="0.50")`.
        currency: ISO code of `amount`; must be the base currency, which it is by default.
        on_exceed: `raise` BudgetExceeded before the call, or `warn` once and let it be made.

    Raises:
        ValueError: an argument is wrong; the message says which.
        BudgetExceeded: from the calls inside, when the budget is used up.
    """
    spending = Budget(*_checked(amount, usd, currency), on_exceed)
    if on_exceed not in ON_EXCEED:
        raise ValueError(f"on_exceed={on_exceed!r} is unknown: use {' or '.join(map(repr, ON_EXCEED))}")
    token = attach(told(spending))
    try:
        yield spending
    finally:
        detach(token)


def _checked(
    amount: str | int | Decimal | None, usd: str | int | Decimal | None, currency: str | None
) -> tuple[Decimal, str]:
    now = usable()
    base = "USD" if now is None else now.base_currency
    if (amount is None) == (usd is None):
        raise ValueError('give one amount: budget("0.50") in the base currency, or budget(usd="0.50")')
    name, given = ("usd", usd) if amount is None else ("amount", amount)
    wanted = "USD" if amount is None else currency or base
    if usd is not None and currency not in (None, "USD"):
        raise ValueError(
            f'usd={usd!r} and currency={currency!r} contradict each other: use budget("...", currency=...)'
        )
    if wanted != base:
        raise ValueError(
            f"the budget is in {wanted}, but costs are summed in {base}: give it in {base}, or set"
            " settings.usage_logging.base_currency"
        )
    if isinstance(given, (bool, float)):
        raise ValueError(f'{name}={given!r}: a float is not exact, write a text: {name}="{given}"')
    try:
        number = Decimal(given or 0)
    except (InvalidOperation, TypeError, ValueError):
        number = Decimal(0)
    if not number.is_finite() or number <= 0:
        raise ValueError(f'{name}={given!r} is not an amount above 0: write {name}="0.50"')
    return number, wanted
