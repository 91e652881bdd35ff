"""Compiles the price catalogue when the wheel or an editable install is made, so that no call waits for YAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileCatalogue(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        sys.path.insert(0, str(Path(self.root, "pricing")))
        from spanledger.pricing.catalogue import compile_all

        compile_all()
        build_data["artifacts"].append("pricing/spanledger/pricing/catalogue/compiled/*.json")
