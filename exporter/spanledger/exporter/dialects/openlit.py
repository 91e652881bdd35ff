"""OpenLIT: the GenAI conventions, with total and cost of its own reckoning beside them.

https://github.com/openlit/openlit. Where a provider sends no usage OpenLIT guesses it from the text's length, and does
not say so: of streams its counts are estimates.
"""

from __future__ import annotations

from typing import Final

from spanledger import attributes as names
from spanledger.exporter.dialects import genai
from spanledger.exporter.dialects.call import OPERATIONS, Words, call, words
from spanledger.exporter.dialects.counting import INSIDE, NOT_KNOWN, ON_TOP, Rule
from spanledger.exporter.dialects.dialect import Attributes

_OPERATIONS: Final = {
    **OPERATIONS,
    "audio": "speech",
    "speech_to_text": "transcription",
    "speech_to_text_translate": "translation",
    "translate": "translation",
    "video": "video_generation",
}

_WORDS: Final = words(
    genai.TEXTS,
    {**genai.COUNTS, "total": ("gen_ai.usage.total_tokens", "gen_ai.client.token.usage")},
    prefixes=("gen_ai.usage.",),
    costs=genai.COSTS,
)

_COHERES: Final = words(
    genai.TEXTS,
    {part: several for part, several in genai.COUNTS.items() if not part.startswith("cache_")},
    prefixes=("gen_ai.usage.",),
    costs=genai.COSTS,
)

GUESSED: Final = "the emitter guesses the tokens of a stream that has no usage, and does not say so"


def read(attributes: Attributes) -> Attributes | None:
    """Cached tokens inside the input, reasoning inside the output: its packages for OpenAI and its kin."""
    return _read(attributes, Rule(INSIDE), guesses=True)


def read_anthropic(attributes: Attributes) -> Attributes | None:
    """Anthropic's own counts: cached tokens on top of the input; of streams it does not tell them."""
    streamed = attributes.get(names.REQUEST_STREAM) is True
    return _read(attributes, Rule(ON_TOP, tells_cache=not streamed))


def read_gemini(attributes: Attributes) -> Attributes | None:
    """Gemini's own counts: cached tokens inside the input, thoughts on top of the candidates."""
    return _read(attributes, Rule(INSIDE, reasoning=ON_TOP))


def read_bedrock(attributes: Attributes) -> Attributes | None:
    """Bedrock's own counts, its total too: cached tokens on top of the input."""
    return _read(attributes, Rule(ON_TOP))


def read_cohere(attributes: Attributes) -> Attributes | None:
    """Cohere's billed units; what it says was cached lies in the call's tokens, not in these: unmapped."""
    return _read(attributes, Rule(INSIDE), guesses=True, vocabulary=_COHERES)


def read_unknown(attributes: Attributes) -> Attributes | None:
    """Its packages whose counting is not known here."""
    return _read(attributes, Rule(NOT_KNOWN, reasoning=NOT_KNOWN), guesses=True)


def _read(
    attributes: Attributes, rule: Rule, *, guesses: bool = False, vocabulary: Words = _WORDS
) -> Attributes | None:
    said = attributes.get(names.OPERATION)
    operation = _OPERATIONS.get(said) if type(said) is str else None
    if operation is None:
        return genai.read_by(attributes, vocabulary, rule)
    doubt = GUESSED if guesses and attributes.get(names.REQUEST_STREAM) is True else ""
    return call(attributes, vocabulary, operation, rule, doubt=doubt)
