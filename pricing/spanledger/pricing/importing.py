"""Builds price files from the data of the `genai-prices` package (MIT, https://github.com/pydantic/genai-prices).

Run offline, by `spanledger prices import`; nothing else needs that package. What its data cannot say (regional
uplifts, cache writes by time to live, weekly windows, ...) comes from the hand-kept files laid over these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from spanledger.pricing.arithmetic import text_of
from spanledger.pricing.names import canonical_provider
from spanledger.pricing.price_file import plain_digits
from spanledger.pricing.usage import TOKEN_PARTS

_PROVIDERS = {"google": "gcp.gemini"}
"""Where the canonical name of their id is not the file's: Gemini's list is the one that Vertex extends."""

_PARTS = {
    "input_mtok": ("input", 10**6),
    "output_mtok": ("output", 10**6),
    "cache_read_mtok": ("cache_read", 10**6),
    "cache_write_mtok": ("cache_write", 10**6),
    "cache_write_5m_mtok": ("cache_write_5m", 10**6),
    "cache_write_1h_mtok": ("cache_write_1h", 10**6),
    "input_audio_mtok": ("input_audio", 10**6),
    "cache_audio_read_mtok": ("cache_read_audio", 10**6),
    "output_audio_mtok": ("output_audio", 10**6),
    "input_image_mtok": ("input_image", 10**6),
    "cache_image_read_mtok": ("cache_read_image", 10**6),
    "output_image_mtok": ("output_image", 10**6),
    "input_video_mtok": ("input_video", 10**6),
    "cache_video_read_mtok": ("cache_read_video", 10**6),
    "output_video_mtok": ("output_video", 10**6),
    "input_tool_mtok": ("input_tool_use", 10**6),
    "output_reasoning_mtok": ("output_reasoning", 10**6),
    "web_searches_kcount": ("web_search", 10**3),
    "storage_searches_kcount": ("file_search", 10**3),
    "code_executions_kcount": ("code_execution", 10**3),
    "rerank_searches_kcount": ("search_unit", 10**3),
    "audio_hours": ("audio_second", 3600),
    "input_audio_hours": ("audio_second", 3600),
    "input_mchars": ("character", 10**6),
    "input_document_kpages": ("page", 10**3),
}
_UNMAPPED = {"output_citation_mtok": ("citation_tokens", 10**6)}
_LEFT_OUT = {
    "requests_kcount": "a fee for each request is not in this price",
    "input_annotated_document_kpages": "annotated pages cost more than this price",
    "input_text_messages_kcount": "a fee for each text message is not in this price",
}
"""Their price keys that no part stands for; a price that had one is marked estimated."""

_GROUNDING = {
    ("gcp.gemini", Decimal(35)): ("grounded_request", "web_search", "1500/day"),
    ("gcp.gemini", Decimal(14)): ("web_search", "grounded_request", "5000/month"),
}
"""(provider, their price of 1 000 searches) -> the part that is billed, the one that is not, what is free.

Up to Gemini 2.5 Google bills grounded prompts, from Gemini 3 on search queries:
https://ai.google.dev/gemini-api/docs/pricing, https://ai.google.dev/gemini-api/docs/google-search#pricing
"""

_FREE_WORDS = ("free of charge", "included in the subscription")
_MODES = {"service_tier": "service_tier", "processing": "processing", "speed": "processing"}


class ImportingError(RuntimeError):
    """The import cannot be made; the message says what to do."""


@dataclass(slots=True)
class Imported:
    """What an import wrote.

    Attributes:
        files: the price files.
        models: how many models they hold.
        left_out: provider/model -> why it was not taken over.
    """

    files: list[Path] = field(default_factory=list)
    models: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Price:
    """One price of theirs: part -> (rate, edge -> rate)."""

    parts: Mapping[str, tuple[Decimal, Mapping[int, Decimal]]]
    per: Mapping[str, int]
    unmapped: Mapping[str, Decimal]
    free: Mapping[str, str]
    notes: tuple[str, ...]

    def edges(self) -> list[int]:
        return sorted({edge for _, tiers in self.parts.values() for edge in tiers})

    def at(self, part: str, edge: int) -> Decimal:
        """The part's rate in the tier that begins at `edge`."""
        rate, tiers = self.parts[part]
        for start in sorted(tiers):
            if start <= edge:
                rate = tiers[start]
        return rate


