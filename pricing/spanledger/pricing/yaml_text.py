"""YAML with its line numbers and its scalars' own text.

PyYAML makes floats of prices, drops duplicate keys, reads `no` as false and `010` as 8, and forgets where a value
stood. Here a scalar stays the text it was, and whoever reads it says what it should be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from spanledger.pricing.document import PriceFileError

if TYPE_CHECKING:
    import yaml

_DEPTH = 40
_NODES = 300_000
_NUMBER = re.compile(r"[+-]?(\d[\d_]*(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value as written. `plain` is false where it was quoted."""

    text: str
    line: int
    plain: bool


@dataclass(slots=True)
class Mapping:
    """A mapping: key -> (value, line of the key)."""

    line: int
    items: dict[str, tuple[Value, int]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, Value, int]]:
        for key, (value, line) in self.items.items():
            yield key, value, line

    def __contains__(self, key: str) -> bool:
        return key in self.items

    def get(self, key: str) -> Value:
        return self.items[key][0] if key in self.items else None

    def line_of(self, key: str) -> int:
        return self.items[key][1] if key in self.items else self.line


@dataclass(slots=True)
class Sequence:
    line: int
    items: list[Value] = field(default_factory=list)


Value = Union[Scalar, Mapping, Sequence, None]  # noqa: UP007 - evaluated at run time on Python 3.10


def parse(text: str, file: Path | str) -> Mapping:
    """The one document in `text`.

    Raises:
        PriceFileError: it is not YAML, has a duplicate key, more than one document, or no mapping at its top.
    """
    import yaml  # 27 ms: only where there is YAML to read

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise PriceFileError(file, mark.line + 1 if mark else 0, f"not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PriceFileError(file, 0, f"not valid YAML: {str(error).splitlines()[0]}") from error
    if root is None:
        return Mapping(1)
    value = _Converter(file).value(root, 0)
    if not isinstance(value, Mapping):
        raise PriceFileError(file, 1, "the top level is not a mapping")
    return value


class _Converter:
    def __init__(self, file: Path | str) -> None:
        self.file = file
        self.seen = 0

    def value(self, node: yaml.Node, depth: int) -> Value:
        line = node.start_mark.line + 1
        self.seen += 1
        if depth > _DEPTH or self.seen > _NODES:
            raise PriceFileError(self.file, line, "nested too deeply: is an alias part of what it stands for?")
        kind = node.id  # type: ignore[attr-defined]
        if kind == "scalar":
            plain = node.style is None or node.style == ""  # type: ignore[attr-defined]
            if node.tag == "tag:yaml.org,2002:null" and plain:
                return None
            return Scalar(node.value, line, plain)
        if kind == "sequence":
            return Sequence(line, [self.value(item, depth + 1) for item in node.value])
        result = Mapping(line)
        merged: list[Mapping] = []
        for key, child in node.value:
            where = key.start_mark.line + 1
            if key.id != "scalar":
                raise PriceFileError(self.file, where, "a key is not a plain word")
            value = self.value(child, depth + 1)
            if key.tag == "tag:yaml.org,2002:merge":
                for base in value.items if isinstance(value, Sequence) else [value]:
                    if not isinstance(base, Mapping):
                        raise PriceFileError(self.file, where, "<< takes a mapping")
                    merged.append(base)
                continue
            if key.value in result.items:
                first = result.items[key.value][1]
                raise PriceFileError(self.file, where, f"duplicate key {key.value!r}, first on line {first}")
            result.items[key.value] = (value, where)
        for base in merged:
            for name, item in base.items.items():
                result.items.setdefault(name, item)
        return result


def number(scalar: Scalar) -> Decimal | None:
    """The scalar as an exact Decimal, or None if it is not a plain decimal number."""
    if not _NUMBER.fullmatch(scalar.text.strip()):
        return None
    try:
        return Decimal(scalar.text.strip().replace("_", ""))
    except InvalidOperation:
        return None
