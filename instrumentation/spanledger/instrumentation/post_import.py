"""Patches an SDK once its waist is imported; nothing is imported for an SDK that the program does not use."""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from spanledger.failures import internal_error, logger
from spanledger.instrumentation.sdks import Sdk

if TYPE_CHECKING:
    from spanledger.instrumentation.patches import Patch

_wanted: dict[str, Any] = {}  # waist module -> tracer provider; a waist that is not here stays unpatched
_hooked: set[str] = set()
_patched: dict[str, Patch] = {}
_told: set[tuple[str, str]] = set()


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
        register_post_import_hook(lambda package: _look_for_waist(sdk, package), sdk.package)


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

        version = _version(sdk)
        if version and not Requirement(sdk.requirement).specifier.contains(version, prereleases=True):
            _tell(sdk, "this version is not one that spanledger is made for")
            return
        patches = import_module(f"spanledger.instrumentation.patches.{sdk.patch}")
        try:
            _patched[sdk.waist] = patches.Patch(sdk, module, _wanted[sdk.waist])
        except WaistNotFound as error:
            _tell(sdk, str(error))
        except ImportError as error:
            _tell(sdk, f"{sdk.waist} is not what it was: {error}")
    except Exception:
        internal_error(f"instrumenting {sdk.name}")


def _look_for_waist(sdk: Sdk, package: ModuleType) -> None:
    """`package` is imported, perhaps without its waist: is it there to be imported later?"""
    if sdk.waist not in _wanted or sdk.waist in sys.modules or not _version(sdk):
        return
    try:
        name, path = sdk.package, getattr(package, "__path__", ())
        for part in sdk.waist.removeprefix(f"{name}.").split("."):
            name = f"{name}.{part}"
            spec = PathFinder.find_spec(name, path)  # imports nothing, as importlib.util's would
            if spec is None:
                _tell(sdk, f"there is no module {sdk.waist}")
                return
            path = spec.submodule_search_locations or ()
    except Exception:
        internal_error(f"instrumenting {sdk.name}")


def _version(sdk: Sdk) -> str:
    try:
        return metadata.version(Requirement(sdk.requirement).name)
    except metadata.PackageNotFoundError:
        return ""


def _tell(sdk: Sdk, what: str) -> None:
    """Warn, once, that calls are not recorded."""
    distribution = Requirement(sdk.requirement).name
    if (distribution, what) in _told:
        return
    _told.add((distribution, what))
    logger.warning(
        "spanledger: calls by %s %s are not recorded, the program goes on: %s. "
        "Install another version that spanledger supports (%s), or a newer spanledger",
        distribution,
        _version(sdk) or "of unknown version",
        what,
        sdk.requirement,
    )
