"""An example program: a help desk that asks OpenAI and Anthropic through their own packages.

    export SPANLEDGER_HOSTS=localhost=openai,127.0.0.1=anthropic     # who the stand-in stands in for
    opentelemetry-instrument python examples/app.py
    spanledger report

It knows nothing of spanledger but `attribute`, which says whom a call is for. It asks the stand-in server
beside it; with DEMO=live, and OPENAI_API_KEY or ANTHROPIC_API_KEY set, the real APIs (a few US cents).
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack

import anthropic
import openai
from standin import StandIn

from spanledger.attribution import attribute

HANDBOOK = "\n".join(
    f"Article {n}. A customer who reports case {n} gets an answer within {n % 24 + 1} hours, a refund of "
    f"{n % 7 * 5} percent, and a friendly word from the desk on floor {n % 9}."
    for n in range(1, 121)
)
"""Long enough for both providers to cache it."""

CUSTOMERS = {"acme": ("ada", "bob"), "globex": ("eve",)}


def answer_questions(client: openai.OpenAI) -> None:
    """Plain chat completions over a shared, cached prompt."""
    for tenant, users in CUSTOMERS.items():
        for user in users:
            with attribute(tenant=tenant, user=user, feature="answer"):
                client.chat.completions.create(
                    model="gpt-5-mini",
                    messages=[
                        {"role": "system", "content": HANDBOOK},
                        {"role": "user", "content": f"I am {user}. Which article is about case 7?"},
                    ],
                )


def chat(client: openai.OpenAI) -> None:
    """A streamed chat completion."""
    with attribute(tenant="acme", user="ada", session="chat-1", feature="chat"):
        stream = client.chat.completions.create(
            model="gpt-4.1-mini",
            messages=[{"role": "user", "content": "Say in one sentence what a ledger is."}],
            stream=True,
            stream_options={"include_usage": True},
        )
        for _ in stream:
            pass


def plan(client: openai.OpenAI) -> None:
    """The Responses API, plain and streamed, the first at the flex tier."""
    with attribute(tenant="globex", user="eve", feature="plan", tags={"team": "blue"}):
        client.responses.create(model="gpt-5", input="Plan a help desk's day in three lines.", service_tier="flex")
        with client.responses.stream(model="gpt-5-mini", input="And its week, in one line.") as stream:
            stream.until_done()


def search(client: openai.OpenAI) -> None:
    with attribute(tenant="acme", user="bob", feature="search"):
        client.embeddings.create(model="text-embedding-3-small", input=HANDBOOK.splitlines()[:20])


def review(client: anthropic.Anthropic) -> None:
    """Messages over a prompt that is cached for an hour: the first writes it, the second reads it."""
    for question in ("Which article is the kindest?", "Which one is the strictest?"):
        with attribute(tenant="globex", user="eve", session="review-1", feature="review"):
            client.messages.create(
                model="claude-sonnet-4-6",
                max_tokens=1024,
                system=[{"type": "text", "text": HANDBOOK, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
                messages=[{"role": "user", "content": question}],
            )


def think(client: anthropic.Anthropic) -> None:
    """A streamed message with thinking."""
    with (
        attribute(tenant="acme", user="ada", feature="review"),
        client.messages.stream(
            model="claude-sonnet-4-6",
            max_tokens=2048,
            thinking={"type": "enabled", "budget_tokens": 1024},
            messages=[{"role": "user", "content": "Is 1031 a prime?"}],
        ) as stream,
    ):
        stream.until_done()


def fail(client: anthropic.Anthropic) -> None:
    """A call that the provider refuses is a row too, and costs nothing."""
    with attribute(tenant="acme", user="bob", feature="review"):
        try:
            client.messages.create(
                model="no-such-model", max_tokens=16, messages=[{"role": "user", "content": "Hello?"}]
            )
        except anthropic.NotFoundError:
            pass


async def greet(client: anthropic.AsyncAnthropic) -> None:
    """Several calls at once, each for another tenant."""

    async def one(tenant: str) -> None:
        with attribute(tenant=tenant, feature="greet"):
            await client.messages.create(
                model="claude-haiku-4-5",
                max_tokens=256,
                messages=[{"role": "user", "content": f"Greet {tenant}."}],
            )

    await asyncio.gather(*(one(tenant) for tenant in CUSTOMERS))
    await client.close()


def main() -> None:
    live = os.environ.get("DEMO") == "live"
    with ExitStack() as stack:
        if live:
            openai_args, anthropic_args = {}, {}
            asks_openai, asks_anthropic = "OPENAI_API_KEY" in os.environ, "ANTHROPIC_API_KEY" in os.environ
            if not (asks_openai or asks_anthropic):
                sys.exit("DEMO=live asks the real APIs: set OPENAI_API_KEY, ANTHROPIC_API_KEY or both")
        else:
            server = stack.enter_context(StandIn())
            # Two names of one server, so that SPANLEDGER_HOSTS can tell whose prices apply (examples/demo.sh).
            openai_args = {"base_url": f"http://localhost:{server.server_port}/v1", "api_key": "sk-stand-in"}
            anthropic_args = {"base_url": server.url, "api_key": "sk-ant-stand-in"}
            asks_openai = asks_anthropic = True
        if asks_openai:
            with openai.OpenAI(**openai_args) as client:
                answer_questions(client)
                chat(client)
                plan(client)
                search(client)
        if asks_anthropic:
            with anthropic.Anthropic(**anthropic_args) as claude:
                review(claude)
                think(claude)
                fail(claude)
            asyncio.run(greet(anthropic.AsyncAnthropic(**anthropic_args)))


if __name__ == "__main__":
    main()
