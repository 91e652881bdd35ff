"""The price book: a pure function from a call to its charge.

`price` is one dict look-up and one int multiplication a part. Behind it, a call's rates are resolved once for
everything that can change them and kept with the time for which they hold: `Entry` (until the next price, window,
overlay or exchange rate) holds one `Vector` for each context tier.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from spanledger import failures
from spanledger.pricing import arithmetic, catalogue, globs, resolution, snapshot
from spanledger.pricing.arithmetic import ONE, Bands, Rate
from spanledger.pricing.call import (
    ESTIMATED,
    FREE,
    NOT_BILLED,
    PRICED,
    UNPRICED,
    USAGE_MISSING,
    Call,
    Charge,
)
from spanledger.pricing.document import ANY_PROVIDER, Document, Json, PriceFileError
from spanledger.pricing.model_list import Model, ModelList
from spanledger.pricing.names import canonical_provider, spellings
from spanledger.pricing.usage import (
    CACHE_READ_PARTS,
    CACHE_WRITE_PARTS,
    INPUT_PARTS,
    MISSING,
    PARTS,
    REPORTED,
    TOKEN_PARTS,
    Quantity,
)

__all__ = ["Found", "PriceBook", "PriceFileError", "default_book", "load", "reload"]

_PROMPT = frozenset(INPUT_PARTS + CACHE_READ_PARTS + CACHE_WRITE_PARTS)
_FOREVER = 2**63 - 1
_DAY_NS = 86_400 * 10**9
_MINUTE_NS = 60 * 10**9
_MEMO_MOST = 20_000
_LISTS_MOST = 1_000
"""Far more than there are providers; but whoever sends spans to a collector may name any."""


class _Locks:
    """Held while a call's rates are resolved, or the default book is made."""

    def __init__(self) -> None:
        self.resolving = threading.RLock()
        self.default = threading.RLock()


_locks = _Locks()
if hasattr(os, "register_at_fork"):  # another thread's lock would stay held in the child for ever
    os.register_at_fork(after_in_child=_locks.__init__)  # type: ignore[misc]


class Vector:
    """A call's rates, all settled: for one price row, tier, mode, region, overlays and set of parts."""

    __slots__ = (
        "bands",
        "base",
        "currency",
        "decimals",
        "free",
        "fx",
        "fx_known",
        "left_out",
        "model",
        "plain",
        "rates",
        "reasons",
        "snapshot",
        "status",
        "units",
        "whole",
    )

    def __init__(self) -> None:
        self.units: tuple[int, ...] = ()
        """Rate of each part in 1e-18, in the order of the call's parts; 0 where it has none."""
        self.rates: dict[str, Rate] = {}
        self.bands: Bands | None = None
        self.whole: dict[str, int] | None = None
        """Rates in 1e-18 where all are whole, so that whole quantities need no fractions."""
        self.plain = False
        """Whether `units` say all there is to say."""
        self.free = False
        self.status = UNPRICED
        self.reasons: tuple[str, ...] = ()
        self.left_out: tuple[str, ...] = ()
        self.snapshot = ""
        self.model = ""
        self.currency = ""
        self.base = ""
        self.fx: Fraction | None = None
        self.fx_known = True
        self.decimals: int | None = None


class Entry:
    """What holds for a call's key from `begin` until `end` (ns)."""

    __slots__ = ("begin", "edges", "end", "of", "source", "vectors")

    def __init__(self, begin: int, end: int, source: _Source) -> None:
        self.begin = begin
        self.end = end
        self.source = source
        self.edges: tuple[int, ...] = source.edges
        self.of: frozenset[str] = source.of
        self.vectors = source.vectors


class _Source:
    """One price row as chosen for a call's key; makes its vectors, a tier at a time."""

    __slots__ = ("choice", "edges", "fx", "model", "notes", "of", "vectors")

    def __init__(
        self,
        model: Model | None,
        choice: resolution.Choice | None,
        notes: tuple[str, ...],
        fx: Json | None,
    ) -> None:
        self.model = model
        self.choice = choice
        self.notes = notes
        self.fx = fx
        self.edges: tuple[int, ...] = ()
        self.of: frozenset[str] = _PROMPT
        if choice is not None:
            self.edges = resolution.edges_of(choice.context)
            if "of" in choice.context:
                selectors = choice.context["of"]
                self.of = frozenset(p for p in TOKEN_PARTS if any(globs.matches(p, s) for s in selectors))
        marginal = choice is not None and choice.context.get("scope") == "marginal"
        self.vectors: list[Vector | None] = [None] * (1 if marginal else len(self.edges) + 1)


