"""Which call a row is about: everybody who describes the same call must come to the same `entry_id`."""

from __future__ import annotations

import binascii
from typing import Final

from spanledger.pricing.names import canonical_provider

try:  # hashlib loads OpenSSL, 3 MB, for what this module has on its own
    from _blake2 import blake2b
except ImportError:  # pragma: no cover - another Python than CPython
    from hashlib import blake2b

_UNIQUE_PREFIXES: Final = ("chatcmpl-", "resp_", "msg_", "gen-", "cmpl-", "compl_")
"""Formats of response ids that no two providers share; a counter behind one of them is still no identity."""

_ENOUGH: Final = 16
"""So many characters, and an id is random and not a counter: Ollama's `chatcmpl-123` is not unique."""

_RANDOM: Final = 20
"""So many characters with letters and digits, and no counter at their end: no two providers share such an id."""

_LITELLMS: Final = "resp_bGl0ZWxsbTpj"
"""How a response id of LiteLLM's begins: base64 of `litellm:custom_llm_provider:P;model_id:M;response_id:ID`, where
`ID` is the provider's. https://github.com/BerriAI/litellm, `litellm/responses/utils.py`."""

_DIGITS: Final = frozenset("0123456789")


def entry_id(provider: str, response_id: str, trace_id: str, span_id: str) -> str:
    """32 hex digits that stand for one call.

    Parameters:
        provider: as the span says, any spelling.
        response_id: the provider's id of the response; empty if it gave none.
        trace_id, span_id: in lower-case hex; they identify a call whose response has no id of its own.
    """
    if response_id.startswith(_LITELLMS):
        response_id = inside_litellms(response_id)[1]
    for prefix in _UNIQUE_PREFIXES:
        if response_id.startswith(prefix) and len(response_id) - len(prefix) >= _ENOUGH:
            return _hash(response_id)
    if len(response_id) >= _ENOUGH:
        if _random(response_id):
            return _hash(response_id)
        return _hash(f"{canonical_provider(provider)}\n{response_id}")
    return _hash(f"{trace_id}\n{span_id}")


def inside_litellms(response_id: str) -> tuple[str, str]:
    """Provider and response id that a response id of LiteLLM's holds; of any other, no provider and itself."""
    if not response_id.startswith(_LITELLMS):
        return "", response_id
    try:
        held = binascii.a2b_base64(response_id.removeprefix("resp_")).decode()
    except ValueError:
        return "", response_id
    front, mark, inner = held.partition(";response_id:")
    if not mark or not inner:
        return "", response_id
    return front.removeprefix("litellm:custom_llm_provider:").partition(";")[0], inner


def _random(response_id: str) -> bool:
    return (
        len(response_id) >= _RANDOM
        and not response_id[-8:].isdecimal()
        and not _DIGITS.isdisjoint(response_id)
        and response_id.lower() != response_id.upper()
    )


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
