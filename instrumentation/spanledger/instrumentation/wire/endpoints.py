"""Which calls are billed, what they are, and who reads them: one line an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from spanledger.instrumentation.wire import (
    anthropic_complete,
    anthropic_messages,
    bedrock_agents,
    bedrock_converse,
    bedrock_invoke,
    bedrock_rerank,
    cohere,
    gemini,
    gemini_interactions,
    huggingface,
    mistral,
    ollama,
    openai_audio,
    openai_chat,
    openai_embeddings,
    openai_images,
    openai_moderations,
    openai_responses,
    replicate,
    video,
    voyage,
    watsonx,
    xai,
)
from spanledger.instrumentation.wire.reading import Reader, StreamReader


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A billable call.

    Attributes:
        operation: `gen_ai.operation.name`.
        read: reads a plain body.
        stream_reader: makes the reader of a stream; takes the request.
        poll: the call creates nothing: it makes a row only if it delivers the first terminal usage of a
            response whose own call ended `pending`.
    """

    operation: str
    read: Reader
    stream_reader: Callable[[Mapping[str, Any]], StreamReader]
    poll: bool = False


_CHAT = Endpoint("chat", openai_chat.read, openai_chat.Stream)
_COMPLETIONS = Endpoint("text_completion", openai_chat.read, openai_chat.Stream)
_GENERATE_CONTENT = Endpoint("generate_content", openai_chat.read, openai_chat.Stream)
_RESPONSES = Endpoint("chat", openai_responses.read, openai_responses.Stream)
_RESPONSE_POLL = Endpoint("chat", openai_responses.read, openai_responses.Stream, poll=True)
_TRANSCRIPTION = (openai_audio.read_transcription, openai_audio.TranscriptionStream)
_IMAGES = Endpoint("image_generation", openai_images.read, openai_images.Stream)
_MESSAGES = Endpoint("chat", anthropic_messages.read, anthropic_messages.Stream)
_CONVERSE = Endpoint("chat", bedrock_converse.read, bedrock_converse.Stream)
_INVOKE = Endpoint("chat", bedrock_invoke.read, bedrock_invoke.Stream)
_GENERATE = Endpoint("chat", gemini.read, gemini.Stream)
_EMBED = Endpoint("embeddings", gemini.read, gemini.Stream)
_INTERACTION_POLL = Endpoint("chat", gemini_interactions.read, gemini_interactions.Stream, poll=True)

_VIDEO = Endpoint("video_generation", video.read, video.Stream)
_VIDEO_POLL = Endpoint("video_generation", video.read, video.Stream, poll=True)
_VEO_POLL = Endpoint("video_generation", video.read_operation, video.Stream, poll=True)

_PREDICTION_POLL = Endpoint("generate_content", replicate.read, replicate.Stream, poll=True)
_MISTRAL_CHAT = Endpoint("chat", mistral.read_chat, mistral.ChatStream)
_MISTRAL_CONVERSATION = Endpoint("chat", mistral.read_conversation, mistral.ConversationStream)

_XAI_CHAT = Endpoint("chat", xai.read, xai.Stream)
_XAI_VIDEO = Endpoint("video_generation", xai.read, xai.Stream)

