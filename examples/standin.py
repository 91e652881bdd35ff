"""A stand-in for the APIs of OpenAI and Anthropic: the demo needs no account, no key and no network.

It answers in the providers' wire format, plain and streamed, and counts tokens the way they do:

- OpenAI: prompts of 1024 tokens and more are cached by their prefix (all messages but the last); newer models
  bill the write; reasoning models reason; `stream_options.include_usage` adds `"usage": null` to every
  chunk and a last chunk with no choices (https://platform.openai.com/docs/api-reference/chat-streaming).
- Anthropic: `cache_control` breakpoints write for 5 minutes or 1 hour and are read afterwards; thinking is
  part of the output; a stream's usage is cumulative (https://docs.anthropic.com/en/api/messages-streaming).

A token is four characters. The same requests in the same order give the same tokens; ids and times are fresh.

    python examples/standin.py --port 8080
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import secrets
import string
import sys
import threading
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
Event = tuple[str, Json]

SNAPSHOTS = {
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5.4-mini": "gpt-5.4-mini-2026-03-17",
    "gpt-5.5": "gpt-5.5-2026-04-23",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
}
"""Aliases that the provider answers under a dated name."""

OPENAI_MODELS = ("gpt-", "o1", "o3", "o4", "text-embedding-")
OPENAI_REASONS = ("gpt-5", "gpt-6", "o1", "o3", "o4")
OPENAI_BILLS_CACHE_WRITES = ("gpt-5.6", "gpt-6")
OPENAI_CACHE_MINIMUM = 1024
OPENAI_TIERS = {"fast": "priority", "flex": "flex", "priority": "priority"}
ANTHROPIC_MODELS = ("claude-",)
DIMENSIONS = {"text-embedding-3-large": 3072}

SENTENCE = (
    "the ledger keeps one exact row for every call so that a month of answers adds up to the invoice and "
    "each amount can be explained by the tokens it was made of and by the rate that was in force on that day"
)


class ApiError(Exception):
    """An error that the provider answers with."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class StandIn(ThreadingHTTPServer):
    """The server, on loopback only; a context manager that runs it in a thread.

    Parameters:
        port: 0 takes a free one.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.cache = PromptCache()
        self.requests: list[tuple[str, Json]] = []
        """(path, body) of every request so far."""

    @property
    def url(self) -> str:
        """Base URL for the anthropic package; the openai package wants `url + "/v1"`."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closes its connection is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def __enter__(self) -> StandIn:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()
        self.server_close()


class PromptCache:
    """Remembers prompt prefixes: the first request writes one, later requests read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: set[int] = set()

    def hit(self, model: str, prefix: str) -> bool:
        """Whether `prefix` was there before; it is there from now on."""
        key = hash((model, prefix))
        with self._lock:
            seen = key in self._seen
            self._seen.add(key)
        return seen


def tokens(text: str) -> int:
    return math.ceil(len(text) / 4)


def dice(request: Json, sides: int) -> int:
    """0 to `sides` - 1, always the same for the same request."""
    return zlib.crc32(json.dumps(request, sort_keys=True).encode()) % sides


def answer(request: Json, limit: int | None) -> tuple[str, bool]:
    """Some sentences whose length depends on the request, and whether `limit` tokens cut them short."""
    words = SENTENCE.split()
    start, length = dice(request, len(words)), 12 + dice(request, 60)
    text = " ".join(words[(start + n) % len(words)] for n in range(length)).capitalize() + "."
    if limit is not None and tokens(text) > limit:
        return text[: 4 * limit], True
    return text, False


def fresh(prefix: str, length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return prefix + "".join(secrets.choice(alphabet) for _ in range(length))


def text_of(content: Any) -> str:
    """The text of a message's content, whatever its shape."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(text_of(block) for block in content)
    if isinstance(content, dict):
        return str(content.get("text") or text_of(content.get("content") or ""))
    return ""


def pieces(text: str) -> Iterator[str]:
    """The text in the pieces that a stream delivers."""
    head, *rest = text.split(" ")
    yield head
    for word in rest:
        yield " " + word


# --- OpenAI -----------------------------------------------------------------------------------------------


def openai_input(request: Json, messages: list[Any], cache: PromptCache) -> tuple[int, int, int]:
    """Tokens of the prompt, how many of them the cache had, and how many were written to it."""
    texts = [text_of(message) for message in messages]
    prompt = sum(tokens(text) + 3 for text in texts) + 3
    prefix = sum(tokens(text) + 3 for text in texts[:-1])
    if prefix < OPENAI_CACHE_MINIMUM:
        return prompt, 0, 0
    prefix -= prefix % 128
    if cache.hit(request["model"], "\0".join(texts[:-1])):
        return prompt, prefix, 0
    return prompt, 0, prefix if request["model"].startswith(OPENAI_BILLS_CACHE_WRITES) else 0


