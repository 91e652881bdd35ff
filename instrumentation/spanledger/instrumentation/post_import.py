"""Patches an SDK once its waist is imported; nothing is imported for an SDK that the program does not use."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from spanledger.failures import internal_error, logger
from spanledger.instrumentation.sdks import Sdk

if TYPE_CHECKING:
    from spanledger.instrumentation.patches import Patch

_wanted: dict[str, Any] = {}  # waist module -> tracer provider; a waist that is not here stays unpatched
_hooked: set[str] = set()
_patched: dict[str, Patch] = {}


def patch_when_imported(sdk: Sdk, tracer_provider: Any = None) -> None:
    """Patch `sdk` now if its waist is imported, else as soon as it is.

    Parameters:
        tracer_provider: None for the global one.
    """
    _wanted[sdk.waist] = tracer_provider
    if sdk.waist in sys.modules:
        _patch(sdk, sys.modules[sdk.waist])
    elif sdk.waist not in _hooked:
        from wrapt import register_post_import_hook

        _hooked.add(sdk.waist)
        register_post_import_hook(lambda module: _patch(sdk, module), sdk.waist)


def unpatch(sdk: Sdk) -> None:
    """Take the patch of `sdk` off; calls in flight still end their spans."""
    _wanted.pop(sdk.waist, None)
    patch = _patched.pop(sdk.waist, None)
    if patch is not None:
        patch.remove()


def _patch(sdk: Sdk, module: ModuleType) -> None:
    if sdk.waist not in _wanted or sdk.waist in _patched:
        return
    try:
        from spanledger.instrumentation.patches import WaistNotFound

        patches = import_module(f"spanledger.instrumentation.patches.{sdk.patch}")
        try:
            _patched[sdk.waist] = patches.Patch(sdk, module, _wanted[sdk.waist])
        except WaistNotFound as error:
            logger.warning("spanledger: %s; its calls are not recorded. Supported: %s", error, sdk.requirement)
    except Exception:
        internal_error(f"instrumenting {sdk.name}")
