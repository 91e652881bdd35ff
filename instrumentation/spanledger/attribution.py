"""Whose calls these are: tenant, user, session, feature, tags, for every LLM call within a block.

    from spanledger.attribution import attribute

    with attribute(tenant="acme", user="u-17", feature="summary", tags={"plan": "pro"}):
        client.chat.completions.create(...)

It lives in OpenTelemetry's context, so it follows tasks, and threads where OpenTelemetry's threading
instrumentation is on. W3C baggage carries it to other services of yours; it is taken out of the requests that
go to LLM providers.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import Token
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, cast

import orjson
from opentelemetry import baggage
from opentelemetry.context import Context, attach, create_key, detach, get_current, get_value, set_value

from spanledger import attributes as names
from spanledger.failures import internal_error

F = TypeVar("F", bound=Callable[..., Any])

MAX_VALUE_LENGTH = 256
"""Characters of one value; W3C baggage allows 8 192 bytes for all of them together."""

_KEY = create_key("spanledger-attribution")
_BAGGAGE = "spanledger."
_TAG = "spanledger.tag."
_ATTRIBUTES = {
    "tenant": names.TENANT,
    "user": names.USER_ID,
    "session": names.SESSION_ID,
    "feature": names.FEATURE,
    "prompt": names.PROMPT_NAME,
    "agent": names.AGENT_NAME,
}


@dataclass(frozen=True)
class Attribution:
    """Whom a call is for; empty fields are unknown."""

    tenant: str = ""
    user: str = ""
    session: str = ""
    feature: str = ""
    prompt: str = ""
    agent: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        attributes = {_ATTRIBUTES[f.name]: value for f in fields(self)[:6] if (value := getattr(self, f.name))}
        if self.tags:
            attributes[names.TAGS] = orjson.dumps(dict(self.tags)).decode()
        object.__setattr__(self, "attributes", attributes)


class attribute:
    """Attribute all LLM calls within the block; inner blocks add to outer ones, and win where both speak.

    As a decorator it does so for all that a function or coroutine function calls.

    Parameters:
        tenant: the customer or team that pays.
        user: the end user's id; becomes `user.id`.
        session: the conversation or session; becomes `session.id`.
        feature: the task type or feature of your program.
        prompt: name of the prompt template.
        agent: name of the agent; becomes `gen_ai.agent.name`.
        tags: further names and values.

    Raises:
        TypeError: it decorates a generator function, whose body runs only later.
    """

    def __init__(
        self,
        *,
        tenant: str | None = None,
        user: str | None = None,
        session: str | None = None,
        feature: str | None = None,
        prompt: str | None = None,
        agent: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._given = {
            "tenant": tenant,
            "user": user,
            "session": session,
            "feature": feature,
            "prompt": prompt,
            "agent": agent,
        }
        self._tags = tags
        self._tokens: dict[int, Token[Context]] = {}
        """By the id of the context inside: threads and tasks may be in one block at once, and in it several times."""

    def __enter__(self) -> None:
        try:
            context = get_current()
            outer = current_attribution(context) or Attribution()
            texts = {name: _text(value) for name, value in self._given.items() if value is not None}
            own_tags = {_text(name): _text(value) for name, value in (self._tags or {}).items()}
            for name, value in texts.items():
                context = baggage.set_baggage(_BAGGAGE + name, value, context)
            for name, value in own_tags.items():
                context = baggage.set_baggage(_TAG + name, value, context)
            inner = replace(outer, **texts, tags={**outer.tags, **own_tags})  # type: ignore[arg-type]
            inside = set_value(_KEY, inner, context)
            self._tokens[id(inside)] = attach(inside)
        except Exception:
            internal_error("attributing calls")

    def __exit__(self, *_: object) -> None:
        try:
            token = self._tokens.pop(id(get_current()), None)
            if token is None:  # the program left a context of its own attached
                token = self._tokens.popitem()[1]
        except KeyError:  # it could not be entered
            return
        detach(token)

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"@attribute cannot decorate the generator {function.__qualname__}, whose body runs only later:"
                " use `with attribute(...)` inside it, around the calls"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def attributed(*args: Any, **kwargs: Any) -> Any:
                with attribute(**self._given, tags=self._tags):
                    return await function(*args, **kwargs)
        else:

            @functools.wraps(function)
            def attributed(*args: Any, **kwargs: Any) -> Any:
                with attribute(**self._given, tags=self._tags):
                    return function(*args, **kwargs)

        return cast(F, attributed)


def current_attribution(context: Context | None = None) -> Attribution | None:
    """The attribution in force in `context` (the current one by default), from this process or by baggage."""
    value = get_value(_KEY, context)
    if isinstance(value, Attribution):
        return value
    entries = baggage.get_all(context)
    return _from_baggage(entries) if entries else None


def without_baggage(context: Context) -> Context:
    """`context` without our baggage entries, for requests that leave for an LLM provider."""
    entries = baggage.get_all(context)
    if not entries:
        return context
    for name in [name for name in entries if name.startswith(_BAGGAGE)]:
        context = baggage.remove_baggage(name, context)
    return context


def _from_baggage(entries: Mapping[str, object]) -> Attribution | None:
    found: dict[str, Any] = {}
    tags: dict[str, str] = {}
    for name, value in entries.items():
        if name.startswith(_TAG):
            tags[name[len(_TAG) :]] = _text(value)
        elif name.startswith(_BAGGAGE) and name[len(_BAGGAGE) :] in _ATTRIBUTES:
            found[name[len(_BAGGAGE) :]] = _text(value)
    return Attribution(**found, tags=tags) if found or tags else None


def _text(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    return text.encode("utf-8", "replace").decode()[:MAX_VALUE_LENGTH]
