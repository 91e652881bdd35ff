"""The parts of the fixtures of videos; `test_rules.py` tests them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from spanledger.pricing.usage import ESTIMATED, Quantity

PARTS: dict[str, dict[str, Quantity]] = {
    "video/openai_completed": {"video_second": 8},
    "video/openai_extended": {"video_second": 4},
    "video/openai_failed": {"video_second": 0},
    "video/openai_queued": {},
    "video/openai_seconds_of_another_kind": {},
    "video/together_completed": {"video_second": Decimal("5.5")},
    "video/veo_done": {"video_second": 2 * 6},
    "video/veo_failed": {"video_second": 0},
    "video/veo_filtered": {"video_second": 0},
    "video/veo_on_vertex": {"video_second": 8},
    "video/veo_started": {},
}
STATUS = {"video/veo_on_vertex": ESTIMATED}
UNMAPPED: dict[str, dict[str, Quantity]] = {}
SUMS: dict[str, int] = {}
OTHER: dict[str, dict[str, Any]] = {
    "video/openai_queued": {"pending": True, "background": True, "not_billed": False, "service_tier": "1792x1024"},
    "video/openai_completed": {
        "pending": False,
        "background": True,
        "not_billed": False,
        "response_id": "video_68d7512d07848190b3e45da0ecbebcde",
        "response_model": "sora-2-pro",
        "created_ns": 1_780_000_000 * 10**9,
        "service_tier": "1792x1024",
        "finish_reasons": ("completed",),
        "error": None,
    },
    "video/openai_failed": {"pending": False, "not_billed": True, "error": ("moderation_blocked", "No.")},
    "video/together_completed": {"reported_cost": None, "created_ns": 1_780_000_000_500_000_000},
    "video/veo_started": {"pending": True, "response_id": "models/veo-3.1-generate-001/operations/k3f9x2m8q1"},
    "video/veo_done": {"pending": False, "service_tier": "1080p", "response_model": "veo-3.1-generate-001"},
    "video/veo_on_vertex": {"service_tier": "720p without audio"},
    "video/veo_filtered": {"not_billed": True, "error": ("filtered", "Blocked.")},
    "video/veo_failed": {"not_billed": True, "error": ("13", "Internal error.")},
}
