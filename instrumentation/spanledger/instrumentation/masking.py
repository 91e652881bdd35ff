"""Error messages without secrets: cut at 500 characters, keys, tokens, addresses and credentials masked."""

from __future__ import annotations

import re

MAX_MESSAGE = 500

_MASK = "***"
_SECRETS = (
    (re.compile(r"(?i)\b(bearer|basic|token)\s+[\w.~+/=-]{8,}"), r"\1 " + _MASK),
    (
        re.compile(r"(?i)\b((?:api[_-]?key|authorization|secret|password|token)[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]+"),
        r"\1" + _MASK,
    ),
    (re.compile(r"\b(?:sk|pk|rk|xai|gsk|hf|r8|pa|AIza|AKIA|ASIA)[-_]?[A-Za-z0-9*_-]{8,}"), _MASK),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]+)?"), _MASK),
    (re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"), _MASK),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), _MASK),
    (re.compile(r"\b[A-Fa-f0-9]{32,}\b"), _MASK),
)


def masked(message: str) -> str:
    """`message`, cut and without what looks like a secret."""
    text = message[: 4 * MAX_MESSAGE].encode("utf-8", "replace").decode()
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"
