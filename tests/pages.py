"""The fenced blocks of a documentation page, so that tests can run them as they are printed."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
_TITLE = re.compile(r"""\btitle=(?:"([^"]*)"|'([^']*)')""")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the page's path below the root.
        line: the number of the opening fence's line.
        heading: the heading that it stands under, without `#`; empty before the first one.
        language: the word behind the fence: `python`, `sh`, `yaml`, ...; empty where there is none.
        title: of `title="..."` behind it; the pages name files so. Empty where there is none.
        text: what stands between the fences, without the block's own indentation, with a newline at its end.
    """

    page: str
    line: int
    heading: str
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str | Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order; those inside of lists, tabs and admonitions too.

    Parameters:
        page: path below the root, `docs/getting-started.md`, or an absolute one.

    Raises:
        ValueError: a block is not closed.
    """
    path = ROOT / page
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    heading = ""
    for number, line in lines:
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        opened = _FENCE.match(line)
        if opened is None:
            continue
        inside: list[str] = []
        for _, each in lines:
            if each.strip() == opened["fence"]:
                break
            inside.append(each)
        else:
            raise ValueError(f"{page}:{number}: the block is not closed")
        indent = len(opened["indent"])
        text = "".join(f"{each[indent:] if each[:indent].isspace() else each}\n" for each in inside)
        language, _, rest = opened["info"].strip().partition(" ")
        title = _TITLE.search(rest)
        name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
        yield Block(name, number, heading, language, (title[1] or title[2] or "") if title else "", text)


def commands(text: str) -> list[str]:
    """The commands of a shell block, in order: without comments, lines that `\\` or a quotation joins as one.

    Of a `console` block, whose commands begin with `$ `, only these, without it.
    """
    joined = textwrap.dedent(text).replace("\\\n", "")
    lines: list[str] = []
    for line in joined.splitlines():
        if lines and _is_open(lines[-1]):
            lines[-1] += f"\n{line}"
        else:
            lines.append(re.sub(r"(^|\s)#.*$", "", line).strip())
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    return prompted or [line for line in lines if line]


def _is_open(command: str) -> bool:
    """Whether a quotation goes on in the next line."""
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False
