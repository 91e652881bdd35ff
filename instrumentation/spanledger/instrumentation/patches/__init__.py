"""Patches: one module a waist. `sdks.py` says which SDK is patched by which."""

from __future__ import annotations

from typing import Protocol


class WaistNotFound(Exception):
    """The SDK is not what its patch is made for; the message says what is missing."""


class Patch(Protocol):
    """The hooks of one SDK, which its module sets when it makes the patch: `Patch(sdk, module, tracer_provider)`."""

    def remove(self) -> None:
        """Restore the SDK; calls in flight still end their spans."""
