"""`gateway.py [own]`: a gateway in front of the provider of `traffic`; with `own` its answers have ids of its own.

Its port is the first line that it prints. It ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from opentelemetry import context, propagate

from tests.chaos import traffic

OWN_IDS = "own" in sys.argv[1:]


class Gateway(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token = context.attach(propagate.extract(dict(self.headers.items())))
        try:
            answer = traffic.client().chat.completions.create(**asked)
            renamed = {"id": f"chatcmpl-{uuid.uuid4().hex}"} if OWN_IDS else {}
            self.send_response(200)
            if asked.get("stream"):
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for chunk in answer:
                    self._event(orjson.dumps(chunk.to_dict() | renamed))
                self._event(b"[DONE]")
            else:
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(orjson.dumps(answer.to_dict() | renamed))
        finally:
            context.detach(token)

    def _event(self, data: bytes) -> None:
        self.wfile.write(b"data: " + data + b"\n\n")

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        print(server.server_port, flush=True)
        sys.stdin.read()
        server.shutdown()
