"""A program with LiteLLM, which calls OpenAI by the openai package."""

from __future__ import annotations

import asyncio
from typing import Any

import litellm

MESSAGES = {"model": "openai/gpt-4o", "num_retries": 0}


def _asking(prompt: str) -> dict[str, Any]:
    return {**MESSAGES, "messages": [{"role": "user", "content": prompt}]}


def plain(prompt: str) -> None:
    litellm.completion(**_asking(prompt))


def stream(prompt: str) -> None:
    list(litellm.completion(**_asking(prompt), stream=True, stream_options={"include_usage": True}))


def over_responses(prompt: str) -> None:
    litellm.responses(model="openai/gpt-4o", input=prompt)


async def at_once(prompt: str) -> None:
    async def streamed() -> Any:
        chunks = await litellm.acompletion(**_asking(prompt), stream=True, stream_options={"include_usage": True})
        return [chunk async for chunk in chunks]

    await asyncio.gather(litellm.acompletion(**_asking(prompt)), streamed(), litellm.acompletion(**_asking(prompt)))
    await asyncio.sleep(0.5)  # its callbacks run after the answer


CASES = {"plain": plain, "stream": stream, "responses": over_responses, "at_once": at_once}