def import_genai_prices(
    into: Path, checked: str = "", through: Callable[[list[Any]], Iterable[Any]] = lambda providers: providers
) -> Imported:
    """Write one YAML price file a provider into the folder `into`.

    Parameters:
        into: folder; made if it is not there.
        checked: day (2026-11-22) that the files carry as the day of the last check; empty: none.
        through: is given the providers and gives them on one by one, as a progress bar does.

    Raises:
        ImportingError: the package `genai-prices` is not installed.
    """
    try:
        from genai_prices import __version__, data
    except ImportError as error:
        raise ImportingError("genai-prices is not installed: pip install -U genai-prices") from error
    into.mkdir(parents=True, exist_ok=True)
    result = Imported()
    for provider in through(data.providers):
        name = _PROVIDERS.get(provider.id, canonical_provider(provider.id))
        text = _provider(name, provider, __version__, checked, result)
        path = into / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        result.files.append(path)
    return result


def _provider(name: str, provider: Any, version: str, checked: str, result: Imported) -> str:
    source = (provider.pricing_urls or ["https://github.com/pydantic/genai-prices"])[0]
    lines = [
        f"# Generated by `spanledger prices import` from genai-prices {version} (MIT). Not for editing.",
        "schema: 1",
        f"provider: {name}",
        f"name: {_quoted(provider.name)}",
        "currency: USD",
        "per: 1M",
        f"source: {_quoted(source + ' by genai-prices ' + version)}",
    ]
    if checked:
        lines.append(f"checked: {checked}")
    lines.append("models:")
    named = {pattern for model in provider.models for pattern in _patterns(model.match)}
    claimed: set[str] = set()
    ids: set[str] = set()
    for model in provider.models:
        where = f"{name}/{model.id}"
        patterns = [p for p in _patterns(model.match) if p not in claimed]
        if not patterns:
            result.left_out[where] = "an earlier model has all of its names"
            continue
        rows = _rows(name, model)
        if not rows:
            result.left_out[where] = "no price, and nothing says that it is free"
            continue
        identity = model.id.lower()
        if identity in ids:
            result.left_out[where] = "a second model of this id"
            continue
        if identity not in patterns and identity not in named:
            patterns.append(identity)
        ids.add(identity)
        claimed.update(patterns)
        result.models += 1
        lines.append(f"- id: {_quoted(identity)}")
        if patterns != [identity]:
            lines.append(f"  match: [{', '.join(_quoted(p) for p in patterns)}]")
        lines.append("  prices:")
        for row in rows:
            lines += ["  - " + row[0], *("    " + line for line in row[1:])]
    if lines[-1] == "models:":
        lines[-1] = "models: []"
    return "\n".join(lines) + "\n"


# ---- names


def _patterns(match: Any) -> list[str]:
    """Their matching logic as patterns of ours, in order."""
    kind = type(match).__name__
    if kind == "ClauseOr":
        return list(dict.fromkeys(p for clause in match.or_ for p in _patterns(clause)))
    if kind == "ClauseEquals":
        return [_exact(match.equals.lower())]
    if kind == "ClauseStartsWith":
        return [f"prefix:{match.starts_with.lower()}"]
    if kind == "ClauseContains":
        return [f"glob:*{_literal(match.contains.lower())}*"]
    if kind == "ClauseEndsWith":
        return [f"glob:*{_literal(match.ends_with.lower())}"]
    return [f"regex:{_as_regex(match)}"]


def _exact(name: str) -> str:
    """`name` as an exact pattern, where it could be taken for a kind as well."""
    return f"exact:{name}" if name.partition(":")[0] in ("exact", "prefix", "glob", "regex") else name


