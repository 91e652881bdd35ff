"""The parts of Bedrock's fixtures; `test_rules.py` tests them."""

from __future__ import annotations

from typing import Any

from spanledger.pricing.usage import CONTRADICTORY, ESTIMATED, INCOMPLETE, REPORTED, Quantity


def parts(**quantities: Quantity) -> dict[str, Quantity]:
    return quantities


PARTS: dict[str, dict[str, Quantity]] = {
    "bedrock/converse_cache": {"input": 4299, "cache_read": 35574, "cache_write": 17787, "output": 631},
    "bedrock/converse_cache_inside": parts(input=151900 - 151409, cache_read=151409, cache_write=0, output=100),
    "bedrock/converse_cache_inside_written": parts(input=1000 - 600 - 300, cache_read=600, cache_write=300, output=10),
    "bedrock/converse_cache_above_the_input": parts(input=0, cache_read=90, cache_write=100 - 90, output=10),
    "bedrock/converse_cache_details": parts(input=10, cache_read=0, cache_write_5m=600, cache_write_1h=400, output=5),
    "bedrock/converse_cache_details_in_part": parts(input=10, cache_write_1h=400, cache_write=1000 - 400, output=5),
    "bedrock/converse_cache_1h_of_the_request": parts(input=10, cache_read=0, cache_write_1h=1000, output=5),
    "bedrock/converse_cache_of_several_lifetimes": parts(input=10, cache_read=0, cache_write=1000, output=5),
    "bedrock/converse_counts_under_two_names": parts(input=458, cache_read=2098, cache_write=0, output=4),
    "bedrock/converse_names_that_differ": {"input": 458, "cache_read": 2098, "output": 4},
    "bedrock/converse_total_of_neither": {"input": 100, "cache_read": 50, "output": 10},
    "bedrock/converse_total_alone": {},
    "bedrock/converse_unknown_fields": {"input": 10, "output": 5},
    "bedrock/converse_guardrail": {"input": 10, "output": 5},
    "bedrock/converse_tier": {"input": 10, "output": 5},
    "bedrock/converse_tier_of_the_request": {"input": 10, "output": 5},
    "bedrock/converse_prompt_router": {"input": 10, "output": 5},
    "bedrock/converse_stream_broken": {},
    "bedrock/converse_stream_exception": {},
    "bedrock/invoke_llama": {"input": 8, "output": 35},
    "bedrock/invoke_titan": {"input": 9, "output": 17 + 3},
    "bedrock/invoke_titan_stream": {"input": 9, "output": 188},
    "bedrock/invoke_claude_2_stream": {"input": 11, "output": 6},
    "bedrock/invoke_titan_embedding": {"input": 5},
    "bedrock/invoke_mistral_stream": {"input": 7, "output": 3},
    "bedrock/invoke_mistral_stream_broken": {},
    "bedrock/invoke_cohere_stream": {"input": 7, "output": 3},
    "bedrock/invoke_cohere_billed": {"input": 5, "output": 2},
    "bedrock/invoke_nova": {"input": 572, "cache_read": 100, "cache_write": 0, "output": 58},
    "bedrock/invoke_claude": {"input": 392, "output": 134},
    "bedrock/invoke_gpt_oss": {"input": 74, "output": 26},
    "bedrock/invoke_gpt_oss_stream_without_usage": {"input": 74, "output": 26},
    "bedrock/invoke_jamba": {"input": 14, "output": 26},
    "bedrock/invoke_jurassic": {},
    "bedrock/invoke_deepseek_stream": {"input": 12, "output": 40},
    "bedrock/invoke_images": {"image": 2},
    "bedrock/invoke_image_filtered": {},
    "bedrock/invoke_rerank": {"search_unit": 1 + 1},
    "bedrock/invoke_rerank_billed": {"search_unit": 1},
    "bedrock/invoke_exception": {"input": 392, "output": 1},
    "bedrock/rerank": {"search_unit": 1 + 1 + 1},
    "bedrock/agent": {"input": 300, "output": 20},
    "bedrock/agent_without_a_trace": {},
    "bedrock/agent_exception": {"input": 1200, "output": 80},
    "bedrock/flow": {"input": 700, "output": 40},
    "bedrock/retrieve_and_generate": {},
    "bedrock/guardrail": {},
}

