"""A program with the OpenAI Agents SDK, over Responses and over Chat Completions."""

from __future__ import annotations

import asyncio
from typing import Any

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool
from openai import AsyncOpenAI

client = AsyncOpenAI(max_retries=0)
chat = OpenAIChatCompletionsModel("gpt-4o", client)
simple = Agent(name="simple", model=chat)
told = ModelSettings(include_usage=True)


def plain(prompt: str) -> None:
    Runner.run_sync(simple, prompt)


async def stream(prompt: str) -> None:
    running = Runner.run_streamed(Agent(name="simple", model=chat, model_settings=told), prompt)
    async for _ in running.stream_events():
        pass


async def over_responses(prompt: str) -> None:
    answering = Agent(name="simple", model="gpt-4o")
    await Runner.run(answering, prompt)
    running = Runner.run_streamed(answering, prompt)
    async for _ in running.stream_events():
        pass


async def agent(prompt: str) -> None:
    inner = Agent(name="forecaster", model=chat)

    @function_tool
    async def weather(city: str) -> str:
        """How the weather is in a city."""
        return str((await Runner.run(inner, f"{prompt} {city}")).final_output)

    planner = Agent(name="planner", model="gpt-4o", tools=[weather])
    await Runner.run(planner, prompt)


async def at_once(prompt: str) -> Any:
    await asyncio.gather(*(Runner.run(simple, prompt) for _ in range(3)))


CASES = {
    "plain": plain,
    "stream": stream,
    "responses": over_responses,
    "agent": agent,
    "at_once": at_once,
}
