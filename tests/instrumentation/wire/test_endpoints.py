"""Which calls are billed: by wire format, method and URL."""

from __future__ import annotations

import pytest

from spanledger.instrumentation.wire.endpoints import find

BILLED = [
    ("openai", "post", "/chat/completions", "chat"),
    ("openai", "POST", "https://api.openai.com/v1/chat/completions", "chat"),
    ("openai", "POST", "/openai/deployments/my-gpt/chat/completions?api-version=2024-12-01-preview", "chat"),
    ("openai", "POST", "/deployments/completions/chat/completions", "chat"),
    ("openai", "POST", "/completions", "text_completion"),
    ("openai", "POST", "/engines/davinci/completions", "text_completion"),
    ("openai", "POST", "/responses", "chat"),
    ("openai", "POST", "/responses?beta=true", "chat"),
    ("openai", "POST", "/responses/compact", "chat"),
    ("openai", "POST", "/decisions", "decision"),
    ("openai", "POST", "/embeddings", "embeddings"),
    ("openai", "POST", "/openai/deployments/e/embeddings?api-version=1", "embeddings"),
    ("openai", "POST", "/images/generations", "image_generation"),
    ("openai", "POST", "/images/edits", "image_generation"),
    ("openai", "POST", "/images/variations", "image_generation"),
    ("openai", "POST", "/audio/transcriptions", "transcription"),
    ("openai", "POST", "/audio/translations", "translation"),
    ("openai", "POST", "/audio/speech", "speech"),
    ("openai", "POST", "/moderations", "moderation"),
    ("openai", "POST", "/videos", "video_generation"),
    ("openai", "POST", "https://api.together.ai/v2/videos", "video_generation"),
    ("openai", "POST", "/videos/edits", "video_generation"),
    ("openai", "POST", "/videos/extensions", "video_generation"),
    ("openai", "POST", "/videos/video_1/remix", "video_generation"),
    ("gemini", "POST", "https://g.com/v1beta/models/veo-3.1-generate-preview:predictLongRunning", "video_generation"),
    ("anthropic", "post", "/v1/messages", "chat"),
    ("anthropic", "POST", "/v1/messages?beta=true", "chat"),
    ("anthropic", "POST", "https://res.services.ai.azure.com/anthropic/v1/messages", "chat"),
    ("anthropic", "POST", "/v1/complete", "text_completion"),
    ("anthropic", "POST", "/model/us.anthropic.claude-sonnet-4-6-v1:0/invoke", "chat"),
    ("anthropic", "POST", "/model/arn%3Aaws%3Abedrock%3A...%2Fx/invoke-with-response-stream", "chat"),
    ("anthropic", "POST", "/model/arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude/invoke", "chat"),
    ("anthropic", "POST", "/projects/p/locations/l/publishers/anthropic/models/claude@1:rawPredict", "chat"),
    ("anthropic", "POST", "/projects/p/locations/l/publishers/anthropic/models/claude@1:streamRawPredict", "chat"),
]

NOT_BILLED = [
    ("openai", "GET", "/models"),
    ("openai", "GET", "/chat/completions"),
    ("openai", "GET", "/chat/completions/chatcmpl-1"),
    ("openai", "POST", "/chat/completions/chatcmpl-1"),
    ("openai", "POST", "/responses/input_tokens"),
    ("openai", "POST", "/responses/resp_1/cancel"),
    ("openai", "DELETE", "/responses/resp_1"),
    ("openai", "GET", "/responses/resp_1/input_items"),
    ("openai", "POST", "/files"),
    ("openai", "POST", "/batches"),
    ("openai", "POST", "/videos/characters"),
    ("openai", "GET", "/videos"),
    ("openai", "GET", "/videos/video_1/content"),
    ("openai", "DELETE", "/videos/video_1"),
    ("gemini", "POST", "https://g.com/v1beta/models/gemini-2.5-flash:batchGenerateContent"),
    ("gemini", "GET", "https://g.com/v1beta/tunedModels/t/operations/o"),
    ("openai", "POST", "/threads/thread_1/messages"),
    ("openai", "POST", "/vector_stores"),
    ("openai", "GET", "/organization/usage/completions"),
    ("openai", "POST", "/v1/messages"),
    ("openai", "POST", ""),
    ("anthropic", "GET", "/v1/messages"),
    ("anthropic", "POST", "/v1/messages/count_tokens"),
    ("anthropic", "POST", "/v1/messages/count_tokens?beta=true"),
    ("anthropic", "POST", "/v1/messages/batches"),
    ("anthropic", "GET", "/v1/messages/batches/b/results"),
    ("anthropic", "POST", "/v1/files"),
    ("anthropic", "POST", "/v1/sessions"),
    ("anthropic", "POST", "/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict"),
    ("anthropic", "POST", "/chat/completions"),
    ("anthropic", "POST", "/invoke"),
    ("anthropic", "POST", ""),
]


@pytest.mark.parametrize(("format", "method", "url", "operation"), BILLED)
def test_billed(format: str, method: str, url: str, operation: str) -> None:
    endpoint = find(format, method, url)
    assert endpoint is not None
    assert endpoint.operation == operation
    assert not endpoint.poll


@pytest.mark.parametrize(("format", "method", "url"), NOT_BILLED)
def test_not_billed(format: str, method: str, url: str) -> None:
    assert find(format, method, url) is None


@pytest.mark.parametrize("url", ["/responses/resp_1", "/responses/resp_1?stream=true", "/v1/responses/resp_1"])
def test_a_response_is_polled(url: str) -> None:
    endpoint = find("openai", "get", url)
    assert endpoint is not None
    assert endpoint.poll
