"""The parts of the fixtures of xAI's gRPC API; `test_rules.py` tests them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from spanledger.pricing.usage import CONTRADICTORY, INCOMPLETE, Quantity

PARTS: dict[str, dict[str, Quantity]] = {
    "xai/completion": {"cache_read": 128, "input": 10120 - 128, "output": 1499, "output_reasoning": 2809},
    "xai/reasoning_inside": {"input": 100, "output": 50 - 40, "output_reasoning": 40},
    "xai/total_of_neither": {"input": 100, "output": 50, "output_reasoning": 40},
    "xai/images_in_the_prompt": {"cache_read": 64, "input_image": 256, "input": 700 - 64 - 256, "output": 20},
    "xai/tools": {
        "input": 900,
        "output": 80,
        "web_search": 1 + 1,
        "code_execution": 1,
        "file_search": 1 + 1,
        "tool_call": 1 + 1,
        "image": 1,
    },
    "xai/tier_of_the_response": {"input": 10, "output": 5},
    "xai/tier_of_the_request": {"input": 10, "output": 5},
    "xai/cached_above_the_prompt": {"cache_read": 100, "input": 0, "output": 5},
    "xai/unknown_fields": {"input": 10, "output": 5},
    "xai/no_usage": {},
    "xai/stream": {"input": 32, "output": 9},
    "xai/stream_broken": {"input": 32, "output": 7},
    "xai/compaction": {"input": 5000, "output": 400},
    "xai/images": {"image": 2},
    "xai/video": {"video_second": 8},
}
STATUS = {
    "xai/total_of_neither": CONTRADICTORY,
    "xai/cached_above_the_prompt": CONTRADICTORY,
    "xai/stream_broken": INCOMPLETE,
}
UNMAPPED: dict[str, dict[str, Quantity]] = {
    "xai/tools": {"num_sources_used": 4},
    "xai/unknown_fields": {"prompt_audio_tokens": 7},
    "xai/images": {"prompt_tokens": 12},
}
OTHER: dict[str, dict[str, Any]] = {
    "xai/completion": {
        "reported_cost": Decimal("0.0232856"),
        "response_id": "b0c5",
        "response_model": "grok-4-0709",
        "finish_reasons": ("REASON_STOP",),
        "created_ns": 1_780_000_000 * 10**9,
    },
    "xai/tools": {"reported_cost": None},
    "xai/tier_of_the_response": {"service_tier": "priority"},
    "xai/tier_of_the_request": {"service_tier": "priority"},
    "xai/compaction": {"response_id": "c1", "response_model": ""},
    "xai/images": {"reported_cost": Decimal("0.04"), "response_model": "grok-imagine-image"},
    "xai/video": {"reported_cost": Decimal("0.4")},
}
SUMS = {"xai/completion": 14428, "xai/reasoning_inside": 150, "xai/images_in_the_prompt": 720, "xai/stream": 41}
"""The provider's own total, where the fixture states one that its parts are told by."""