class Found(NamedTuple):
    """A model as the book knows it, for showing."""

    model: Model
    additions: tuple[Json, ...]
    estimated: str


class PriceBook:
    """Prices calls by the shipped catalogue and the user's files laid over it.

    Parameters:
        documents: the user's price files as read, lowest first.
        base_currency: ISO code that `cost_base` is in.
        decimals: round each total half-even to so many places; None: exact.
        catalogue_too: false leaves the shipped catalogue out.

    Raises:
        PriceFileError: a currency has no exchange rate into the base currency.
    """

    def __init__(
        self,
        documents: Sequence[Document] = (),
        *,
        base_currency: str = "USD",
        decimals: int | None = None,
        catalogue_too: bool = True,
    ) -> None:
        self.base_currency = base_currency
        self.decimals = decimals
        self._documents = tuple(documents)
        self._catalogue = catalogue_too
        self._lists: dict[str, ModelList] = {}
        self._memo: dict[tuple[str, ...], Entry] = {}
        self._sources: dict[tuple[object, ...], _Source] = {}
        self._providers: dict[str, str] = {}
        self._overlays: list[Json] = []
        self._fx: dict[str, list[Json]] = {}
        for document in documents:
            self._providers.update(document["providers"])
            self._overlays += document["overlays"]
            for fx in document["fx"]:
                if fx["to"] == base_currency:
                    self._fx.setdefault(fx["currency"], []).append(fx)
        for rates in self._fx.values():
            rates.sort(key=lambda fx: int(fx["from"]))
        self._by_tenant = any("tenant" in overlay for overlay in self._overlays)
        self._by_key = any("key" in overlay for overlay in self._overlays)
        self._check_currencies()

    # ---- pricing

    def price(self, call: Call) -> Charge:
        """What `call` cost. Never raises for a call's content: what cannot be priced says so in its status."""
        parts = call.parts
        try:
            if 0 in parts.values():  # providers report zeros for what they have no rate for
                parts = {part: quantity for part, quantity in parts.items() if quantity}
            key = self._key(call, parts, call.unmapped)
            entry = self._memo.get(key)
            if entry is None or not entry.begin <= call.start_ns < entry.end:
                entry = self._entry(call, key)
            tier = 0
            if len(entry.vectors) > 1:
                of = entry.of
                measured = sum([quantity for part, quantity in parts.items() if part in of])
                for edge in entry.edges:
                    if measured > edge:
                        tier += 1
            vector = entry.vectors[tier] or self._vector(entry.source, tier, parts, call.unmapped)
            if not vector.plain or call.failed or call.usage_status != REPORTED:
                return self._unusual(call)
            total: Any = 0
            amounts: dict[str, Any] = {}
            for part, unit, quantity in zip(parts, vector.units, parts.values()):  # noqa: B905 - one for each part
                if not quantity > 0:
                    return self._unusual(call)
                amounts[part] = cost = unit * quantity
                total += cost
            if type(total) is not int:
                return self._unusual(call)
        except (ArithmeticError, TypeError, ValueError):  # a quantity that is none
            return self._unusual(call)
        status = vector.status
        if vector.free and status == PRICED:
            status = FREE
        return Charge(
            status,
            total,
            amounts,
            vector.currency,
            total,
            vector.base,
            vector.reasons,
            vector.model,
            vector.snapshot,
        )

    def _unusual(self, call: Call) -> Charge:
        """The same for calls with odd or unmapped quantities, uncertain usage, fees, exchange rates or rounding."""
        quantities, bad = _usable(call.parts)
        fields, bad_fields = _usable(call.unmapped)
        if call.failed and not quantities:
            return Charge(NOT_BILLED, 0, {}, self.base_currency, 0, self.base_currency)
        key = self._key(call, quantities, fields)
        entry = self._memo.get(key)
        if entry is None or not entry.begin <= call.start_ns < entry.end:
            entry = self._entry(call, key)
        tier = 0
        if len(entry.vectors) > 1:
            measured = sum(arithmetic.fraction(q) for part, q in quantities.items() if part in entry.of)
            tier = sum(1 for edge in entry.edges if measured > edge)
        vector = entry.vectors[tier] or self._vector(entry.source, tier, quantities, fields)
        reasons = list(vector.reasons)
        reasons += [f"{name} is not a quantity: not in the cost" for name in (*bad, *bad_fields)]
        uncertain = call.usage_status != REPORTED
        missing = call.usage_status == MISSING and not quantities and not fields
        if uncertain and not (missing and vector.free):
            reasons += call.usage_reasons or (f"usage is {call.usage_status}",)
        if vector.status == UNPRICED and not (missing and vector.model):
            return self._no_cost(UNPRICED, vector, reasons)
        if missing and not vector.free:
            return self._no_cost(USAGE_MISSING, vector, reasons)
        joined = arithmetic.joined(quantities, fields) if fields else quantities
        whole = vector.whole
        if whole is not None and all(type(quantity) is int for quantity in joined.values()):
            amounts = {name: whole[name] * int(quantity) for name, quantity in joined.items() if name in whole}
        else:
            amounts, _ = arithmetic.amounts(joined, vector.rates, vector.bands)
        exact = sum(amounts.values())
        base: int | None = exact
        if vector.fx is not None:
            base = arithmetic.rounded(exact * vector.fx, vector.decimals)
        elif not vector.fx_known:
            base = None
        elif vector.decimals is not None:
            base = arithmetic.rounded(exact, vector.decimals)
        status = vector.status
        if bad or bad_fields:
            status = ESTIMATED
        elif missing and vector.free:
            status = FREE
        elif uncertain:
            status = ESTIMATED
        elif vector.free and status == PRICED:
            status = FREE
        return Charge(
            status,
            arithmetic.rounded(exact, vector.decimals),
            amounts,
            vector.currency,
            base,
            vector.base,
            tuple(reasons),
            vector.model,
            vector.snapshot,
            vector.left_out,
        )

    def _no_cost(self, status: str, vector: Vector, reasons: list[str]) -> Charge:
        currency = vector.currency or self.base_currency
        return Charge(
            status,
            currency=currency,
            base_currency=self.base_currency,
            reasons=tuple(reasons),
            priced_model=vector.model,
            left_out=vector.left_out,
        )

    # ---- resolving, once for each key and period

    def _key(self, call: Call, parts: Iterable[str], unmapped: Collection[str]) -> tuple[str, ...]:
        """Everything but the time and the tier that can change a call's rates."""
        key = (
            call.provider,
            call.model,
            call.request_model,
            call.service_tier,
            call.processing,
            call.region,
            call.tenant if self._by_tenant else "",
            call.api_key if self._by_key else "",
            *parts,
        )
        return (*key, "", *unmapped) if unmapped else key

    def _entry(self, call: Call, key: tuple[str, ...]) -> Entry:
        """The entry for a call's key at its start; kept under `key`."""
        with _locks.resolving:
            if len(self._memo) >= _MEMO_MOST:
                self._memo.clear()
                self._sources.clear()
            entry = self._memo[key] = self._resolve(call, key)
            return entry

    def _resolve(self, call: Call, key: tuple[str, ...]) -> Entry:
        provider = self.canonical(call.provider)
        found = self.find(call.provider, call.model, call.request_model)
        if isinstance(found, str):
            return Entry(-_FOREVER, _FOREVER, _Source(None, None, (found,), None))
        model = found.model
        notes: tuple[str, ...] = (found.estimated,) if found.estimated else ()
        begin, end = -_FOREVER, _FOREVER
        at = call.start_ns

        def within(start: int | None, until: int | None) -> bool:
            """Whether the call's start is in the span; narrows [begin, end) to where this answer holds."""
            nonlocal begin, end
            for edge in (start, until):
                if edge is not None:
                    if edge <= at:
                        begin = max(begin, edge)
                    else:
                        end = min(end, edge)
            return (start is None or start <= at) and (until is None or at < until)

        row: Json | None = None
        for candidate in model.rows:
            inside = within(candidate.get("from"), candidate.get("until"))
            if not inside:
                continue
            if "windows" in candidate:
                for window in candidate["windows"]:
                    for span in _spans(window, at):
                        if within(*span):
                            row = candidate
            elif row is None:
                row = candidate
        additions = [a for a in found.additions if within(a.get("from"), a.get("until"))]
        overlays = [
            (i, overlay)
            for i, overlay in enumerate(self._overlays)
            if self._concerns(overlay, provider, model, call) and within(overlay.get("from"), overlay.get("until"))
        ]
        if row is None:
            note = f"{model.id} has no price at the time of the call"
            return Entry(begin, end, _Source(model, None, (*notes, note), None))
        fx: Json | None = None
        for rate in self._fx.get(row["currency"], ()) if row["currency"] != self.base_currency else ():
            if within(rate["from"], None):
                fx = rate
        place = (model.provider, model.id, row["line"], tuple(a["line"] for a in additions))
        kept = (*key, place, tuple(i for i, _ in overlays), fx["from"] if fx else None)
        source = self._sources.get(kept)
        if source is None:
            geo = spellings(call.model).geo or spellings(call.request_model).geo
            choice = resolution.choose(
                resolution.with_additions(row, additions),
                model.id,
                call.service_tier,
                call.processing,
                geo or call.region,
                [overlay for _, overlay in overlays],
            )
            source = self._sources[kept] = _Source(model, choice, notes, fx)
        return Entry(begin, end, source)

    def _vector(self, source: _Source, tier: int, parts: Collection[str], unmapped: Iterable[str]) -> Vector:
        """Make (and keep) the source's vector of context tier `tier`, counted from 0 for below the first edge."""
        vector = Vector()
        vector.base = self.base_currency
        model, choice = source.model, source.choice
        if model is None or choice is None:
            vector.reasons = source.notes
            vector.model = model.id if model else ""
            source.vectors[tier] = vector
            return vector
        row = choice.row
        marginal = choice.context.get("scope") == "marginal"
        found = resolution.effective(choice, tier - 1)
        reasons = [*source.notes, *choice.reasons, *found.reasons]
        vector.model = model.id
        vector.currency = row["currency"]
        vector.decimals = row.get("decimals", self.decimals)
        rates = dict(found.rates)
        fields = [n for n in unmapped if n in rates or n not in model.informational]
        names = [*parts, *(n for n in fields if n not in PARTS)]
        used: list[Rate] = []
        unpriced = [n for n in fields if n in PARTS]
        for name in names:
            rate = self._rate(name, found.rates, row, name in parts, reasons)
            if rate is None:
                unpriced.append(name)
            else:
                rates[name] = rate
                used.append(rate)
        if unpriced and row.get("leave_out_unpriced"):
            vector.left_out = tuple(n for n in unpriced if n not in ("input", "output"))
            unpriced = [n for n in unpriced if n not in vector.left_out]
        reasons += [f"{name} has no rate: not in the cost" for name in unpriced]
        vector.rates = rates
        vector.fx = Fraction(source.fx["rate"]) if source.fx else None
        vector.fx_known = vector.currency == self.base_currency or source.fx is not None
        if not vector.fx_known:
            reasons.append(f"no exchange rate from {vector.currency} to {self.base_currency} at the time of the call")
        vector.free = (bool(rates) or bool(row.get("free"))) and all(r.value == 0 for r in used or rates.values())
        if marginal:
            tokens = [name for name in parts if name in TOKEN_PARTS and name in rates]
            values = []
            for i in range(len(source.edges) + 1):
                band = resolution.effective(choice, i - 1).rates
                fallen = {name: self._rate(name, band, row, True, []) for name in tokens}
                values.append({name: rate.value for name, rate in fallen.items() if rate is not None})
            vector.bands = Bands(tuple(sorted(source.of)), (0, *source.edges), tuple(values))
            vector.free = vector.free and not any(v for band in values for v in band.values())
        if names and not used and not row.get("free"):
            vector.status = UNPRICED
        else:
            vector.status = ESTIMATED if reasons else PRICED
        vector.reasons = tuple(reasons)
        if not marginal and all(rate.plain for rate in used):
            vector.whole = {name: int(rates[name].value * ONE) for name in names if name in rates}
        vector.plain = (
            vector.status != UNPRICED
            and not unpriced
            and vector.whole is not None
            and vector.decimals is None
            and vector.fx is None
            and vector.fx_known
            and not vector.left_out
            and len(names) == len(parts)
        )
        if vector.plain and vector.whole is not None:
            vector.units = tuple(vector.whole[name] for name in parts)
        if vector.status != UNPRICED:
            vector.snapshot = snapshot.write(vector.rates, names, choice, model, source, vector, tier - 1)
        source.vectors[tier] = vector
        return vector

    def _rate(self, name: str, rates: Mapping[str, Rate], row: Json, is_part: bool, reasons: list[str]) -> Rate | None:
        """The rate of a part or field: its own, or the one that it falls back to."""
        rate = rates.get(name)
        if rate is None and row.get("free"):
            rate = Rate(Fraction(0))
        if rate is None and is_part:
            fallen = resolution.fall_back(name, rates)
            if fallen is not None:
                rate, at, exact = fallen
                if not exact:
                    reasons.append(f"{name} has no rate of its own: at the rate of {at}")
        if rate is not None and rate.quota:
            reasons.append(f"{rate.quota} of {name} are free: priced as if they were used up")
        return rate

    def _concerns(self, overlay: Json, provider: str, model: Model, call: Call) -> bool:
        """Whether an overlay names this provider, model, tenant and key; each is a list of globs."""
        for key, value in (("provider", provider), ("model", model.id), ("tenant", call.tenant), ("key", call.api_key)):
            if key in overlay and not any(globs.matches(value, pattern) for pattern in overlay[key]):
                return False
        return True

    # ---- looking up

    def canonical(self, provider: str) -> str:
        """The provider whose price list applies, the user's own `providers` first."""
        name = provider.strip().lower()
        if name in self._providers:
            return self._providers[name]
        found = canonical_provider(provider)
        return self._providers.get(found, found)

    def prepare(self, provider: str) -> None:
        """Load the provider's price lists now, so that no call waits for them.

        Raises:
            PriceFileError: a file of the shipped catalogue is damaged.
        """
        self._list(self.canonical(provider)).compile()

    def is_prepared(self, provider: str) -> bool:
        """Whether the provider's price lists are loaded."""
        return self.canonical(provider) in self._lists

    def find(self, provider: str, model: str, request_model: str = "") -> Found | str:
        """The book's entry for a model; or, in words, why there is none."""
        name = self.canonical(provider)
        if request_model and spellings(request_model).geo and not spellings(model).geo:
            # Bedrock's answer names the model, the request the inference profile that it is billed by.
            model, request_model = request_model, model
        try:
            prices = self._list(name)
            found = prices.find(model) or prices.find(request_model)
            if found is not None:
                return Found(found, tuple(a for _, a in prices.additions_for(found)), "")
            for other in prices.fallback:
                lent = self._list(other).find(model) or self._list(other).find(request_model)
                if lent is not None:
                    lender = self._list(other)
                    note = f"{lent.id} is not in {name}'s price list: at the price of {other}"
                    return Found(lent, tuple(a for _, a in lender.additions_for(lent)), note)
        except PriceFileError:
            failures.internal_error("loading a price list")
            return f"the price list of {name} cannot be read"
        if not prices.layers:
            return f"provider {name or '(none)'} is not in the price book"
        return f"model {model or request_model or '(none)'} of {name} is not in the price book"

    def providers(self) -> list[str]:
        """Every provider that has a price list."""
        names = {s["provider"] for d in self._documents for s in d["sections"] if s["provider"] != ANY_PROVIDER}
        if self._catalogue:
            names |= set(catalogue.files())
        return sorted(names)

    def models(self, provider: str) -> list[Found]:
        """Every model of a provider's price list, by id."""
        prices = self._list(self.canonical(provider))
        return [
            Found(m, tuple(a for _, a in prices.additions_for(m)), "")
            for m in sorted(prices.models(), key=lambda m: m.id)
        ]

    def _list(self, provider: str) -> ModelList:
        found = self._lists.get(provider)
        if found is None:  # two threads may both load it: nobody shall wait for a lock while files are read
            found = ModelList(provider)
            self._lay(found, provider, set())
            if len(self._lists) >= _LISTS_MOST:
                self._lists.clear()
            found = self._lists.setdefault(provider, found)
        return found

    def _lay(self, target: ModelList, provider: str, seen: set[str]) -> None:
        """Lay the lists that `provider` extends, its own, and the user's."""
        seen.add(provider)
        own = [
            (document, section)
            for document in (catalogue.documents(provider) if self._catalogue else ())
            for section in document["sections"]
            if section["provider"] == provider
        ]
        users = [
            (document, section)
            for document in self._documents
            for section in document["sections"]
            if section["provider"] in (provider, ANY_PROVIDER)
        ]
        for _, section in (*own, *users):
            for other in section.get("extends", ()):
                if other not in seen:
                    self._lay(target, other, seen)
        for document, section in own:
            target.lay(document, section)
        for document, section in users:
            if section["provider"] != ANY_PROVIDER or provider == target.provider:
                target.lay(document, section)

    def _check_currencies(self) -> None:
        for document in self._documents:
            for section in document["sections"]:
                for model in section["models"]:
                    for row in model["rows"]:
                        self._check_currency(row["currency"], document["file"], row["line"])
        if self._catalogue and self._documents:
            self._check_currency("USD", self._documents[-1]["file"], 0)
        elif self._catalogue:
            self._check_currency("USD", "the catalogue", 0)

    def _check_currency(self, currency: str, file: str, line: int) -> None:
        if currency != self.base_currency and currency not in self._fx:
            reason = (
                f"prices in {currency} but no exchange rate into the base currency: add "
                f"fx: [{{from: 2026-01-01, currency: {currency}, to: {self.base_currency}, rate: ...}}]"
            )
            raise PriceFileError(file, line, reason)


