"""What a client's host name says of the region that serves its calls."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1024)
def region_of_host(host: str) -> str:
    """The region in a host name, in the provider's words; empty where there is none.

    OpenAI's data residency hosts are `eu.api.openai.com`, xAI's regional ones `us-east-1.api.x.ai`; AWS has
    `bedrock-runtime.us-east-1.amazonaws.com` and `bedrock-mantle.us-east-1.api.aws`; Vertex
    `us-east5-aiplatform.googleapis.com` and `aiplatform.eu.rep.googleapis.com`; watsonx.ai `eu-de.ml.cloud.ibm.com` and
    `ap-south-1.aws.wxai.ibm.com`.
    """
    if host.endswith(".api.openai.com"):
        return host.removesuffix(".api.openai.com")
    if host.endswith(".api.x.ai"):
        return host.removesuffix(".api.x.ai")
    if host.startswith("bedrock") and (".amazonaws.com" in host or host.endswith(".api.aws")):
        return host.split(".")[1]
    if host.endswith("-aiplatform.googleapis.com"):
        return host.removesuffix("-aiplatform.googleapis.com")
    if host.startswith("aiplatform.") and host.endswith(".rep.googleapis.com"):
        return host.split(".")[1]
    if host.endswith((".ml.cloud.ibm.com", ".aws.wxai.ibm.com")):
        return host.split(".")[0]
    return ""
