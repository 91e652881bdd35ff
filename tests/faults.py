"""A proxy between ClickHouse's clients and a real server that does what networks and servers do to them.

`FaultProxy.fault` is None, or a function that gets each request and either answers in the server's place or lets it
through; the ones below are what tests need.
"""

from __future__ import annotations

import http.client
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """As the client sent it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def insert(self) -> bool:
        return "insert_deduplication_token" in self.path


@dataclass(frozen=True)
class Answer:
    """What the client gets; the connection is closed behind `cut` bytes of the body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    cut: int | None = None


class Gone(Exception):
    """The connection is closed without an answer."""


Forward = Callable[[], Answer]
Fault = Callable[["FaultProxy", Request, Forward], Answer]


def answers(status: int, text: str, code: int | None = None) -> Fault:
    """The server, or a load balancer before it (no `code`), refuses."""
    headers = [("X-ClickHouse-Exception-Code", str(code))] if code else []
    body = f"Code: {code}. DB::Exception: {text}" if code else text
    return lambda _proxy, _request, _forward: Answer(status, headers, body.encode())


def hangs(proxy: FaultProxy, _request: Request, _forward: Forward) -> Answer:
    """The request is taken, and nothing comes back."""
    proxy.ending.wait()
    raise Gone


def slow(seconds: float) -> Fault:
    """Every answer takes so long."""

    def fault(proxy: FaultProxy, _request: Request, forward: Forward) -> Answer:
        proxy.ending.wait(seconds)
        return forward()

    return fault


def closes_before(_proxy: FaultProxy, _request: Request, _forward: Forward) -> Answer:
    """The connection breaks before the server has the request."""
    raise Gone


def closes_after(_proxy: FaultProxy, _request: Request, forward: Forward) -> Answer:
    """The server executes the request, and the connection breaks before the answer."""
    forward()
    raise Gone


def cuts_the_answer(_proxy: FaultProxy, _request: Request, forward: Forward) -> Answer:
    """The server executes the request, and the connection breaks within the answer."""
    answer = forward()
    return Answer(answer.status, answer.headers, answer.body, cut=len(answer.body) // 2)


def only_inserts(fault: Fault) -> Fault:
    """The fault, where rows are inserted; everything else goes through."""

    def chosen(proxy: FaultProxy, request: Request, forward: Forward) -> Answer:
        return fault(proxy, request, forward) if request.insert else forward()

    return chosen


class FaultProxy:
    """A port on loopback that leads to ClickHouse's HTTP port, through `fault`.

    Attributes:
        faulty: requests that met a fault.
        ending: set when the proxy closes, or when its connections are to be let go.
    """

    def __init__(self, target: int, fault: Fault | None = None, port: int = 0) -> None:
        self.target = target
        self.fault = fault
        self.faulty = 0
        self.ending = threading.Event()
        proxy = self

        class Handler(_Handler):
            def answer(self, request: Request) -> Answer:
                def forward() -> Answer:
                    return proxy._forward(request)

                if proxy.fault is None:
                    return forward()
                proxy.faulty += 1
                return proxy.fault(proxy, request, forward)

        self._server = _Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def mend(self) -> None:
        """No more faults, and who waits for an answer is let go."""
        self.fault = None
        self.ending.set()
        self.ending = threading.Event()

    def close(self) -> None:
        """Refuse connections from now on."""
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.cut_all()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _forward(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.target, timeout=60)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(request.body)))
            connection.putheader("Connection", "close")
            connection.endheaders(request.body)
            found = connection.getresponse()
            return Answer(found.status, found.getheaders(), found.read())
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        for each in list(self._open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client has gone: what some of these tests are about."""


class _Handler(BaseHTTPRequestHandler, ABC):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @abstractmethod
    def answer(self, request: Request) -> Answer: ...

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        request = Request(self.command, self.path, list(self.headers.items()), self._body())
        try:
            answer = self.answer(request)
        except (Gone, OSError, http.client.HTTPException):
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) + (answer.cut is not None)))
        self.end_headers()
        self.wfile.write(answer.body if answer.cut is None else answer.body[: answer.cut])
        self.close_connection = self.close_connection or answer.cut is not None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""