def openai_reasoning(request: Json, effort: str | None) -> int:
    if not request["model"].startswith(OPENAI_REASONS) or effort == "none":
        return 0
    return 64 * (1 + dice(request, 6))


def chat_completion(request: Json, cache: PromptCache) -> Json:
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    prompt, cached, written = openai_input(request, request["messages"], cache)
    audio_in = sum(
        tokens(block["input_audio"]["data"]) // 8
        for message in request["messages"]
        if isinstance(message.get("content"), list)
        for block in message["content"]
        if block.get("type") == "input_audio"
    )
    text, cut = answer(request, limit)
    speaks = "audio" in (request.get("modalities") or ())
    visible = tokens(text)
    audio_out = 5 * visible if speaks else 0
    reasoning = openai_reasoning(request, request.get("reasoning_effort"))
    prompt += audio_in
    completion = visible + audio_out + reasoning
    message: Json = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    if speaks:
        message["content"] = None
        message["audio"] = {
            "id": fresh("audio_", 32, string.hexdigits[:16]),
            "data": base64.b64encode(bytes(24)).decode(),
            "expires_at": int(time.time()) + 3600,
            "transcript": text,
        }
    return {
        "id": fresh("chatcmpl-", 29),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": SNAPSHOTS.get(request["model"], request["model"]),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length" if cut else "stop"}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {
                "cached_tokens": cached,
                "cache_write_tokens": written,
                "audio_tokens": audio_in,
            },
            "completion_tokens_details": {
                "reasoning_tokens": reasoning,
                "audio_tokens": audio_out,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": OPENAI_TIERS.get(request.get("service_tier") or "", "default"),
        "system_fingerprint": None,
    }


def chat_completion_events(body: Json, request: Json) -> Iterator[Event]:
    wants_usage = bool((request.get("stream_options") or {}).get("include_usage"))
    head = {key: body[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}

    def chunk(choices: list[Json], usage: Json | None = None) -> Event:
        event = {**head, "object": "chat.completion.chunk", "choices": choices}
        if wants_usage:
            event["usage"] = usage
        return "", event

    def choice(delta: Json, finish_reason: str | None = None) -> list[Json]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]

    full = body["choices"][0]
    yield chunk(choice({"role": "assistant", "content": "", "refusal": None}))
    for piece in pieces(full["message"]["content"] or full["message"]["audio"]["transcript"]):
        yield chunk(choice({"content": piece}))
    yield chunk(choice({}, full["finish_reason"]))
    if wants_usage:
        yield chunk([], body["usage"])


def response(request: Json, cache: PromptCache) -> Json:
    given = request.get("input") or ""
    messages = [given] if isinstance(given, str) else list(given)
    if request.get("instructions"):
        messages.insert(0, request["instructions"])
    prompt, cached, written = openai_input(request, messages, cache)
    text, cut = answer(request, request.get("max_output_tokens"))
    reasoning = openai_reasoning(request, (request.get("reasoning") or {}).get("effort"))
    searches = int(any(str(tool.get("type")).startswith("web_search") for tool in request.get("tools") or ()))
    output: list[Json] = []
    if reasoning:
        output.append({"id": fresh("rs_", 50, string.hexdigits[:16]), "type": "reasoning", "summary": []})
    if searches:
        output.append(
            {
                "id": fresh("ws_", 50, string.hexdigits[:16]),
                "type": "web_search_call",
                "status": "completed",
                "action": {"type": "search", "query": text[:20], "queries": [text[:20]]},
            }
        )
    output.append(
        {
            "id": fresh("msg_", 50, string.hexdigits[:16]),
            "type": "message",
            "role": "assistant",
            "status": "incomplete" if cut else "completed",
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
        }
    )
    input_details: Json = {"cached_tokens": cached, "cache_write_tokens": written}
    ttl = (request.get("prompt_cache_options") or {}).get("ttl")
    if ttl:
        input_details["cache_write_tokens_details"] = {
            "ttl_30m_tokens": written if ttl == "30m" else 0,
            "ttl_12h_tokens": written if ttl == "12h" else 0,
        }
    now = int(time.time())
    visible = tokens(text)
    return {
        "id": fresh("resp_", 50, string.hexdigits[:16]),
        "object": "response",
        "created_at": now,
        "completed_at": now,
        "status": "incomplete" if cut else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "metadata": {},
        "model": SNAPSHOTS.get(request["model"], request["model"]),
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "service_tier": OPENAI_TIERS.get(request.get("service_tier") or "", "default"),
        "store": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tool_usage": {"web_search": {"num_requests": searches}},
        "tools": request.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": input_details,
            "output_tokens": visible + reasoning,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": prompt + visible + reasoning,
        },
    }


