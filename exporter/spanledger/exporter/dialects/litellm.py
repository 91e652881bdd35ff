"""LiteLLM's OpenTelemetry callback, in a program and in the proxy.

https://github.com/BerriAI/litellm: usage in OpenAI's shape whatever the provider, so the input includes cached tokens.
They are told by `litellm/integrations/otel/`, whose spans have a `litellm.call_type`, and not by the older
`litellm/integrations/opentelemetry.py`. `gen_ai.response.id` is LiteLLM's own where it translated the response, and the
id of its log where there is none.
"""

from __future__ import annotations

from typing import Final

from spanledger import attributes as names
from spanledger.exporter.dialects import genai
from spanledger.exporter.dialects.call import OPERATIONS, around, call, first, words
from spanledger.exporter.dialects.counting import INSIDE, Rule
from spanledger.exporter.dialects.dialect import SURROUNDINGS, Attributes
from spanledger.exporter.identity import inside_litellms
from spanledger.pricing.names import canonical_provider

_OPERATIONS: Final = {
    **OPERATIONS,
    "completion": "chat",
    "litellm.moderation": "moderation",
    "anthropic_messages": "chat",
    "generate_content_stream": "chat",
    "image_edit": "image_generation",
    "image_variation": "image_generation",
}

_CALL_TYPE: Final = "litellm.call_type"
_METADATA: Final = "metadata."

_WORDS: Final = words(
    {
        **genai.TEXTS,
        names.RESPONSE_MODEL: ("gen_ai.response.model", "litellm.provider.model"),
        names.REQUEST_STREAM: ("litellm.request.streaming", "llm.is_streaming", "gen_ai.request.stream"),
        names.API_KEY_ALIAS: (_METADATA + "user_api_key_alias",),
    },
    {
        **genai.COUNTS,
        "output_reasoning": (
            *genai.COUNTS["output_reasoning"],
            "gen_ai.usage.completion_tokens_details.reasoning_tokens",
        ),
    },
    attribution={
        names.TENANT: (
            "litellm.team.alias",
            "litellm.team.id",
            _METADATA + "user_api_key_team_alias",
            _METADATA + "user_api_key_team_id",
        ),
        names.USER_ID: (
            "litellm.end_user.id",
            "llm.user",
            _METADATA + "user_api_key_end_user_id",
            _METADATA + "user_api_key_user_id",
        ),
    },
    prefixes=("gen_ai.usage.",),
    costs=("litellm.cost.total", *genai.COSTS),
)

_ITS_OWN_IDS: Final = frozenset(
    {
        "anthropic",
        "aws.bedrock",
        "cohere",
        "gcp.gemini",
        "gcp.gen_ai",
        "gcp.vertex_ai",
        "huggingface",
        "ollama",
        "replicate",
    }
)
"""Providers whose responses LiteLLM translates: it gives them an id of its own."""


def read(attributes: Attributes) -> Attributes | None:
    """A call's own span; the span of its raw request, the proxy's and its services' have no model."""
    said = first(attributes, (_CALL_TYPE, "llm.request.type", names.OPERATION))
    operation = attributes.get(names.OPERATION)
    if operation in SURROUNDINGS:
        return around(attributes, _WORDS, operation)
    if type(said) is not str or first(attributes, (names.REQUEST_MODEL, names.RESPONSE_MODEL)) is None:
        return None
    rule = Rule(INSIDE, tells_cache=_CALL_TYPE in attributes)
    operation = _OPERATIONS.get(said) or _OPERATIONS.get(said.removeprefix("a"))
    if operation is None:
        return genai.read_by(attributes, _WORDS, rule)
    served_by, held = inside_litellms(str(attributes.get(names.RESPONSE_ID) or ""))
    if served_by:
        attributes = {"gen_ai.system": served_by, **_filled(attributes), names.RESPONSE_ID: held}
    provider = canonical_provider(str(first(attributes, ("gen_ai.provider.name", "gen_ai.system")) or ""))
    if operation not in ("chat", "text_completion") or provider in _ITS_OWN_IDS:
        attributes = {name: value for name, value in attributes.items() if name != names.RESPONSE_ID}
    return call(attributes, _WORDS, operation, rule)


def _filled(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value != ""}
