"""A provider on loopback that says what a test scripts: statuses, bodies, broken and stalling streams."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """One scripted answer.

    `chunks` are sent one by one as a chunked body; a callable among them is called instead (to wait, or to break).
    """

    body: Any = None
    status: int = 200
    content_type: str = "application/json"
    chunks: Iterable[bytes | Callable[[], None]] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    """Close the connection without the last chunk."""


def sse(*events: Any, done: bool = True, event_names: bool = False) -> list[bytes]:
    """The chunks of a server-sent event stream, one event a chunk."""
    chunks = []
    for event in events:
        name = f"event: {event['type']}\n".encode() if event_names else b""
        chunks.append(name + b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n")
    return [*chunks, b"data: [DONE]\n\n"] if done else chunks


def stream(*events: Any, done: bool = True, event_names: bool = False, **options: Any) -> Answer:
    """A scripted event stream."""
    chunks = sse(*events, done=done, event_names=event_names)
    return Answer(chunks=chunks, content_type="text/event-stream; charset=utf-8", **options)


def gzipped(answer: Answer) -> Answer:
    """The same answer, its chunks compressed as one gzip stream."""
    import zlib

    squeeze = zlib.compressobj(wbits=31)
    chunks = [
        squeeze.compress(c) + squeeze.flush(zlib.Z_SYNC_FLUSH) for c in answer.chunks or () if isinstance(c, bytes)
    ]
    chunks.append(squeeze.flush())
    return Answer(
        chunks=[c for c in chunks if c],
        content_type=answer.content_type,
        headers={"Content-Encoding": "gzip"},
    )


class Provider(ThreadingHTTPServer):
    """`with Provider() as p: p.say(Answer(...)); ... p.url`; answers are given in order, the last one stays."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.host = f"127.0.0.1:{self.server_port}"
        self.answers: list[Answer] = []
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []

    def say(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def answer(self, body: bytes) -> Answer:
        """The answer to a request with `body`."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def __enter__(self) -> Provider:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Provider

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.paths.append(self.path)
        self.server.headers.append({k.lower(): v for k, v in self.headers.items()})
        try:
            self.server.requests.append(json.loads(body) if body else {})
        except ValueError:
            self.server.requests.append({"_bytes": len(body)})
        answer = self.server.answer(body)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.chunks is None:
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            if answer.headers.get("Content-Encoding") == "gzip":
                content = gzip.compress(content)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in answer.chunks:
            if callable(chunk):
                chunk()
            else:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if answer.drop:
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST

    def log_message(self, *args: Any) -> None:
        pass
