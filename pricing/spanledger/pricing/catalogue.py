"""The shipped price lists: one YAML file a provider, and their compiled form.

`catalogue/imported/<provider>.yaml` is generated (`docs/prices.md`), `catalogue/<provider>.yaml` is kept by hand and
laid over it. The compiled form is JSON beside them, built with the wheel; it counts only where it was made from just
these bytes by just this reader, so a stale one is never used.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from pathlib import Path

from spanledger.pricing.document import Document

FOLDER = Path(__file__).parent / "catalogue"


@lru_cache(maxsize=1)
def files() -> dict[str, tuple[Path, ...]]:
    """Provider -> its files, in the order in which they are laid over one another."""
    found: dict[str, list[Path]] = {}
    for folder in (FOLDER / "imported", FOLDER):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, []).append(path)
    return {provider: tuple(paths) for provider, paths in found.items()}


def documents(provider: str) -> list[Document]:
    """The provider's price lists, lowest first; empty for a provider without one.

    Raises:
        PriceFileError: a file of the catalogue is damaged.
    """
    return [_document(path) for path in files().get(provider, ())]


def compiled(path: Path) -> Path:
    """Where the compiled form of the catalogue file `path` lies."""
    return FOLDER / "compiled" / f"{'imported-' if path.parent != FOLDER else ''}{path.stem}.json"


def compile_all() -> list[Path]:
    """Write the compiled form of every file whose bytes it was not made from, drop orphans, and hand back all."""
    import json

    written = []
    for paths in files().values():
        for path in paths:
            target = compiled(path)
            data = path.read_bytes()
            form = {"crc": _crc(data), "document": _read(data, path)}
            target.parent.mkdir(exist_ok=True)
            target.write_text(json.dumps(form, separators=(",", ":")), encoding="utf-8")
            written.append(target)
    for orphan in set((FOLDER / "compiled").glob("*.json")) - set(written):
        orphan.unlink()
    return written


@lru_cache(maxsize=1)
def _reader() -> int:
    """Checksum of the code that makes documents of YAML."""
    here = Path(__file__).parent
    return zlib.crc32(b"".join((here / name).read_bytes() for name in ("price_file.py", "yaml_text.py")))


def _crc(data: bytes) -> int:
    return zlib.crc32(data, _reader())


def _document(path: Path) -> Document:
    import json

    data = path.read_bytes()
    try:
        form = json.loads(compiled(path).read_text(encoding="utf-8"))
        if form["crc"] == _crc(data):
            document: Document = form["document"]
            return document
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not built, or damaged
    return _read(data, path)


def _read(data: bytes, path: Path) -> Document:
    from spanledger.pricing.price_file import read_text

    return read_text(data, path)


if __name__ == "__main__":
    for written in compile_all():
        print(written)
