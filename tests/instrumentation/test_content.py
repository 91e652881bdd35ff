"""Content capture: off unless asked for; then bodies go to a store, and the span says where they are."""

from __future__ import annotations

import hashlib
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from spanledger import attributes as names
from spanledger.instrumentation import content
from spanledger.instrumentation.patches import batch
from spanledger.settings import SettingsError, load, settings
from tests.instrumentation.conftest import Spans
from tests.instrumentation.test_batch_calls import file, jsonl, line
from tests.provider import Answer, Provider, stream

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
ASKED = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "a zebra's name"}]}
ANSWER = {
    "id": "chatcmpl-abcdefghijklmnop",
    "object": "chat.completion",
    "created": 1790000000,
    "model": "gpt-5-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Marty"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}


def chunk(**more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-abcdefghijklmnop", "object": "chat.completion.chunk", "model": "gpt-5-mini", **more}


STREAM = (
    chunk(choices=[{"index": 0, "delta": {"content": "Mar"}}]),
    chunk(choices=[{"index": 0, "delta": {"content": "ty"}, "finish_reason": "stop"}]),
    chunk(choices=[], usage=ANSWER["usage"]),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Capture into a folder of the test's own."""
    yield from captured_to(f"file://{tmp_path}/content", monkeypatch, tmp_path / "content")


def captured_to(url: str, monkeypatch: pytest.MonkeyPatch, result: Any) -> Iterator[Any]:
    monkeypatch.setenv("SPANLEDGER_CONTENT", url)
    monkeypatch.setenv(VARIABLE, "true")
    monkeypatch.setattr(content, "counts", {})
    settings.cache_clear()
    yield result
    content._at_exit()
    monkeypatch.setattr(content, "_writer", None)
    settings.cache_clear()


def client(provider: Provider) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-test", max_retries=0)


def stored(uri: str) -> bytes:
    """A stored body, once its size and hash are those that its URI states."""
    assert content.flush()
    body = content.store_of(settings()).get(uri)
    stated = dict(pair.split("=") for pair in uri.partition("#")[2].split("&"))
    assert stated == {"bytes": str(len(body)), "sha256": hashlib.sha256(body).hexdigest()}
    return body


def test_a_plain_call_is_stored_apart(provider: Provider, spans: Spans, folder: Path) -> None:
    provider.say(Answer(ANSWER))
    client(provider).chat.completions.create(**ASKED)
    span = spans.one()
    assert json.loads(stored(span[names.REQUEST_BODY_URI])) == ASKED
    assert json.loads(stored(span[names.RESPONSE_BODY_URI])) == ANSWER
    assert "zebra" not in repr(span)
    assert "Marty" not in repr(span)


def test_a_stream_is_stored_as_its_lines_passed(provider: Provider, spans: Spans, folder: Path) -> None:
    provider.say(stream(*STREAM))
    for _ in client(provider).chat.completions.create(**ASKED, stream=True):
        pass
    lines = stored(spans.one()[names.RESPONSE_BODY_URI]).split(b"\n")
    events = [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: {")]
    assert events == list(STREAM)


def test_a_request_is_stored_as_it_was_sent_though_the_program_changes_it(
    provider: Provider, spans: Spans, folder: Path
) -> None:
    provider.say(stream(*STREAM))
    messages = [{"role": "user", "content": "first"}]
    events = client(provider).chat.completions.create(model="gpt-5-mini", messages=messages, stream=True)  # type: ignore[arg-type]
    messages[0]["content"] = "changed"
    for _ in events:
        pass
    assert b"first" in stored(spans.one()[names.REQUEST_BODY_URI])


def test_another_sdk(provider: Provider, spans: Spans, folder: Path) -> None:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-8"}
    said = {"content": [{"type": "text", "text": "Marty"}], "stop_reason": "end_turn"}
    provider.say(Answer(message | said | {"usage": {"input_tokens": 3, "output_tokens": 2}}))
    anthropic.Anthropic(base_url=provider.url, api_key="sk-ant-test").messages.create(
        model="claude-opus-4-8", max_tokens=9, messages=[{"role": "user", "content": "a zebra's name"}]
    )
    assert b"zebra" in stored(spans.one()[names.REQUEST_BODY_URI])
    assert b"Marty" in stored(spans.one()[names.RESPONSE_BODY_URI])


def test_the_lines_of_a_batch_are_stored_without_requests(provider: Provider, spans: Spans, folder: Path) -> None:
    batch._read.clear()
    lines = [line(1, ANSWER), line(2, ANSWER)]
    provider.say(file(jsonl(*lines)))
    client(provider).files.content("file-out")
    found = spans.each()
    assert [json.loads(stored(span[names.RESPONSE_BODY_URI])) for span in found] == lines
    assert all(names.REQUEST_BODY_URI not in span for span in found)


def test_grpc(spans: Spans, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain, streamed, deferred, and a deferred answer to another process's request."""
    xai_calls = pytest.importorskip("tests.instrumentation.test_xai_calls")
    with xai_calls.GrpcProvider() as server:
        monkeypatch.setenv("SPANLEDGER_HOSTS", f"{server.host}=x_ai")
        settings.cache_clear()
        with xai_calls.Client(api_key="xai-test", api_host=server.host, use_insecure_channel=True) as xai:
            server.say("GetCompletion", xai_calls.completion(text="Marty"))
            xai_calls.chat_of(xai).sample()
            server.say("GetCompletionChunk", xai_calls.CHUNKS)
            list(xai_calls.chat_of(xai).stream())
            answer = xai_calls.completion("r-2", text="Melman")
            server.say("StartDeferredCompletion", xai_calls.deferred_pb2.StartDeferredResponse(request_id="d-1"))
            done = xai_calls.chat_pb2.GetDeferredCompletionResponse(status="DONE", response=answer)
            server.say("GetDeferredCompletion", done)
            xai_calls.chat_of(xai).defer(interval=xai_calls.SOON)
            stub = xai_calls.proto.chat_pb2_grpc.ChatStub(xai._api_channel)
            stub.GetDeferredCompletion(xai_calls.deferred_pb2.GetDeferredRequest(request_id="another process's"))
    plain, streamed, deferred, fetched = spans.each()
    for span in (plain, streamed, deferred):
        assert b"diary" in stored(span[names.REQUEST_BODY_URI])
    assert names.REQUEST_BODY_URI not in fetched
    said = json.loads(stored(plain[names.RESPONSE_BODY_URI]))
    assert said["outputs"][0]["message"]["content"] == "Marty"
    chunks = stored(streamed[names.RESPONSE_BODY_URI]).splitlines()
    assert [json.loads(chunk)["outputs"][0]["delta"].get("content", "") for chunk in chunks] == ["he", "llo", ""]
    for span in (deferred, fetched):
        assert b"Melman" in stored(span[names.RESPONSE_BODY_URI])


@pytest.mark.parametrize(("variable", "store"), [("", "file:///nowhere"), ("false", "file:///nowhere"), ("true", "")])
def test_nothing_is_captured_unless_both_say_so(
    provider: Provider, spans: Spans, monkeypatch: pytest.MonkeyPatch, variable: str, store: str
) -> None:
    monkeypatch.setenv(VARIABLE, variable)
    monkeypatch.setenv("SPANLEDGER_CONTENT", store)
    settings.cache_clear()
    provider.say(Answer(ANSWER))
    client(provider).chat.completions.create(**ASKED)
    assert names.REQUEST_BODY_URI not in spans.one()
    assert names.RESPONSE_BODY_URI not in spans.one()


def test_files_are_the_users_alone(provider: Provider, spans: Spans, folder: Path) -> None:
    provider.say(Answer(ANSWER))
    client(provider).chat.completions.create(**ASKED)
    assert content.flush()
    files = list(folder.rglob("*.gz"))
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in files} == {0o700}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def redact(body: Any) -> Any:
    if isinstance(body, dict) and "messages" in body:
        return {**body, "messages": "gone"}
    return None


def broken_redact(body: Any) -> Any:
    raise RuntimeError("a zebra's name")


def test_a_hook_changes_a_body_or_leaves_it_out(
    provider: Provider, spans: Spans, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANLEDGER_CONTENT_REDACT", f"{__name__}:redact")
    settings.cache_clear()
    provider.say(Answer(ANSWER))
    client(provider).chat.completions.create(**ASKED)
    assert json.loads(stored(spans.one()[names.REQUEST_BODY_URI])) == {"model": "gpt-5-mini", "messages": "gone"}
    assert names.RESPONSE_BODY_URI not in spans.one()


def test_a_hook_that_fails_stores_nothing(
    provider: Provider,
    spans: Spans,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SPANLEDGER_CONTENT_REDACT", f"{__name__}:broken_redact")
    settings.cache_clear()
    provider.say(Answer(ANSWER))
    with caplog.at_level(logging.DEBUG, "spanledger"):
        client(provider).chat.completions.create(**ASKED)
    assert content.flush()
    assert not list(folder.rglob("*.gz"))
    assert content.counts == {"SPANLEDGER_CONTENT_REDACT failed": 2}
    assert "zebra" not in caplog.text


def test_what_is_too_large_is_left_out_and_counted(
    provider: Provider, spans: Spans, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_BODY", 200)
    provider.say(stream(*STREAM))
    for _ in client(provider).chat.completions.create(**ASKED, stream=True):
        pass
    assert names.REQUEST_BODY_URI in spans.one()
    assert names.RESPONSE_BODY_URI not in spans.one()
    assert content.counts["larger than 1 MiB"] == 1


def test_a_store_that_stands_still_takes_no_more_memory_than_its_bound(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    go_on = threading.Event()
    monkeypatch.setattr(content, "MAX_WAITING", 1000)
    monkeypatch.setattr(content.Store, "put", lambda *_: go_on.wait(20))
    writer = content.writer()
    uris = [writer.put(f"2026-11-22/{number}.gz", b"x" * 300) for number in range(5)]
    assert [bool(uri) for uri in uris] == [True, True, True, False, False]
    assert content.counts == {"the store is too slow": 2}
    go_on.set()
    assert writer.flush(20)


def test_a_store_that_refuses_costs_the_program_nothing(
    provider: Provider, spans: Spans, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no room for a zebra's name")

    monkeypatch.setattr(content, "_RETRIES_S", ())
    monkeypatch.setattr(content.Store, "put", refuse)
    provider.say(Answer(ANSWER))
    assert client(provider).chat.completions.create(**ASKED).choices[0].message.content == "Marty"
    assert content.flush()
    assert content.counts == {"the store refused it": 2}
    assert [r.getMessage() for r in caplog.records if r.name == "spanledger"] == [
        f"spanledger: cannot store content in file://{folder} (OSError)"
    ]


def test_the_settings_are_checked() -> None:
    with pytest.raises(SettingsError, match="SPANLEDGER_CONTENT_REDACT='nonsense' is not module:function"):
        load({"SPANLEDGER_HOME": "/nowhere", "SPANLEDGER_CONTENT_REDACT": "nonsense"})
    with pytest.raises(SettingsError, match=VARIABLE):
        load({"SPANLEDGER_HOME": "/nowhere", VARIABLE: "perhaps", "SPANLEDGER_CONTENT": "file:///c"})
    for said in ("SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT", "true", "1"):
        assert load({"SPANLEDGER_HOME": "/nowhere", VARIABLE: said, "SPANLEDGER_CONTENT": "file:///c"}).capture
    for said in ("NO_CONTENT", "false", "0", ""):
        assert not load({"SPANLEDGER_HOME": "/nowhere", VARIABLE: said, "SPANLEDGER_CONTENT": "file:///c"}).capture


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of an S3 API on loopback."""
    moto = pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[server]'")
    pytest.importorskip("s3fs", reason="needs s3fs: pip install s3fs")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    api = boto3.client("s3")
    api.create_bucket(Bucket="bodies")
    yield from captured_to("s3://bodies/llm", monkeypatch, api)


def test_s3(provider: Provider, spans: Spans, bucket: Any) -> None:
    provider.say(Answer(ANSWER))
    client(provider).chat.completions.create(**ASKED)
    uri = spans.one()[names.RESPONSE_BODY_URI]
    assert uri.startswith("s3://bodies/llm/")
    assert json.loads(stored(uri)) == ANSWER
    assert len(bucket.list_objects_v2(Bucket="bodies")["Contents"]) == 2
    store = content.store_of(settings())
    (day,) = store.days()
    assert store.remove([uri, "s3://elsewhere/llm/x", "s3://bodies/llm/../x"]) == 1
    assert store.remove_day(day) == 1
    assert "Contents" not in bucket.list_objects_v2(Bucket="bodies")