def response_events(body: Json, request: Json) -> Iterator[Event]:  # noqa: ARG001
    begun = {**body, "status": "in_progress", "completed_at": None, "output": [], "usage": None}
    number = -1

    def event(kind: str, **fields: Any) -> Event:
        nonlocal number
        number += 1
        return kind, {"type": kind, **fields, "sequence_number": number}

    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(body["output"]):
        if item["type"] != "message":
            yield event("response.output_item.added", output_index=index, item=item)
            yield event("response.output_item.done", output_index=index, item=item)
            continue
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        part = item["content"][0]
        empty = {**item, "status": "in_progress", "content": []}
        yield event("response.output_item.added", output_index=index, item=empty)
        yield event("response.content_part.added", **place, part={**part, "text": ""})
        for piece in pieces(part["text"]):
            yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
        yield event("response.output_text.done", **place, text=part["text"], logprobs=[])
        yield event("response.content_part.done", **place, part=part)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event("response." + body["status"], response=body)


def embeddings(request: Json, cache: PromptCache) -> Json:  # noqa: ARG001
    given = request["input"]
    texts = given if isinstance(given, list) and given and isinstance(given[0], str) else [given]
    prompt = sum(tokens(text) if isinstance(text, str) else len(text) for text in texts)
    size = request.get("dimensions") or DIMENSIONS.get(request["model"], 1536)
    data = []
    for index, text in enumerate(texts):
        seed = dice({"text": text}, 1000)
        vector = array("f", (math.sin(seed + n) / math.sqrt(size / 2) for n in range(size)))
        as_text = request.get("encoding_format") == "base64"
        value: Any = base64.b64encode(vector.tobytes()).decode() if as_text else list(vector)
        data.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": prompt, "total_tokens": prompt}
    return {"object": "list", "data": data, "model": request["model"], "usage": usage}


# --- Anthropic --------------------------------------------------------------------------------------------


def anthropic_blocks(request: Json) -> Iterator[tuple[str, Json]]:
    """(text, cache_control) of every block in the order the cache sees them: tools, system, messages."""
    for tool in request.get("tools") or ():
        yield json.dumps(tool), tool.get("cache_control") or {}
    contents = [request.get("system") or "", *(message.get("content") for message in request["messages"])]
    for content in contents:
        for block in content if isinstance(content, list) else [content]:
            control = block.get("cache_control") if isinstance(block, dict) else None
            yield text_of(block), control or {}


def anthropic_input(request: Json, cache: PromptCache) -> Json:
    prefix, pending, counts = "", 0, {"read": 0, "5m": 0, "1h": 0}
    for text, control in anthropic_blocks(request):
        prefix += text + "\0"
        pending += tokens(text) + 2 if text else 0
        if control:
            hit = cache.hit(request["model"], prefix)
            counts["read" if hit else control.get("ttl", "5m")] += pending
            pending = 0
    return {
        "input_tokens": pending + 1,
        "cache_creation_input_tokens": counts["5m"] + counts["1h"],
        "cache_read_input_tokens": counts["read"],
        "cache_creation": {
            "ephemeral_5m_input_tokens": counts["5m"],
            "ephemeral_1h_input_tokens": counts["1h"],
        },
    }


