"""A web application, by WSGI and by ASGI: a plain call and a stream for each request, which their ids answer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from tests.chaos import traffic

_client = traffic.client()
_async_client = traffic.async_client()


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    ids = [traffic.plain(_client), traffic.stream(_client)]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join([str(os.getpid()), *ids]).encode()]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    ids = [await traffic.async_plain(_async_client), await traffic.async_stream(_async_client)]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": " ".join([str(os.getpid()), *ids]).encode()})
