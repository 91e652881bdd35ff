"""The SDKs that we instrument, as data, one entry an SDK: what to patch, and how to read the client's identity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sdk:
    """One provider SDK.

    Attributes:
        name: short name; the tracer's scope is `spanledger.<name>`.
        requirement: distribution and versions that the patch is made for.
        waist: the module to patch, once it is imported.
        patch: the module in `patches/` that knows how.
        wire: which wire format its endpoints speak: a key of the tables in `wire/endpoints.py`.
        provider: the provider of a client whose host is the SDK's own default.
        client_providers: a word in the client's class name, or a mode that it has -> provider, where that fixes it.
        key_attributes: where the client keeps its API key, in the order to look.
        operations: what its methods make, where that is less than its wire format has; all of these by default.
        namespace: packages of other distributions around its own (`google`).
    """

    name: str
    requirement: str
    waist: str
    patch: str
    wire: str
    provider: str
    client_providers: tuple[tuple[str, str], ...] = ()
    key_attributes: tuple[str, ...] = ("api_key",)
    operations: tuple[str, ...] = ()
    namespace: str = ""

    @property
    def package(self) -> str:
        """The package that a program imports: the waist's outermost, but for the namespace."""
        return self.namespace + self.waist.removeprefix(self.namespace).partition(".")[0]


