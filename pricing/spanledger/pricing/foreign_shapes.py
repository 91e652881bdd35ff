"""The two price shapes that teams already keep in their `llm_config.yaml`, taken unchanged.

Both become sections of the book's own kind. What these shapes cannot say (dates, modes, regions) is then not known,
so that a call in batch or by another tier is marked estimated.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from spanledger.pricing.document import ANY_PROVIDER, Json
from spanledger.pricing.names import canonical_provider
from spanledger.pricing.price_file import Checked, plain_digits
from spanledger.pricing.usage import PARTS
from spanledger.pricing.yaml_text import Mapping, Value

_PRICING_KEYS = {
    "currency", "input", "output", "extras", "key_aliases", "context_tiers", "rounding", "extras_policy",
}  # fmt: skip
_COST_KEYS = {
    "cost_per_unit": 1,
    "cost_per_token": 1,
    "cost_per_1k": 10**3,
    "cost_per_1m": 10**6,
    "cost_per_million": 10**6,
}

_FIELDS = {
    "audio_input_token": "input_audio",
    "audio_output_token": "output_audio",
    "audio_token": "input_audio",
    "cache_creation_input_token": "cache_write",
    "cache_creation_token": "cache_write",
    "cache_read_input_token": "cache_read",
    "cache_read_token": "cache_read",
    "cache_write_1h_token": "cache_write_1h",
    "cache_write_5m_token": "cache_write_5m",
    "cache_write_token": "cache_write",
    "cached_input_token": "cache_read",
    "cached_prompt_token": "cache_read",
    "cached_token": "cache_read",
    "completion_token": "output",
    "ephemeral_1h_input_token": "cache_write_1h",
    "ephemeral_5m_input_token": "cache_write_5m",
    "image_token": "input_image",
    "input_audio_token": "input_audio",
    "input_image_token": "input_image",
    "input_token": "input",
    "output_audio_token": "output_audio",
    "output_image_token": "output_image",
    "output_token": "output",
    "prompt_token": "input",
    "reasoning_output_token": "output_reasoning",
    "reasoning_token": "output_reasoning",
    "thinking_token": "output_reasoning",
    "thought_token": "output_reasoning",
    "web_fetch_request": "web_fetch",
    "web_search_request": "web_search",
}
"""A provider's usage field, singular -> the part that our readers make of it."""

_PER_MILLION = {
    "input": "input",
    "prompt": "input",
    "output": "output",
    "completion": "output",
    "cached_input": "cache_read",
    "cached": "cache_read",
    "cache_read": "cache_read",
    "cache_read_input": "cache_read",
    "cache_write": "cache_write",
    "cache_creation": "cache_write",
    "cache_creation_input": "cache_write",
    "cache_write_5m": "cache_write_5m",
    "cache_write_1h": "cache_write_1h",
    "reasoning": "output_reasoning",
    "output_reasoning": "output_reasoning",
    "input_audio": "input_audio",
    "audio_input": "input_audio",
    "output_audio": "output_audio",
    "audio_output": "output_audio",
    "input_image": "input_image",
    "output_image": "output_image",
}
_SUFFIX = "_cost_per_million"


def is_cost_per_million(value: Mapping) -> bool:
    """Whether `value` is a model of the flat shape (`input_cost_per_million: 2.5`)."""
    return any(key.endswith(_SUFFIX) for key, _, _ in value)


def read_cost_per_million(checked: Checked, models: dict[str, tuple[Mapping, int]], provider: str) -> Json:
    """A section of the flat shape's models; `provider` is the file's, else any."""
    section: Json = {"provider": provider, "models": [], "additions": []}
    for name, (mapping, line) in models.items():
        rates: Json = {}
        for key, value, where in mapping:
            if not key.endswith(_SUFFIX):
                if "cost" in key or "price" in key:
                    raise checked.fail(where, f"{name}: unknown price {key!r}; known end in {_SUFFIX}")
                continue
            part = _PER_MILLION.get(key[: -len(_SUFFIX)])
            if part is None:
                raise checked.fail(where, f"{name}: unknown price {key!r}; known are {', '.join(sorted(_PER_MILLION))}")
            if part in rates:
                raise checked.fail(where, f"{name}: a second price of {part}")
            rates[part] = [plain_digits(checked.amount(value, where, key)), 10**6]
        section["models"].append(_model(name, line, {"line": line, "currency": "USD", "rates": rates}))
    return section


def read_llm_config(checked: Checked, models: Mapping) -> list[Json]:
    """A section a provider of the models that have a `pricing`; other keys of a model are the team's own."""
    sections: dict[str, Json] = {}
    for name, value, line in models:
        mapping = checked.mapping(value, line, f"model {name}")
        if is_cost_per_million(mapping):
            model = read_cost_per_million(checked, {name: (mapping, line)}, ANY_PROVIDER)["models"][0]
        elif "pricing" in mapping:
            pricing = checked.mapping(mapping.get("pricing"), mapping.line_of("pricing"), f"pricing of {name}")
            model = _model(name, line, _pricing(checked, name, pricing))
        else:
            continue
        provider = ANY_PROVIDER
        if "provider" in mapping:
            provider = canonical_provider(
                checked.text(mapping.get("provider"), mapping.line_of("provider"), "provider")
            )
        sections.setdefault(provider, {"provider": provider, "models": [], "additions": []})["models"].append(model)
    return list(sections.values())


