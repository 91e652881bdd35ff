"""The SDKs that are instrumented, as a program uses each: its clients, one call, one stream, and what a provider says.

One entry an SDK; the tests of mixed programs and `benchmarks/providers.py` go through them all. Every call is numbered:
the answer to call `n` has the id `answer-n`, `INPUT + n` tokens of input and `OUTPUT` of output.
"""

from __future__ import annotations

import binascii
import importlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

INPUT = 1000
OUTPUT = 7
KEY = "key-of-the-test-0123456789"


@dataclass(frozen=True)
class Sdk:
    """How a program uses one SDK.

    Attributes:
        name: the instrumentor's.
        module: what to import.
        provider: whom its rows name.
        model: which of its models is asked; one with a price, where the provider has prices.
        make: url -> client; None if it has none that blocks.
        make_async: url -> client for an event loop; None if it has none.
        ask: makes a call with a text, of either client.
        stream: begins a stream; None if the SDK has none.
        body: n -> the JSON of an answer.
        pieces: (n, deltas) -> the pieces of a stream: some with text, and the last with the usage.
        content_type: of a stream.
        parts: n -> what an answer consumes.
        begun: n -> what the first piece of a stream says is consumed already; empty if it says nothing.
        price_status: of an answer.
        busy: the HTTP status that is tried again.
        retries: how many are counted; None if the SDK itself never tries again.
    """

    name: str
    module: str
    provider: str
    model: str
    make: Callable[[str], Any] | None
    make_async: Callable[[str], Any] | None
    ask: Callable[[Any, str], Any]
    stream: Callable[[Any, str], Any] | None
    body: Callable[[int], dict[str, Any]]
    pieces: Callable[[int, int], list[bytes]]
    content_type: str = "text/event-stream"
    parts: Callable[[int], dict[str, int]] = field(default=lambda n: {"input": INPUT + n, "output": OUTPUT})
    begun: Callable[[int], dict[str, int]] = field(default=lambda _: {})
    price_status: str = "priced"
    busy: int = 503
    retries: int | None = 1


def _of(module: str, name: str, **options: Any) -> Callable[[str], Any]:
    """What makes a client: `module.name(base_url=url, ...)`."""
    return lambda url: getattr(importlib.import_module(module), name)(**{"base_url": url, "api_key": KEY, **options})


def _sse(events: list[Any], *, named: bool = False, done: bool = False) -> list[bytes]:
    """Server-sent events, one a piece; the end mark comes with the last."""
    pieces = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
    if named:
        pieces = [f"event: {event['type']}\n".encode() + p for event, p in zip(events, pieces, strict=True)]
    if done:
        pieces[-1] += b"data: [DONE]\n\n"
    return pieces


# OpenAI's chat, which others speak as well


def _usage(n: int) -> dict[str, int]:
    return {"prompt_tokens": INPUT + n, "completion_tokens": OUTPUT, "total_tokens": INPUT + n + OUTPUT}


def _chat_body(model: str) -> Callable[[int], dict[str, Any]]:
    def body(n: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": "hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return _head(model, n) | {"object": "chat.completion", "choices": [choice], "usage": _usage(n)}

    return body


def _chat_pieces(model: str, *, groq: bool = False) -> Callable[[int, int], list[bytes]]:
    def pieces(n: int, deltas: int) -> list[bytes]:
        head = _head(model, n) | {"object": "chat.completion.chunk"}
        texts = [{"role": "assistant", "content": f"word {i} "} for i in range(deltas)]
        choices = [{"index": 0, "delta": text, "finish_reason": None} for text in texts]
        usage = {"x_groq": {"id": "req_1", "usage": _usage(n)}} if groq else {"usage": _usage(n)}
        last = head | {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]} | usage
        return _sse([*(head | {"choices": [choice]} for choice in choices), last], done=True)

    return pieces


