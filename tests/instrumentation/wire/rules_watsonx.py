"""The parts of the fixtures of watsonx; `test_rules.py` tests them."""

from __future__ import annotations

from typing import Any

from spanledger.pricing.usage import INCOMPLETE, REPORTED, Quantity

PARTS: dict[str, dict[str, Quantity]] = {
    "watsonx/generation": {"input": 8, "output": 5},
    "watsonx/generation_broken": {"input": 8, "output": 3},
    "watsonx/generation_error": {"input": 8, "output": 2},
    "watsonx/generation_of_several": {"input": 8 + 4, "output": 5 + 7},
    "watsonx/chat": {"cache_read": 16, "input": 23 - 16, "output": 9},
    "watsonx/chat_of_a_deployment": {"input": 23, "output": 9},
    "watsonx/embeddings": {"input": 11},
    "watsonx/rerank": {"input": 318},
    "watsonx/forecast": {},
}
STATUS: dict[str, str] = {
    "watsonx/generation_broken": INCOMPLETE,
    "watsonx/generation_error": INCOMPLETE,
    "watsonx/forecast": REPORTED,
}
UNMAPPED: dict[str, dict[str, Quantity]] = {
    "watsonx/forecast": {"input_data_points": 512, "output_data_points": 96},
}
OTHER: dict[str, dict[str, Any]] = {
    "watsonx/generation": {
        "response_model": "ibm/granite-4-h-small",
        "finish_reasons": ("eos_token",),
        "created_ns": 1_795_335_409_731_000_000,
    },
    "watsonx/generation_error": {"error": ("downstream_request_failed", "The model failed.")},
    "watsonx/generation_of_several": {"finish_reasons": ("eos_token", "max_tokens")},
    "watsonx/chat": {"response_id": "chatcmpl-1", "response_model": "ibm/granite-4-h-small"},
    "watsonx/chat_of_a_deployment": {"response_model": "ibm/granite-4-h-small"},
}
SUMS = {"watsonx/chat": 32, "watsonx/chat_of_a_deployment": 32}
"""The provider's own total, where the fixture states one."""
