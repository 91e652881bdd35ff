"""`entry_id`: the same call gives the same id to all who describe it, and two calls never share one."""

from __future__ import annotations

import base64
import re

import pytest

from spanledger.exporter.identity import entry_id, inside_litellms

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OTHER = ("1af7651916cd43dd8448eb211c80319c", "a7ad6b7169203331")


@pytest.mark.parametrize(
    "response_id",
    [
        "chatcmpl-CfJZ0123456789abcdef",
        "resp_0123456789abcdef0123456789abcdef",
        "msg_01XFDUDYJgAACzvnptvVoYEL",
        "gen-1763800000-AbCdEfGhIjKlMnOp",
        "cmpl-CfJZ0123456789abcdef",
        "compl_01XFDUDYJgAACzvnptvVoYEL",
    ],
)
def test_a_globally_unique_response_id_stands_alone(response_id: str) -> None:
    """A gateway may call the provider by another name, and its spans have other trace and span ids."""
    assert entry_id("openai", response_id, TRACE, SPAN) == entry_id("gateway", response_id, *OTHER)


@pytest.mark.parametrize(
    "response_id",
    [
        "5f3a2c1b9d8e7f6a5b4c3d2e1f0a9b8c",
        "0f6d6bd4-6b1f-4c3a-9b53-0f1f5b3c9c1a",
        "QhMiaYrHL5-1nsEP2Yq5wQk",
    ],
)
def test_a_random_id_stands_alone(response_id: str) -> None:
    """`openai`, `azure.ai.openai` or a host: the describers of a call may differ in its provider's name."""
    assert entry_id("openai", response_id, TRACE, SPAN) == entry_id("llm.example.com", response_id, *OTHER)


@pytest.mark.parametrize("response_id", ["20251122093015123456", "20251122-0930-1512-3456", "request-0000000000001234"])
def test_another_long_id_is_unique_within_its_provider(response_id: str) -> None:
    assert entry_id("mistral_ai", response_id, TRACE, SPAN) == entry_id("mistral_ai", response_id, *OTHER)
    assert entry_id("mistral_ai", response_id, TRACE, SPAN) == entry_id("mistral", response_id, *OTHER)
    assert entry_id("mistral_ai", response_id, TRACE, SPAN) != entry_id("cohere", response_id, TRACE, SPAN)


@pytest.mark.parametrize("response_id", ["", "1", "chatcmpl-123", "chatcmpl-1", "resp_1"])
def test_a_counter_is_no_identity(response_id: str) -> None:
    """Ollama numbers its responses anew after each start."""
    assert entry_id("ollama", response_id, TRACE, SPAN) == entry_id("", "", TRACE, SPAN)
    assert entry_id("ollama", response_id, TRACE, SPAN) != entry_id("ollama", response_id, *OTHER)
    assert entry_id("ollama", response_id, TRACE, SPAN) != entry_id("ollama", response_id, TRACE, OTHER[1])


def test_it_is_32_hex_digits_and_stays_what_it_is() -> None:
    """Rows of years hang on it: these values never change."""
    found = [
        entry_id("openai", "chatcmpl-CfJZ0123456789abcdef", TRACE, SPAN),
        entry_id("mistral", "5f3a2c1b9d8e7f6a5b4c3d2e1f0a9b8c", TRACE, SPAN),
        entry_id("zai", "20251122093015123456", TRACE, SPAN),
        entry_id("ollama", "chatcmpl-123", TRACE, SPAN),
    ]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in found)
    assert found == [
        "ac6fbaae6725f8c7fcdfd094ee545e8b",
        "4d022b67dae4ce01357830e6b87992e5",
        "8f45ca1610e8d94297e8c0b0e71bf497",
        "9a15769e525e38188bb65b8697528834",
    ]


def test_any_text_has_an_id() -> None:
    assert len(entry_id("x", "\ud800" * 20, TRACE, SPAN)) == 32


def test_litellms_response_id_holds_the_providers() -> None:
    """Its proxy hands it to the client, while the provider's stands in the proxy's own call."""
    theirs = "resp_68a1b2c3d4e5f60718293a4b5c6d7e8f"
    held = f"litellm:custom_llm_provider:openai;model_id:None;response_id:{theirs}"
    response_id = "resp_" + base64.b64encode(held.encode()).decode()
    assert entry_id("openai", response_id, TRACE, SPAN) == entry_id("openai", theirs, *OTHER)
    assert inside_litellms(response_id) == ("openai", theirs)
    for other in (theirs, response_id[:-7], "resp_bGl0ZWxsbTpj", "resp_bGl0ZWxsbTpj\u00e9"):
        assert inside_litellms(other) == ("", other)