def _head(model: str, n: int) -> dict[str, Any]:
    return {"id": f"answer-{n}", "created": 1_780_000_000, "model": model, "system_fingerprint": "fp_1"}


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _kin(
    name: str, module: str, client: str, model: str, ask: Any = None, price_status: str = "priced", **options: Any
) -> Sdk:
    """An SDK with `chat.completions.create` or the like."""
    create = ask or (lambda client: client.chat.completions.create)
    return Sdk(
        name=name,
        module=module,
        provider=name,
        model=model,
        make=_of(module, client, **options),
        make_async=_of(module, f"Async{client}", **options),
        ask=lambda client, text: create(client)(model=model, messages=_messages(text)),
        stream=lambda client, text: create(client)(model=model, messages=_messages(text), stream=True),
        body=_chat_body(model),
        pieces=_chat_pieces(model, groq=name == "groq"),
        price_status=price_status,
    )


# Anthropic's messages


def _message(n: int) -> dict[str, Any]:
    return {
        "id": f"answer-{n}",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-6",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": INPUT + n, "output_tokens": OUTPUT},
    }


def _message_pieces(n: int, deltas: int) -> list[bytes]:
    first = _message(n) | {"content": [], "stop_reason": None, "usage": {"input_tokens": INPUT + n, "output_tokens": 1}}
    text = {"type": "content_block_delta", "index": 0}
    told = [
        {"type": "message_start", "message": first},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(text | {"delta": {"type": "text_delta", "text": f"word {i} "}} for i in range(deltas)),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": OUTPUT}},
        {"type": "message_stop"},
    ]
    return _sse(told, named=True)


_CLAUDE: dict[str, Any] = {"model": "claude-sonnet-4-6", "max_tokens": 99}


# Google's generateContent


def _generated(n: int, text: str = "hello", output: int = OUTPUT, finish: str | None = "STOP") -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0} | (
        {"finishReason": finish} if finish else {}
    )
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": INPUT + n,
            "candidatesTokenCount": output,
            "totalTokenCount": INPUT + n + output,
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": f"answer-{n}",
    }


def _google(url: str) -> Any:
    retries = {"attempts": 2, "initial_delay": 0.001, "max_delay": 0.001, "jitter": 0}
    genai = importlib.import_module("google.genai")
    return genai.Client(vertexai=False, api_key=KEY, http_options={"base_url": url, "retry_options": retries})


def _ask_google(client: Any, text: str) -> Any:
    return client.models.generate_content(model="gemini-2.5-flash", contents=text)


def _stream_google(client: Any, text: str) -> Any:
    return client.models.generate_content_stream(model="gemini-2.5-flash", contents=text)


def _google_pieces(n: int, deltas: int) -> list[bytes]:
    return _sse([*(_generated(n, f"word {i} ", i, None) for i in range(1, deltas + 1)), _generated(n)])


# Bedrock's Converse

_BEDROCK_MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


def event(kind: str, payload: Any) -> bytes:
    """A message of an AWS event stream."""
    headers = b""
    for name, value in ((":event-type", kind), (":message-type", "event")):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + headers + body
    return message + struct.pack("!I", binascii.crc32(message))


def _conversed(n: int) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": INPUT + n, "outputTokens": OUTPUT, "totalTokens": INPUT + n + OUTPUT},
        "metrics": {"latencyMs": 1},
    }