def _spans(window: Sequence[object], at: int) -> Iterable[tuple[int, int]]:
    """The spans (ns) of a weekly window on the days about `at`."""
    start, end, days = window
    today = at // _DAY_NS
    for day in range(today - 1, today + 9):
        if (day + 3) % 7 in days:  # type: ignore[operator] # the epoch was a Thursday
            yield day * _DAY_NS + start * _MINUTE_NS, day * _DAY_NS + end * _MINUTE_NS  # type: ignore[operator]


def _usable(quantities: Mapping[str, Quantity]) -> tuple[dict[str, Quantity], list[str]]:
    """The quantities above 0, and the names of those that are no quantities."""
    good: dict[str, Quantity] = {}
    bad: list[str] = []
    for name, quantity in quantities.items():
        if type(quantity) is int:
            if quantity > 0:
                good[name] = quantity
            elif quantity:
                bad.append(name)
            continue
        try:
            if arithmetic.fraction(quantity):
                good[name] = quantity
        except ValueError:
            bad.append(name)
    return good, bad


# ---- the process's own book

_default: PriceBook | None = None


def load(files: Sequence[Path] = (), *, base_currency: str = "USD", decimals: int | None = None) -> PriceBook:
    """The shipped catalogue with the user's files laid over it, the last one uppermost.

    Parameters:
        files: YAML price files.
        base_currency: ISO code that reports sum in.
        decimals: round each total to so many places; None: exact.

    Raises:
        PriceFileError: a file is wrong; it names the file, the line and the reason.
    """
    documents: list[Document] = []
    if files:
        from spanledger.pricing.price_file import read

        documents = [read(Path(file)) for file in files]
    return PriceBook(documents, base_currency=base_currency, decimals=decimals)


def default_book() -> PriceBook:
    """The process's price book, from its settings.

    A bad price file is an error in the log, once; the catalogue alone is then in force.

    Raises:
        PriceFileError, SettingsError: only where `LLM_USAGE_FAIL_OPEN` is false.
    """
    if _default is None:
        with _locks.default:
            if _default is None:
                _load_default()
    assert _default is not None
    return _default


def reload() -> PriceBook:
    """Read the settings' price files anew. Where one is wrong, the book in force stays in force, and the log says why.

    Raises:
        PriceFileError, SettingsError: only where `LLM_USAGE_FAIL_OPEN` is false.
    """
    with _locks.default:
        _load_default()
    assert _default is not None
    return _default


def _load_default() -> None:
    global _default
    from spanledger.settings import SettingsError, settings

    fail_open = failures.fail_open
    try:
        chosen = settings()
        fail_open = chosen.fail_open
        _default = load(chosen.price_files, base_currency=chosen.base_currency, decimals=chosen.decimals)
    except (PriceFileError, SettingsError) as error:
        if not fail_open:
            raise
        failures.logger.error("spanledger: price files not used: %s", error)
        if _default is None:
            _default = PriceBook()
