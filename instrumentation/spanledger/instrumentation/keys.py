"""API keys as HMAC-SHA256 with the user's pepper, shortened: tells keys apart, never gives one away."""

from __future__ import annotations

from typing import Any

from spanledger.instrumentation.sdks import Sdk
from spanledger.settings import settings

HASH_LENGTH = 16
"""Hex digits that are kept: 64 bits tell any number of keys of one organisation apart."""

_CACHE_SIZE = 4096
_hashes: dict[int, tuple[str, str]] = {}  # by Python's own hash of the key, so that no key is kept
_HEADERS = {"authorization", "x-api-key", "api-key"}


def key_identity(sdk: Sdk, client: Any, headers: Any) -> tuple[str, str]:
    """(hash, alias) of the API key that a call uses; empty strings if it has none.

    Parameters:
        headers: the call's own headers, which may replace the client's key; no mapping if there are none.
    """
    key = None
    if isinstance(headers, dict) and headers:
        for name, value in headers.items():
            if isinstance(name, str) and isinstance(value, str) and name.lower() in _HEADERS:
                key = value.removeprefix("Bearer ")
    if key is None:
        for attribute in sdk.key_attributes:
            value = getattr(client, attribute, None)
            if isinstance(value, str) and value:
                key = value
                break
        else:
            return ("", "")
    return identity_of(key)


def identity_of(key: str) -> tuple[str, str]:
    """(hash, alias) of an API key."""
    slot = hash(key)
    identity = _hashes.get(slot)
    if identity is None:
        if len(_hashes) >= _CACHE_SIZE:
            _hashes.clear()
        identity = _hashes[slot] = hash_key(key)
    return identity


def hash_key(key: str) -> tuple[str, str]:
    """(hash, alias) of an API key under the current settings."""
    import hashlib
    import hmac

    now = settings()
    digest = hmac.new(now.key_pepper.encode(), key.encode(), hashlib.sha256).hexdigest()[:HASH_LENGTH]
    return digest, now.key_aliases.get(digest, "")
