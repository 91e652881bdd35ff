"""The shipped price lists: sound, sourced, compiled, and equal to what providers are known to bill."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from spanledger.pricing import catalogue
from spanledger.pricing.book import PriceBook, load
from spanledger.pricing.price_file import read, read_text

from .conftest import charge_of


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return load()


ALL = [path for paths in catalogue.files().values() for path in paths]


@pytest.mark.parametrize("path", ALL, ids=[f"{p.parent.name}/{p.name}" for p in ALL])
def test_every_file_is_sound_and_every_price_has_its_source(path: Path) -> None:
    document = read(path)
    assert [section["provider"] for section in document["sections"]] == [path.stem]
    for section in document["sections"]:
        for model in section["models"]:
            for row in model["rows"]:
                assert row.get("source"), model["id"]
                assert row.get("checked"), model["id"]


@pytest.mark.parametrize("provider", sorted(catalogue.files()))
def test_every_model_can_be_priced_under_its_own_id(book: PriceBook, provider: str) -> None:
    for found in book.models(provider):
        for row in found.model.rows:
            unmapped = dict.fromkeys(row.get("unmapped", {}), 1_000)
            parts = dict.fromkeys(row.get("rates", {}), 1_000) or {"input": 1_000}
            day = "2026-11-22"
            charge = charge_of(book, found.model.id, provider=provider, day=day, unmapped=unmapped, **parts)
            assert charge.cost is not None, (found.model.id, charge.reasons)


def test_the_compiled_form_is_the_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "catalogue"
    (folder / "imported").mkdir(parents=True)
    text = "schema: 1\nprovider: acme\nsource: x\nmodels:\n- id: m\n  prices: [{rates: {input: 1}}]\n"
    (folder / "acme.yaml").write_text(text)
    monkeypatch.setattr(catalogue, "FOLDER", folder)
    catalogue.files.cache_clear()
    try:
        plain = catalogue.documents("acme")
        (written,) = catalogue.compile_all()
        assert json.loads(written.read_text())["document"] == plain[0]
        assert catalogue.documents("acme") == plain
        changed = text.replace("input: 1", "input: 2")
        (folder / "acme.yaml").write_text(changed)
        assert catalogue.documents("acme") == [read_text(changed.encode(), "acme.yaml")]
        written.write_text("{")
        assert catalogue.documents("acme") == [read_text(changed.encode(), "acme.yaml")]
    finally:
        catalogue.files.cache_clear()


def test_pricing_a_call_of_the_catalogue_needs_no_yaml() -> None:
    catalogue.compile_all()
    code = (
        "import sys\n"
        "from spanledger.pricing.book import load\n"
        "from spanledger.pricing.call import Call\n"
        "book = load()\n"
        "book.prepare('openai')\n"
        "charge = book.price(Call('openai', 'gpt-4o', 1_790_000_000 * 10**9, {'input': 1000}))\n"
        "assert charge.cost is not None\n"
        "assert 'yaml' not in sys.modules\n"
        "assert 'hashlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("provider", "model", "asked", "cost", "status"),
    [
        ("openai", "gpt-4o-2024-08-06", {"input": 86, "cache_read": 1920, "output": 300}, "0.005615", "priced"),
        ("openai", "omni-moderation-latest", {"usage_status": "missing"}, "0", "free"),
        ("openai", "gpt-6.1-sol", {"cache_write_12h": 10**5, "region": "eu"}, "0.55", "priced"),
        ("openai", "gpt-6.1-sol", {"input": 10**5, "service_tier": "ultrafast"}, "1.2", "priced"),
        ("openai", "gpt-5-mini", {"input": 10**6, "service_tier": "flex"}, "0.125", "priced"),
        ("openai", "gpt-4o-mini-audio-preview", {"input_audio": 10**6, "output_audio": 10**6}, "30", "priced"),
        ("openai", "gpt-4o-mini-tts", {"input": 10**6, "output_audio": 10**6}, "12.6", "priced"),
        ("openai", "gpt-5-mini", {"input": 10**6, "service_tier": "scale"}, "0.25", "estimated"),
        ("openai", "gpt-image-1", {"output_image": 10**6}, "40", "priced"),
        ("openai", "gpt-transcribe", {"audio_second": 3600}, "0.27", "priced"),
        ("anthropic", "claude-opus-4-6", {"input": 10**5, "region": "us"}, "0.55", "priced"),
        ("anthropic", "claude-opus-4-5", {"input": 10**5, "region": "not_available"}, "0.5", "priced"),
        ("anthropic", "claude-opus-5-5", {"input": 10**5, "processing": "fast"}, "0.8", "priced"),
        (
            "anthropic",
            "claude-sonnet-4-5-20250929",
            {"input": 100, "cache_read": 1000, "cache_write_5m": 600, "cache_write_1h": 400, "output": 50},
            "0.006",
            "priced",
        ),
        ("anthropic", "claude-sonnet-5", {"input": 0, "web_search": 3, "web_fetch": 2}, "0.03", "priced"),
        ("anthropic", "claude-sonnet-5", {"input": 10**5, "service_tier": "batch"}, "0.1", "priced"),
        ("anthropic", "claude-mythos-5-1", {"cache_read": 10**6}, "0.25", "priced"),
        ("gcp.gemini", "gemini-2.5-flash", {"web_search": 4, "grounded_request": 1}, "0.035", "estimated"),
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", {"input": 10**5, "region": "europe-west1"}, "0.33", "priced"),
        ("aws.bedrock", "eu.anthropic.claude-haiku-4-5-20251001-v1:0", {"input": 10**6}, "1.1", "priced"),
        ("aws.bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0", {"input": 10**6}, "1", "priced"),
        ("azure.ai.openai", "gpt-5.5", {"input": 10**5}, "0.5", "priced"),
        ("azure.ai.openai", "gpt-5.5", {"input": 10**5, "region": "eu"}, "0.55", "priced"),
        ("azure.ai.openai", "gpt-3.5-turbo-0613", {"input": 10**6}, "1.5", "estimated"),
        ("azure.ai.openai", "somebodys-deployment", {"input": 1}, None, "unpriced"),
        ("x_ai", "grok-4.5", {"input": 200_000}, "0.8", "priced"),
        ("x_ai", "grok-4.5", {"input": 199_999, "region": "us"}, "0.4399978", "priced"),
        ("groq", "whisper-large-v3", {"audio_second": Decimal("3.2")}, "0.000308333333333333", "priced"),
        ("cohere", "rerank-v3.5", {"search_unit": 2, "unmapped": {"cached_tokens": 9}}, "0.004", "priced"),
        ("cohere", "embed-english-v3.0", {"input": 10**6, "image": 2}, "0.1002", "priced"),
        ("cohere", "embed-v4.0", {"input": 10**6, "input_image": 10**6}, "0.59", "priced"),
        (
            "gcp.gemini",
            "gemini-2.5-flash",
            {"input": 10**6, "cache_read": 10, "service_tier": "flex"},
            "0.1500003",
            "priced",
        ),
        ("gcp.gemini", "gemini-2.5-pro", {"output_reasoning": 10**6, "service_tier": "priority"}, "18", "priced"),
        ("gcp.vertex_ai", "gemini-3.5-flash", {"cache_read": 10**6, "service_tier": "flex"}, "0.075", "priced"),
        ("voyageai", "rerank-2.5-lite", {"input": 10**6}, "0.02", "priced"),
        ("mistral_ai", "ministral-3b-latest", {"input": 10**6, "cache_read": 10**6, "output": 10**6}, "0.21", "priced"),
        ("openrouter", "anthropic/claude-4-sonnet-20250522", {"input": 10**6, "output": 10**6}, "18", "priced"),
        ("gcp.vertex_ai", "mistral-small-2503", {"input": 10**6, "output": 10**6}, "0.4", "estimated"),
        ("gcp.gemini", "gemini-2.5-computer-use-preview-10-2025", {"input": 200_001}, "0.5000025", "priced"),
        ("x_ai", "grok-imagine-image", {"image": 3}, "0.06", "priced"),
        ("aws.bedrock", "deepseek.v3.1", {"input": 10**6, "region": "us-west-2"}, "0.58", "priced"),
        ("aws.bedrock", "openai.gpt-oss-120b", {"output": 10**6, "region": "us-east-1"}, "0.6", "priced"),
    ],
)
def test_prices_that_are_known(
    book: PriceBook, provider: str, model: str, asked: dict[str, object], cost: str | None, status: str
) -> None:
    charge = charge_of(book, model, provider=provider, day="2026-11-22", **asked)
    assert (charge.cost, charge.status) == (None if cost is None else Decimal(cost), status), charge.reasons


def test_vertex_ais_embeddings_are_billed_by_the_character(book: PriceBook) -> None:
    counted = {"billableCharacterCount": 10**6}
    charge = charge_of(book, "text-embedding-005", provider="gcp.vertex_ai", input=10**5, unmapped=counted)
    assert charge.cost == Decimal("0.025")
    not_counted = charge_of(book, "text-embedding-005", provider="gcp.vertex_ai", input=10**5)
    assert (not_counted.cost, not_counted.status) == (None, "unpriced")


@pytest.mark.parametrize(
    ("day", "cost"),
    [
        ("2026-08-16T15:59:59Z", "0.435"),
        ("2026-08-17T02:00:00Z", "1.32"),
        ("2026-08-17T05:00:00Z", "0.66"),
        ("2026-08-22T02:00:00Z", "1.32"),  # a Saturday, before weekends became off-peak
        ("2026-08-29T02:00:00Z", "0.66"),  # a Saturday
        ("2026-09-25T02:00:00Z", "0.66"),  # Mid-Autumn
        ("2026-10-05T02:00:00Z", "0.66"),  # National Day week
        ("2026-10-08T02:00:00Z", "1.32"),
        ("2026-11-20T09:59:59Z", "1.32"),
        ("2026-11-20T10:00:00Z", "0.66"),
    ],
)
def test_deepseeks_peak_hours(book: PriceBook, day: str, cost: str) -> None:
    assert charge_of(book, "deepseek-v4-pro", provider="deepseek", day=day, input=10**6).cost == Decimal(cost)


@pytest.mark.parametrize(("day", "cost"), [("2026-08-20", "5"), ("2026-08-21", "4"), ("2026-11-22", "4")])
def test_a_change_of_price_leaves_the_old_one(book: PriceBook, day: str, cost: str) -> None:
    assert charge_of(book, "gpt-5.6-sol", provider="openai", day=day, input=10**6 // 4).cost == Decimal(cost) / 4


def test_historic_batch_is_a_marked_guess(book: PriceBook) -> None:
    charge = charge_of(book, "gpt-4o", provider="openai", day="2025-05-01", processing="batch", input=10**6)
    assert (charge.status, charge.cost) == ("estimated", Decimal("1.25"))