def _converse_pieces(n: int, deltas: int) -> list[bytes]:
    return [
        event("messageStart", {"role": "assistant"}),
        *(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": f"word {i} "}}) for i in range(deltas)),
        event("messageStop", {"stopReason": "end_turn"}),
        event("metadata", {"usage": _conversed(n)["usage"], "metrics": {"latencyMs": 1}}),
    ]


def _aws(url: str, config: Any) -> dict[str, Any]:
    return {
        "service_name": "bedrock-runtime",
        "region_name": "us-east-1",
        "endpoint_url": url,
        "aws_access_key_id": "AKIATESTTESTTESTTEST",
        "aws_secret_access_key": "secret",
        "config": config(retries={"total_max_attempts": 2, "mode": "standard"}),
    }


def _boto3(url: str) -> Any:
    config = importlib.import_module("botocore.config").Config
    return importlib.import_module("boto3").client(**_aws(url, config))


def _aiobotocore(url: str) -> Any:
    config = importlib.import_module("aiobotocore.config").AioConfig
    return importlib.import_module("aiobotocore.session").get_session().create_client(**_aws(url, config))


def _converse(client: Any, text: str) -> Any:
    return client.converse(modelId=_BEDROCK_MODEL, messages=[{"role": "user", "content": [{"text": text}]}])


def _converse_stream(client: Any, text: str) -> Any:
    return client.converse_stream(modelId=_BEDROCK_MODEL, messages=[{"role": "user", "content": [{"text": text}]}])


def _bedrock(name: str, **clients: Any) -> Sdk:
    return Sdk(
        name=name,
        module=name,
        provider="aws.bedrock",
        model=_BEDROCK_MODEL,
        **{"make": None, "make_async": None, **clients},
        ask=_converse,
        stream=_converse_stream,
        body=_conversed,
        pieces=_converse_pieces,
        content_type="application/vnd.amazon.eventstream",
    )


# SDKs whose async methods have names of their own


def _mistral(url: str) -> Any:
    from mistralai.client import Mistral
    from mistralai.client.utils import BackoffStrategy, RetryConfig

    return Mistral(
        api_key=KEY, server_url=url, retry_config=RetryConfig("backoff", BackoffStrategy(1, 2, 1.0, 10_000, 1), True)
    )


def _mistral_async(url: str) -> Any:
    chat = _mistral(url).chat
    return SimpleNamespace(chat=SimpleNamespace(complete=chat.complete_async, stream=chat.stream_async))


def _replicate(url: str) -> Any:
    return importlib.import_module("replicate").Client(api_token=KEY, base_url=url)


def _replicate_async(url: str) -> Any:
    create = _replicate(url).models.predictions.async_create
    return SimpleNamespace(models=SimpleNamespace(predictions=SimpleNamespace(create=create)))


# Cohere's, Ollama's, Voyage's and Replicate's own answers


def _cohere_body(n: int) -> dict[str, Any]:
    return {
        "id": f"answer-{n}",
        "message": {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
        "finish_reason": "COMPLETE",
        "usage": {"billed_units": {"input_tokens": INPUT + n, "output_tokens": OUTPUT}},
    }


def _cohere_pieces(n: int, deltas: int) -> list[bytes]:
    told = [
        {"id": f"answer-{n}", "type": "message-start", "delta": {"message": {"role": "assistant", "content": []}}},
        *(
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": f"word {i} "}}}}
            for i in range(deltas)
        ),
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": _cohere_body(n)["usage"]}},
    ]
    return _sse(told, named=True)


def _ollama_body(n: int) -> dict[str, Any]:
    return {
        "model": "llama3:8b",
        "created_at": "2026-11-22T00:00:01Z",
        "message": {"role": "assistant", "content": "hello"},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": INPUT + n,
        "eval_count": OUTPUT,
    }


def _ollama_pieces(n: int, deltas: int) -> list[bytes]:
    piece = {"model": "llama3:8b", "done": False}
    texts = [piece | {"message": {"role": "assistant", "content": f"word {i} "}} for i in range(deltas)]
    return [json.dumps(each).encode() + b"\n" for each in (*texts, _ollama_body(n))]


def _voyage_body(n: int) -> dict[str, Any]:
    data = [{"object": "embedding", "embedding": [0.1], "index": 0}]
    return {"object": "list", "data": data, "model": "voyage-3", "usage": {"total_tokens": INPUT + n}}


def _prediction(n: int) -> dict[str, Any]:
    return {
        "id": f"answer-{n}",
        "model": "meta/llama-2-70b-chat",
        "version": "hidden",
        "status": "succeeded",
        "input": {},
        "output": "hello",
        "error": None,
        "urls": {},
        "metrics": {"input_token_count": INPUT + n, "output_token_count": OUTPUT},
    }


def _no_pieces(n: int, deltas: int) -> list[bytes]:
    return []


# xAI's messages of gRPC


def xai_answer(n: int) -> Any:
    """The answer to call `n`, as a message of gRPC."""
    from xai_sdk.proto import chat_pb2

    message = chat_pb2.CompletionMessage(content="hello", role="ROLE_ASSISTANT")
    output = chat_pb2.CompletionOutput(index=0, finish_reason="REASON_STOP", message=message)
    return chat_pb2.GetChatCompletionResponse(
        id=f"answer-{n}", model="grok-4-0709", outputs=[output], usage=_xai_usage(n)
    )


def xai_pieces(n: int, deltas: int) -> list[Any]:
    """The stream of call `n`, as messages of gRPC."""
    from xai_sdk.proto import chat_pb2

    def piece(text: str, **more: Any) -> Any:
        delta = chat_pb2.Delta(content=text, role="ROLE_ASSISTANT")
        output = chat_pb2.CompletionOutputChunk(index=0, finish_reason=more.pop("finish", None), delta=delta)
        return chat_pb2.GetChatCompletionChunk(id=f"answer-{n}", model="grok-4-0709", outputs=[output], **more)

    return [*(piece(f"word {i} ") for i in range(deltas)), piece("", finish="REASON_STOP", usage=_xai_usage(n))]


def _xai_usage(n: int) -> Any:
    from xai_sdk.proto import usage_pb2

    return usage_pb2.SamplingUsage(prompt_tokens=INPUT + n, completion_tokens=OUTPUT, total_tokens=INPUT + n + OUTPUT)


def _xai(kind: str) -> Callable[[str], Any]:
    def make(url: str) -> Any:
        client = getattr(importlib.import_module("xai_sdk"), kind)
        return client(api_key=KEY, api_host=url.rpartition("/")[2], use_insecure_channel=True)

    return make


def _xai_chat(client: Any, text: str) -> Any:
    chat = client.chat.create(model="grok-4-0709")
    chat.append(importlib.import_module("xai_sdk.chat").user(text))
    return chat


_HUGGINGFACE_MODEL = "Qwen/Qwen2.5-7B-Instruct"

SDKS: tuple[Sdk, ...] = (
    _bedrock("aiobotocore", make_async=_aiobotocore),
    Sdk(
        name="anthropic",
        module="anthropic",
        provider="anthropic",
        model="claude-sonnet-4-6",
        make=_of("anthropic", "Anthropic"),
        make_async=_of("anthropic", "AsyncAnthropic"),
        ask=lambda client, text: client.messages.create(**_CLAUDE, messages=_messages(text)),
        stream=lambda client, text: client.messages.create(**_CLAUDE, messages=_messages(text), stream=True),
        body=_message,
        pieces=_message_pieces,
        begun=lambda n: {"input": INPUT + n, "output": 1},
    ),
    _bedrock("botocore", make=_boto3),
    _kin("cerebras", "cerebras.cloud.sdk", "Cerebras", "gpt-oss-120b", warm_tcp_connection=False),
    Sdk(
        name="cohere",
        module="cohere",
        provider="cohere",
        model="command-a-03-2025",
        make=_of("cohere", "ClientV2"),
        make_async=_of("cohere", "AsyncClientV2"),
        ask=lambda client, text: client.chat(model="command-a-03-2025", messages=_messages(text)),
        stream=lambda client, text: client.chat_stream(model="command-a-03-2025", messages=_messages(text)),
        body=_cohere_body,
        pieces=_cohere_pieces,
    ),
    Sdk(
        name="google_genai",
        module="google.genai",
        provider="gcp.gemini",
        model="gemini-2.5-flash",
        make=_google,
        make_async=lambda url: _google(url).aio,
        ask=_ask_google,
        stream=_stream_google,
        body=_generated,
        pieces=_google_pieces,
        begun=lambda n: {"input": INPUT + n, "output": 1},
    ),
    _kin("groq", "groq", "Groq", "llama-3.3-70b-versatile"),
    Sdk(
        name="huggingface",
        module="huggingface_hub",
        provider="huggingface_together",
        model=_HUGGINGFACE_MODEL,
        make=lambda url: _of("huggingface_hub", "InferenceClient")(f"{url}/v1"),
        make_async=lambda url: _of("huggingface_hub", "AsyncInferenceClient")(f"{url}/v1"),
        ask=lambda client, text: client.chat_completion(model=_HUGGINGFACE_MODEL, messages=_messages(text)),
        stream=lambda client, text: client.chat_completion(
            model=_HUGGINGFACE_MODEL, messages=_messages(text), stream=True
        ),
        body=_chat_body(_HUGGINGFACE_MODEL),
        pieces=_chat_pieces(_HUGGINGFACE_MODEL),
        retries=None,
    ),
    Sdk(
        name="mistral",
        module="mistralai.client",
        provider="mistral_ai",
        model="mistral-large-2411",
        make=_mistral,
        make_async=_mistral_async,
        ask=lambda client, text: client.chat.complete(model="mistral-large-2411", messages=_messages(text)),
        stream=lambda client, text: client.chat.stream(model="mistral-large-2411", messages=_messages(text)),
        body=_chat_body("mistral-large-2411"),
        pieces=_chat_pieces("mistral-large-2411"),
    ),
    Sdk(
        name="ollama",
        module="ollama",
        provider="ollama",
        model="llama3:8b",
        make=lambda url: importlib.import_module("ollama").Client(host=url),
        make_async=lambda url: importlib.import_module("ollama").AsyncClient(host=url),
        ask=lambda client, text: client.chat(model="llama3:8b", messages=_messages(text)),
        stream=lambda client, text: client.chat(model="llama3:8b", messages=_messages(text), stream=True),
        body=_ollama_body,
        pieces=_ollama_pieces,
        content_type="application/x-ndjson",
        price_status="free",
        retries=None,
    ),
    _kin("openai", "openai", "OpenAI", "gpt-4o"),
    Sdk(
        name="replicate",
        module="replicate",
        provider="replicate",
        model="meta/llama-2-70b-chat",
        make=_replicate,
        make_async=_replicate_async,
        ask=lambda client, text: client.models.predictions.create("meta/llama-2-70b-chat", input={"prompt": text}),
        stream=None,
        body=_prediction,
        pieces=_no_pieces,
        price_status="unpriced",
        retries=None,
    ),
    _kin("together", "together", "Together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    Sdk(
        name="voyage",
        module="voyageai",
        provider="voyageai",
        model="voyage-3",
        make=lambda url: _of("voyageai", "Client", max_retries=2)(f"{url}/v1"),
        make_async=lambda url: _of("voyageai", "AsyncClient", max_retries=2)(f"{url}/v1"),
        ask=lambda client, text: client.embed([text], model="voyage-3"),
        stream=None,
        body=_voyage_body,
        pieces=_no_pieces,
        parts=lambda n: {"input": INPUT + n},
    ),
    _kin("writer", "writerai", "Writer", "palmyra-x5", ask=lambda client: client.chat.chat, price_status="unpriced"),
    Sdk(
        name="xai",
        module="xai_sdk",
        provider="x_ai",
        model="grok-4-0709",
        make=_xai("Client"),
        make_async=_xai("AsyncClient"),
        ask=lambda client, text: _xai_chat(client, text).sample(),
        stream=lambda client, text: _xai_chat(client, text).stream(),
        body=lambda _: {},
        pieces=_no_pieces,
        retries=0,
    ),
)
