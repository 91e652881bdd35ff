"""Semantic Kernel, Python and .NET: the GenAI conventions with operations of its own.

https://github.com/microsoft/semantic-kernel, `utils/telemetry/model_diagnostics`: input and output tokens alone, as
the provider counts them; nothing about the cache.
"""

from __future__ import annotations

from typing import Final

from spanledger import attributes as names
from spanledger.exporter.dialects import genai
from spanledger.exporter.dialects.call import call, words
from spanledger.exporter.dialects.counting import INSIDE, Rule
from spanledger.exporter.dialects.dialect import Attributes

_OPERATIONS: Final = {
    "chat.completions": "chat",
    "chat.streaming_completions": "chat",
    "text.completions": "text_completion",
    "text_completions": "text_completion",
    "text.streaming_completions": "text_completion",
}

_WORDS: Final = words(genai.TEXTS, genai.COUNTS, prefixes=("gen_ai.usage.",))


def read(attributes: Attributes) -> Attributes | None:
    said = attributes.get(names.OPERATION)
    operation = _OPERATIONS.get(said) if type(said) is str else None
    rule = Rule(INSIDE, tells_cache=False)
    if operation is None:
        return genai.read_by(attributes, _WORDS, rule)
    streams = {names.REQUEST_STREAM: True} if "streaming" in str(said) else {}
    return call({**attributes, **streams}, _WORDS, operation, rule)