STATUS = {
    "bedrock/agent": INCOMPLETE,  # its end is the end of the stream, which only the patch sees
    "bedrock/agent_exception": INCOMPLETE,
    "bedrock/flow": INCOMPLETE,
    "bedrock/guardrail": REPORTED,
    "bedrock/converse_cache_above_the_input": CONTRADICTORY,
    "bedrock/converse_cache_of_several_lifetimes": ESTIMATED,
    "bedrock/converse_names_that_differ": CONTRADICTORY,
    "bedrock/converse_total_of_neither": CONTRADICTORY,
    "bedrock/converse_total_alone": CONTRADICTORY,
    "bedrock/invoke_rerank": ESTIMATED,
    "bedrock/invoke_exception": INCOMPLETE,
    "bedrock/rerank": ESTIMATED,
}

UNMAPPED: dict[str, dict[str, Quantity]] = {
    "bedrock/guardrail": {
        "guardrail.topicPolicyUnits": 2,
        "guardrail.contentPolicyUnits": 2,
        "guardrail.sensitiveInformationPolicyUnits": 1,
    },
    "bedrock/converse_total_alone": {"totalTokens": 40},
    "bedrock/converse_unknown_fields": {"serverToolUsage.groundingRequests": 2, "videoTokens": 7},
    "bedrock/converse_guardrail": {
        "guardrail.topicPolicyUnits": 1 + 2,
        "guardrail.contentPolicyUnits": 1,
        "guardrail.wordPolicyUnits": 1,
    },
}

OTHER: dict[str, dict[str, Any]] = {
    "bedrock/agent": {"response_model": "anthropic.claude-3-haiku-20240307-v1:0"},
    "bedrock/agent_exception": {"error": ("ThrottlingException", "Too many requests")},
    "bedrock/flow": {"response_model": "anthropic.claude-3-5-sonnet-20240620-v1:0"},
    "bedrock/converse_cache": {"finish_reasons": ("end_turn",), "response_model": "", "response_id": ""},
    "bedrock/converse_tier": {"service_tier": "flex", "processing": "optimized"},
    "bedrock/converse_tier_of_the_request": {"service_tier": "priority", "processing": ""},
    "bedrock/converse_prompt_router": {
        "response_model": "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0"
    },
    "bedrock/converse_stream_exception": {"error": ("ThrottlingException", "Too many requests")},
    "bedrock/invoke_llama": {"finish_reasons": ("stop",)},
    "bedrock/invoke_titan": {"finish_reasons": ("FINISH", "LENGTH")},
    "bedrock/invoke_titan_stream": {"finish_reasons": ("FINISH",)},
    "bedrock/invoke_claude_2_stream": {"finish_reasons": ("stop_sequence",)},
    "bedrock/invoke_mistral_stream": {"finish_reasons": ("length",)},
    "bedrock/invoke_cohere_stream": {
        "finish_reasons": ("COMPLETE",),
        "response_id": "3266ca30-473c-4491-b6ef-5b1f033798d2",
    },
    "bedrock/invoke_cohere_billed": {"finish_reasons": ("COMPLETE",), "response_id": "r-1"},
    "bedrock/invoke_nova": {"finish_reasons": ("end_turn",)},
    "bedrock/invoke_claude": {"response_id": "msg_bdrk_01", "response_model": "claude-3-5-sonnet-20240620"},
    "bedrock/invoke_gpt_oss": {"response_id": "chatcmpl-1", "finish_reasons": ("stop",)},
    "bedrock/invoke_jurassic": {"response_id": "1234", "finish_reasons": ("endoftext",)},
    "bedrock/invoke_exception": {"error": ("ModelStreamErrorException", "The model failed.")},
}

SUMS = {
    "bedrock/converse_cache": 58291,
    "bedrock/converse_cache_inside": 152000,
    "bedrock/converse_cache_inside_written": 1010,
    "bedrock/converse_cache_details": 1015,
    "bedrock/converse_counts_under_two_names": 2560,
}
