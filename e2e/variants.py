"""The variants that collector-config.yaml holds as comments.

A comment whose `#` touches the next character is configuration: a block that begins with `#NAME:` up to the next line
that is not a comment, and items of a list, `#- NAME`.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.service.conftest import ROOT

CONFIG = ROOT / "collector-config.yaml"


def variant(folder: Path, *names: str) -> Path:
    """collector-config.yaml with the comments of these names turned into configuration, as a file in `folder`."""
    text = CONFIG.read_text(encoding="utf-8")
    for name in names:
        block = re.compile(rf"^ *#{re.escape(name)}:.*\n(?: *#.*\n)*", re.M)
        item = re.compile(rf"^( *)#(- {re.escape(name)})\b", re.M)
        text, blocks = block.subn(lambda found: re.sub(r"^( *)#", r"\1", found[0], flags=re.M), text)
        text, items = item.subn(r"\1\2", text)
        assert blocks == 1, f"collector-config.yaml has no commented block {name}"
        assert items >= 1, f"collector-config.yaml names {name} in no pipeline"
    path = folder / "collector-config.yaml"
    path.write_text(text, encoding="utf-8")
    return path
