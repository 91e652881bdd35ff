"""A program with LlamaIndex over the openai package."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI, OpenAIResponses

told = {"stream_options": {"include_usage": True}}
model = OpenAI(model="gpt-4o", max_retries=0)
streaming = OpenAI(model="gpt-4o", max_retries=0, additional_kwargs=told)
responses = OpenAIResponses(model="gpt-4o", max_retries=0)


def _ask(prompt: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=prompt)]


def plain(prompt: str) -> None:
    model.chat(_ask(prompt))


def stream(prompt: str) -> None:
    list(streaming.stream_chat(_ask(prompt)))


def over_responses(prompt: str) -> None:
    responses.chat(_ask(prompt))


async def agent(prompt: str) -> None:
    async def weather(city: str) -> str:
        """How the weather is in a city."""
        return str(await model.achat(_ask(f"{prompt} {city}")))

    planner = FunctionAgent(name="planner", tools=[weather], llm=model, streaming=False)
    await planner.run(prompt)


async def at_once(prompt: str) -> None:
    async def streamed() -> Any:
        return [chunk async for chunk in await streaming.astream_chat(_ask(prompt))]

    await asyncio.gather(model.achat(_ask(prompt)), streamed(), model.acomplete(prompt))


CASES = {
    "plain": plain,
    "stream": stream,
    "responses": over_responses,
    "agent": agent,
    "at_once": at_once,
}
