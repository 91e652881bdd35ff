"""Emitters that wrap a client instead of patching its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_wrapped: dict[int, Any] = {}


def langsmith(construct: Callable[..., Any]) -> Callable[..., Any]:
    """Clients of the openai package as `langsmith.wrappers` hands them out."""
    from langsmith.wrappers import wrap_openai

    def wrapping(call: Any, module: str, name: str, **kwargs: Any) -> Any:
        client = construct(call, module, name, **kwargs)
        if module != "openai":
            return client
        return _wrapped.setdefault(id(client), client) if id(client) in _wrapped else _keep(wrap_openai(client))

    return wrapping


def _keep(client: Any) -> Any:
    _wrapped[id(client)] = client
    return client
