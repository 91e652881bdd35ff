"""Gemini's token counts, which generateContent and Interactions spell differently and mean alike.

The prompt *includes* what was read from a cache, the candidates *exclude* thoughts, and what provider-run tools put
into the prompt comes on top: total = prompt + candidates + thoughts + tool use
(https://ai.google.dev/api/generate-content#UsageMetadata).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from spanledger.pricing.counts import Tally, mapping, sequence, text

_MODALITIES = {1: "text", 2: "image", 3: "video", 4: "audio", 5: "document"}
"""`MediaModality` as numbers, which `$alt=json;enum-encoding=int` gives."""

_INPUT_MODALITIES = ("audio", "image", "video", "document")
_OUTPUT_MODALITIES = ("audio", "image", "video")

TRAFFIC: dict[object, str] = {
    "PROVISIONED_THROUGHPUT": "provisioned_throughput",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_OFFPEAK": "offpeak",
    2: "provisioned_throughput",
    3: "priority",
    4: "flex",
}
"""Vertex AI's `trafficType`, as word or number -> service tier; pay-as-you-go is the ordinary one."""


class Names(NamedTuple):
    """How one API spells the counts; several names of a list are spellings of the same."""

    prompt: str
    cached: str
    candidates: str
    thoughts: str
    tool_use: str
    total: str
    prompt_lists: tuple[str, ...]
    cached_list: str
    candidates_list: str
    tool_use_list: str
    tokens: str

    def known(self) -> frozenset[str]:
        """All field names."""
        plain = (name for name in self if isinstance(name, str))
        return frozenset((*plain, *self.prompt_lists))


def take(tally: Tally, raw: Mapping[str, Any], names: Names) -> None:
    """Put the tokens of `raw` into `tally`, in disjoint parts."""
    prompt, cached, candidates, thoughts, tool_use = (tally.count(raw, name) for name in names[:5])
    if tool_use is None and names.tool_use_list in raw:  # Vertex AI's protos have the list alone
        tool_use = sum(_by_modality(tally, raw[names.tool_use_list], names.tokens).values())
    total = tally.count(raw, names.total)
    if total is not None and total != (prompt or 0) + (candidates or 0) + (thoughts or 0) + (tool_use or 0):
        gap = total - (prompt or 0) - (candidates or 0) - (thoughts or 0) - (tool_use or 0)
        if gap > 0 and prompt is None:
            tally.reasons.append(f"{names.prompt} is missing and follows from {names.total}")
            prompt = gap
        elif gap > 0 and thoughts is None:
            tally.estimates.append(f"{names.total} exceeds its parts by {gap}, taken as thoughts")
            thoughts = gap
        else:
            tally.reasons.append(f"{names.total} is {total}, its parts are {total - gap}")
    _prompt(tally, raw, names, prompt, cached)
    left = candidates
    produced = _by_modality(tally, raw.get(names.candidates_list), names.tokens)
    for modality in _OUTPUT_MODALITIES if produced else ():
        left = tally.share(f"output_{modality}", produced.get(modality), left, f"{modality} in {names.candidates_list}")
    if left is not None:
        tally.parts["output"] = left
    if thoughts is not None:
        tally.parts["output_reasoning"] = thoughts
    if tool_use is not None:
        tally.parts["input_tool_use"] = tool_use


def _prompt(tally: Tally, raw: Mapping[str, Any], names: Names, prompt: int | None, cached: int | None) -> None:
    """The prompt's parts: a cached token of a modality leaves that modality once."""
    shown: dict[str, int] = {}
    for name in names.prompt_lists:
        shown = shown or _by_modality(tally, raw.get(name), names.tokens)
    stored = _by_modality(tally, raw.get(names.cached_list), names.tokens)
    if cached is None and stored:
        cached = sum(stored.values())
    left = tally.share("cache_read", cached, prompt, names.cached)
    if cached is not None:
        rest = None if prompt is None else min(cached, prompt)
        rest = cached if rest is None else rest
        for modality in _INPUT_MODALITIES if stored else ():
            name = f"{modality} in {names.cached_list}"
            rest = tally.share(f"cache_read_{modality}", stored.get(modality), rest, name) or 0
        tally.parts["cache_read"] = rest
    for modality in _INPUT_MODALITIES if shown else ():
        quantity = shown.get(modality)
        if quantity is None:
            continue
        if modality in stored:
            quantity = max(0, quantity - stored[modality])
        elif cached and not stored and left is not None and quantity > left and sum(shown.values()) == prompt:
            tally.estimates.append("which modality was read from the cache is not reported")
            quantity = left
        left = tally.share(f"input_{modality}", quantity, left, f"{modality} in {names.prompt_lists[0]}")
    if left is not None:
        tally.parts["input"] = left


def _by_modality(tally: Tally, entries: object, tokens: str) -> dict[str, int]:
    """Modality -> tokens, out of a list of both."""
    found: dict[str, int] = {}
    for entry in sequence(entries):
        if isinstance(entry, dict):
            modality = entry.get("modality")
            word = _MODALITIES.get(modality, "") if type(modality) is int else text(modality).lower()
            quantity = tally.count(entry, tokens) if tokens in entry else 0  # a zero is left out of the JSON
            if word and quantity is not None:
                found[word] = found.get(word, 0) + quantity
    return found


def error(value: object) -> tuple[str, str] | None:
    """(status, message) of a Google API error (https://google.aip.dev/193); None where there is none."""
    if not value:
        return None
    fields = mapping(value)
    code = fields.get("code")
    kind = text(fields.get("status")) or text(code) or (str(code) if type(code) is int else "error")
    return kind, text(fields.get("message"))


def time_ns(value: object) -> int | None:
    """An RFC 3339 time in UTC (`2026-05-27T16:53:45.443719Z`) as ns since the epoch; None if it is none."""
    told = text(value)
    if len(told) > 40 or not told.endswith("Z"):
        return None
    seconds, _, fraction = told[:-1].partition(".")
    if fraction and not (fraction.isascii() and fraction.isdigit() and len(fraction) <= 9):
        return None
    try:
        moment = datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0"))
