"""The JSON schema beside the catalogue says what the reader takes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from spanledger.pricing import catalogue, price_file
from spanledger.pricing.usage import PARTS

from .test_golden import HAIKU, LLM_CONFIG, SOL

SCHEMA = json.loads((catalogue.FOLDER / "schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FILES = [path for paths in catalogue.files().values() for path in paths]


class Loader(yaml.SafeLoader):
    """Dates stay text, as they are in JSON."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def errors(text: str) -> list[Any]:
    return list(VALIDATOR.iter_errors(yaml.load(text, Loader)))


@pytest.mark.parametrize(
    ("definition", "keys"),
    [
        ("model", price_file._MODEL_KEYS),
        ("price", price_file._ROW_KEYS),
        ("addition", price_file._ADDITION_KEYS),
        ("overlay", price_file._OVERLAY_KEYS),
        ("fx", price_file._FX_KEYS),
        ("rates", set(PARTS)),
    ],
)
def test_the_schema_has_the_readers_keys(definition: str, keys: set[str]) -> None:
    assert set(SCHEMA["$defs"][definition]["properties"]) == keys


def test_the_schema_has_the_readers_top_level_and_inner_keys() -> None:
    defs = SCHEMA["$defs"]
    assert set(SCHEMA["properties"]) == price_file._FILE_KEYS | {"settings"}
    assert set(defs["context"]["items"]["properties"]) == price_file._TIER_KEYS
    assert set(defs["region"]["items"]["properties"]) == price_file._REGION_KEYS
    assert set(defs["mode"]["anyOf"][1]["properties"]) == price_file._MODE_KEYS
    rate = set(defs["rate_of_unit"]["properties"]) | set(defs["share"]["properties"])
    assert rate == price_file._RATE_KEYS


@pytest.mark.parametrize("path", FILES, ids=[f"{p.parent.name}/{p.name}" for p in FILES])
def test_the_catalogue_is_valid_by_the_schema(path: Any) -> None:
    assert errors(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", [SOL, HAIKU, LLM_CONFIG, "gpt-4o: {input_cost_per_million: 2.5}"])
def test_the_examples_are_valid_by_the_schema(text: str) -> None:
    assert errors(text) == []


@pytest.mark.parametrize(
    "text",
    [
        SOL.replace("input: 2,", "inptu: 2,"),
        SOL.replace("input: 2,", "input: -2,"),
        SOL.replace("{rate: 10, per: 1K}", "10"),
        SOL.replace("2026-09-29", "29.9.2026"),
        SOL.replace("processing:", "processed:"),
        LLM_CONFIG.replace("cost_per_1k", "cost_per_2k"),
    ],
)
def test_what_the_reader_refuses_an_editor_marks(text: str) -> None:
    assert errors(text)
