"""Hugging Face: as OpenAI, but for text generation by its own servers (TGI), which count in `details`.

Source: `huggingface_hub.inference._generated.types.text_generation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spanledger.instrumentation.wire import openai_chat
from spanledger.instrumentation.wire.reading import Reading
from spanledger.pricing.counts import mapping, sequence, text


def read_generation(body: Mapping[str, Any], request: Mapping[str, Any]) -> Reading:
    """Read a text generation. A server that was not asked for details reports nothing."""
    return openai_chat.read(_as_completion(mapping(body)), request)


class GenerationStream(openai_chat.Stream):
    """Reads a stream of tokens; the last has the details."""

    __slots__ = ()

    def feed(self, line: bytes) -> None:
        if b'"details":{' in line or b'"details": {' in line:
            self._head = max(self._head, 1)  # to be parsed whatever else it says
        super().feed(line)

    def take(self, event: Mapping[str, Any]) -> None:
        super().take(_as_completion(event))
        if isinstance(event.get("details"), dict) and self._error is None:
            self.ended = self.finished = True


def _as_completion(event: Mapping[str, Any]) -> Mapping[str, Any]:
    details = event.get("details")
    if not isinstance(details, dict) or "usage" in event:
        return event
    usage = {"completion_tokens": details.get("generated_tokens")}
    prefill = sequence(details.get("prefill"))
    prompt = details.get("input_length", len(prefill) if prefill else None)
    if prompt is not None:
        usage["prompt_tokens"] = prompt
    choice = {"index": 0, "finish_reason": text(details.get("finish_reason"))}
    return {**event, "usage": usage, "choices": [choice]}
