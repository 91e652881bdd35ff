"""Wire readers are pure functions: they need neither settings nor a provider."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_settings() -> None:
    """Stands in for the SDK tests' fixture of this name."""
