"""Instruments provider SDKs: one span for every billable call, with what it consumed and what it cost.

An instrumentor costs nothing until its SDK is imported: then the SDK's narrow waist is patched.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from spanledger import failures
from spanledger.instrumentation import sdks
from spanledger.settings import usable


class SdkInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Patches one SDK when it is imported, and takes the patch off again."""

    sdk: sdks.Sdk

    def instrumentation_dependencies(self) -> Collection[str]:
        return (self.sdk.requirement,)

    def _instrument(self, **kwargs: Any) -> None:
        """Patch now if the SDK is imported, else when it is.

        Parameters:
            tracer_provider: the provider to take the tracer from; the global one by default.
            meter_provider: the provider of the metrics of all SDKs; the global one by default.

        Raises:
            SettingsError: a setting is wrong, and `LLM_USAGE_FAIL_OPEN` is false.
        """
        chosen = usable()
        if chosen is None or not chosen.enabled:
            return
        failures.fail_open = chosen.fail_open
        from spanledger.instrumentation import post_import

        if (meters := kwargs.get("meter_provider")) is not None:
            from spanledger.instrumentation import metrics

            metrics.use(meters)
        post_import.patch_when_imported(self.sdk, kwargs.get("tracer_provider"))

    def _uninstrument(self, **_kwargs: Any) -> None:
        from spanledger.instrumentation import post_import

        post_import.unpatch(self.sdk)


class AioBotocoreInstrumentor(SdkInstrumentor):
    """Amazon Bedrock by aiobotocore."""

    sdk = sdks.AIOBOTOCORE


class AnthropicInstrumentor(SdkInstrumentor):
    """Anthropic's SDK, with its Bedrock and Vertex clients."""

    sdk = sdks.ANTHROPIC


class BotocoreInstrumentor(SdkInstrumentor):
    """Amazon Bedrock by boto3 and botocore."""

    sdk = sdks.BOTOCORE


class CerebrasInstrumentor(SdkInstrumentor):
    """Cerebras's SDK."""

    sdk = sdks.CEREBRAS


class CohereInstrumentor(SdkInstrumentor):
    """Cohere's SDK, against Cohere's own servers, Amazon's and Oracle's."""

    sdk = sdks.COHERE


class GoogleGenAIInstrumentor(SdkInstrumentor):
    """Google's Gen AI SDK, against the Gemini Developer API and Vertex AI."""

    sdk = sdks.GOOGLE_GENAI


class GroqInstrumentor(SdkInstrumentor):
    """Groq's SDK."""

    sdk = sdks.GROQ


class HuggingFaceAsyncInstrumentor(SdkInstrumentor):
    """Hugging Face's AsyncInferenceClient."""

    sdk = sdks.HUGGINGFACE_ASYNC


class HuggingFaceInstrumentor(SdkInstrumentor):
    """Hugging Face's InferenceClient."""

    sdk = sdks.HUGGINGFACE


class LiteLLMInstrumentor(SdkInstrumentor):
    """litellm, where it calls a provider by its own HTTP client."""

    sdk = sdks.LITELLM


class MistralAzureInstrumentor(SdkInstrumentor):
    """The Azure client of Mistral's SDK."""

    sdk = sdks.MISTRAL_AZURE


class MistralGoogleCloudInstrumentor(SdkInstrumentor):
    """The Google Cloud client of Mistral's SDK."""

    sdk = sdks.MISTRAL_GOOGLE_CLOUD


class MistralInstrumentor(SdkInstrumentor):
    """Mistral's SDK, against La Plateforme."""

    sdk = sdks.MISTRAL


class OllamaInstrumentor(SdkInstrumentor):
    """Ollama's SDK."""

    sdk = sdks.OLLAMA


class OpenAIInstrumentor(SdkInstrumentor):
    """OpenAI's SDK, against OpenAI, Azure and every compatible endpoint."""

    sdk = sdks.OPENAI


class ReplicateInstrumentor(SdkInstrumentor):
    """Replicate's SDK."""

    sdk = sdks.REPLICATE


class TogetherInstrumentor(SdkInstrumentor):
    """Together's SDK."""

    sdk = sdks.TOGETHER


class VertexAIBetaInstrumentor(SdkInstrumentor):
    """The client of Vertex AI's v1beta1, which `vertexai`'s models use."""

    sdk = sdks.VERTEXAI_BETA


class VertexAIInstrumentor(SdkInstrumentor):
    """Google Cloud's AI Platform SDK: `vertexai`'s models, and the prediction client that they use."""

    sdk = sdks.VERTEXAI


class VoyageInstrumentor(SdkInstrumentor):
    """Voyage's SDK."""

    sdk = sdks.VOYAGE


class WatsonxInstrumentor(SdkInstrumentor):
    """IBM's watsonx.ai SDK, against IBM Cloud, AWS and one's own servers."""

    sdk = sdks.WATSONX


class WriterInstrumentor(SdkInstrumentor):
    """Writer's SDK."""

    sdk = sdks.WRITER


class XAIInstrumentor(SdkInstrumentor):
    """xAI's SDK, which speaks gRPC."""

    sdk = sdks.XAI


INSTRUMENTORS: tuple[type[SdkInstrumentor], ...] = tuple(SdkInstrumentor.__subclasses__())
"""All of them; `pyproject.toml` has an entry point for each."""
