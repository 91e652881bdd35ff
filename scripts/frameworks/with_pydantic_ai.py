"""A program with Pydantic AI over the openai package."""

from __future__ import annotations

import asyncio

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

model = OpenAIChatModel("gpt-4o")
responses = OpenAIResponsesModel("gpt-4o")
simple = Agent(model, name="simple")


def plain(prompt: str) -> None:
    simple.run_sync(prompt)


async def stream(prompt: str) -> None:
    async with simple.run_stream(prompt) as result:
        async for _ in result.stream_text():
            pass


async def over_responses(prompt: str) -> None:
    answering = Agent(responses, name="simple")
    await answering.run(prompt)
    async with answering.run_stream(prompt) as result:
        async for _ in result.stream_text():
            pass


def agent(prompt: str) -> None:
    planner = Agent(model, name="planner")
    inner = Agent(model, name="forecaster")

    @planner.tool_plain
    async def weather(city: str) -> str:
        """How the weather is in a city."""
        return (await inner.run(f"{prompt} {city}")).output

    planner.run_sync(prompt)


async def at_once(prompt: str) -> None:
    await asyncio.gather(simple.run(prompt), simple.run(prompt), simple.run(prompt))


CASES = {
    "plain": plain,
    "stream": stream,
    "responses": over_responses,
    "agent": agent,
    "at_once": at_once,
}