_POST: dict[str, dict[tuple[str, str] | str, Endpoint]] = {
    "anthropic": {
        ("v1", "messages"): _MESSAGES,
        ("v1", "complete"): Endpoint("text_completion", anthropic_complete.read, anthropic_complete.Stream),
    },
    "bedrock": {
        "converse": _CONVERSE,
        "converse-stream": _CONVERSE,
        **{
            (operation, verb): Endpoint(operation, bedrock_invoke.read, bedrock_invoke.Stream)
            for operation in bedrock_invoke.OPERATIONS
            for verb in ("invoke", "invoke-with-response-stream")
        },
        "invoke": _INVOKE,
        "invoke-with-response-stream": _INVOKE,
        "rerank": Endpoint("rerank", bedrock_rerank.read, bedrock_rerank.Stream),
        "agent": Endpoint("chat", bedrock_agents.read, bedrock_agents.Stream),
        "knowledge-base": Endpoint("chat", bedrock_agents.read, bedrock_converse.Stream),
        "guardrail": Endpoint("moderation", bedrock_agents.read_guardrail, bedrock_converse.Stream),
    },
    "cohere": {
        "chat": Endpoint("chat", cohere.read, cohere.Stream),
        "generate": Endpoint("text_completion", cohere.read, cohere.Stream),
        "summarize": Endpoint("text_completion", cohere.read, cohere.Stream),
        "embed": Endpoint("embeddings", cohere.read, cohere.Stream),
        "rerank": Endpoint("rerank", cohere.read, cohere.Stream),
        "classify": Endpoint("classification", cohere.read, cohere.Stream),
        "parse": Endpoint("ocr", cohere.read, cohere.Stream),
        ("audio", "transcriptions"): Endpoint("transcription", cohere.read, cohere.Stream),
    },
    "gemini": {
        "generateContent": _GENERATE,
        "streamGenerateContent": _GENERATE,
        "embedContent": _EMBED,
        "batchEmbedContents": _EMBED,
        "predict": Endpoint("image_generation", gemini.read_predict, gemini.Stream),
        ("embedding", "predict"): Endpoint("embeddings", gemini.read_predict, gemini.Stream),
        "predictLongRunning": Endpoint("video_generation", video.read_operation, video.Stream),
        "fetchPredictOperation": _VEO_POLL,
        "interactions": Endpoint("chat", gemini_interactions.read, gemini_interactions.Stream),
        "decisions": Endpoint("decision", gemini_interactions.read, gemini_interactions.Stream),
    },
    "huggingface": {
        "conversational": Endpoint("chat", openai_chat.read, openai_chat.Stream),
        "text-generation": Endpoint("text_completion", huggingface.read_generation, huggingface.GenerationStream),
        "feature-extraction": Endpoint("embeddings", openai_embeddings.read, openai_embeddings.Stream),
        "text-to-image": _IMAGES,
        "image-to-image": _IMAGES,
        "automatic-speech-recognition": Endpoint("transcription", *_TRANSCRIPTION),
        "text-to-speech": Endpoint("speech", openai_audio.read_speech, openai_audio.SpeechStream),
    },
    "mistral": {
        ("chat", "completions"): _MISTRAL_CHAT,
        ("agents", "completions"): _MISTRAL_CHAT,
        ("fim", "completions"): Endpoint("text_completion", mistral.read_chat, mistral.ChatStream),
        "rawPredict": _MISTRAL_CHAT,
        "streamRawPredict": _MISTRAL_CHAT,
        "responses": _RESPONSES,
        "conversations": _MISTRAL_CONVERSATION,
        ("conversations", "*"): _MISTRAL_CONVERSATION,
        "restart": _MISTRAL_CONVERSATION,
        "embeddings": Endpoint("embeddings", mistral.read_chat, mistral.ChatStream),
        "moderations": Endpoint("moderation", mistral.read_chat, mistral.ChatStream),
        "classifications": Endpoint("classification", mistral.read_chat, mistral.ChatStream),
        "ocr": Endpoint("ocr", mistral.read_ocr, mistral.ChatStream),
        ("audio", "transcriptions"): Endpoint("transcription", mistral.read_transcription, mistral.TranscriptionStream),
        ("audio", "speech"): Endpoint("speech", openai_audio.read_speech, openai_audio.SpeechStream),
    },
    "ollama": {
        ("api", "chat"): Endpoint("chat", ollama.read, ollama.Stream),
        ("api", "generate"): Endpoint("text_completion", ollama.read, ollama.Stream),
        ("api", "embed"): Endpoint("embeddings", ollama.read, ollama.Stream),
        ("api", "embeddings"): Endpoint("embeddings", ollama.read, ollama.Stream),
        ("v1", "systemone"): Endpoint("decision", ollama.read_systemone, ollama.Stream),
    },
    "openai": {
        ("chat", "completions"): _CHAT,
        "completions": _COMPLETIONS,
        "responses": _RESPONSES,
        ("responses", "compact"): _RESPONSES,
        "decisions": Endpoint("decision", openai_responses.read, openai_responses.Stream),
        "embeddings": Endpoint("embeddings", openai_embeddings.read, openai_embeddings.Stream),
        ("images", "generations"): _IMAGES,
        ("images", "edits"): _IMAGES,
        ("images", "variations"): _IMAGES,
        ("audio", "transcriptions"): Endpoint("transcription", *_TRANSCRIPTION),
        ("audio", "translations"): Endpoint("translation", *_TRANSCRIPTION),
        ("audio", "speech"): Endpoint("speech", openai_audio.read_speech, openai_audio.SpeechStream),
        "moderations": Endpoint("moderation", openai_moderations.read, openai_moderations.Stream),
        "rerank": Endpoint("rerank", openai_embeddings.read, openai_embeddings.Stream),
        "videos": _VIDEO,
        ("videos", "edits"): _VIDEO,
        ("videos", "extensions"): _VIDEO,
        "remix": _VIDEO,
    },
    "replicate": {
        "predictions": Endpoint("generate_content", replicate.read, replicate.Stream),
    },
    "voyage": {
        "embeddings": Endpoint("embeddings", voyage.read, voyage.Stream),
        "contextualizedembeddings": Endpoint("embeddings", voyage.read, voyage.Stream),
        "multimodalembeddings": Endpoint("embeddings", voyage.read, voyage.Stream),
        "rerank": Endpoint("rerank", voyage.read, voyage.Stream),
    },
    "watsonx": {
        ("text", "generation"): Endpoint("text_completion", watsonx.read, watsonx.Stream),
        ("text", "generation_stream"): Endpoint("text_completion", watsonx.read, watsonx.Stream),
        ("generation", "text"): Endpoint("text_completion", watsonx.read, watsonx.Stream),
        ("generation", "text_stream"): Endpoint("text_completion", watsonx.read, watsonx.Stream),
        ("text", "chat"): Endpoint("chat", watsonx.read_chat, watsonx.ChatStream),
        ("text", "chat_stream"): Endpoint("chat", watsonx.read_chat, watsonx.ChatStream),
        ("text", "embeddings"): Endpoint("embeddings", watsonx.read, watsonx.Stream),
        ("text", "rerank"): Endpoint("rerank", watsonx.read, watsonx.Stream),
        ("time_series", "forecast"): Endpoint("forecast", watsonx.read, watsonx.Stream),
        ("audio", "transcriptions"): Endpoint("transcription", *_TRANSCRIPTION),
        # the model gateway
        ("chat", "completions"): _CHAT,
        ("v1", "completions"): _COMPLETIONS,
        ("v1", "embeddings"): Endpoint("embeddings", openai_embeddings.read, openai_embeddings.Stream),
    },
    "writer": {
        ("v1", "chat"): _CHAT,
        "completions": _COMPLETIONS,
        # billed, but what they consumed is not reported
        ("applications", "*"): _GENERATE_CONTENT,
        ("graphs", "question"): _GENERATE_CONTENT,
        ("v1", "translation"): _GENERATE_CONTENT,
        ("v1", "vision"): _GENERATE_CONTENT,
    },
    "xai": {
        "GetCompletion": _XAI_CHAT,
        "GetCompletionChunk": _XAI_CHAT,
        "StartDeferredCompletion": _XAI_CHAT,
        "CompactContext": _XAI_CHAT,
        "GenerateImage": Endpoint("image_generation", xai.read, xai.Stream),
        "GenerateVideo": _XAI_VIDEO,
        "ExtendVideo": _XAI_VIDEO,
    },
}
"""Wire format -> the last two segments of the path, or the last alone (Gemini's verb) -> endpoint."""

