"""A stand-in for xAI's gRPC API on loopback, made from xai-sdk's own protos: it says what a test told it to say."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from xai_sdk import proto

Answer = Any
"""A message; a list of messages, for a stream; (status code, details), to abort; an Event, to wait for."""

SERVICES = [
    (service, getattr(proto, f"{name}_pb2"), getattr(proto, f"{name}_pb2_grpc"))
    for service, name in (("Chat", "chat"), ("Image", "image"), ("Video", "video"), ("BatchMgmt", "batch"))
    if hasattr(proto, f"{name}_pb2_grpc")  # an old SDK has not all of them
]
"""Services that bill, with the modules of their messages and of their stubs."""


class GrpcProvider:
    """Serves until the block ends; `say` lines up answers by method, of which the last is repeated."""

    def __enter__(self) -> GrpcProvider:
        self._answers: dict[str, deque[Answer]] = {}
        self.requests: list[tuple[str, Any, dict[str, Any]]] = []
        self.cancelled = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        for service, _, stubs in SERVICES:
            add = getattr(stubs, f"add_{service}Servicer_to_server")
            add(self._servicer(getattr(stubs, f"{service}Servicer")), self._server)
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def say(self, method: str, *answers: Answer) -> None:
        self._answers[method] = deque(answers)

    def answer(self, method: str, request: Any) -> Answer:
        """The answer to a request of a method."""
        answers = self._answers[method]
        return answers.popleft() if len(answers) > 1 else answers[0]

    def _servicer(self, kind: type) -> Any:
        methods = [name for name in vars(kind) if not name.startswith("_")]
        return type(kind.__name__, (kind,), {name: self._method(name) for name in methods})()

    def _method(self, name: str) -> Callable[[Any, Any, Any], Any]:
        streamed = name.endswith("Chunk")

        def unary(_: Any, request: Any, context: Any) -> Any:
            return next(iter(self._said(name, request, context)))

        def stream(_: Any, request: Any, context: Any) -> Iterator[Any]:
            context.add_callback(self.cancelled.set)
            yield from self._said(name, request, context)

        return stream if streamed else unary

    def _said(self, name: str, request: Any, context: Any) -> Iterator[Any]:
        self.requests.append((name, request, dict(context.invocation_metadata())))
        answer = self.answer(name, request)
        for each in answer if isinstance(answer, list) else [answer]:
            if isinstance(each, tuple):
                context.abort(*each)
            elif isinstance(each, threading.Event):
                each.wait()
            else:
                yield each
