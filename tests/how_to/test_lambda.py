"""docs/how-to/lambda.md, as printed, under AWS's own runtime client, which is frozen as soon as it has answered."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from spanledger.exporter.client import Client
from tests.how_to.conftest import PATIENCE_S, Reader

pytest.importorskip("awslambdaric", reason="AWS's runtime client is for Linux: pip install awslambdaric")


class RuntimeApi(ThreadingHTTPServer):
    """Lambda's runtime API (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.freeze: Callable[[], None] = lambda: None

    def invoke(self, event: bytes) -> Any:
        """Give the function an event; its answer, once its process is frozen."""
        self.events.put(event)
        path, body = self.answers.get(timeout=PATIENCE_S)
        assert path.endswith("/response"), body
        return json.loads(body)


class _Handler(BaseHTTPRequestHandler):
    server: RuntimeApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        event = self.server.events.get()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-north-1:123456789012:function:desk")
        self.send_header("Lambda-Runtime-Deadline-Ms", "4000000000000")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(event)))
        self.end_headers()
        self.wfile.write(event)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.freeze()
        self.server.answers.put((self.path, body))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def runtime() -> Iterator[RuntimeApi]:
    with RuntimeApi() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def test_each_call_is_in_the_ledger_while_the_function_is_frozen(
    reader: Callable[..., Reader], runtime: RuntimeApi, ledger: Client
) -> None:
    page = reader("lambda", SPANLEDGER_SHIP_INTERVAL="3600")
    url = page.env.pop("SPANLEDGER_URL")
    page.swaps = {
        "https://spanledger_insert:PASSWORD@clickhouse.example.com:8443/spanledger": url,
        "/tmp/spanledger": page.env["SPANLEDGER_HOME"],
        "OPENAI_API_KEY=...": "OPENAI_API_KEY=sk-stand-in",
    }
    page.write()
    (page.folder / "package").mkdir()
    page.run("cp ")
    page.run("(cd package")
    given = dict(line.split("=", 1) for line in (page.folder / "environment").read_text().splitlines())
    page.env |= given | {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": "desk",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_GROUP_NAME": "desk",
        "AWS_LAMBDA_LOG_STREAM_NAME": "desk",
        "PYTHONPATH": str(page.folder / "function.zip"),
    }
    function = page.started(f"{sys.executable} -m awslambdaric lambda_function.handler")
    runtime.freeze = lambda: os.kill(function.pid, signal.SIGSTOP)

    event = (page.folder / "event.json").read_bytes()
    for number in (1, 2):
        answer = runtime.invoke(event)
        assert answer["answer"], page.output.read_text()
        rows = ledger.query("SELECT tenant, user_id, feature, service_name FROM llm_calls FINAL").rows
        assert rows == [("acme", "ada", "desk", "help-desk")] * number, page.output.read_text()
        os.kill(function.pid, signal.SIGCONT)
    report = page.run("spanledger report")
    assert all(word in report for word in ("acme", "ada", "desk"))
    page.done()


def test_an_answer_does_not_depend_on_clickhouse(reader: Callable[..., Reader], runtime: RuntimeApi) -> None:
    page = reader("lambda", SPANLEDGER_URL="http://ledger:password@127.0.0.1:9/spanledger")
    page.write()
    page.env |= {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime.server_port}", "AWS_LAMBDA_FUNCTION_NAME": "desk"}
    page.started(f"{sys.executable} -m awslambdaric lambda_function.handler")
    assert runtime.invoke((page.folder / "event.json").read_bytes())["answer"], page.output.read_text()
    assert list((page.folder.parent / "home" / "journal").glob("*.block")), "the row waits"