def _literal(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _as_regex(match: Any) -> str:
    kind = type(match).__name__
    if kind == "ClauseRegex":
        return str(match.regex)
    if kind == "ClauseAnd":
        return "^" + "".join(f"(?=.*?{_as_regex(c)})" if _floating(c) else f"(?={_as_regex(c)})" for c in match.and_)
    if kind == "ClauseStartsWith":
        return "^" + re.escape(str(match.starts_with).lower())
    if kind == "ClauseEquals":
        return "^" + re.escape(str(match.equals).lower()) + "$"
    if kind == "ClauseEndsWith":
        return re.escape(str(match.ends_with).lower()) + "$"
    if kind == "ClauseContains":
        return re.escape(str(match.contains).lower())
    return "(?:" + "|".join(_as_regex(c) for c in match.or_) + ")"


def _floating(match: Any) -> bool:
    """Whether the regex of `match` may begin anywhere in the name."""
    return not _as_regex(match).startswith("^")


# ---- prices


def _rows(provider: str, model: Any) -> list[list[str]]:
    """The model's price rows, each as lines of YAML."""
    prices = model.prices if isinstance(model.prices, list) else None
    note = (model.price_comments or "").lower()
    free = ":free" in model.id.lower() or any(word in note for word in _FREE_WORDS)
    dated: list[tuple[str, Any]] = [("", model.prices)] if prices is None else []
    windowed: list[tuple[str, Any]] = []
    for conditional in prices or ():
        constraint = conditional.constraint
        if hasattr(constraint, "start_time"):
            window = f"{constraint.start_time:%H:%M}-{constraint.end_time:%H:%M}"
            windowed.append((window, conditional.prices))
        else:
            dated.append(("" if constraint is None else constraint.start_date.isoformat(), conditional.prices))
    dated.sort(key=lambda item: item[0])
    if dated and dated[0][0]:
        dated[0] = ("", dated[0][1])  # theirs: where no price is active, the first one is
    variants = [v for v in model.price_variants or () if set(v.when) <= set(_MODES)]
    starts = {start for start, _ in dated}
    starts |= {v.constraint.start_date.isoformat() for v in variants if v.constraint is not None}
    rows = []
    last: list[str] = []
    for start in sorted(starts):
        base = _price(provider, [prices for since, prices in dated if since <= start][-1])
        active = [v for v in variants if v.constraint is None or v.constraint.start_date.isoformat() <= start]
        body = _row(provider, base, active, free)
        if body is not None and body != last:
            rows.append([*([f"from: {start}"] if start else []), *body])
        last = body or last
    latest = dated[-1][0] if dated else ""
    for prices, windows in _by_price(windowed):
        body = _row(provider, _price(provider, prices), [], free)
        if body is not None:
            spans = ", ".join(f'{{utc: "{window}"}}' for window in windows)
            rows.append([*([f"from: {latest}"] if latest else []), f"windows: [{spans}]", *body])
    return rows


def _by_price(windowed: Iterable[tuple[str, Any]]) -> list[tuple[Any, list[str]]]:
    found: list[tuple[Any, list[str]]] = []
    for window, prices in windowed:
        for known, windows in found:
            if known == prices:
                windows.append(window)
                break
        else:
            found.append((prices, [window]))
    return found


def _price(provider: str, prices: Any) -> _Price:
    parts: dict[str, tuple[Decimal, Mapping[int, Decimal]]] = {}
    per: dict[str, int] = {}
    unmapped: dict[str, Decimal] = {}
    notes: list[str] = []
    for key, value in vars(prices).items():
        if value is None or key.startswith("_"):
            continue
        if key in _PARTS:
            part, per[part] = _PARTS[key]
            if hasattr(value, "tiers"):
                parts[part] = (_clean(value.base), {tier.start: _clean(tier.price) for tier in value.tiers})
            else:
                parts[part] = (_clean(value), {})
        elif key in _UNMAPPED:
            unmapped[_UNMAPPED[key][0]] = _clean(value)
        else:
            notes.append(_LEFT_OUT.get(key, f"{key} of genai-prices is not in this price"))
    free: dict[str, str] = {}
    grounding = _GROUNDING.get((provider, parts["web_search"][0])) if "web_search" in parts else None
    if grounding is not None:
        billed, other, free[billed] = grounding
        rate = parts.pop("web_search")
        parts[billed], parts[other] = rate, (Decimal(0), {})
        per[billed] = per[other] = 10**3
    return _Price(parts, per, unmapped, free, tuple(notes))


def _clean(rate: Decimal) -> Decimal:
    """The rate without the tail that a binary float left on it (0.07999999999999999 is 0.08)."""
    return Context(prec=12).create_decimal(rate) if len(rate.as_tuple().digits) > 14 else rate


def _row(provider: str, base: _Price, variants: list[Any], free: bool) -> list[str] | None:
    if not base.parts and not base.unmapped:
        return ["free: true"] if free and not base.notes else None
    lines = [f"rates: {_rates(base, -1, sorted(base.parts, key=_order))}"]
    if base.unmapped:
        lines.append(f"unmapped: {{{', '.join(f'{k}: {plain_digits(v)}' for k, v in base.unmapped.items())}}}")
    if base.edges():
        lines.append(f"context: {_context(base)}")
    modes = _modes(provider, base, variants)
    if modes:
        lines.append("modes:")
        lines += modes
    if base.notes:
        lines.append(f"estimated: {_quoted('; '.join(base.notes))}")
    return lines


def _order(part: str) -> tuple[int, str]:
    known = ("input", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h", "output", "output_reasoning")
    return (known.index(part) if part in known else len(known), part)


def _rates(price: _Price, edge: int, parts: Iterable[str]) -> str:
    found = []
    for part in parts:
        rate = price.at(part, edge)
        if part in TOKEN_PARTS or rate == 0:
            found.append(f"{part}: {plain_digits(rate)}")
        else:
            per = {10**3: "1K", 10**6: "1M"}.get(price.per[part], str(price.per[part]))
            free = f", free: {price.free[part]}" if part in price.free else ""
            found.append(f"{part}: {{rate: {plain_digits(rate)}, per: {per}{free}}}")
    return "{" + ", ".join(found) + "}"


def _tokens(price: _Price) -> list[str]:
    return [part for part in sorted(price.parts, key=_order) if part in TOKEN_PARTS]


def _context(price: _Price) -> str:
    """Their tiers: by multipliers where each side has one of its own, else by rates."""
    found = []
    for edge in price.edges():
        sides: dict[str, set[Fraction | None]] = {}
        for part in _tokens(price):
            rate = price.parts[part][0]
            side = part.partition("_")[0] if not part.startswith("cache") else "cache"
            factor = Fraction(price.at(part, edge)) / Fraction(rate) if rate else None
            sides.setdefault(side, set()).add(factor)
        factors = {side: next(iter(found)) for side, found in sides.items() if len(found) == 1}
        short = {side: text_of(f) for side, f in factors.items() if f is not None}
        if len(short) == len(sides) and all("/" not in t and len(t) < 8 for t in short.values()):
            if len(set(short.values())) == 1:
                change = f"tokens: {next(iter(short.values()))}"
            else:
                selector = {"input": '"input*"', "cache": '"cache_*"', "output": '"output*"'}
                change = ", ".join(f"{selector[side]}: {factor}" for side, factor in short.items())
            found.append(f"{{over: {edge}, mult: {{{change}}}}}")
        else:
            changed = [p for p in _tokens(price) if price.parts[p][1]]
            found.append(f"{{over: {edge}, rates: {_rates(price, edge, changed)}}}")
    return "[" + ", ".join(found) + "]"


def _modes(provider: str, base: _Price, variants: list[Any]) -> list[str]:
    modes: dict[str, dict[str, str]] = {}
    for variant in variants:
        if len(variant.when) != 1:
            continue
        ((key, value),) = variant.when.items()
        dimension = _MODES[key]
        if dimension == "service_tier" and value == "default":
            continue
        if value not in modes.setdefault(dimension, {}):
            modes[dimension][value] = _mode(base, _price(provider, variant.prices))
    lines = []
    for dimension, values in modes.items():
        aliases: dict[str, list[str]] = {}
        for value, change in values.items():
            aliases.setdefault(change, []).append(value)
        shown = []
        for change, names in aliases.items():
            more = [f"alias: [{', '.join(names[1:])}]"] if len(names) > 1 else []
            if names[0] == "batch":
                more.append("excludes: [service_tier]")
            shown.append(f"{names[0]}: {{{', '.join([*more, *([change] if change else [])])}}}")
        if shown:
            lines.append(f"  {dimension}:")
            lines += [f"    {entry}" for entry in shown]
    return lines


def _mode(base: _Price, price: _Price) -> str:
    """What a variant changes: one multiplier where it is one, else the rates."""
    tokens = _tokens(base)
    if not price.parts:
        return ""
    if tokens and set(price.parts) == set(tokens):
        factors = {
            Fraction(price.at(part, edge)) / Fraction(base.at(part, edge)) if base.at(part, edge) else None
            for part in tokens
            for edge in (-1, *price.edges())
        }
        if len(factors) == 1 and None not in factors and price.edges() in (base.edges(), []):
            factor = text_of(next(f for f in factors if f is not None))
            if "/" not in factor and len(factor) < 8:
                flat = "" if price.edges() == base.edges() else ", context: []"
                return f"mult: {{tokens: {factor}}}{flat}"
    parts = sorted(price.parts, key=_order)
    text = f"rates: {_rates(price, -1, parts)}"
    if price.edges():
        tiered = []
        for edge in price.edges():
            changed = [p for p in parts if p in TOKEN_PARTS]
            others = [p for p in tokens if p not in price.parts and base.parts[p][1]]
            rates = _rates(price, edge, changed)
            if others:
                rates = rates[:-1] + ", " + _rates(base, edge, others)[1:]
            tiered.append(f"{{over: {edge}, rates: {rates}}}")
        text += f", context: [{', '.join(tiered)}]"
    elif base.edges() and set(parts) >= set(tokens):
        text += ", context: []"
    return text


def _quoted(text: str) -> str:
    """`text` as a YAML scalar, quoted where it must be."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", text) and text.lower() not in (
        "yes",
        "no",
        "on",
        "off",
        "true",
        "false",
        "null",
    ):
        return text
    return "'" + text.replace("'", "''") + "'"
