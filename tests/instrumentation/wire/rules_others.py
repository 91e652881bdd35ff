"""The parts of the fixtures of providers whose SDKs have an HTTP client of their own; `test_rules.py` tests them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from spanledger.pricing.usage import ESTIMATED, REPORTED, Quantity

PARTS: dict[str, dict[str, Quantity]] = {
    "cohere/chat": {"input": 5, "output": 10},
    "cohere/chat_broken": {},
    "cohere/chat_v1": {"input": 7, "output": 149},
    "cohere/generate": {"input": 7, "output": 129},
    "cohere/embed": {"input": 2, "input_image": 1024},
    "cohere/embed_images": {"image": 3},
    "cohere/rerank": {"search_unit": 2},
    "cohere/classify": {},
    "cohere/parse": {"page": 12},
    "cohere/tokens_alone": {"input": 71, "output": 12},
    "huggingface/chat": {"cache_read": 12, "input": 32 - 12, "output": 1425},
    "huggingface/generation": {"input": 2, "output": 20},
    "huggingface/generation_without_details": {},
    "mistral/chat_cached": {"cache_read": 640, "input": 1000 - 640, "output": 50},
    "mistral/chat_audio": {"input": 12, "output": 30, "audio_second": 30},
    "mistral/fim": {"input": 8, "output": 9},
    "mistral/embeddings": {"input": 15, "output": 0},
    "mistral/ocr": {"page": 29},
    "mistral/transcription": {"input": 4, "output": 635, "audio_second": 203},
    "mistral/conversation": {
        "input": 188,
        "output": 55,
        "input_tool_use": 7112,
        "web_search": 1,
        "file_search": 2,
        "tool_call": 3,
    },
    "mistral/conversation_cached": {
        "cache_read": 40,
        "input": 100 - 40,
        "output": 5,
        "input_tool_use": 20,
        "web_search": 1,
    },
    "mistral/conversation_error": {},
    "mistral/speech_stream": {"input": 10, "output_audio": 120},
    "mistral/moderation": {},
    "ollama/chat": {"input": 17, "output": 50},
    "ollama/chat_broken": {},
    "ollama/chat_error": {},
    "ollama/prompt_not_counted": {"output": 50},
    "ollama/embed": {"input": 8},
    "ollama/embeddings": {},
    "ollama/systemone": {"input": 40, "output": 2},
    "replicate/language": {"input": 12, "output": 40},
    "replicate/image": {"image": 2},
    "replicate/under_way": {},
    "replicate/failed": {},
    "voyage/embeddings": {"input": 18},
    "voyage/rerank": {"input": 57},
    "voyage/multimodal": {"input": 5, "input_image": 3576 - 5},
    "voyage/multimodal_video": {"input": 5, "input_video": 5},
    "voyage/multimodal_mixed": {"input": 5, "input_image": 20},
}
STATUS: dict[str, str] = {
    "cohere/classify": REPORTED,
    "cohere/tokens_alone": ESTIMATED,
    "replicate/failed": REPORTED,
    "voyage/multimodal_mixed": ESTIMATED,
}
UNMAPPED: dict[str, dict[str, Quantity]] = {
    "cohere/chat": {"cached_tokens": 64},
    "cohere/classify": {"classifications": 4},
    "mistral/conversation_cached": {"video_tokens": 3},
    "replicate/language": {"predict_time": Decimal("1.5")},
    "replicate/image": {"predict_time": 3},
    "replicate/failed": {"predict_time": Decimal("2.5")},
}
OTHER: dict[str, dict[str, Any]] = {
    "cohere/chat": {"response_id": "33c65ef0", "finish_reasons": ("COMPLETE",)},
    "cohere/chat_v1": {"response_id": "dcdb9a85", "finish_reasons": ("COMPLETE",)},
    "cohere/generate": {"response_id": "64c671fc", "finish_reasons": ("COMPLETE",)},
    "mistral/chat_cached": {"service_tier": "priority", "response_id": "cmpl-1"},
    "mistral/ocr": {"response_model": "mistral-ocr-2505-completion"},
    "mistral/transcription": {"response_model": "voxtral-mini-2507"},
    "mistral/conversation": {"response_model": "mistral-medium-2505", "response_id": ""},
    "mistral/conversation_error": {"error": ("3000", "No.")},
    "replicate/under_way": {"pending": True, "response_id": "2knutntb"},
    "replicate/failed": {"error": ("failed", "CUDA out of memory")},
    "ollama/chat": {"response_model": "llama3", "finish_reasons": ("stop",)},
    "ollama/chat_error": {"error": ("error", "model runner has unexpectedly stopped")},
}
SUMS = {"voyage/multimodal": 3576, "mistral/chat_cached": 1050, "mistral/conversation": 7355}
"""The provider's own total, where the fixture states one that its parts are told by."""