def message(request: Json, cache: PromptCache) -> Json:
    if "max_tokens" not in request:
        raise ApiError(400, "invalid_request_error", "max_tokens: Field required")
    usage = anthropic_input(request, cache)
    text, cut = answer(request, request["max_tokens"])
    content: list[Json] = []
    thinking = 0
    if (request.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        thinking = 40 + dice(request, 200)
        content.append({"type": "thinking", "thinking": "Let me think.", "signature": fresh("", 40)})
    searches = 0
    if any(str(tool.get("type")).startswith("web_search") for tool in request.get("tools") or ()):
        searches = 1 + dice(request, 2)
        for _ in range(searches):
            run = fresh("srvtoolu_01", 22)
            query = {"query": text[:20]}
            content.append({"type": "server_tool_use", "id": run, "name": "web_search", "input": query})
            content.append({"type": "web_search_tool_result", "tool_use_id": run, "content": []})
    content.append({"type": "text", "text": text})
    usage["output_tokens"] = tokens(text) + thinking
    usage["output_tokens_details"] = {"thinking_tokens": thinking}
    usage["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    usage["service_tier"] = "standard"
    usage["inference_geo"] = request.get("inference_geo") or "global"
    if request.get("speed"):
        usage["speed"] = request["speed"]
    return {
        "id": fresh("msg_01", 22),
        "type": "message",
        "role": "assistant",
        "model": SNAPSHOTS.get(request["model"], request["model"]),
        "content": content,
        "stop_reason": "max_tokens" if cut else "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": usage,
    }


def message_events(body: Json, request: Json) -> Iterator[Event]:  # noqa: ARG001
    def event(kind: str, **fields: Any) -> Event:
        return kind, {"type": kind, **fields}

    usage = dict(body["usage"])
    last = {key: usage.pop(key) for key in ("output_tokens", "output_tokens_details", "server_tool_use")}
    counts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    first = {**body, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield event("message_start", message=first)
    yield event("ping")
    for index, block in enumerate(body["content"]):
        if block["type"] == "text":
            yield event("content_block_start", index=index, content_block={"type": "text", "text": ""})
            for piece in pieces(block["text"]):
                delta = {"type": "text_delta", "text": piece}
                yield event("content_block_delta", index=index, delta=delta)
        elif block["type"] == "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            yield event("content_block_start", index=index, content_block=empty)
            delta = {"type": "thinking_delta", "thinking": block["thinking"]}
            yield event("content_block_delta", index=index, delta=delta)
            delta = {"type": "signature_delta", "signature": block["signature"]}
            yield event("content_block_delta", index=index, delta=delta)
        else:
            yield event("content_block_start", index=index, content_block=block)
        yield event("content_block_stop", index=index)
    delta = {"stop_reason": body["stop_reason"], "stop_sequence": None, "stop_details": None}
    yield event("message_delta", delta=delta, usage={**{key: usage[key] for key in counts}, **last})
    yield event("message_stop")


# --- HTTP -------------------------------------------------------------------------------------------------

Answer = Callable[[Json, PromptCache], Json]
Events = Callable[[Json, Json], Iterator[Event]]

ROUTES: dict[str, tuple[tuple[str, ...], Answer, Events | None]] = {
    "/v1/chat/completions": (OPENAI_MODELS, chat_completion, chat_completion_events),
    "/v1/responses": (OPENAI_MODELS, response, response_events),
    "/v1/embeddings": (OPENAI_MODELS, embeddings, None),
    "/v1/messages": (ANTHROPIC_MODELS, message, message_events),
}


class Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body, events = self.answer(path, raw)
        except ApiError as error:
            self.send_json(error.status, self.error_body(path, error))
            return
        if events is None:
            self.send_json(200, body)
        else:
            self.send_events(events, done=path == "/v1/chat/completions")

    def answer(self, path: str, raw: bytes) -> tuple[Json, Iterator[Event] | None]:
        if path not in ROUTES:
            known = ", ".join(ROUTES)
            raise ApiError(404, "not_found_error", f"{path} is not one of {known}")
        models, make, make_events = ROUTES[path]
        if not (self.headers.get("Authorization") or self.headers.get("X-Api-Key")):
            raise ApiError(401, "authentication_error", "the request carries no API key")
        try:
            request = json.loads(raw)
            model = str(request["model"])
            self.server.requests.append((path, request))
            if not model.startswith(models):
                raise ApiError(404, "not_found_error", f"the model {model!r} does not exist")
            body = make(request, self.server.cache)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ApiError(400, "invalid_request_error", f"not a request body: {error!r}") from error
        return body, make_events(body, request) if make_events and request.get("stream") else None

    def error_body(self, path: str, error: ApiError) -> Json:
        if path == "/v1/messages":
            return {"type": "error", "error": {"type": error.kind, "message": str(error)}}
        return {"error": {"message": str(error), "type": error.kind, "param": None, "code": None}}

    def send_json(self, status: int, body: Json) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Request-Id", fresh("req_", 24))
        self.end_headers()
        self.wfile.write(data)

    def send_events(self, events: Iterator[Event], done: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for name, data in events:
                self.send_chunk((f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n")
            if done:
                self.send_chunk("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            self.close_connection = True  # the client stopped reading, as it may

    def send_chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the program that uses it has the terminal."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Stand-in for the OpenAI and Anthropic APIs, on loopback.")
    parser.add_argument("--port", type=int, default=8080, help="default: 8080; 0 takes a free one")
    with StandIn(parser.parse_args().port) as server:
        print(f"OPENAI_BASE_URL={server.url}/v1 ANTHROPIC_BASE_URL={server.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
