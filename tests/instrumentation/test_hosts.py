from __future__ import annotations

import pytest

from spanledger.instrumentation.hosts import region_of_host


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("eu.api.openai.com", "eu"),
        ("api.openai.com", ""),
        ("us-east-1.api.x.ai", "us-east-1"),
        ("bedrock-runtime.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("bedrock-mantle.eu-central-1.api.aws", "eu-central-1"),
        ("us-east5-aiplatform.googleapis.com", "us-east5"),
        ("aiplatform.eu.rep.googleapis.com", "eu"),
        ("aiplatform.googleapis.com", ""),
        ("eu-de.ml.cloud.ibm.com", "eu-de"),
        ("ap-south-1.aws.wxai.ibm.com", "ap-south-1"),
        ("my-resource.openai.azure.com", ""),
    ],
)
def test_a_region_is_in_the_host(host: str, region: str) -> None:
    assert region_of_host(host) == region