FORMATS = frozenset(_POST)


def operations(format: str) -> tuple[str, ...]:
    """What the calls of a wire format are, in the order of the alphabet."""
    return tuple(sorted({endpoint.operation for endpoint in _POST[format].values()}))


_BEDROCK = frozenset({"invoke", "invoke-with-response-stream"})
_VERTEX = frozenset({"rawPredict", "streamRawPredict"})


@lru_cache(maxsize=1024)
def find(format: str, method: str, url: str) -> Endpoint | None:
    """The endpoint of a call; None if it is not billed (files, models, batches, token counts, ...).

    Parameters:
        format: a key of the table above.
        method: HTTP method, in any case.
        url: whole or only its path, with or without a query.
    """
    head, _, last = url.partition("?")[0].rpartition("/")
    before = head.rpartition("/")[2]
    method = method.upper()
    if method == "POST":
        table = _POST[format]
        if format == "gemini":
            model, _, verb = last.rpartition(":")
            return (table.get(("embedding", verb)) if _embeds(model) else None) or table.get(verb)
        found = table.get((before, last)) or table.get(last) or table.get((before, "*"))
        if found is not None or format != "anthropic":
            return found
        if last in _BEDROCK and "/model/" in head:  # a profile's ARN has a slash, which not all versions quote
            return _MESSAGES
        model, _, verb = last.rpartition(":")
        return _MESSAGES if verb in _VERTEX and before == "models" and model != "count-tokens" else None
    if method == "GET" and format == "replicate" and before == "predictions":
        return _PREDICTION_POLL
    if method == "GET" and format == "openai" and before == "responses":
        return _RESPONSE_POLL
    if method == "GET" and format == "openai" and before == "videos":
        return _VIDEO_POLL
    if method == "GET" and format == "gemini" and before == "interactions":
        return _INTERACTION_POLL
    if method == "GET" and format == "gemini" and before == "operations" and "/models/" in head:
        return _VEO_POLL
    return None


def _embeds(model: str) -> bool:
    """Whether a model on Vertex AI makes embeddings: `gemini-embedding-001`, `textembedding-gecko@003`."""
    return "embedding" in model
