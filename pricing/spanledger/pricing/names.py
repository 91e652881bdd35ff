"""Names: which price list a call falls under, and which spellings its model may have there.

A provider has one canonical name: OpenTelemetry's well-known value of `gen_ai.provider.name` where there is one
(https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/), else the name in `_ALIASES`. The client's
host name decides it where the SDK is used for somebody else's endpoint: Azure's price list is not OpenAI's.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

_ALIASES = {
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "alibaba": "alibaba",
    "dashscope": "alibaba",
    "amazon": "aws.bedrock",
    "amazon-bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure-openai": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "fireworks-ai": "fireworks",
    "fireworks_ai": "fireworks",
    "gemini": "gcp.gemini",
    "google": "gcp.gen_ai",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "google_genai": "gcp.gen_ai",
    "google_generative_ai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "vertex": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "grok": "x_ai",
    "x-ai": "x_ai",
    "x.ai": "x_ai",
    "xai": "x_ai",
    "hugging_face": "huggingface",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshotai",
    "together-ai": "together",
    "together_ai": "together",
    "togetherai": "together",
    "voyage": "voyageai",
    "voyage_ai": "voyageai",
    "watsonx": "ibm.watsonx.ai",
    "z.ai": "zai",
    "zhipu": "zhipuai",
}

_HOSTS = {
    "ai.mongodb.com": "voyageai",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.anthropic.com": "anthropic",
    "api.arcee.ai": "arcee",
    "api.avian.io": "avian",
    "api.cerebras.ai": "cerebras",
    "api.cloudflare.com": "cloudflare",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.crusoe.ai": "crusoe",
    "api.deepseek.com": "deepseek",
    "api.doubleword.ai": "doubleword",
    "api.elevenlabs.io": "elevenlabs",
    "api.eu.mistral.ai": "mistral_ai",
    "api.fireworks.ai": "fireworks",
    "api.githubcopilot.com": "github-copilot",
    "api.groq.com": "groq",
    "api.inference.crusoecloud.com": "crusoe",
    "api.meta.ai": "meta",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshotai",
    "api.moonshot.cn": "moonshotai",
    "api.novita.ai": "novita",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.replicate.com": "replicate",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.us.mistral.ai": "mistral_ai",
    "api.voyageai.com": "voyageai",
    "api.writer.com": "writer",
    "api.x.ai": "x_ai",
    "api.z.ai": "zai",
    "codestral.mistral.ai": "mistral_ai",
    "dashscope-intl.aliyuncs.com": "alibaba",
    "dashscope-us.aliyuncs.com": "alibaba",
    "dashscope.aliyuncs.com": "alibaba",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "inference.baseten.co": "baseten",
    "oai.endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "ollama.com": "ollama",
    "open.bigmodel.cn": "zhipuai",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "huggingface",
}

_HOST_SUFFIXES = (
    (".openai.azure.com", "azure.ai.openai"),
    (".openai.azure.us", "azure.ai.openai"),
    (".openai.azure.cn", "azure.ai.openai"),
    (".cognitiveservices.azure.com", "azure.ai.openai"),
    (".services.ai.azure.com", "azure.ai.openai"),
    (".azure-api.net", "azure.ai.openai"),
    (".inference.ai.azure.com", "azure.ai.inference"),
    (".models.ai.azure.com", "azure.ai.inference"),
    ("-aiplatform.googleapis.com", "gcp.vertex_ai"),
    (".aiplatform.googleapis.com", "gcp.vertex_ai"),
    (".rep.googleapis.com", "gcp.vertex_ai"),
    (".api.openai.com", "openai"),
    (".api.anthropic.com", "anthropic"),
    (".api.x.ai", "x_ai"),
    (".openrouter.ai", "openrouter"),
    (".api.cloud.ibm.com", "ibm.watsonx.ai"),
    (".ml.cloud.ibm.com", "ibm.watsonx.ai"),
    (".aws.wxai.ibm.com", "ibm.watsonx.ai"),
    (".snowflakecomputing.com", "snowflake"),
    (".cloud.databricks.com", "databricks"),
    (".cloud.databricks.us", "databricks"),
    (".azuredatabricks.net", "databricks"),
    (".databricks.azure.cn", "databricks"),
    (".databricks.azure.us", "databricks"),
    (".gcp.databricks.com", "databricks"),
    (".maas.aliyuncs.com", "alibaba"),
    (".elevenlabs.io", "elevenlabs"),
    (".modal.run", "modal"),
    (".modal.direct", "modal"),
)

_BEDROCK_SUFFIXES = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


def hosts_of_providers() -> dict[str, list[str]]:
    """Provider -> the hosts that are known as its own; `*` stands for a name of the customer's or a region."""
    found: dict[str, list[str]] = {}
    for host, provider in _HOSTS.items():
        found.setdefault(provider, []).append(host)
    for suffix in _BEDROCK_SUFFIXES:
        found.setdefault("aws.bedrock", []).append(f"bedrock*{suffix}")
    for suffix, provider in _HOST_SUFFIXES:
        found.setdefault(provider, []).append(f"*{suffix}")
    return {provider: sorted(found[provider]) for provider in sorted(found)}


