"""Questions to the price book: what is listed, what a model costs, whether files are sound, what changed, what if.

Plain functions that hand back plain data; `spanledger prices` prints them.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from spanledger.pricing import snapshot
from spanledger.pricing.arithmetic import text_of
from spanledger.pricing.book import Found, PriceBook
from spanledger.pricing.call import Call, Charge, amount
from spanledger.pricing.document import ANY_PROVIDER, Document, Json, PriceFileError
from spanledger.pricing.model_list import patterns
from spanledger.pricing.names import spellings
from spanledger.pricing.price_file import read
from spanledger.pricing.resolution import rate_of, with_additions
from spanledger.pricing.usage import FEE_PARTS, PARTS, Quantity
from spanledger.pricing.verify import recompute

_MILLION = 10**6


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of the book at one time; rates of token parts are per million, as written."""

    provider: str
    model: str
    currency: str
    input: str | None
    cache_read: str | None
    cache_write: str | None
    output: str | None
    since: str
    source: str
    checked: str
    prices: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check` found in one file; `error` is empty where it is sound."""

    file: str
    models: int
    prices: int
    overlays: int
    error: str


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two lists: `added`, `removed` or `changed`."""

    provider: str
    model: str
    change: str
    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Step:
    """One part of a charge: quantity x rate = amount; rate and amount are None where it has none."""

    part: str
    quantity: Quantity
    rate: str | None
    amount: Decimal | None


class InquiryError(LookupError):
    """The question cannot be answered; the message says what to ask instead."""


def list_models(book: PriceBook, at_ns: int, provider: str = "", pattern: str = "") -> list[Listed]:
    """The models of the book with the prices in force at `at_ns`.

    Parameters:
        provider: only this provider's; its aliases and hosts will do.
        pattern: only models whose id has this text in it, or matches it as a glob.

    Raises:
        InquiryError: there is no price list of that provider.
    """
    names = book.providers()
    if provider:
        names = [book.canonical(provider)]
        if not book.models(names[0]):
            raise InquiryError(_no_provider(book, provider))
    wanted = pattern.lower()
    found = []
    for name in names:
        for entry in book.models(name):
            if wanted and wanted not in entry.model.id and not fnmatch.fnmatchcase(entry.model.id, wanted):
                continue
            row = _row_at(entry, at_ns)
            if row is None:
                continue
            rates = {part: _per_million(item) for part, item in row.get("rates", {}).items()}
            if row.get("free"):
                rates = dict.fromkeys(("input", "cache_read", "cache_write", "output"), "0")
            found.append(
                Listed(
                    name,
                    entry.model.id,
                    row["currency"],
                    rates.get("input"),
                    rates.get("cache_read"),
                    rates.get("cache_write"),
                    rates.get("output"),
                    snapshot.instant(row["from"]) if "from" in row else "",
                    row.get("source", ""),
                    row.get("checked", ""),
                    len(entry.model.rows),
                )
            )
    return found


def show(book: PriceBook, model: str, provider: str = "") -> list[dict[str, Any]]:
    """All that the book knows of a model, for each provider that has it.

    Each has provider, model, asked (the name it was found by), file, fields without usage, and prices: rates per unit
    as written, context tiers, modes, regions, dates, source and day of last check, additions included.

    Raises:
        InquiryError: no price list has it; the message names what is like it.
    """
    names = [book.canonical(provider)] if provider else book.providers()
    found = []
    for name in names:
        entry = book.find(name, model)
        if isinstance(entry, str) or (not provider and (entry.estimated or _takes_any_name(book, name, entry))):
            continue
        found.append(
            {
                "provider": name,
                "model": entry.model.id,
                "asked": model,
                "file": entry.model.file,
                "note": entry.estimated,
                "informational": sorted(entry.model.informational),
                "prices": [_shown(with_additions(row, entry.additions)) for row in _by_date(entry.model.rows)],
            }
        )
    if not found:
        raise InquiryError(_no_model(book, model, provider))
    return found


def check(files: Sequence[Path], base_currency: str = "USD") -> list[Checked]:
    """Whether each price file is sound, by itself and laid over the catalogue."""
    found = []
    for file in files:
        models = prices = overlays = 0
        error = ""
        try:
            document = read(Path(file))
            models = sum(len(section["models"]) for section in document["sections"])
            prices = sum(len(m["rows"]) for section in document["sections"] for m in section["models"])
            overlays = len(document["overlays"])
            PriceBook([document], base_currency=base_currency)
        except PriceFileError as problem:
            error = str(problem)
        found.append(Checked(str(file), models, prices, overlays, error))
    return found


def diff(before: Iterable[Path], after: Iterable[Path]) -> list[Change]:
    """What changed between two sets of price files, each model by its last price.

    A folder stands for the YAML files in it.

    Raises:
        PriceFileError: a file is wrong.
    """
    old, new = (_flat([read(path) for path in _files(paths)]) for paths in (before, after))
    found = []
    for key in sorted(old.keys() | new.keys()):
        provider, model = key
        if key not in new:
            found.append(Change(provider, model, "removed", "model", "", ""))
            continue
        if key not in old:
            rates = ", ".join(f"{part} {rate}" for part, rate in sorted(new[key].items()))
            found.append(Change(provider, model, "added", "model", "", rates))
            continue
        for what in sorted(old[key].keys() | new[key].keys()):
            one, two = old[key].get(what, ""), new[key].get(what, "")
            if one != two:
                change = "added" if not one else "removed" if not two else "changed"
                found.append(Change(provider, model, change, what, one, two))
    return found


def quantities(words: Sequence[str]) -> tuple[dict[str, Quantity], dict[str, Quantity]]:
    """`["input=1000", "citation_tokens=50"]` as parts and unmapped fields.

    Raises:
        InquiryError: a word is not NAME=QUANTITY.
    """
    parts: dict[str, Quantity] = {}
    unmapped: dict[str, Quantity] = {}
    for word in words:
        name, equals, text = word.partition("=")
        digits = text.replace("_", "").replace(",", "")
        if not equals or not name or not digits.replace(".", "", 1).isdigit() or not digits.isascii():
            raise InquiryError(
                f"{word!r} is not PART=QUANTITY, such as input=1000; parts are {', '.join(sorted(PARTS))}"
            )
        quantity = Decimal(digits) if "." in digits else int(digits)
        (parts if name in PARTS else unmapped)[name] = quantity
    return parts, unmapped


def explain(charge_snapshot: str, parts: Mapping[str, Quantity], unmapped: Mapping[str, Quantity]) -> list[Step]:
    """A charge part by part, from its snapshot and usage; without a snapshot no part has a rate.

    Raises:
        ValueError: the snapshot cannot be read.
    """
    if not charge_snapshot:
        return [Step(name, quantity, None, None) for name, quantity in (*parts.items(), *unmapped.items())]
    terms = snapshot.read(charge_snapshot)
    amounts = recompute(parts, unmapped, charge_snapshot).parts_e18
    found = []
    for name, quantity in (*parts.items(), *unmapped.items()):
        rate = terms.rates.get(name)
        e18 = amounts.get(name)
        found.append(
            Step(name, quantity, None if rate is None else text_of(rate.value), None if e18 is None else amount(e18))
        )
    return found


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A stored amount that its snapshot and usage do not come to."""

    what: str
    stored: str
    computed: str


def verify_row(
    parts: Mapping[str, Quantity],
    unmapped: Mapping[str, Quantity],
    charge_snapshot: str,
    cost: Decimal | None,
    cost_base: Decimal | None,
    details: Mapping[str, Decimal],
) -> list[Mismatch]:
    """Recompute a stored row from its own snapshot and usage; empty where every amount comes out to the last digit.

    A row without a snapshot is sound where its cost is unknown, or 0 (a call that was not billed).
    """
    if not charge_snapshot:
        wrong = [("cost", cost), ("cost_base", cost_base), *details.items()]
        return [Mismatch(what, _digits(value), "no snapshot") for what, value in wrong if value]
    try:
        amounts = recompute(parts, unmapped, charge_snapshot)
    except ValueError as error:
        return [Mismatch("price_snapshot", charge_snapshot[:80], str(error))]
    expected: dict[str, Decimal | None] = {part: amount(e18) for part, e18 in amounts.parts_e18.items()}
    stored: dict[str, Decimal | None] = dict(details)
    expected["cost"], stored["cost"] = amount(amounts.cost_e18), cost
    expected["cost_base"] = None if amounts.cost_base_e18 is None else amount(amounts.cost_base_e18)
    stored["cost_base"] = cost_base
    found = []
    for what in (*expected, *(name for name in stored if name not in expected)):
        one, two = stored.get(what), expected.get(what)
        same = (one or 0) == (two or 0) if what not in ("cost", "cost_base") else one == two
        if not same:
            found.append(Mismatch(what, _digits(one), _digits(two)))
    return found


def try_call(
    book: PriceBook,
    provider: str,
    model: str,
    at_ns: int,
    parts: Mapping[str, Quantity],
    unmapped: Mapping[str, Quantity] | None = None,
    **more: str,
) -> tuple[Call, Charge, list[Step]]:
    """The charge of a call that was never made, with its steps; `more` are fields of `Call` (service_tier, ...)."""
    call = Call(book.canonical(provider), model, at_ns, parts, unmapped or {}, **more)  # type: ignore[arg-type]
    charge = book.price(call)
    return call, charge, explain(charge.snapshot, call.parts, call.unmapped)


def price_line(book: PriceBook, provider: str, model: str) -> str:
    """The line of a price file that would price an unknown model: as the listed one whose name is most like it.

    For a host that no price list is known for, it is the line that says whose list it falls under.
    """
    import difflib

    name = book.canonical(provider)
    if name not in book.providers():
        return f"providers: {{{name}: NAME-OF-A-LISTED-PROVIDER}}"
    known = sorted(entry.model.id for entry in book.models(name))
    wanted = spellings(model).stages[-1][-1]
    near = difflib.get_close_matches(wanted, known, 1, 0.5)
    return f"aliases: {{'{name}/{model}': {near[0] if near else 'NAME-OF-A-LISTED-MODEL'}}}"


# ---- helpers


def _takes_any_name(book: PriceBook, provider: str, entry: Found) -> bool:
    """Whether a price holds for whatever the model is called, as that of local models does: it says nothing of one."""
    other = book.find(provider, "a-name-that-no-model-has")
    return not isinstance(other, str) and other.model is entry.model


def _per_million(item: Sequence[Any]) -> str:
    return text_of(rate_of(item).value * _MILLION)


def rate_text(part: str, item: Sequence[Any]) -> str:
    """A rate as written: `2.5` per 1M tokens, `10 per 1K` of a fee, with what more it says."""
    value, per, *more = item
    per_text = {1: "each", 10**3: "per 1K", 10**6: "per 1M"}.get(per, f"per {per}")
    shown = text_of(Fraction(str(value)))
    if part not in FEE_PARTS and per == _MILLION:
        text = shown
    else:
        text = f"{shown} {per_text}"
    for key, word in (more[0] if more else {}).items():
        text += f", {key} {word}"
    return text


def _shown(row: Json) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in ("from", "until"):
        if key in row:
            found[key] = snapshot.instant(row[key])
    for key in ("windows", "free", "decimals", "estimated", "currency", "source", "checked"):
        if key in row:
            found[key] = row[key]
    found["rates"] = {part: rate_text(part, item) for part, item in row.get("rates", {}).items()}
    if row.get("unmapped"):
        found["unmapped"] = {name: rate_text(name, item) for name, item in row["unmapped"].items()}
    if row.get("context", {}).get("tiers"):
        found["context"] = _shown_context(row["context"])
    if row.get("modes"):
        found["modes"] = {
            dimension: {
                name: _shown_change(mode) | ({"is": mode["name"]} if mode["name"] != name else {})
                for name, mode in values.items()
            }
            for dimension, values in row["modes"].items()
        }
    if row.get("region"):
        found["region"] = [{"when": rule["when"], **_shown_change(rule)} for rule in row["region"]]
    return found


def _shown_context(context: Json) -> list[dict[str, Any]]:
    common: dict[str, Any] = {key: context[key] for key in ("op", "scope", "of") if key in context}
    return [{"over": tier["over"], **common, **_shown_change(tier)} for tier in context["tiers"]]


def _shown_change(change: Json) -> dict[str, Any]:
    found: dict[str, Any] = {key: change[key] for key in ("mult", "excludes", "estimated") if key in change}
    if "rates" in change:
        found["rates"] = {part: rate_text(part, item) for part, item in change["rates"].items()}
    if "context" in change:
        found["context"] = _shown_context(change["context"])
    return found


def _by_date(rows: list[Json]) -> list[Json]:
    return sorted(rows, key=lambda row: ("windows" in row, row.get("from", -1)))


def _row_at(entry: Found, at_ns: int) -> Json | None:
    """The price in force without regard to windows; additions included."""
    for row in entry.model.rows:
        if "windows" not in row and row.get("from", at_ns) <= at_ns < row.get("until", at_ns + 1):
            return with_additions(row, entry.additions)
    return None


def _files(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]
    return found


def _flat(documents: Iterable[Document]) -> dict[tuple[str, str], dict[str, str]]:
    """(provider, model) -> what its last price says, each in words."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for document in documents:
        for section in document["sections"]:
            for model in section["models"]:
                row = max(
                    (r for r in model["rows"] if "windows" not in r),
                    key=lambda r: int(r.get("from", -1)),
                    default=model["rows"][-1],
                )
                shown = _shown(row)
                words = {part: str(rate) for part, rate in shown.pop("rates").items()}
                for key in ("checked", "source"):
                    shown.pop(key, None)
                words |= {key: str(value) for key, value in shown.items()}
                words["match"] = ", ".join(patterns(model))
                words["prices"] = str(len(model["rows"]))
                provider = "any" if section["provider"] == ANY_PROVIDER else section["provider"]
                found[provider, model["id"]] = words
    return found


def _digits(value: Decimal | None) -> str:
    return "NULL" if value is None else format(value, "f")


def _no_provider(book: PriceBook, provider: str) -> str:
    import difflib

    near = difflib.get_close_matches(book.canonical(provider), book.providers(), 3)
    hint = f"; is it {' or '.join(near)}?" if near else "; `spanledger prices list` shows all"
    return f"there is no price list of {provider}{hint}"


def _no_model(book: PriceBook, model: str, provider: str) -> str:
    import difflib

    names = [book.canonical(provider)] if provider else book.providers()
    if provider and not book.models(names[0]):
        return _no_provider(book, provider)
    known = {entry.model.id for name in names for entry in book.models(name)}
    wanted = spellings(model).stages[-1][-1]
    near = difflib.get_close_matches(wanted, sorted(known), 4)
    hint = f"; is it {', '.join(near)}?" if near else ""
    return f"no price list{f' of {provider}' if provider else ''} has {model}{hint}"
