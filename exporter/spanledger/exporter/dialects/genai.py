"""OpenTelemetry's GenAI conventions, by their current and older names, and the emitters that keep to them.

https://github.com/open-telemetry/semantic-conventions-genai: `gen_ai.usage.input_tokens` includes cached tokens,
`output_tokens` includes reasoning. Who counts otherwise has a reader of its own here (`docs/dialects.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spanledger import attributes as names
from spanledger.exporter.dialects.call import NEVER_CALLS, OPERATIONS, Words, around, call, first, words
from spanledger.exporter.dialects.counting import INSIDE, NOT_KNOWN, ON_TOP, Rule
from spanledger.exporter.dialects.dialect import SURROUNDINGS, Attributes

TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    names.PROVIDER: ("gen_ai.provider.name", "gen_ai.system"),
    names.REQUEST_MODEL: ("gen_ai.request.model",),
    names.RESPONSE_MODEL: ("gen_ai.response.model",),
    names.RESPONSE_ID: ("gen_ai.response.id",),
    names.REQUEST_STREAM: ("gen_ai.request.stream", "gen_ai.request.is_stream", "gen_ai.is_streaming"),
    names.FINISH_REASONS: ("gen_ai.response.finish_reasons", "gen_ai.response.finish_reason"),
    names.ERROR_TYPE: ("error.type",),
    names.SERVICE_TIER: (
        "openai.response.service_tier",
        "gen_ai.openai.response.service_tier",
        "anthropic.response.service_tier",
        "gen_ai.response.service_tier",
    ),
    names.RETRIES: ("http.request.resend_count",),
}

COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "total": ("gen_ai.usage.total_tokens", "llm.usage.total_tokens"),
    "cache_read": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cached_input_tokens",
        "gen_ai.usage.input_tokens.cached",
        "gen_ai.usage.cached_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "gen_ai.usage.details.cache_read_input_tokens",
        "gen_ai.usage.details.cached_tokens",
    ),
    "cache_write": (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_input_tokens",
        "gen_ai.usage.input_tokens.cache_write",
        "gen_ai.usage.details.cache_write_tokens",
        "gen_ai.usage.details.cache_creation_input_tokens",
    ),
    "output_reasoning": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.output_tokens.reasoning",
        "gen_ai.usage.details.reasoning_tokens",
        "gen_ai.usage.completion_tokens_details.reasoning_tokens",
    ),
    "input_audio": ("gen_ai.usage.audio.input_tokens",),
    "input_image": ("gen_ai.usage.image.input_tokens",),
    "input_video": ("gen_ai.usage.video.input_tokens",),
    "input_document": ("gen_ai.usage.document.input_tokens",),
    "cache_read_audio": ("gen_ai.usage.audio.cache_read.input_tokens",),
    "cache_read_image": ("gen_ai.usage.image.cache_read.input_tokens",),
    "cache_read_video": ("gen_ai.usage.video.cache_read.input_tokens",),
    "output_audio": ("gen_ai.usage.audio.output_tokens",),
    "output_image": ("gen_ai.usage.image.output_tokens",),
    "output_video": ("gen_ai.usage.video.output_tokens",),
    # What is left of the modalities is text: no part of its own.
    "text": (
        "gen_ai.usage.text.input_tokens",
        "gen_ai.usage.text.output_tokens",
        "gen_ai.usage.text.cache_read.input_tokens",
    ),
}

COSTS: Final = ("gen_ai.usage.cost", "gen_ai.usage.total_cost", "gen_ai.cost.total_cost", "operation.cost")

WORDS: Final = words(TEXTS, COUNTS, prefixes=("gen_ai.usage.",), costs=COSTS)

_BOTOCORES: Final = words({**TEXTS, names.REGION: ("cloud.region",)}, COUNTS, prefixes=("gen_ai.usage.",), costs=COSTS)

_ANTHROPICS_OWN: Final = words(
    TEXTS,
    {
        **COUNTS,
        "cache_write_5m": ("anthropic.usage.cache_creation.ephemeral_5m_input_tokens",),
        "cache_write_1h": ("anthropic.usage.cache_creation.ephemeral_1h_input_tokens",),
    },
    prefixes=("gen_ai.usage.", "anthropic.usage."),
    costs=COSTS,
)

_XAIS_OWN: Final = words(
    TEXTS,
    {
        **COUNTS,
        "cache_read": ("gen_ai.usage.cached_prompt_text_tokens",),
        "input_image": ("gen_ai.usage.prompt_image_tokens",),
        "text": ("gen_ai.usage.prompt_text_tokens",),
        "ticks": ("gen_ai.usage.cost_in_usd_ticks",),
    },
    prefixes=("gen_ai.usage.",),
)

_MISTRALS_OWN: Final = words(
    TEXTS,
    {**COUNTS, "page": ("mistral_ai.ocr.usage.pages_processed",)},
    prefixes=("gen_ai.usage.",),
)


def read(attributes: Attributes) -> Attributes | None:
    """Who keeps to the conventions: cached tokens are inside the input, reasoning inside the output."""
    return read_by(attributes, WORDS, Rule(INSIDE))


def read_google(attributes: Attributes) -> Attributes | None:
    """OpenTelemetry's instrumentation of google-genai: in Interactions, thoughts come on top of the output."""
    if attributes.get(names.OPERATION) == "interactions.create":
        return call(attributes, WORDS, "chat", Rule(INSIDE, reasoning=ON_TOP))
    return read_by(attributes, WORDS, Rule(INSIDE))


