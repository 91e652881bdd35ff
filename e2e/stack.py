"""Jaeger, the OpenTelemetry Collector and spanledger as real processes, with the configuration that is shipped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import free_port
from tests.service.conftest import BIN, ROOT, environment

from spanledger.exporter.client import ClickHouseError, Client, connect
from spanledger.exporter.embedded import EmbeddedClickHouse

HAS_NODE = shutil.which("node") is not None

PATIENCE_S = 90.0
"""How long anything may take before a test fails; much longer than it does take."""

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def built(name: str) -> Path:
    """A program that e2e/build.sh builds, or has built before."""
    result = subprocess.run([ROOT / "e2e" / "build.sh", name], stdout=subprocess.PIPE, text=True, check=True)
    return Path(result.stdout.strip())


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """What `condition` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return found


def fetch(url: str) -> bytes | None:
    """What a loopback URL answers; None while it does not, or not well."""
    try:
        with _OPENER.open(url, timeout=PATIENCE_S) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


class Server:
    """A process of the stack that a test may kill and start again; its output is in `log`.

    Parameters:
        ready: a URL that answers once the process serves.
    """

    def __init__(self, command: list[str | Path], env: Mapping[str, str], log: Path, ready: str) -> None:
        self._command = command
        self._env = dict(env)
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._env, cwd=self.log.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(lambda: self._ended() or fetch(self._ready) is not None, f"{self._ready} answers; see {self.log}")
        assert not self._ended(), f"{self._command[0]} has ended:\n{self.log.read_text()[-3000:]}"

    def kill(self) -> None:
        """SIGKILL: it has no chance to flush anything."""
        assert self._process is not None
        assert self._process.poll() is None, f"{self._command[0]} ended before it was killed; see {self.log}"
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=PATIENCE_S)

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


class Spans(NamedTuple):
    """What Jaeger shows of a call: its span, and the program's own span around it."""

    call: Mapping[str, Any]
    question: str


