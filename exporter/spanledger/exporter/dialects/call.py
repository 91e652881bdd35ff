"""A billable call in our own names, out of an emitter's attributes and its `Words`.

Only attributes that a table names are looked at: never content.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from spanledger import attributes as names
from spanledger.exporter.dialects.counting import Rule, add_tokens
from spanledger.exporter.dialects.dialect import Attributes
from spanledger.pricing.counts import Tally, amount
from spanledger.pricing.names import canonical_provider
from spanledger.pricing.usage import FEE_PARTS, INCOMPLETE, MISSING

WORKFLOW: Final = "workflow"
TOOL: Final = "tool"

OPERATIONS: Final = {
    "chat": "chat",
    "message": "chat",
    "messages": "chat",
    "responses": "chat",
    "generate_content": "chat",
    "text_completion": "text_completion",
    "completion": "text_completion",
    "embeddings": "embeddings",
    "embedding": "embeddings",
    "embed": "embeddings",
    "rerank": "rerank",
    "generate_image": "image_generation",
    "image_generation": "image_generation",
    "image": "image_generation",
    "generate_video": "video_generation",
    "extend_video": "video_generation",
    "video_generation": "video_generation",
    "transcription": "transcription",
    "translation": "translation",
    "speech": "speech",
    "text_to_speech": "speech",
    "moderation": "moderation",
    "ocr": "ocr",
}
"""An emitter's word for a billable operation -> the ledger's (`docs/usage.md`)."""

MAY_CACHE: Final = frozenset({"chat", "text_completion"})

NEVER_CALLS: Final = frozenset(
    {
        "create_agent",
        "create_memory",
        "create_memory_store",
        "delete_memory",
        "delete_memory_store",
        "invoke_agent",
        "invoke_workflow",
        "execute_tool",
        "plan",
        "retrieval",
        "search_memory",
        "update_memory",
        "upsert_memory",
    }
)

_REFUSED: Final = frozenset(
    {
        "AuthenticationError",
        "BadRequestError",
        "ConflictError",
        "InternalServerError",
        "NotFoundError",
        "OverloadedError",
        "PermissionDeniedError",
        "RateLimitError",
        "RequestTooLargeError",
        "ServiceUnavailableError",
        "UnprocessableEntityError",
    }
)
"""Exceptions of provider SDKs that stand for an HTTP answer: nothing was generated, nothing is billed."""

_ATTRIBUTION: Final = {
    names.TENANT: ("spanledger.tenant", "tenant.id", "tenant_id"),
    names.USER_ID: ("user.id", "enduser.id", "user_id"),
    names.SESSION_ID: ("session.id", "gen_ai.conversation.id", "session_id"),
    names.FEATURE: ("spanledger.feature",),
    names.PROMPT_NAME: ("gen_ai.prompt.name", "spanledger.prompt.name"),
    names.AGENT_NAME: ("gen_ai.agent.name",),
    names.WORKFLOW_NAME: ("gen_ai.workflow.name",),
    names.TOOL_NAME: ("gen_ai.tool.name",),
}
"""Whom a call is for: our name -> the names that any emitter may use, first first."""


_WAITS: Final = (
    ("gen_ai.response.time_to_first_chunk", 10**9),
    ("gen_ai.server.time_to_first_token", 10**9),
    ("gen_ai.client.operation.time_to_first_chunk", 10**9),
    ("ai.response.msToFirstChunk", 10**6),
)
"""How long the first piece of a stream took: attribute, and its unit in ns."""


class Words(NamedTuple):
    """An emitter's vocabulary.

    Attributes:
        texts: our attribute -> those of the emitter; the first that is there counts.
        counts: attribute of the emitter -> (part, or `input`, `output`, `total`; its place among its spellings).
        prefixes: where its usage attributes begin; a number there that no count stands for is kept as unmapped.
        costs: attributes with what it says the call cost, USD.
    """

    texts: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, tuple[str, int]]
    prefixes: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()


def words(
    texts: Mapping[str, tuple[str, ...]],
    counts: Mapping[str, tuple[str, ...]],
    *,
    attribution: Mapping[str, tuple[str, ...]] | None = None,
    prefixes: tuple[str, ...] = (),
    costs: tuple[str, ...] = (),
) -> Words:
    """A vocabulary from tables that are written the other way round, and what all emitters share."""
    whom = {
        name: (*(attribution or {}).get(name, ()), *common, *texts.get(name, ()))
        for name, common in _ATTRIBUTION.items()
    }
    return Words(
        {**texts, **whom},
        {spelling: (part, place) for part, spellings in counts.items() for place, spelling in enumerate(spellings)},
        prefixes,
        costs,
    )


def first(attributes: Attributes, several: tuple[str, ...]) -> Any:
    """The value of the first of `several` that is there and not empty; None if none is."""
    for name in several:
        value = attributes.get(name)
        if value is not None and value != "":
            return value
    return None


def call(
    attributes: Attributes,
    vocabulary: Words,
    operation: str,
    rule: Rule,
    *,
    counts: Mapping[str, Any] | None = None,
    fees: Mapping[str, int] | None = None,
    provider: str = "",
    doubt: str = "",
) -> dict[str, Any]:
    """The call that `attributes` describe.

    Parameters:
        operation: the ledger's word for what was done.
        rule: how its emitter counts.
        counts: attributes of usage, where they are not the span's own (out of a JSON text).
        fees: parts that are no tokens, besides those that `vocabulary` finds.
        provider: who it says serves the call, where `vocabulary` does not find it.
        doubt: why the counts are only the likeliest ones.
    """
    found = _texts(attributes, vocabulary)
    found[names.OPERATION] = operation
    found[names.PROVIDER] = provider_of(provider or str(found.get(names.PROVIDER, "")), attributes)
    stream = found.get(names.REQUEST_STREAM)
    if stream is not None:
        found[names.REQUEST_STREAM] = stream is True or stream in ("true", "True")
    _usage(found, {**attributes, **counts} if counts else attributes, vocabulary, rule, operation, fees, doubt)
    if found[names.USAGE_STATUS] == MISSING and _refused(attributes, found):
        found[names.NOT_BILLED] = True
    for name, unit_ns in _WAITS:
        waited = amount(attributes.get(name))
        if waited is not None:
            found[names.TIME_TO_FIRST_TOKEN_NS] = int(waited * unit_ns)
            break
    cost = first(attributes, vocabulary.costs)
    if cost is not None and (stated := amount(cost)) is not None:
        found[names.REPORTED_COST] = f"{stated:f}"
    return found


def around(attributes: Attributes, vocabulary: Words, operation: str) -> dict[str, Any] | None:
    """A span around calls, by the names that it gives them; None where it gives none."""
    found = {name: value for name in _ATTRIBUTION if (value := first(attributes, vocabulary.texts[name])) is not None}
    if not found:
        return None
    found[names.OPERATION] = operation
    return found


def provider_of(said: str, attributes: Attributes) -> str:
    """The provider's canonical name; a host that is known decides, for a client's class does not tell who answers."""
    host = attributes.get(names.SERVER_ADDRESS)
    if type(host) is str and host and (known := _of_host(host)):
        return known
    return canonical_provider(said) if said else ""


@lru_cache(maxsize=1024)
def _of_host(host: str) -> str:
    """Whose host it is; empty if that is not known."""
    bare = host.lower().rpartition("://")[2].partition("/")[0].partition(":")[0]
    known = canonical_provider(host)
    return "" if known == bare else known


def _texts(attributes: Attributes, vocabulary: Words) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, several in vocabulary.texts.items():
        value = first(attributes, several)
        if value is not None:
            found[name] = value
    tags = {
        tag: str(found.pop(name))
        for name, tag in ((names.WORKFLOW_NAME, WORKFLOW), (names.TOOL_NAME, TOOL))
        if name in found
    }
    own = attributes.get(names.TAGS)
    if own:
        found[names.TAGS] = own
    elif tags:
        found[names.TAGS] = orjson.dumps(tags).decode()
    return found


def _usage(
    found: dict[str, Any],
    attributes: Attributes,
    vocabulary: Words,
    rule: Rule,
    operation: str,
    fees: Mapping[str, int] | None,
    doubt: str,
) -> None:
    tally = Tally()
    if doubt:
        tally.estimates.append(doubt)
    raw: dict[str, Any] = {}
    counts: dict[str, int] = {}
    places: dict[str, int] = {}
    for name, value in attributes.items():
        known = vocabulary.counts.get(name)
        if known is None:
            if vocabulary.prefixes and type(value) in (int, float) and name.startswith(vocabulary.prefixes):
                raw[name] = value
                number = amount(value)
                if number and name not in vocabulary.costs:
                    tally.unmapped[name] = int(number) if number == int(number) else number
            continue
        part, place = known
        raw[name] = value
        number_ = tally.count(attributes, name)
        if number_ is not None and place <= places.get(part, place):
            counts[part], places[part] = number_, place
    add_tokens(tally, counts, rule, may_cache=operation in MAY_CACHE)
    for part in FEE_PARTS.intersection(counts):
        tally.parts[part] = counts[part]
    for part, quantity in (fees or {}).items():
        tally.parts[part] = quantity
    complete = not (found.get(names.ERROR_TYPE) and found.get(names.REQUEST_STREAM))
    usage = tally.usage(raw, complete=complete, why_missing="the emitter gives no usage")
    found[names.USAGE_STATUS] = usage.status
    if usage.parts:
        found[names.USAGE_PARTS] = _json(usage.parts)
    if usage.unmapped:
        found[names.USAGE_UNMAPPED] = _json(usage.unmapped)
    if usage.reasons:
        found[names.USAGE_REASONS] = usage.reasons
    if raw:
        found[names.USAGE_RAW] = _json(raw)


def _refused(attributes: Attributes, found: Mapping[str, Any]) -> bool:
    status = attributes.get("http.response.status_code", attributes.get("http.status_code"))
    if type(status) is int and status >= 400:
        return True
    kind = str(found.get(names.ERROR_TYPE, ""))
    return kind.rpartition(".")[2] in _REFUSED or (len(kind) == 3 and kind.isdecimal() and kind >= "400")


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, default=_plain).decode("utf-8", "replace")
    except TypeError:  # a whole number of more than 64 bits, a string with a lone surrogate
        return json.dumps(value, default=_plain)


def _plain(value: Any) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


__all__ = [
    "INCOMPLETE",
    "MAY_CACHE",
    "NEVER_CALLS",
    "OPERATIONS",
    "Words",
    "around",
    "call",
    "first",
    "provider_of",
    "words",
]
