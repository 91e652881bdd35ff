"""From the token counts that an emitter gives to disjoint parts (`docs/usage.md`).

What the emitters agree on is done here; where they differ is said by a `Rule`, one an emitter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from spanledger.pricing.counts import Tally

INSIDE: Final = "inside"
ON_TOP: Final = "on top"
BY_TOTAL: Final = "by total"
"""The emitter's total is the provider's own, and tells which of the two it is."""
NOT_KNOWN: Final = "not known"


class Rule(NamedTuple):
    """How an emitter counts.

    Attributes:
        cache: whether tokens read from and written to a cache are inside the input count, or come on top of it.
        tells_cache: whether it says how many tokens were cached, where some were.
        reasoning: whether reasoning tokens are inside the output count, or come on top of it.
        rest: the part that tokens are likeliest to be which only its total has; empty if nobody knows.
    """

    cache: str = INSIDE
    tells_cache: bool = True
    reasoning: str = INSIDE
    rest: str = ""


CACHE_NOT_TOLD: Final = "the emitter does not tell how many of the input tokens were cached"
INPUT_NOT_KNOWN: Final = "whether the input tokens include the cached ones is not known of this emitter"

_WRITES: Final = ("cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h")
_MODALITIES: Final = ("audio", "image", "video", "document")
_READS: Final = tuple(f"cache_read_{modality}" for modality in _MODALITIES)


def add_tokens(tally: Tally, counts: Mapping[str, int], rule: Rule, *, may_cache: bool) -> None:
    """Add the token parts that `counts` come to.

    Parameters:
        counts: `input`, `output`, `total` and details of the first two, named as the parts are (`cache_read`,
            `cache_write`, `cache_write_1h`, `input_audio`, `cache_read_audio`, `output_reasoning`, ...); absent
            where the emitter does not give them.
        may_cache: whether calls of this kind are ever served from a cache.
    """
    get = counts.get
    prompt, completion, total = get("input"), get("output"), get("total")
    cached = get("cache_read", 0) + _written(counts)
    reasoning = get("output_reasoning", 0)
    gap = total - (prompt or 0) - (completion or 0) if total is not None else 0
    cache, reasoned = rule.cache, rule.reasoning
    if cached and cache in (NOT_KNOWN, BY_TOTAL):
        if gap in (cached, cached + reasoning) or (prompt is not None and cached > prompt):
            cache = ON_TOP
        elif cache == BY_TOTAL and total is not None and gap == 0:
            cache = INSIDE
        else:
            cache = INSIDE
            tally.estimates.append(INPUT_NOT_KNOWN)
    elif prompt is not None and cache == INSIDE and max(get("cache_read", 0), _written(counts)) > prompt:
        cache = ON_TOP
        tally.estimates.append("more tokens were cached than there were input tokens: read as on top of them")
    if reasoning and reasoned == NOT_KNOWN:
        reasoned = ON_TOP if gap in (reasoning, reasoning + cached) or reasoning > (completion or 0) else INSIDE
    if prompt and may_cache and not cached and not rule.tells_cache:
        tally.estimates.append(CACHE_NOT_TOLD)

    left = prompt if cache != ON_TOP else None
    left = _share(
        tally, counts, "cache_read", left, within=("cache_read_audio", "cache_read_image", "cache_read_video")
    )
    left = _share(tally, counts, "cache_write", left, within=_WRITES)
    if cache == ON_TOP:
        left = prompt
    for modality in _MODALITIES:
        quantity = get(f"input_{modality}")
        if quantity is not None:
            quantity = max(quantity - get(f"cache_read_{modality}", 0), 0)
            if left is not None and cached and quantity > left:
                tally.estimates.append(f"how many of the cached tokens were {modality} is not told")
                quantity = left
            left = tally.share(f"input_{modality}", quantity, left, f"input_{modality}")
    if left is not None:
        tally.parts["input"] = left

    left = completion
    if reasoned == ON_TOP:
        if "output_reasoning" in counts:
            tally.parts["output_reasoning"] = reasoning
    else:
        left = tally.share("output_reasoning", get("output_reasoning"), left, "output_reasoning")
    for modality in _MODALITIES[:3]:
        left = tally.share(f"output_{modality}", get(f"output_{modality}"), left, f"output_{modality}")
    if left is not None:
        tally.parts["output"] = left
    if gap > 0:
        missing = gap - (cached if cache == ON_TOP else 0) - (reasoning if reasoned == ON_TOP else 0)
        if missing > 0:
            tally.estimates.append(f"the emitter's total has {missing} tokens more than it gives by kind")
            if rule.rest:
                tally.add(rule.rest, missing)


def _written(counts: Mapping[str, int]) -> int:
    return max(counts.get("cache_write", 0), sum(counts.get(part, 0) for part in _WRITES))


def _share(
    tally: Tally, counts: Mapping[str, int], part: str, left: int | None, *, within: tuple[str, ...]
) -> int | None:
    """Take a cache count out of the input, split as far as its own details go; what is left of the input."""
    quantity = counts.get(part)
    details = {name: counts[name] for name in within if name in counts}
    if quantity is None and not details:
        return left
    whole = sum(details.values()) if quantity is None else quantity
    if left is not None and whole > left:
        tally.reasons.append(f"{part} is {whole}, more than the {left} that is left of its total")
        whole = left
    rest: int | None = whole
    for name, value in details.items():
        rest = tally.share(name, value, rest, name)
    if rest or not details:
        tally.parts[part] = rest or 0
    return None if left is None else left - whole