class Stack:
    """All of it, on free ports.

    Parameters:
        folder: for data and logs.
        config: the Collector's configuration.
        spanledger: more settings of spanledger, `{jaeger}` in them is Jaeger's OTLP endpoint.
    """

    def __init__(self, folder: Path, config: Path, **spanledger: str) -> None:
        self.home = folder / "home"
        query, self._metrics = free_port(), free_port()
        self._query = f"http://127.0.0.1:{query}"
        self.otlp_grpc, self.otlp_http = free_port(), free_port()
        jaeger, grpc, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        jaeger_health, health = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        base = {name: value for name, value in environment(self.home).items() if not name.startswith("OTEL_")}
        self.jaeger = Server(
            [built("jaeger"), "--config", ROOT / "deploy" / "jaeger.yaml"],
            {
                **base,
                "JAEGER_OTLP_LISTEN": jaeger,
                "JAEGER_QUERY_LISTEN": f"127.0.0.1:{query}",
                "JAEGER_QUERY_GRPC_LISTEN": f"127.0.0.1:{free_port()}",
                "JAEGER_HEALTH_LISTEN": jaeger_health,
                "OTEL_TRACES_SAMPLER": "always_off",  # it would trace itself, to port 4317
            },
            folder / "jaeger.log",
            f"http://{jaeger_health}/status",
        )
        self.collector = Server(
            [built("otelcol"), "--config", config],
            {
                **base,
                "OTLP_GRPC_LISTEN": f"127.0.0.1:{self.otlp_grpc}",
                "OTLP_HTTP_LISTEN": f"127.0.0.1:{self.otlp_http}",
                "JAEGER_OTLP_ENDPOINT": jaeger,
                "SPANLEDGER_OTLP_ENDPOINT": grpc,
                "SPANLEDGER_COLLECTOR_TOKEN": "e2e-token",
                "COLLECTOR_QUEUES": str(folder / "queues"),
                "COLLECTOR_HEALTH_LISTEN": health,
                "COLLECTOR_METRICS_PORT": str(self._metrics),
            },
            folder / "collector.log",
            f"http://{health}/",
        )
        self.spanledger = Server(
            [BIN / "spanledger", "up", "--foreground"],
            {
                **base,
                "SPANLEDGER_COLLECTOR": "true",
                "SPANLEDGER_COLLECTOR_GRPC": grpc,
                "SPANLEDGER_COLLECTOR_HTTP": http,
                "SPANLEDGER_COLLECTOR_TOKEN": "e2e-token",
                **{name: value.format(jaeger=jaeger) for name, value in spanledger.items()},
            },
            folder / "spanledger.log",
            f"http://{http}/healthz",
        )
        self._servers = (self.jaeger, self.spanledger, self.collector)

    def __enter__(self) -> Stack:
        try:
            for server in self._servers:
                server.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in reversed(self._servers):
            server.stop()

    def kill_clickhouse(self) -> None:
        """SIGKILL for embedded ClickHouse alone; spanledger's service starts it again by itself."""
        pid = EmbeddedClickHouse(self.home).status().pid
        assert pid is not None, "embedded ClickHouse does not run"
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: EmbeddedClickHouse(self.home).status().pid != pid, "ClickHouse is gone")

    def ledger(self, ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """The ledger's rows of these response ids, by id; empty lists while ClickHouse does not answer."""
        rows: dict[str, list[dict[str, Any]]] = {each: [] for each in ids}
        endpoint = EmbeddedClickHouse(self.home).endpoint()
        if endpoint is None:
            return rows
        sql = "SELECT * FROM llm_calls FINAL WHERE response_id IN {ids:Array(String)}"
        try:
            client: Client = connect(endpoint)
            try:
                found = client.query(sql, {"ids": list(rows)})
                for values in found.rows:
                    row = dict(zip(found.columns, values, strict=True))
                    rows[row["response_id"]].append(row)
            finally:
                client.close()
        except ClickHouseError:
            return {each: [] for each in rows}
        return rows

    def one_row_each(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        """Wait until the ledger has all these calls, and no call twice; their rows."""
        assert len(set(ids)) == len(ids) > 0
        rows = wait_until(
            lambda: all((found := self.ledger(ids)).values()) and found,
            f"{len(ids)} calls are in the ledger; see {self.spanledger.log}",
        )
        assert {each: len(found) for each, found in rows.items() if len(found) != 1} == {}
        return {each: found[0] for each, found in rows.items()}

    def send(self, request: bytes) -> None:
        """Send an OTLP request, in protobuf, to the Collector by HTTP."""
        headers = {"Content-Type": "application/x-protobuf"}
        post = urllib.request.Request(f"http://127.0.0.1:{self.otlp_http}/v1/traces", request, headers)
        with _OPENER.open(post, timeout=PATIENCE_S) as answer:
            assert answer.status == 200

    def settled(self) -> None:
        """Let spanledger load every journal of its home and settle what it has."""
        subprocess.run([BIN / "spanledger", "settle"], env=environment(self.home), check=True, capture_output=True)

    def bill(self, service: str) -> tuple[int, Decimal]:
        """Calls of a service in the ledger, whatever their ids, and what they cost."""
        sql = "SELECT count(), sum(cost) FROM llm_calls FINAL WHERE service_name = {service:String}"
        endpoint = EmbeddedClickHouse(self.home).endpoint()
        assert endpoint is not None, "embedded ClickHouse does not run"
        client = connect(endpoint)
        try:
            calls, total = client.query(sql, {"service": service}).rows[0]
            return int(calls), Decimal(total)
        finally:
            client.close()

    def shown(self, service: str) -> dict[str, Spans]:
        """What Jaeger's query API shows of the calls of a service, by response id."""
        answer = fetch(f"{self._query}/api/traces?service={service}&limit=10000&lookback=1h") or b"{}"
        spans: dict[str, Spans] = {}
        for trace in json.loads(answer).get("data") or ():
            names = {span["spanID"]: span["operationName"] for span in trace["spans"]}
            for span in trace["spans"]:
                tags = {tag["key"]: tag["value"] for tag in span["tags"]}
                # The anthropic package describes its calls too, without costs.
                if "gen_ai.response.id" in tags and (tags["gen_ai.response.id"] not in spans or cost(tags)):
                    above = span["references"][0]["spanID"] if span["references"] else ""
                    spans[tags["gen_ai.response.id"]] = Spans(tags, names.get(above, ""))
        return spans

    def traces(self, service: str, ids: list[str]) -> dict[str, Spans]:
        """Wait until Jaeger shows all these calls of a service; what it shows, by response id."""
        return wait_until(
            lambda: set(ids) <= set(found := self.shown(service)) and {each: found[each] for each in ids},
            f"{len(ids)} calls of {service} are in Jaeger",
        )

    def sent(self, exporter: str) -> int:
        """Spans that the Collector says it has delivered by one of its exporters since it started."""
        return self._metric("otelcol_exporter_sent_spans", f'exporter="{exporter}"')

    def decided(self) -> int:
        """Traces that the Collector's tail sampling has decided on."""
        return self._metric("otelcol_processor_tail_sampling_global_count_traces_sampled", "")

    def _metric(self, name: str, label: str) -> int:
        text = (fetch(f"http://127.0.0.1:{self._metrics}/metrics") or b"").decode()
        lines = [line for line in text.splitlines() if line.startswith(name) and label in line]
        return sum(int(float(line.rpartition(" ")[2])) for line in lines)


class Program:
    """A program that makes calls when it is asked to: e2e/python/calls.py or e2e/node/calls.js."""

    def __init__(self, command: list[str | Path], env: Mapping[str, str]) -> None:
        self.service = env["OTEL_SERVICE_NAME"]
        self.ids: list[str] = []
        self._process = subprocess.Popen(
            command, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def call(self, times: int) -> list[str]:
        """Let it make calls; their response ids."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        ids = self._process.stdout.readline().split()
        assert len(ids) == times, f"{self.service} has ended: {self._process.poll()}"
        self.ids += ids
        return ids

    def end(self) -> None:
        """Let it flush its spans and end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=PATIENCE_S) == 0
        self._process.stdout.close()


def python_program(stack: Stack, standin: int, home: Path, service: str) -> Program:
    """The Python program, instrumented by spanledger, its spans to the Collector by gRPC."""
    env = environment(
        home,
        OPENAI_BASE_URL=f"http://localhost:{standin}/v1",
        ANTHROPIC_BASE_URL=f"http://127.0.0.1:{standin}",
        OTEL_SERVICE_NAME=service,
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{stack.otlp_grpc}",
        OTEL_EXPORTER_OTLP_TIMEOUT="60",
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    return Program([BIN / "opentelemetry-instrument", sys.executable, ROOT / "e2e" / "python" / "calls.py"], env)


def node_program(stack: Stack, standin: int, home: Path, service: str) -> Program:
    """The Node.js program, with OpenTelemetry's own instrumentation, its spans to the Collector by HTTP."""
    env = environment(
        home,
        NODE_PATH=str(built("node") / "node_modules"),
        OPENAI_BASE_URL=f"http://localhost:{standin}/v1",
        OTEL_SERVICE_NAME=service,
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{stack.otlp_http}",
        OTEL_EXPORTER_OTLP_TIMEOUT="60000",
        OTEL_BSP_SCHEDULE_DELAY="100",
        OTEL_BSP_EXPORT_TIMEOUT="60000",
    )
    return Program(["node", ROOT / "e2e" / "node" / "calls.js"], env)


def cost(tags: Mapping[str, Any]) -> Decimal | None:
    """What a span of Jaeger's says that its call cost."""
    text = tags.get("spanledger.cost")
    return None if text is None else Decimal(text)
