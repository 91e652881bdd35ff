"""A program with LangChain over the openai package."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="gpt-4o", stream_usage=True, max_retries=0)
responses = ChatOpenAI(model="gpt-4o", use_responses_api=True, max_retries=0)


def plain(prompt: str) -> None:
    model.invoke(prompt)


def stream(prompt: str) -> None:
    list(model.stream(prompt))


def over_responses(prompt: str) -> None:
    responses.invoke(prompt)
    list(responses.stream(prompt))


def agent(prompt: str) -> None:
    @tool
    def weather(city: str) -> str:
        """How the weather is in a city."""
        return str(model.invoke(f"{prompt} {city}").content)

    create_agent(model, [weather], name="planner").invoke({"messages": [("user", prompt)]})


async def at_once(prompt: str) -> None:
    async def streamed() -> Any:
        return [chunk async for chunk in model.astream(prompt)]

    await asyncio.gather(model.ainvoke(prompt), streamed(), model.abatch([prompt, prompt]))


async def async_agent(prompt: str) -> None:
    @tool
    async def weather(city: str) -> str:
        """How the weather is in a city."""
        return str((await model.ainvoke(f"{prompt} {city}")).content)

    planner = create_agent(model, [weather], name="planner")
    asking: dict[str, Any] = {"messages": [("user", prompt)]}
    async for _ in planner.astream(asking, stream_mode="messages"):
        pass


CASES = {
    "plain": plain,
    "stream": stream,
    "responses": over_responses,
    "agent": agent,
    "at_once": at_once,
    "async_agent": async_agent,
}