def _model(name: str, line: int, row: Json) -> Json:
    return {"id": name.strip().lower(), "line": line, "match": [["exact", name.strip().lower()]], "rows": [row]}


def _pricing(checked: Checked, name: str, pricing: Mapping) -> Json:
    checked.keys(pricing, _PRICING_KEYS, f"pricing of {name}")
    row: Json = {"line": pricing.line, "currency": "USD", "rates": {}, "unmapped": {}}
    if "currency" in pricing:
        row["currency"] = checked.currency(pricing.get("currency"), pricing.line_of("currency"), "currency")
    for side in ("input", "output"):
        if side in pricing:
            row["rates"][side] = _cost(checked, side, pricing.get(side), pricing.line_of(side))
    if not row["rates"]:
        raise checked.fail(pricing.line, f"pricing of {name} has neither input nor output")
    fields = _fields_of(checked, pricing)
    if "extras" in pricing:
        for extra, value, line in checked.mapping(pricing.get("extras"), pricing.line_of("extras"), "extras"):
            rate = _cost(checked, extra, value, line)
            for spelling in (extra, *fields.get(extra, ())):
                part = extra if extra in PARTS else _FIELDS.get(_singular(spelling))
                target, key = (row["rates"], part) if part else (row["unmapped"], spelling)
                if key in target and target[key] != rate:
                    raise checked.fail(line, f"{extra}: a second price of {key}")
                target[key] = rate
            if _singular(extra) == extra and extra not in PARTS and extra not in _FIELDS:
                row["unmapped"][extra + "s"] = rate
    if "context_tiers" in pricing:
        row["context"] = _tiers(checked, pricing)
    if "rounding" in pricing:
        line = pricing.line_of("rounding")
        rounding = checked.mapping(pricing.get("rounding"), line, "rounding")
        checked.keys(rounding, {"decimals"}, "rounding")
        if "decimals" in rounding:
            row["decimals"] = checked.integer(rounding.get("decimals"), rounding.line_of("decimals"), "decimals", 18)
    if "extras_policy" in pricing:
        line = pricing.line_of("extras_policy")
        policy = checked.mapping(pricing.get("extras_policy"), line, "extras_policy")
        checked.keys(policy, {"passthrough_unpriced"}, "extras_policy")
        if "passthrough_unpriced" in policy:
            where = policy.line_of("passthrough_unpriced")
            if not checked.flag(policy.get("passthrough_unpriced"), where, "passthrough_unpriced"):
                row["leave_out_unpriced"] = True
    return {key: value for key, value in row.items() if value != {}}


def _cost(checked: Checked, what: str, value: Value, line: int) -> Any:
    mapping = checked.mapping(value, line, what)
    checked.keys(mapping, set(_COST_KEYS), what)
    if len(mapping.items) != 1:
        raise checked.fail(mapping.line, f"{what} takes one of {', '.join(_COST_KEYS)}")
    (key, cost, where), *_ = mapping
    return [plain_digits(checked.amount(cost, where, f"{key} of {what}")), _COST_KEYS[key]]


def _fields_of(checked: Checked, pricing: Mapping) -> dict[str, list[str]]:
    """Extra -> the provider's fields that `key_aliases` map to it."""
    found: dict[str, list[str]] = {}
    if "key_aliases" in pricing:
        line = pricing.line_of("key_aliases")
        for field, value, where in checked.mapping(pricing.get("key_aliases"), line, "key_aliases"):
            found.setdefault(checked.text(value, where, f"alias of {field}"), []).append(field)
    return found


def _singular(name: str) -> str:
    return name.lower().removesuffix("s")


def _tiers(checked: Checked, pricing: Mapping) -> Json:
    """`max_context` is inclusive, the multiplier is on every token part; beyond the last tier it is a guess."""
    line = pricing.line_of("context_tiers")
    tiers: list[Json] = []
    over = -1
    for item in checked.sequence(pricing.get("context_tiers"), line, "context_tiers"):
        mapping = checked.mapping(item, line, "a context tier")
        checked.keys(mapping, {"max_context", "multiplier"}, "a context tier")
        for key in ("max_context", "multiplier"):
            if key not in mapping:
                raise checked.fail(mapping.line, f"a context tier without {key}")
        most = checked.integer(mapping.get("max_context"), mapping.line_of("max_context"), "max_context", 10**12)
        if most <= over:
            raise checked.fail(mapping.line, "the context tiers do not ascend")
        factor = checked.amount(mapping.get("multiplier"), mapping.line_of("multiplier"), "multiplier", Decimal(1000))
        tiers.append({"over": over, "mult": {"tokens": plain_digits(factor)}})
        over = most
    if not tiers:
        raise checked.fail(line, "context_tiers is empty")
    tiers.append({"over": over, "mult": tiers[-1]["mult"], "estimated": f"the prompt is beyond the last tier ({over})"})
    return {"tiers": tiers}