AIOBOTOCORE = Sdk(
    name="aiobotocore",
    requirement="aiobotocore >= 3.0, < 4",
    waist="aiobotocore.client",
    patch="botocore",
    wire="bedrock",
    provider="aws.bedrock",
    operations=("chat", "embeddings", "image_generation", "moderation", "rerank", "text_completion"),
)
ANTHROPIC = Sdk(
    name="anthropic",
    requirement="anthropic >= 0.40, < 3",
    waist="anthropic._base_client",
    patch="base_client",
    wire="anthropic",
    provider="anthropic",
    client_providers=(
        ("Bedrock", "aws.bedrock"),
        ("Vertex", "gcp.vertex_ai"),
        ("GoogleCloud", "gcp.vertex_ai"),
        ("Foundry", "azure.ai.inference"),
        ("AWS", "anthropic"),
    ),
    key_attributes=("api_key", "auth_token", "aws_access_key"),
)
BOTOCORE = Sdk(
    name="botocore",
    requirement="botocore >= 1.35, < 2",
    waist="botocore.client",
    patch="botocore",
    wire="bedrock",
    provider="aws.bedrock",
    operations=("chat", "embeddings", "image_generation", "moderation", "rerank", "text_completion"),
)
CEREBRAS = Sdk(
    name="cerebras",
    requirement="cerebras-cloud-sdk >= 1.0, < 2",
    waist="cerebras.cloud.sdk._base_client",
    patch="base_client",
    wire="openai",
    provider="cerebras",
    operations=("chat", "text_completion"),
)
COHERE = Sdk(
    name="cohere",
    requirement="cohere >= 7.0, < 8",
    waist="cohere.core.http_client",
    patch="cohere",
    wire="cohere",
    provider="cohere",
)
GOOGLE_GENAI = Sdk(
    name="google_genai",
    requirement="google-genai >= 1.60, < 4",
    waist="google.genai._api_client",
    patch="google_genai",
    wire="gemini",
    provider="gcp.gemini",
    client_providers=(("vertexai", "gcp.vertex_ai"),),
    namespace="google.",
)
GROQ = Sdk(
    name="groq",
    requirement="groq >= 0.11, < 2",
    waist="groq._base_client",
    patch="base_client",
    wire="openai",
    provider="groq",
    operations=("chat", "embeddings", "speech", "transcription", "translation"),
)
HUGGINGFACE = Sdk(
    name="huggingface",
    requirement="huggingface_hub >= 2.0, < 3",
    waist="huggingface_hub.inference._client",
    patch="huggingface",
    wire="huggingface",
    provider="huggingface",
)
HUGGINGFACE_ASYNC = Sdk(
    name="huggingface_async",
    requirement="huggingface_hub >= 2.0, < 3",
    waist="huggingface_hub.inference._generated._async_client",
    patch="huggingface",
    wire="huggingface",
    provider="huggingface",
)
LITELLM = Sdk(
    name="litellm",
    requirement="litellm >= 1.106, < 2",
    waist="litellm.llms.custom_httpx.http_handler",
    patch="litellm",
    wire="openai",
    provider="",
    operations=(
        "chat",
        "embeddings",
        "image_generation",
        "rerank",
        "speech",
        "text_completion",
        "transcription",
    ),
)
MISTRAL = Sdk(
    name="mistral",
    requirement="mistralai >= 3.0, < 4",
    waist="mistralai.client.basesdk",
    patch="mistral",
    wire="mistral",
    provider="mistral_ai",
)
MISTRAL_AZURE = Sdk(
    name="mistral_azure",
    requirement="mistralai >= 3.0, < 4",
    waist="mistralai.azure.client.basesdk",
    patch="mistral",
    wire="mistral",
    provider="azure.ai.inference",
)
MISTRAL_GOOGLE_CLOUD = Sdk(
    name="mistral_google_cloud",
    requirement="mistralai >= 3.0, < 4",
    waist="mistralai.gcp.client.basesdk",
    patch="mistral",
    wire="mistral",
    provider="gcp.vertex_ai",
)
OLLAMA = Sdk(
    name="ollama",
    requirement="ollama >= 0.4, < 1",
    waist="ollama._client",
    patch="ollama",
    wire="ollama",
    provider="ollama",
)
OPENAI = Sdk(
    name="openai",
    requirement="openai >= 1.40, < 4",
    waist="openai._base_client",
    patch="openai",
    wire="openai",
    provider="openai",
    client_providers=(("Azure", "azure.ai.openai"), ("Bedrock", "aws.bedrock")),
)
REPLICATE = Sdk(
    name="replicate",
    requirement="replicate >= 1.0, < 2",
    waist="replicate.client",
    patch="replicate",
    wire="replicate",
    provider="replicate",
)
TOGETHER = Sdk(
    name="together",
    requirement="together >= 2.0, < 4",
    waist="together._base_client",
    patch="base_client",
    wire="openai",
    provider="together",
    operations=(
        "chat",
        "embeddings",
        "image_generation",
        "rerank",
        "speech",
        "text_completion",
        "transcription",
        "translation",
        "video_generation",
    ),
)
VERTEXAI = Sdk(
    name="vertexai",
    requirement="google-cloud-aiplatform >= 1.100, < 3",
    waist="google.cloud.aiplatform_v1.services.prediction_service",
    patch="vertexai",
    wire="gemini",
    provider="gcp.vertex_ai",
    operations=("chat", "embeddings", "image_generation"),
    namespace="google.cloud.",
)
VERTEXAI_BETA = Sdk(
    name="vertexai_beta",
    requirement="google-cloud-aiplatform >= 1.100, < 3",
    waist="google.cloud.aiplatform_v1beta1.services.prediction_service",
    patch="vertexai",
    wire="gemini",
    provider="gcp.vertex_ai",
    operations=("chat", "embeddings", "image_generation"),
    namespace="google.cloud.",
)
VOYAGE = Sdk(
    name="voyage",
    requirement="voyageai >= 0.5, < 1",
    waist="voyageai",
    patch="voyage",
    wire="voyage",
    provider="voyageai",
)
WATSONX = Sdk(
    name="watsonx",
    requirement="ibm-watsonx-ai >= 1.6, < 2",
    waist="ibm_watsonx_ai.client",
    patch="watsonx",
    wire="watsonx",
    provider="ibm.watsonx.ai",
)
WRITER = Sdk(
    name="writer",
    requirement="writer-sdk >= 2.0, < 4",
    waist="writerai._base_client",
    patch="base_client",
    wire="writer",
    provider="writer",
    operations=("chat", "generate_content", "text_completion"),
)
XAI = Sdk(
    name="xai",
    requirement="xai-sdk >= 1.4, < 2",
    waist="xai_sdk",
    patch="xai",
    wire="xai",
    provider="x_ai",
)
