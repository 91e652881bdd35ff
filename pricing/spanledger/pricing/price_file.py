"""Price files: reads and checks one YAML file and hands back plain data that the book is built from.

The file's language is described in `docs/prices.md` and `catalogue/schema.json`; the two shapes that teams
already have are read by `foreign_shapes`.
"""

from __future__ import annotations

import fnmatch
import re
from datetime import date, datetime, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from spanledger.pricing.document import ANY_PROVIDER, Document, Json, PriceFileError, mode_name
from spanledger.pricing.names import canonical_provider
from spanledger.pricing.usage import FEE_PARTS, PARTS, TOKEN_PARTS
from spanledger.pricing.yaml_text import Mapping, Scalar, Sequence, Value, number, parse

SCHEMA = 1
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_PER = {"1": 1, "1K": 10**3, "1M": 10**6}
_FILE_KEYS = {
    "schema", "provider", "name", "note", "currency", "per", "source", "checked", "extends", "fallback", "aliases",
    "providers", "informational", "models", "additions", "overlays", "fx",
}  # fmt: skip
_MODEL_KEYS = {
    "id",
    "match",
    "name",
    "note",
    "provider",
    "currency",
    "per",
    "source",
    "checked",
    "informational",
    "prices",
}
_ROW_KEYS = {
    "from", "until", "windows", "currency", "per", "source", "checked", "note", "free", "rates", "unmapped", "context",
    "modes", "region", "decimals", "estimated",
}  # fmt: skip
_RATE_KEYS = {"rate", "per", "unit", "min", "free", "of", "mult"}
_TIER_KEYS = {"over", "op", "scope", "of", "mult", "rates", "estimated"}
_MODE_KEYS = {"alias", "mult", "rates", "context", "excludes", "estimated"}
_REGION_KEYS = {"when", "mult", "rates", "estimated"}
_OVERLAY_KEYS = {"name", "provider", "model", "tenant", "key", "from", "until", "mult", "rates"}
_FX_KEYS = {"from", "currency", "to", "rate", "source"}
_ADDITION_KEYS = {
    "models",
    "from",
    "until",
    "per",
    "rates",
    "unmapped",
    "context",
    "modes",
    "region",
    "source",
    "checked",
    "note",
}
_MODE_DIMENSIONS = ("service_tier", "processing")
_MATCH_KINDS = ("exact", "prefix", "glob", "regex")
_CURRENCY = re.compile(r"[A-Z]{3}")
_TIME = re.compile(r"([01]\d|2[0-4]):([0-5]\d)")
_MAX_RATE = Decimal(10) ** 9
_MAX_MULT = Decimal(1000)


def read(path: Path) -> Document:
    """Read and check the price file at `path`.

    Raises:
        PriceFileError: it cannot be read, or something in it is wrong; nothing of it is then used.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PriceFileError(path, 0, f"cannot be read: {error.strerror}") from error
    return read_text(data, path)


def read_text(data: bytes, path: Path | str) -> Document:
    """As `read`, from the file's bytes."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PriceFileError(path, data[: error.start].count(b"\n") + 1, "not UTF-8 text") from error
    root = parse(text, path)
    document: Document = {"file": Path(path).name, "digest": digest(data), "sections": []}
    try:
        _Reader(path, document).document(root)
    except RecursionError as error:
        raise PriceFileError(path, 0, "nested too deeply") from error
    return document


def digest(data: bytes) -> str:
    """Names a file's content in snapshots."""
    import hashlib

    return hashlib.sha256(data).hexdigest()[:12]


def instant_ns(text: str) -> int | None:
    """`2026-09-29` (its start, UTC) or `2026-09-29T16:00:00Z` in ns since the epoch; None if it is neither."""
    try:
        if len(text) == 10:
            day = date.fromisoformat(text)
            moment = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
        else:
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    if moment.tzinfo is None or not 1970 <= moment.year < 2200:
        return None
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86_400 + since.seconds) * 10**9


