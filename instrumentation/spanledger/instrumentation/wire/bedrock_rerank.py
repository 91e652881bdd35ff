"""Rerank of Amazon Bedrock's agent runtime, which reports no usage.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_agent-runtime_Rerank.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire.bedrock_converse import Stream as Stream
from spanledger.instrumentation.wire.bedrock_invoke import estimate_search_units
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import Tally, mapping, sequence, text


def read(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read the ranking; its search units follow from the request's sources."""
    tally = Tally()
    sources = len(sequence(mapping(request).get("sources")))
    if sources and "results" in mapping(body):
        estimate_search_units(tally, sources)
    return Reading(usage=tally.usage(None))


def model_of(request: Mapping[str, Any]) -> str:
    """The ARN of the model that the request names; empty if it names none."""
    configuration = mapping(request.get("rerankingConfiguration"))
    model = mapping(mapping(configuration.get("bedrockRerankingConfiguration")).get("modelConfiguration"))
    return text(model.get("modelArn"))
