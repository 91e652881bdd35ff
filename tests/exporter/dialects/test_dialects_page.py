"""docs/dialects.md says of every scope how its emitter counts, and of every mark that it is one."""

from __future__ import annotations

from pathlib import Path

from spanledger.exporter.dialects import MARKS, SCOPES

PAGE = (Path(__file__).parents[3] / "docs" / "dialects.md").read_text("utf-8")


def test_every_scope_and_mark_is_on_the_page() -> None:
    for scope in SCOPES:
        whole, _, last = scope.rpartition(".")
        assert f"`{scope}`" in PAGE or (f"`{whole}." in PAGE and f"`.{last}`" in PAGE) or scope == "spanledger", scope
    for mark in MARKS:
        assert f"`{mark}`" in PAGE, mark
