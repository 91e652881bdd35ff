"""What may be kept of what a provider says: an allow-list, for spans, rows and logs alike.

Numbers are kept. Of texts, only those that can hold no content: a known word, a quantity, an identifier of one word.
Any other is reduced to its type, `str`.
"""

from __future__ import annotations

from typing import Any, Final

REDUCED: Final = "str"
"""What stands for a text that is not kept."""

MAX_NAME = 64
MAX_WORD = 64
MAX_IDENTIFIER = 256

WORDS: Final = frozenset(
    {
        # tiers: service_tier, serviceTier, trafficType, speed
        *("auto", "batch", "default", "fast", "flex", "on_demand", "on_demand_flex", "on_demand_priority"),
        *("performance", "priority", "provisioned", "provisioned_throughput", "reserved", "scale", "slow"),
        *("standard", "standard_only", "traffic_type_unspecified", "unspecified"),
        # places: inference_geo
        *("asia", "eu", "global", "not_available", "us"),
        # modalities
        *("audio", "document", "image", "modality_unspecified", "text", "video"),
        # what a count is of: type
        *("advisor_message", "compaction", "duration", "fallback_message", "google_maps", "google_search"),
        *("message", "redeemed", "retrieval", "tokens"),
        # xAI's server_side_tools_used
        *(
            f"server_side_tool_{tool}"
            for tool in (
                *("attachment_search", "code_execution", "collections_search", "document_search", "file_search"),
                *("image_generation", "invalid", "mcp", "view_image", "view_x_video", "web_browser", "web_search"),
                "x_search",
            )
        ),
    }
)
"""Texts of usage objects, in lower case: those of the SDKs' own enumerations and of recorded answers."""

_QUANTITY: Final = "0123456789.xphms"  # 8.47, 1792x1024, 1080p, 5m
_MODELS: Final = frozenset({"model", "modelId", "model_id", "modelName", "model_name"})
_MAX_DEPTH = 8
_MAX_KNOWN = 4096

_known: set[str] = set()
"""Names that were looked at and kept."""


def usage(value: Any, name: str = "", depth: int = 0) -> Any:
    """A provider's usage object, with what is neither a number nor known reduced.

    The object itself comes back where nothing is to be reduced; it is never changed.

    Parameters:
        value: parsed JSON.
        name: the field that it stands in.
    """
    kind = type(value)
    if kind is dict:
        if depth >= _MAX_DEPTH:
            return "dict"
        if _known.issuperset(value):
            for key, item in value.items():
                if type(item) is not int and item is not None and usage(item, key, depth + 1) is not item:
                    break
            else:
                return value
        built: list[tuple[str, Any]] | None = None
        for place, (key, item) in enumerate(value.items()):
            item_kept = item if type(item) is int or item is None else usage(item, key, depth + 1)
            key_kept = key if key in _known else field(key)
            if built is not None:
                built.append((key_kept, item_kept))
            elif item_kept is not item or key_kept is not key:
                built = [*list(value.items())[:place], (key_kept, item_kept)]
        return value if built is None else dict(built)
    if kind is int or kind is float or value is None or kind is bool:
        return value
    if kind is str:
        return _text(value, name)
    if kind is list or kind is tuple:
        if depth >= _MAX_DEPTH:
            return "list"
        items = [usage(item, name, depth + 1) for item in value]
        return value if all(map(_same, items, value)) else items
    return kind.__name__  # Decimal and the like come out of no JSON


def field(name: Any) -> str:
    """The name of a field of an answer: kept where it is an identifier, of `MAX_NAME` characters at most."""
    if type(name) is not str:
        return REDUCED
    if name in _known:
        return name
    if len(name) > MAX_NAME or not name.isascii() or not name.translate(_NO_JOINTS).isalnum():
        return REDUCED
    if len(_known) >= _MAX_KNOWN:
        _known.clear()
    _known.add(name)
    return name


def word(value: str) -> str:
    """A finish reason, tier, region or kind of error: kept where it is one word, of `MAX_WORD` characters at most."""
    if value in _known or not value:
        return value
    return field(value) if len(value) <= MAX_WORD else REDUCED


def identifier(value: str) -> str:
    """A model's name or a response's id: kept where it is printable, without spaces, and not too long."""
    if len(value) <= MAX_IDENTIFIER and value.isprintable() and " " not in value:
        return value
    return REDUCED


_NO_JOINTS: Final = str.maketrans("", "", "_-.:/@+")


def _text(value: str, name: str) -> str:
    if len(value) <= MAX_WORD and (value.lower() in WORDS or not value.strip(_QUANTITY)):
        return value
    return identifier(value) if name in _MODELS else REDUCED


def _same(kept: object, sent: object) -> bool:
    return kept is sent