class Checked:
    """Reads values of the kinds that price files have, and refuses others with file, line and reason."""

    def __init__(self, file: Path | str) -> None:
        self.file = file

    def fail(self, line: int, reason: str) -> PriceFileError:
        return PriceFileError(self.file, line, reason)

    def keys(self, mapping: Mapping, allowed: set[str], what: str) -> None:
        for key, _, line in mapping:
            if key not in allowed:
                near = _nearest(key, allowed)
                hint = f"did you mean {near}?" if near else "known are " + ", ".join(sorted(allowed))
                raise self.fail(line, f"unknown key {key!r} in {what}; {hint}")

    def mapping(self, value: Value, line: int, what: str) -> Mapping:
        if not isinstance(value, Mapping):
            raise self.fail(_line(value, line), f"{what} is not a mapping")
        return value

    def sequence(self, value: Value, line: int, what: str) -> list[Value]:
        if not isinstance(value, Sequence):
            raise self.fail(_line(value, line), f"{what} is not a list")
        return value.items

    def text(self, value: Value, line: int, what: str) -> str:
        if not isinstance(value, Scalar) or not value.text.strip():
            raise self.fail(_line(value, line), f"{what} is not a word")
        return value.text.strip()

    def texts(self, value: Value, line: int, what: str) -> list[str]:
        """A list of words, or one word for a list of one."""
        if isinstance(value, Scalar):
            return [self.text(value, line, what)]
        return [self.text(item, line, f"an item of {what}") for item in self.sequence(value, line, what)]

    def amount(self, value: Value, line: int, what: str, most: Decimal = _MAX_RATE) -> Decimal:
        """A number that is not negative, exactly as written."""
        found = number(value) if isinstance(value, Scalar) else None
        if found is None:
            raise self.fail(_line(value, line), f"{what} is not a decimal number")
        if found < 0 or (found == 0 and found.is_signed()):
            raise self.fail(_line(value, line), f"{what} is negative ({found})")
        if found > most:
            raise self.fail(_line(value, line), f"{what} is above {most:f}")
        digits = found.as_tuple()
        if len(digits.digits) > 30 or (isinstance(digits.exponent, int) and digits.exponent < -30):
            raise self.fail(_line(value, line), f"{what} has more than 30 digits")
        return found

    def integer(self, value: Value, line: int, what: str, most: int) -> int:
        found = self.amount(value, line, what, Decimal(most))
        if found != int(found):
            raise self.fail(_line(value, line), f"{what} is not a whole number")
        return int(found)

    def flag(self, value: Value, line: int, what: str) -> bool:
        text = value.text.lower() if isinstance(value, Scalar) else ""
        if text not in ("true", "false", "yes", "no", "on", "off"):
            raise self.fail(_line(value, line), f"{what} is not true or false")
        return text in ("true", "yes", "on")

    def currency(self, value: Value, line: int, what: str) -> str:
        text = self.text(value, line, what)
        if not _CURRENCY.fullmatch(text):
            raise self.fail(_line(value, line), f"{what} is {text!r}, not an ISO 4217 code such as USD")
        return text

    def instant(self, value: Value, line: int, what: str) -> int:
        text = self.text(value, line, what)
        found = instant_ns(text)
        if found is None:
            raise self.fail(_line(value, line), f"{what} is {text!r}: write 2026-09-29 or 2026-09-29T16:00:00Z")
        return found


