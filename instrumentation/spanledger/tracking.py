"""What calls cost, inside the program that makes them.

from spanledger.tracking import cost_of, track

response = client.responses.create(...)
print(cost_of(response).cost)

with track() as t:
    ...                      # any calls, also in tasks that start in here
print(t.cost, t.calls, t.total_tokens)
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from opentelemetry.context import Context, attach, create_key, detach, get_current, get_value, set_value

from spanledger.failures import internal_error
from spanledger.pricing.call import amount
from spanledger.pricing.handoff import Priced
from spanledger.pricing.usage import Quantity, totals

_KEY = create_key("spanledger-recipients")
_RECENT = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one finished call consumed and cost, all its lines together.

    Attributes:
        parts: usage part -> quantity of the call's own model.
        cost: in `currency`; None where it is unknown (`unpriced`, `usage_missing`).
        price_status: `priced`, `estimated`, `unpriced`, `usage_missing`, `not_billed` or `free`.
        usage_status: `reported`, `incomplete`, `estimated`, `contradictory` or `missing`.
        duration_ns: from the request to the end of the response or stream.
        reasons: why the cost is not plainly priced.
    """

    parts: Mapping[str, Quantity]
    input_tokens: int
    output_tokens: int
    cost: Decimal | None
    currency: str
    price_status: str
    usage_status: str
    duration_ns: int
    reasons: tuple[str, ...] = ()

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @classmethod
    def of(cls, priced: Sequence[Priced], start_ns: int, end_ns: int) -> Outcome:
        """The outcome of a call whose lines are `priced`."""
        sums = [totals(p.call.parts) for p in priced]
        call, own = priced[0].call, priced[0].charge
        costs = [p.charge.cost_base_e18 for p in priced]
        known = [cost for cost in costs if cost is not None]
        return cls(
            parts=dict(call.parts),
            input_tokens=sum(s.input_tokens for s in sums),
            output_tokens=sum(s.output_tokens for s in sums),
            cost=amount(sum(known)) if len(known) == len(costs) else None,
            currency=own.base_currency,
            price_status=own.status,
            usage_status=call.usage_status,
            duration_ns=end_ns - start_ns,
            reasons=own.reasons,
        )


Recipient = Callable[[Outcome], None]


@dataclass(slots=True)
class Tracker:
    """The sum of the calls inside a `track()` block, so far.

    Attributes:
        cost: in the base currency, of the calls whose cost is known.
        unknown: calls whose cost is not known; while it is above 0, `cost` is a lower bound.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    unknown: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def add(self, outcome: Outcome) -> None:
        """Add a finished call."""
        with self._lock:
            self.calls += 1
            self.input_tokens += outcome.input_tokens
            self.output_tokens += outcome.output_tokens
            if outcome.cost is None:
                self.unknown += 1
            else:
                self.cost += outcome.cost


@contextmanager
def track() -> Iterator[Tracker]:
    """Sum all LLM calls that start inside the block; blocks nest, and tasks started inside belong to it.

    A call counts when it ends: a stream that is read after the block still adds to its tracker.
    """
    tracker = Tracker()
    token = attach(told(tracker.add))
    try:
        yield tracker
    finally:
        detach(token)


def told(recipient: Recipient) -> Context:
    """The current context, with one more who is told of every call that ends in it.

    Parameters:
        recipient: if it has a method `before_call`, that is called before each call and may raise `failures.Wanted`.
    """
    return set_value(_KEY, (*recipients(get_current()), recipient))


def admit(recipients: tuple[Recipient, ...]) -> None:
    """A call is about to be made, of which these will be told.

    Raises:
        Wanted: one of them will not have it.
    """
    for recipient in recipients:
        before_call = getattr(recipient, "before_call", None)
        if before_call is not None:
            before_call()


def recipients(context: Context) -> tuple[Recipient, ...]:
    """Those who are told of every call that ends in `context`."""
    value = get_value(_KEY, context)
    return value if isinstance(value, tuple) else ()


def cost_of(response: Any) -> Outcome | None:
    """Tokens, cost and response time of a returned object or a finished stream.

    Parameters:
        response: what the SDK returned: a response object, a raw response, a stream or a stream helper.

    Returns:
        None while a stream has not ended, and for objects that no instrumented call returned.
    """
    for candidate in _candidates(response):
        entry = _by_object.get(id(candidate))
        if entry is not None and entry[0]() is candidate:
            return entry[1].outcome
    name = _id_of(response)
    call = _by_response_id.get(name) if isinstance(name, str) else None
    return None if call is None else call.outcome


def _id_of(response: Any) -> object:
    if isinstance(response, dict):  # boto3, watsonx
        metadata = response.get("ResponseMetadata")
        return metadata.get("RequestId") if isinstance(metadata, dict) else response.get("id")
    return getattr(response, "id", None) or getattr(response, "response_id", None)


def _candidates(response: Any) -> Iterator[Any]:
    yield response
    for name in ("http_response", "response", "_response", "_raw_stream"):
        inner = getattr(response, name, None)
        if inner is not None:
            yield inner
            innermost = getattr(inner, "response", None)
            if innermost is not None:
                yield innermost


class Ended(Protocol):
    """A call; `outcome` is None until it has ended."""

    @property
    def outcome(self) -> Outcome | None: ...


_by_object: dict[int, tuple[weakref.ref[Any], Ended]] = {}
_by_response_id: OrderedDict[str, Ended] = OrderedDict()


def remember(returned: Any, call: Ended) -> None:
    """Let `cost_of(returned)` find `call.outcome`, for as long as `returned` lives."""
    key = id(returned)
    try:
        _by_object[key] = (weakref.ref(returned, lambda _: _by_object.pop(key, None)), call)
    except TypeError:
        pass  # str, bytes, dict: cannot be referred to weakly
    except Exception:
        internal_error("remembering a response")


def remember_id(response_id: str, call: Ended) -> None:
    """Let `cost_of` find a call by its response's id: for objects that the SDK builds later from the response."""
    _by_response_id[response_id] = call
    if len(_by_response_id) > _RECENT:
        try:
            _by_response_id.popitem(last=False)
        except KeyError:
            pass
