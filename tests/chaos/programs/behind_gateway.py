"""`behind_gateway.py URL`: calls through a gateway, to which the trace goes along; prints the answers' ids."""

from __future__ import annotations

import sys

import httpx2
from openai import OpenAI
from opentelemetry import propagate

from spanledger.attribution import attribute
from tests.chaos.traffic import ASK


def _with_trace(request: httpx2.Request) -> None:
    propagate.inject(request.headers)


if __name__ == "__main__":
    http = httpx2.Client(event_hooks={"request": [_with_trace]})
    client = OpenAI(api_key="sk-behind", base_url=f"{sys.argv[1]}/v1", http_client=http, max_retries=0)
    with attribute(tenant="acme", feature="answer"):
        print(client.chat.completions.create(**ASK).id)
        usage = {"include_usage": True}
        print(*{chunk.id for chunk in client.chat.completions.create(**ASK, stream=True, stream_options=usage)})