class _Reader(Checked):
    def __init__(self, file: Path | str, document: Document) -> None:
        super().__init__(file)
        self.document_ = document

    def document(self, root: Mapping) -> None:
        from spanledger.pricing import foreign_shapes

        doc = self.document_
        native: dict[str, tuple[Value, int]] = {}
        cost_per_million: dict[str, tuple[Mapping, int]] = {}
        for key, value, line in root:
            if key == "settings":
                continue
            if isinstance(value, Mapping) and key not in _FILE_KEYS and foreign_shapes.is_cost_per_million(value):
                cost_per_million[key] = (value, line)
            else:
                native[key] = (value, line)
        top = Mapping(root.line, native)
        self.keys(top, _FILE_KEYS, "a price file")
        if "schema" in top:
            schema = self.text(top.get("schema"), top.line_of("schema"), "schema")
            if schema != str(SCHEMA):
                raise self.fail(top.line_of("schema"), f"schema is {schema}: this version reads schema {SCHEMA}")
        models = top.get("models")
        if isinstance(models, Mapping):
            native.pop("models")
        self._native(top)
        if isinstance(models, Mapping):
            for section in foreign_shapes.read_llm_config(self, models):
                self._place(section)
        if cost_per_million:
            provider = self._provider_of(top) or ANY_PROVIDER
            self._place(foreign_shapes.read_cost_per_million(self, cost_per_million, provider))
        doc["overlays"] = [self._overlay(item, top.line) for item in self._list(top, "overlays")]
        doc["fx"] = [self._fx(item, top.line) for item in self._list(top, "fx")]
        doc["providers"] = {}
        if "providers" in top:
            for name, value, line in self.mapping(top.get("providers"), top.line_of("providers"), "providers"):
                doc["providers"][name.strip().lower()] = canonical_provider(
                    self.text(value, line, f"provider of {name}")
                )
        seen: dict[tuple[str, str, int], int] = {}
        for fx in doc["fx"]:
            pair = (fx["currency"], fx["to"], fx["from"])
            if pair in seen:
                raise self.fail(fx["line"], f"a second rate from {fx['currency']} to {fx['to']} from the same day")
            seen[pair] = fx["line"]
        for section in doc["sections"]:
            self._claims(section)

    # ---- the parts of a file

    def _provider_of(self, top: Mapping) -> str:
        if "provider" not in top:
            return ""
        return canonical_provider(self.text(top.get("provider"), top.line_of("provider"), "provider"))

    def _native(self, top: Mapping) -> None:
        provider = self._provider_of(top)
        base = self._defaults(top, {"currency": "USD", "per": 10**6, "source": "", "checked": ""})
        section: Json = {"provider": provider, "models": [], "additions": []}
        for key in ("extends", "fallback"):
            if key in top:
                section[key] = [canonical_provider(p) for p in self.texts(top.get(key), top.line_of(key), key)]
        others: dict[str, Json] = {}

        def of(own: str) -> Json:
            """The section of another provider than the file's."""
            return (
                section if own == provider else others.setdefault(own, {"provider": own, "models": [], "additions": []})
            )

        if "aliases" in top:
            for name, value, line in self.mapping(top.get("aliases"), top.line_of("aliases"), "aliases"):
                target, alias = section, name
                if not provider:
                    owner, slash, alias = name.partition("/")
                    if not slash or not owner or not alias:
                        raise self.fail(
                            line, f"alias {name} of no provider: write PROVIDER/{name}, or a provider at the top"
                        )
                    target = of(canonical_provider(owner))
                model = self.text(value, line, f"alias {name}").lower()
                target.setdefault("aliases", {})[alias.strip().lower()] = model
        if "informational" in top:
            section["informational"] = self.texts(
                top.get("informational"), top.line_of("informational"), "informational"
            )
        section["additions"] = [self._addition(item, top.line, base) for item in self._list(top, "additions")]
        for item in self._list(top, "models"):
            mapping = self.mapping(item, top.line_of("models"), "a model")
            own = provider
            if "provider" in mapping:
                own = canonical_provider(self.text(mapping.get("provider"), mapping.line, "provider"))
            if not own:
                raise self.fail(mapping.line, "no provider: say provider: openai (or another) at the top of the file")
            target = (
                section if own == provider else others.setdefault(own, {"provider": own, "models": [], "additions": []})
            )
            target["models"].append(self._model(mapping, base))
        if not provider and any(
            section.get(k) for k in ("additions", "extends", "fallback", "aliases", "informational")
        ):
            raise self.fail(top.line, "no provider: say provider: openai (or another) at the top of the file")
        if provider:
            self._place(section)
        for other in others.values():
            self._place(other)

    def _place(self, section: Json) -> None:
        """Add a section, or join it with the one that its provider has already."""
        for placed in self.document_["sections"]:
            if placed["provider"] == section["provider"]:
                placed["models"] += section["models"]
                placed["additions"] += section["additions"]
                placed.setdefault("aliases", {}).update(section.get("aliases", {}))
                return
        self.document_["sections"].append(section)

    def _list(self, top: Mapping, key: str) -> list[Value]:
        return self.sequence(top.get(key), top.line_of(key), key) if key in top else []

    def _defaults(self, mapping: Mapping, base: Json) -> Json:
        """`base` with what `mapping` says of currency, unit, source and day of last check."""
        found = dict(base)
        if "currency" in mapping:
            found["currency"] = self.currency(mapping.get("currency"), mapping.line_of("currency"), "currency")
        if "per" in mapping:
            found["per"] = self.per(mapping.get("per"), mapping.line_of("per"))
        if "source" in mapping:
            found["source"] = self.text(mapping.get("source"), mapping.line_of("source"), "source")
        if "checked" in mapping:
            self.instant(mapping.get("checked"), mapping.line_of("checked"), "checked")
            found["checked"] = self.text(mapping.get("checked"), mapping.line_of("checked"), "checked")
        return found

    def per(self, value: Value, line: int) -> int:
        text = self.text(value, line, "per")
        if text in _PER:
            return _PER[text]
        if text.isascii() and text.isdigit() and 0 < int(text) <= 10**9:
            return int(text)
        raise self.fail(_line(value, line), f"per is {text!r}: write 1, 1K, 1M or a whole number such as 3600")

    def _model(self, mapping: Mapping, base: Json) -> Json:
        self.keys(mapping, _MODEL_KEYS, "a model")
        if "id" not in mapping:
            raise self.fail(mapping.line, "a model without an id")
        name = self.text(mapping.get("id"), mapping.line_of("id"), "id").lower()
        own = self._defaults(mapping, base)
        model: Json = {"id": name, "line": mapping.line}
        patterns = self.texts(mapping.get("match"), mapping.line_of("match"), "match") if "match" in mapping else [name]
        model["match"] = [self._pattern(text, mapping.line_of("match")) for text in patterns]
        if not patterns:
            raise self.fail(mapping.line_of("match"), f"match of {name} is empty")
        if "informational" in mapping:
            line = mapping.line_of("informational")
            model["informational"] = self.texts(mapping.get("informational"), line, "informational")
        if "prices" not in mapping:
            raise self.fail(mapping.line, f"{name} has no prices")
        rows = self.sequence(mapping.get("prices"), mapping.line_of("prices"), "prices")
        if not rows:
            raise self.fail(mapping.line_of("prices"), f"{name} has no prices")
        model["rows"] = [self._row(self.mapping(row, mapping.line, "a price"), own) for row in rows]
        self._dates(name, model["rows"])
        return model

    def _pattern(self, text: str, line: int) -> list[str]:
        kind, colon, pattern = text.partition(":")
        if not colon or kind not in _MATCH_KINDS:
            kind, pattern = "exact", text
        pattern = pattern.strip()
        if not pattern:
            raise self.fail(line, f"match {text!r} is empty")
        if kind == "regex":
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise self.fail(line, f"match {text!r} is not a regular expression: {error}") from error
            return [kind, pattern]
        return [kind, pattern.lower()]

    def _row(self, mapping: Mapping, base: Json) -> Json:
        self.keys(mapping, _ROW_KEYS, "a price")
        own = self._defaults(mapping, base)
        row: Json = {"line": mapping.line, "currency": own["currency"]}
        for key in ("source", "checked"):
            if own[key]:
                row[key] = own[key]
        for key in ("from", "until"):
            if key in mapping:
                row[key] = self.instant(mapping.get(key), mapping.line_of(key), key)
        if "until" in row and row["until"] <= row.get("from", -1):
            raise self.fail(mapping.line_of("until"), "until is not after from")
        if "windows" in mapping:
            line = mapping.line_of("windows")
            row["windows"] = [
                self._window(item, line) for item in self.sequence(mapping.get("windows"), line, "windows")
            ]
        if "free" in mapping and self.flag(mapping.get("free"), mapping.line_of("free"), "free"):
            row["free"] = True
        if "decimals" in mapping:
            row["decimals"] = self.integer(mapping.get("decimals"), mapping.line_of("decimals"), "decimals", 18)
        if "estimated" in mapping:
            row["estimated"] = self.text(mapping.get("estimated"), mapping.line_of("estimated"), "estimated")
        row.update(self._levels(mapping, own["per"]))
        if not row.get("rates") and not row.get("free") and not row.get("unmapped"):
            raise self.fail(mapping.line, "a price without rates; a model that costs nothing says free: true")
        return row

    def _levels(self, mapping: Mapping, per: int, derived: bool = False) -> Json:
        """Rates, context, modes and regions of a price row or an addition."""
        found: Json = {}
        if "rates" in mapping:
            found["rates"] = self.rates(mapping.get("rates"), mapping.line_of("rates"), per, derived)
        if "unmapped" in mapping:
            found["unmapped"] = {}
            line = mapping.line_of("unmapped")
            for name, value, where in self.mapping(mapping.get("unmapped"), line, "unmapped"):
                if name in PARTS:
                    raise self.fail(where, f"{name} is a part: its rate belongs under rates")
                found["unmapped"][name] = self._rate(name, value, where, per, derived=False)
        if "context" in mapping:
            found["context"] = self._context(mapping.get("context"), mapping.line_of("context"), per)
        if "modes" in mapping:
            found["modes"] = self._modes(mapping.get("modes"), mapping.line_of("modes"), per)
        if "region" in mapping:
            line = mapping.line_of("region")
            items = self.sequence(mapping.get("region"), line, "region")
            found["region"] = [self._region(self.mapping(item, line, "a region"), per) for item in items]
        return found

    def rates(self, value: Value, line: int, per: int, derived: bool = False) -> Json:
        found = {}
        for part, item, where in self.mapping(value, line, "rates"):
            if part not in PARTS:
                near = _nearest(part, set(PARTS))
                hint = f"did you mean {near}?" if near else "a provider's field that is no part belongs under unmapped"
                raise self.fail(where, f"unknown part {part!r}; {hint}")
            found[part] = self._rate(part, item, where, per, derived)
        return found

    def _rate(self, part: str, value: Value, line: int, per: int, derived: bool) -> Any:
        """`[text, per]`, with a third item for a fee's minimum, free units and unit."""
        if not isinstance(value, Mapping):
            rate = self.amount(value, line, f"the rate of {part}")
            if rate and part in FEE_PARTS:
                raise self.fail(line, f"{part} is not counted in tokens: write {part}: {{rate: {rate}, per: 1K}}")
            return [plain_digits(rate), per]
        self.keys(value, _RATE_KEYS, f"the rate of {part}")
        if derived and "of" in value:
            source = self.text(value.get("of"), line, "of")
            if source not in PARTS or "mult" not in value:
                raise self.fail(line, f"{part}: write {{of: input, mult: 2.5}}")
            return {"of": source, "mult": plain_digits(self.amount(value.get("mult"), line, "mult", _MAX_MULT))}
        if "of" in value or "mult" in value:
            raise self.fail(line, f"{part}: of and mult are for additions")
        if "rate" not in value:
            raise self.fail(line, f"{part} has no rate")
        if "per" in value:
            per = self.per(value.get("per"), value.line_of("per"))
        elif part in FEE_PARTS:
            raise self.fail(line, f"{part} is not counted in tokens: say per what its rate is (per: 1K)")
        rate = self.amount(value.get("rate"), value.line_of("rate"), f"the rate of {part}")
        more: Json = {}
        if "unit" in value:
            unit = self.text(value.get("unit"), line, "unit")
            if unit not in ("call", "request"):
                raise self.fail(value.line_of("unit"), f"unit is {unit!r}: use call or request")
            if unit == "request":
                more["unit"] = unit
        if "min" in value:
            more["min"] = plain_digits(self.amount(value.get("min"), value.line_of("min"), "min"))
        if "free" in value:
            free = self.text(value.get("free"), value.line_of("free"), "free")
            count, slash, every = free.partition("/")
            if slash and every not in ("day", "month"):
                raise self.fail(value.line_of("free"), f"free is {free!r}: write 5 (a request), 1500/day or 1500/month")
            scalar = Scalar(count.strip(), value.line_of("free"), True)
            quantity = self.amount(scalar, line, "free")
            more["free"] = f"{plain_digits(quantity)}/{every}" if slash else plain_digits(quantity)
        return [plain_digits(rate), per, more] if more else [plain_digits(rate), per]

    def multipliers(self, value: Value, line: int) -> Json:
        found = {}
        for selector, item, where in self.mapping(value, line, "mult"):
            if selector != "tokens" and not any(fnmatch.fnmatchcase(part, selector) for part in PARTS):
                near = _nearest(selector, set(PARTS) | {"tokens"})
                hint = f"did you mean {near}?" if near else "use a part, a glob over parts, tokens or '*'"
                raise self.fail(where, f"mult selects nothing by {selector!r}; {hint}")
            found[selector] = plain_digits(self.amount(item, where, f"mult of {selector}", _MAX_MULT))
        return found

    def _change(self, mapping: Mapping, per: int) -> Json:
        found: Json = {}
        if "mult" in mapping:
            found["mult"] = self.multipliers(mapping.get("mult"), mapping.line_of("mult"))
        if "rates" in mapping:
            found["rates"] = self.rates(mapping.get("rates"), mapping.line_of("rates"), per)
        if "estimated" in mapping:
            found["estimated"] = self.text(mapping.get("estimated"), mapping.line_of("estimated"), "estimated")
        return found

    def _context(self, value: Value, line: int, per: int) -> Json:
        tiers = []
        common: Json | None = None
        for item in self.sequence(value, line, "context"):
            mapping = self.mapping(item, line, "a context tier")
            self.keys(mapping, _TIER_KEYS, "a context tier")
            if "over" not in mapping:
                raise self.fail(mapping.line, "a context tier without over")
            tier = self._change(mapping, per)
            tier["over"] = self.integer(mapping.get("over"), mapping.line_of("over"), "over", 10**12)
            shape: Json = {}
            for key, known in (("op", ("gt", "gte")), ("scope", ("request", "marginal"))):
                if key in mapping:
                    shape[key] = self.text(mapping.get(key), mapping.line_of(key), key)
                    if shape[key] not in known:
                        raise self.fail(mapping.line_of(key), f"{key} is {shape[key]!r}: use {' or '.join(known)}")
            if "of" in mapping:
                shape["of"] = self.texts(mapping.get("of"), mapping.line_of("of"), "of")
                for selector in shape["of"]:
                    if not any(fnmatch.fnmatchcase(part, selector) for part in TOKEN_PARTS):
                        raise self.fail(mapping.line_of("of"), f"of selects no token part by {selector!r}")
            if common is not None and shape != common:
                raise self.fail(mapping.line, "the tiers of one context differ in op, scope or of")
            common = shape
            tiers.append(tier)
        for before, after in pairwise(tiers):
            if after["over"] <= before["over"]:
                raise self.fail(line, "the context tiers do not ascend")
        return {**(common or {}), "tiers": tiers}

    def _modes(self, value: Value, line: int, per: int) -> Json:
        found: Json = {}
        for dimension, values, where in self.mapping(value, line, "modes"):
            if dimension not in _MODE_DIMENSIONS:
                raise self.fail(where, f"unknown mode {dimension!r}; known are {' and '.join(_MODE_DIMENSIONS)}")
            found[dimension] = {}
            for name, item, there in self.mapping(values, where, dimension):
                mapping = Mapping(there) if item is None else self.mapping(item, there, f"{dimension} {name}")
                self.keys(mapping, _MODE_KEYS, f"{dimension} {name}")
                mode = self._change(mapping, per)
                names = [name]
                if "alias" in mapping:
                    names += self.texts(mapping.get("alias"), mapping.line_of("alias"), "alias")
                if "context" in mapping:
                    mode["context"] = self._context(mapping.get("context"), mapping.line_of("context"), per)
                if "excludes" in mapping:
                    mode["excludes"] = self.texts(mapping.get("excludes"), mapping.line_of("excludes"), "excludes")
                    for excluded in mode["excludes"]:
                        if excluded not in _MODE_DIMENSIONS or excluded == dimension:
                            raise self.fail(mapping.line_of("excludes"), f"excludes names no other mode: {excluded!r}")
                for spelled in names:
                    key = mode_name(spelled)
                    if key in found[dimension]:
                        raise self.fail(there, f"{dimension} {spelled} is there twice")
                    found[dimension][key] = {**mode, "name": name}
        return found

    def _region(self, mapping: Mapping, per: int) -> Json:
        self.keys(mapping, _REGION_KEYS, "a region")
        if "when" not in mapping:
            raise self.fail(mapping.line, "a region without when")
        region = self._change(mapping, per)
        region["when"] = [w.lower() for w in self.texts(mapping.get("when"), mapping.line_of("when"), "when")]
        return region

    def _window(self, value: Value, line: int) -> list[Any]:
        """`[start, end, weekdays]` in minutes of the UTC day; end is beyond 1440 where it wraps round midnight."""
        mapping = self.mapping(value, line, "a window")
        self.keys(mapping, {"utc", "weekdays"}, "a window")
        text = self.text(mapping.get("utc"), mapping.line, "utc")
        start, dash, end = (piece.strip() for piece in text.partition("-"))
        found = [_TIME.fullmatch(start), _TIME.fullmatch(end)]
        if not dash or not found[0] or not found[1]:
            raise self.fail(mapping.line, f'utc is {text!r}: write "16:30-00:30"')
        first, last = (int(m.group(1)) * 60 + int(m.group(2)) for m in found if m)
        if first >= 1440 or last > 1440 or first == last:
            raise self.fail(mapping.line, f'utc is {text!r}: write "16:30-00:30"')
        days = list(range(7))
        if "weekdays" in mapping:
            names = [w.lower() for w in self.texts(mapping.get("weekdays"), mapping.line_of("weekdays"), "weekdays")]
            for name in names:
                if name not in WEEKDAYS:
                    raise self.fail(mapping.line_of("weekdays"), f"{name!r} is no weekday: use {', '.join(WEEKDAYS)}")
            days = sorted({WEEKDAYS.index(name) for name in names})
        return [first, last if last > first else last + 1440, days]

    def _overlay(self, value: Value, line: int) -> Json:
        mapping = self.mapping(value, line, "an overlay")
        self.keys(mapping, _OVERLAY_KEYS, "an overlay")
        overlay = self._change(mapping, 10**6)
        if not overlay:
            raise self.fail(mapping.line, "an overlay without mult or rates")
        overlay["line"] = mapping.line
        overlay["name"] = (
            self.text(mapping.get("name"), mapping.line, "name")
            if "name" in mapping
            else f"{Path(self.file).name}:{mapping.line}"
        )
        for key in ("provider", "model", "tenant", "key"):
            if key in mapping:
                words = self.texts(mapping.get(key), mapping.line_of(key), key)
                if key == "provider":
                    words = [w if set(w) & set("*?[") else canonical_provider(w) for w in words]
                overlay[key] = [w.lower() for w in words] if key in ("provider", "model") else words
        self._span(mapping, overlay)
        return overlay

    def _span(self, mapping: Mapping, target: Json) -> None:
        for key in ("from", "until"):
            if key in mapping:
                target[key] = self.instant(mapping.get(key), mapping.line_of(key), key)
        if "until" in target and target["until"] <= target.get("from", -1):
            raise self.fail(mapping.line_of("until"), "until is not after from")

    def _fx(self, value: Value, line: int) -> Json:
        mapping = self.mapping(value, line, "fx")
        self.keys(mapping, _FX_KEYS, "fx")
        for key in ("from", "currency", "to", "rate"):
            if key not in mapping:
                raise self.fail(
                    mapping.line, f"fx without {key}: write {{from: 2026-01-01, currency: EUR, to: USD, rate: 1.08}}"
                )
        found: Json = {
            "line": mapping.line,
            "from": self.instant(mapping.get("from"), mapping.line_of("from"), "from"),
            "currency": self.currency(mapping.get("currency"), mapping.line_of("currency"), "currency"),
            "to": self.currency(mapping.get("to"), mapping.line_of("to"), "to"),
            "rate": plain_digits(self.amount(mapping.get("rate"), mapping.line_of("rate"), "rate")),
        }
        if Decimal(found["rate"]) == 0 or found["currency"] == found["to"]:
            raise self.fail(mapping.line, "fx takes two currencies and a rate above 0")
        if "source" in mapping:
            found["source"] = self.text(mapping.get("source"), mapping.line_of("source"), "source")
        return found

    def _addition(self, value: Value, line: int, base: Json) -> Json:
        mapping = self.mapping(value, line, "an addition")
        self.keys(mapping, _ADDITION_KEYS, "an addition")
        own = self._defaults(mapping, base)
        if "models" not in mapping:
            raise self.fail(mapping.line, "an addition without models")
        found: Json = {"line": mapping.line}
        found["models"] = [m.lower() for m in self.texts(mapping.get("models"), mapping.line_of("models"), "models")]
        found.update(self._levels(mapping, own["per"], derived=True))
        self._span(mapping, found)
        return found

    # ---- what only the whole shows

    def _dates(self, name: str, rows: list[Json]) -> None:
        """Give each row its end (the next row's start), and refuse rows that overlap."""
        plain = sorted((r for r in rows if "windows" not in r), key=lambda r: r.get("from", -1))
        for before, after in pairwise(plain):
            start = after.get("from", -1)
            if start == before.get("from", -1) or before.get("until", start) > start:
                raise self.fail(
                    after["line"], f"{name}: these dates overlap those of the price on line {before['line']}"
                )
            before.setdefault("until", start)
        windowed = [r for r in rows if "windows" in r]
        for i, one in enumerate(windowed):
            for two in windowed[i + 1 :]:
                apart = one.get("until", _FOREVER) <= two.get("from", -1) or two.get("until", _FOREVER) <= one.get(
                    "from", -1
                )
                if not apart and _minutes(one["windows"]) & _minutes(two["windows"]):
                    raise self.fail(
                        two["line"], f"{name}: these windows overlap those of the price on line {one['line']}"
                    )

    def _claims(self, section: Json) -> None:
        claimed: dict[tuple[str, str], Json] = {}
        ids: dict[str, Json] = {}
        for model in section["models"]:
            if model["id"] in ids:
                raise self.fail(
                    model["line"], f"{model['id']} is there twice, first on line {ids[model['id']]['line']}"
                )
            ids[model["id"]] = model
            for kind, pattern in model["match"]:
                other = claimed.setdefault((kind, pattern), model)
                if other is not model:
                    raise self.fail(
                        model["line"], f"match {kind}:{pattern} is claimed by {other['id']} and {model['id']}"
                    )


_FOREVER = 2**63 - 1


def _minutes(windows: list[Any]) -> set[int]:
    """The minutes of the week, from Monday, that `windows` cover."""
    return {(day * 1440 + m) % 10080 for start, end, days in windows for day in days for m in range(start, end)}


def plain_digits(value: Decimal) -> str:
    """Plain digits, without trailing zeros."""
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def _line(value: Value, fallback: int) -> int:
    return value.line if value is not None else fallback


def _nearest(word: str, known: set[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(word, sorted(known), 1, 0.75)), "")
