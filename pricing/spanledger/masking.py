"""Error messages without secrets and without content: masked, and cut at 500 characters.

Providers echo what they were sent: a key, a prompt, a tool's argument. What looks like a key, an address or a
credential goes, and so does every quotation that is more than one word, and whatever the call's own request holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_MESSAGE = 500

_MASK = "***"
_MAX_QUOTED = 64
_MAX_CONTENT = 128 * 1024
_MAX_TEXTS = 2_000
_RUN = 3  # so many words in a row that the request holds too are its words
_LONG_WORD = 12

_KEYS = (
    # OpenAI, Anthropic, OpenRouter, DeepSeek and many others; Cerebras
    r"c?sk[-_]",
    r"[pr]k[-_]",
    r"xai-",
    r"gsk_",  # Groq
    r"hf_",  # Hugging Face
    r"r8_",  # Replicate
    r"pa-",  # Voyage
    r"tgp_",  # Together
    r"fw_",  # Fireworks
    r"pplx-",  # Perplexity
    r"nvapi-",  # NVIDIA
    r"AIza|AQ\.|ya29\.",  # Google
    r"AKIA|ASIA|ABSK|bedrock-api-key-",  # AWS
    r"gh[a-z]_|github_pat_",  # GitHub
    r"xox[a-z]-",  # Slack
)

_NAMED = (
    r"(?:[\w-]*(?:api|subscription|access|account|private)[ _-]?key(?:[ _-]?id)?|[\w-]*(?:secret|passw(?:or)?d|token|"
    r"signature|credentials?)|authorization|(?:set-)?cookie|pepper)"
)

_SECRETS = (
    (re.compile(r"(?i)\b(bearer|basic|digest)\s+[\w.~+/=-]{6,}"), r"\1 " + _MASK),
    (
        re.compile(
            r"(?i)\b("
            + _NAMED
            + r"[\"']?(?: provided| given| used)?\s*[:=]\s*[\"']?)(?!\s)(?:bearer\s+|basic\s+)?[^\s\"',;&}]+"
        ),
        r"\1" + _MASK,
    ),
    (re.compile(r"(?i)([?&](?:key|sig|auth|code)=)[^\s\"'&]+"), r"\1" + _MASK),
    (re.compile(r"\b(?:" + "|".join(_KEYS) + r")[A-Za-z0-9._*-]{6,}"), _MASK),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]+)?"), _MASK),
    (re.compile(r"-----BEGIN [A-Z ]+-----.*", re.DOTALL), _MASK),
    (re.compile(r"(?<=://)[^/\s@]+(?=@)"), _MASK),
    (re.compile(r"[\w.%+-]+@[\w-]+(?:\.[\w-]+)+"), _MASK),
    (re.compile(r"\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{32,}\b"), _MASK),  # Azure, Cohere, Mistral
    (re.compile(r"(?<![\w/-])(?=[\w-]*\d)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{44,}"), _MASK),  # IBM Cloud
)

_ECHOES = (
    (
        re.compile(
            r"(?i)\b((?:invalid|bad|unsupported|blocked|flagged|rejected) "
            r"(?:prompt|input|message|content|text|query|instruction|argument)s?\s*[:=]\s*).+"
        ),
        r"\1" + _MASK,
    ),
    (
        re.compile(r"(?i)\b((?:input|prompt|content|user|query|text|message)_?(?:value|text|id)?=)[^,\]\n]+"),
        r"\1" + _MASK,
    ),
)

_QUOTED = re.compile(
    r"""(?<!\w)(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.|'(?=\w))*'?|`[^`]*`?|“[^”]*”?|«[^»]*»?)""", re.DOTALL
)
_SPACE = re.compile(r"\s")
_BETWEEN = ".,;:!?()[]{}<>\"'`“”«»=|/\\*&"
_WORD = re.compile(f"[^\\s{re.escape(_BETWEEN)}]+")
_BETWEEN_AS_SPACE = str.maketrans(dict.fromkeys(_BETWEEN, " "))

_SHORT_FIELDS = frozenset({"model", "modelId", "role", "type"})
"""Fields of a request that an error may name."""


def masked(message: str, request: Any = None) -> str:
    """`message`, cut and without what looks like a secret or like content.

    Masking what is masked changes nothing.

    Parameters:
        request: what was sent, parsed; no three words in a row of it stay, nor a long one.
    """
    text = message[: 4 * MAX_MESSAGE].encode("utf-8", "replace").decode()
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    if request:
        text = _without_words_of(text, request)
    for pattern, replacement in _ECHOES:
        text = pattern.sub(replacement, text)
    text = _QUOTED.sub(_unquoted, text)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def _unquoted(found: re.Match[str]) -> str:
    """A quotation: one word stays (`'max_tokens'`), more is content."""
    quoted = found.group()
    if len(quoted) <= _MAX_QUOTED and not _SPACE.search(quoted):
        return quoted
    closed = len(quoted) > 1 and quoted[-1] in "\"'`”»"
    return f"{quoted[0]}{_MASK}{quoted[-1] if closed else ''}"


def _without_words_of(message: str, request: Any) -> str:
    texts = list(_texts(request))
    if not texts:
        return message
    whole = {each.strip(_BETWEEN).lower() for each in texts if len(each) <= _MAX_QUOTED}
    content = f" {' '.join(' '.join(texts).translate(_BETWEEN_AS_SPACE).lower().split())} "
    found = list(_WORD.finditer(message))
    words = [match.group().lower() for match in found]
    gone: set[int] = set()
    for place, word in enumerate(words):
        run = " ".join(words[place : place + _RUN])
        if run.count(" ") == _RUN - 1 and run in content:
            gone.update(range(place, place + _RUN))
        elif (len(word) >= _LONG_WORD and word in content) or (len(word) > 3 and word in whole):
            gone.add(place)
    if not gone:
        return message
    pieces, at = [], 0
    for place, match in enumerate(found):
        if place in gone:
            if place - 1 not in gone:
                pieces += [message[at : match.start()], _MASK]
            at = match.end()
    return "".join((*pieces, message[at:]))


def _texts(value: Any) -> Iterator[str]:
    """The texts of a request, within bounds."""
    left, texts = _MAX_CONTENT, 0
    waiting = [value]
    while waiting and left > 0 and texts < _MAX_TEXTS:
        each = waiting.pop()
        if isinstance(each, str):
            texts += 1
            yield each[:left]
            left -= len(each)
        elif isinstance(each, Mapping):
            waiting += [item for name, item in each.items() if name not in _SHORT_FIELDS]
        elif isinstance(each, (list, tuple)):
            waiting += each
        elif isinstance(each, (bytes, bytearray)):
            waiting.append(bytes(each[:left]).decode("utf-8", "replace"))
        elif hasattr(each, "DESCRIPTOR") or hasattr(type(each), "pb"):  # protobuf, proto-plus
            waiting.append(str(each))
