"""Calls OpenAI and Anthropic (the stand-in) as a Python program does, under `opentelemetry-instrument`.

Reads numbers from stdin, a line each: makes so many calls and answers with a line of their ids. At the end of stdin it
ends, and OpenTelemetry flushes its spans. OPENAI_BASE_URL and ANTHROPIC_BASE_URL say where the stand-in is.
"""

from __future__ import annotations

import sys
from itertools import count

import anthropic
import openai
from opentelemetry import trace

tracer = trace.get_tracer("calls")


def plain(client: openai.OpenAI, n: int) -> str:
    answer = client.chat.completions.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": f"Plainly, number {n}?"}]
    )
    return answer.id


def streamed(client: openai.OpenAI, n: int) -> str:
    with client.responses.stream(model="gpt-5-mini", input=f"In a stream, number {n}?") as stream:
        return stream.get_final_response().id


def message(client: anthropic.Anthropic, n: int) -> str:
    answer = client.messages.create(
        model="claude-haiku-4-5", max_tokens=256, messages=[{"role": "user", "content": f"As a message, number {n}?"}]
    )
    return answer.id


def main() -> None:
    numbers = count()
    with openai.OpenAI(api_key="sk-stand-in") as gpt, anthropic.Anthropic(api_key="sk-ant-stand-in") as claude:
        for line in sys.stdin:
            ids = []
            for _ in range(int(line)):
                n = next(numbers)
                # A span of the program's own around each call: Jaeger gets it, the ledger has no use for it.
                with tracer.start_as_current_span("question"):
                    ids.append(message(claude, n) if n % 3 == 2 else (plain, streamed)[n % 3](gpt, n))
            print(*ids, flush=True)


if __name__ == "__main__":
    main()