GEOS = frozenset({"us", "us-gov", "eu", "apac", "jp", "au", "ca", "sa", "me", "af", "in", "global"})
"""Geographies that prefix a Bedrock inference profile (`eu.anthropic.claude-...`):
https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html
"""


@lru_cache(maxsize=1024)
def canonical_provider(name: str) -> str:
    """The provider's canonical name, from one of its spellings or from a client's host name.

    An unknown name or host is handed back in lower case: it is then a provider of its own, which a price file may
    name in its `provider` or map by its `providers`.
    """
    text = name.strip().lower()
    host = text.partition("://")[2] or text
    host = host.partition("/")[0].rpartition("@")[2]
    if not host.startswith("["):
        host = host.partition(":")[0]
    if text in _ALIASES:
        return _ALIASES[text]
    if host in _HOSTS:
        return _HOSTS[host]
    if host.startswith("bedrock") and host.endswith(_BEDROCK_SUFFIXES):
        return "aws.bedrock"
    for suffix, provider in _HOST_SUFFIXES:
        if host.endswith(suffix):
            return provider
    return host


class Spellings(NamedTuple):
    """What a model may be called in a price list.

    Attributes:
        stages: names that are searched together; the name as sent and its kin first, those without their
            geography after them.
        geo: the geography in the name (`eu`, `global`); empty if it has none.
    """

    stages: tuple[tuple[str, ...], ...]
    geo: str


@lru_cache(maxsize=4096)
def spellings(model: str) -> Spellings:
    """The spellings under which a price list may know `model`, and the geography in its name.

    Bedrock: `arn:...:inference-profile/eu.anthropic.claude-x-v1:0` is `anthropic.claude-x-v1:0` in `eu`.
    Vertex: `publishers/anthropic/models/claude-x@20250929` is `claude-x`. Routers: `openai/gpt-x` is `gpt-x`.
    Snapshots: `gpt-x-2025-08-07` and `claude-x-20250929` are `gpt-x` and `claude-x` unless listed themselves.
    A fine-tune (`ft:gpt-x:org::id`) keeps its `ft:`: it has rates of its own.
    """
    name = model.strip().lower()
    names = [name]
    if name.startswith("arn:"):
        name = name.rpartition("/")[2]
        names.append(name)
    elif "/" in name:
        if not name.startswith(("models/", "publishers/", "projects/", "tunedmodels/", "accounts/")):
            names.append(name.partition("/")[2])
        name = name.rpartition("/")[2]
        names.append(name)
    if name.startswith("ft:"):
        base = name[3:].partition(":")[0]
        return Spellings((_distinct([*names, "ft:" + base, "ft:" + _undated(base)]),), "")
    stages = [_distinct(n for listed in names for n in _shortened(listed))]
    geo, dot, rest = name.partition(".")
    if not dot or geo not in GEOS or not rest:
        return Spellings(tuple(stages), "")
    return Spellings((*stages, _distinct(_shortened(rest))), geo)


def _shortened(name: str) -> list[str]:
    """`name`, without its version (`@20250929`, `@default`), and without its date."""
    found = [name]
    at, mark, version = name.partition("@")
    if mark and not name.startswith("arn:"):
        found += [f"{at}-{version}", at]
    return [*found, *(_undated(n) for n in found), *(_dashed(n) for n in found)]


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))


def _dashed(name: str) -> str:
    """`gpt-5.2-20251211` as `gpt-5.2-2025-12-11`."""
    head, dash, date = name.rpartition("-")
    if dash and _is_date(date):
        return f"{head}-{date[:4]}-{date[4:6]}-{date[6:]}"
    return name


def _undated(name: str) -> str:
    """`name` without a snapshot date at its end; Bedrock's `-v1:0` after the date goes with it."""
    head, marker, version = name.rpartition("-v")
    if marker and version.replace(":", "").isdigit() and _undated(head) != head:
        return _undated(head)
    head, dash, date = name.rpartition("-")
    if dash and head and _is_date(date):
        return head
    dashed = len(name) > 11 and name[-11] == "-" and name[-6] == "-" and name[-3] == "-"
    if dashed and _is_date(name[-10:].replace("-", "")):
        return name[:-11]
    return name


def _is_date(text: str) -> bool:
    """Whether `text` is YYYYMMDD of a year in which there were language models."""
    return (
        len(text) == 8
        and text.isascii()
        and text.isdigit()
        and text[:2] == "20"
        and 1 <= int(text[4:6]) <= 12
        and 1 <= int(text[6:]) <= 31
    )
