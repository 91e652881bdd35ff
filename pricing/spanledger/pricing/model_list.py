"""A provider's price lists laid over one another, and the search for a model in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from spanledger.pricing import globs
from spanledger.pricing.document import Document, Json
from spanledger.pricing.names import spellings


@dataclass(slots=True)
class Model:
    """A model of a price list.

    Attributes:
        id: its name there.
        rows: its prices, as `price_file` checked them.
        provider: whose price list it is from.
        file: name and digest of the file.
        informational: fields of the provider that are no usage of their own.
    """

    id: str
    rows: list[Json]
    provider: str
    file: str
    informational: frozenset[str]


@dataclass(slots=True)
class _Layer:
    """One file's models of one provider."""

    section: Json
    ids: dict[str, Model] = field(default_factory=dict)
    exact: dict[str, Model] = field(default_factory=dict)
    prefixes: list[tuple[str, Model]] = field(default_factory=list)
    globs: list[tuple[str, Model]] = field(default_factory=list)
    regexes: list[tuple[str, Model]] = field(default_factory=list)

    def find(self, names: tuple[str, ...]) -> Model | None:
        """Exact, then the longest prefix, then the glob with the most letters, then regexes in their order."""
        for name in names:
            if name in self.exact:
                return self.exact[name]
        for prefix, model in self.prefixes:
            if any(name.startswith(prefix) for name in names):
                return model
        for pattern, model in self.globs:
            if any(globs.matches(name, pattern) for name in names):
                return model
        for pattern, model in self.regexes:
            if any(_regex(pattern).search(name) for name in names):
                return model
        return None


@lru_cache(maxsize=4096)
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


class ModelList:
    """What a provider charges by: its own files, those it extends beneath them, the user's above."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.layers: list[_Layer] = []
        self.aliases: dict[str, str] = {}
        self.additions: list[Json] = []
        self.fallback: list[str] = []

    def lay(self, document: Document, section: Json) -> None:
        """Lay one file's section over what is there."""
        layer = _Layer(section)
        file = f"{document['file']}@{document['digest']}"
        common = frozenset(section.get("informational", ()))
        for entry in section["models"]:
            own = common | frozenset(entry.get("informational", ()))
            model = Model(entry["id"], entry["rows"], section["provider"], file, own)
            layer.ids[model.id] = model
            for kind, pattern in entry["match"]:
                if kind == "exact":
                    layer.exact[pattern] = model
                elif kind == "prefix":
                    layer.prefixes.append((pattern, model))
                elif kind == "glob":
                    layer.globs.append((pattern, model))
                else:
                    layer.regexes.append((pattern, model))
        layer.prefixes.sort(key=lambda item: -len(item[0]))
        layer.globs.sort(key=lambda item: item[0].count("*") + item[0].count("?") * 2 - len(item[0]))
        self.layers.append(layer)
        self.aliases.update(section.get("aliases", {}))
        self.additions += section["additions"]
        self.fallback = section.get("fallback", self.fallback)

    def find(self, model: str) -> Model | None:
        """The price list's entry for a model's name; the user's files first, the last one first of all."""
        if not model:
            return None
        stages = spellings(model).stages
        if self.aliases:
            alias = next((n for names in stages for n in names if n in self.aliases), None)
            if alias is not None:
                stages = spellings(self.aliases[alias]).stages
        for i in range(len(self.layers) - 1, -1, -1):
            for names in stages:
                found = self.layers[i].find(names)
                if found is not None:
                    return self._latest(found, i)
        return None

    def _latest(self, found: Model, at: int) -> Model:
        """The entry of the same id in the highest layer: it takes over every name that the lower one matches."""
        for layer in reversed(self.layers[at + 1 :]):
            if found.id in layer.ids:
                return layer.ids[found.id]
        return found

    def compile(self) -> None:
        """Make the regular expressions that a search may need; each takes longer than a whole search with it."""
        for layer in self.layers:
            for pattern, _ in layer.regexes:
                _regex(pattern)
            for pattern, _ in layer.globs:
                globs.matches("", pattern)
        for addition in self.additions:
            for pattern in addition["models"]:
                globs.matches("", pattern)

    def models(self) -> Iterable[Model]:
        """Every model, the highest entry of each id."""
        found: dict[str, Model] = {}
        for layer in self.layers:
            found.update(layer.ids)
        return found.values()

    def additions_for(self, model: Model) -> list[tuple[int, Json]]:
        """The additions that name the model, the last laid first, with their place in the list."""
        return [
            (i, addition)
            for i, addition in reversed(list(enumerate(self.additions)))
            if any(globs.matches(model.id, pattern) for pattern in addition["models"])
        ]


def patterns(entry: dict[str, Any]) -> list[str]:
    """A model's `match`, as one writes it in YAML."""
    return [pattern if kind == "exact" else f"{kind}:{pattern}" for kind, pattern in entry["match"]]
