"""Globs mean what `fnmatch` says."""

from __future__ import annotations

import fnmatch
import random

import pytest

from spanledger.pricing.globs import matches


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-5*", "gpt-5", True),
        ("*nova-2-*", "us.amazon.nova-2-lite", True),
        ("*nova-2-*", "nova-2", False),
        ("ab*ba", "aba", False),
        ("a*b*a", "aba", True),
        ("claude-opus-4-[678]", "claude-opus-4-7", True),
        ("claude-opus-4-[678]", "claude-opus-4-5", False),
        ("gpt-?", "gpt-5", True),
        ("*", "", True),
        ("GPT*", "gpt-5", False),
    ],
)
def test_a_glob_and_a_name(pattern: str, name: str, fits: bool) -> None:
    assert matches(name, pattern) is fits


def test_as_fnmatch_has_it() -> None:
    some = random.Random(20261122)
    for _ in range(20_000):
        name = "".join(some.choices("ab.-\n", k=some.randrange(8)))
        pattern = "".join(some.choices("ab.-**?[]!", k=some.randrange(7)))
        assert matches(name, pattern) == fnmatch.fnmatchcase(name, pattern), (name, pattern)