def read_unknown(attributes: Attributes) -> Attributes | None:
    """A scope that nobody knows: the conventions say that the input *should* include cached tokens, no more."""
    return read_by(attributes, WORDS, Rule(NOT_KNOWN, reasoning=NOT_KNOWN))


def read_without_cache(attributes: Attributes) -> Attributes | None:
    """Who does not tell how many tokens were cached, though the input includes them."""
    return read_by(attributes, WORDS, Rule(INSIDE, tells_cache=False))


def read_botocore(attributes: Attributes) -> Attributes | None:
    """OpenTelemetry's instrumentation of botocore: Bedrock's own counts, cached tokens on top of the input.

    Of `InvokeModel` it does not tell what was cached.
    """
    converse = str(attributes.get("rpc.method", "")).startswith("Converse")
    return read_by(attributes, _BOTOCORES, Rule(ON_TOP, tells_cache=converse))


def read_anthropics_own(attributes: Attributes) -> Attributes | None:
    """The `anthropic` package's own tracing, 2.x: it sums the input with what was cached.

    Compactions are not in that sum (`anthropic.usage.compaction.*`): they are added, as Anthropic bills them.
    """
    compacted = {
        f"gen_ai.usage.{side}_tokens": attributes[f"anthropic.usage.compaction.{side}_tokens"]
        for side in ("input", "output")
        if f"anthropic.usage.compaction.{side}_tokens" in attributes
    }
    if attributes.get(names.OPERATION) != "chat" or not compacted:
        return read_by(attributes, _ANTHROPICS_OWN, Rule(INSIDE))
    together = dict(attributes)
    for name, more in compacted.items():
        message = together.get(name)
        if type(more) is int and type(message) is int:
            together[name] = message + more
    doubt = "how much of the compaction's input was cached is not told"
    return call(together, _ANTHROPICS_OWN, "chat", Rule(INSIDE), doubt=doubt)


def read_xais_own(attributes: Attributes) -> Attributes | None:
    """The `xai-sdk` package's own telemetry, 1.x: in chat, reasoning comes on top of the completion.

    Prompt tokens include cached ones (prompt = text + image); ticks are 1e-10 USD.
    """
    operation = attributes.get(names.OPERATION)
    fees = {"image": 1} if operation == "generate_image" and "gen_ai.usage.input_tokens" not in attributes else None
    found = read_by(attributes, _XAIS_OWN, Rule(INSIDE, reasoning=ON_TOP), fees=fees)
    ticks = attributes.get("gen_ai.usage.cost_in_usd_ticks")
    if found is not None and type(ticks) is int and ticks >= 0:
        return {**found, names.REPORTED_COST: f"{ticks // 10**10}.{ticks % 10**10:010d}"}
    return found


def read_mistrals_own(attributes: Attributes) -> Attributes | None:
    """The `mistralai` package's own tracing: an agent's answer is one call, its `chat` spans are parts of it.

    It knows one of the two names by which Mistral tells what was cached.
    """
    operation = attributes.get(names.OPERATION)
    rule = Rule(INSIDE, tells_cache=False)
    if operation == "invoke_agent" and attributes.get("gen_ai.usage.output_tokens") is not None:
        return call(attributes, _MISTRALS_OWN, "chat", rule)
    if "http.request.method" not in attributes and operation not in SURROUNDINGS:
        return None
    if "mistral_ai.ocr.usage.pages_processed" in attributes:
        return call(attributes, _MISTRALS_OWN, "ocr", Rule(INSIDE))
    return read_by(attributes, _MISTRALS_OWN, rule)


def read_by(
    attributes: Attributes,
    vocabulary: Words,
    rule: Rule,
    *,
    fees: Mapping[str, int] | None = None,
    counts: Mapping[str, Any] | None = None,
) -> Attributes | None:
    """A call or what is around calls, told apart by `gen_ai.operation.name`.

    An operation that the conventions do not know is a call where it has a model and usage.
    """
    said = attributes.get(names.OPERATION)
    operation = OPERATIONS.get(said) if type(said) is str else None
    if operation is not None:
        return call(attributes, vocabulary, operation, rule, fees=fees, counts=counts)
    if said in SURROUNDINGS:
        return around(attributes, vocabulary, said)
    if said in NEVER_CALLS:
        return None
    model = first(attributes, (names.REQUEST_MODEL, names.RESPONSE_MODEL))
    if model is None or not any(name in attributes for name in _USED):
        return None
    return call(attributes, vocabulary, str(said or "chat"), rule, fees=fees, counts=counts)


_USED: Final = (*COUNTS["input"], *COUNTS["output"], *COUNTS["total"])
