"""Write the parts of the documentation that are the code's own words, between their markers.

python scripts/reference.py            # writes
python scripts/reference.py --check    # exits 1 if a page is out of date

Commands, settings, columns of `llm_calls` and answers of the API are explained by hand; tests hold them to the code.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import spanledger.attributes
from spanledger.exporter.migrate import migrations
from spanledger.instrumentation import INSTRUMENTORS
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.wire.endpoints import operations
from spanledger.pricing.names import hosts_of_providers
from spanledger.service.api.openapi import document
from spanledger.service.api.parameters import FILTERS

ROOT = Path(__file__).resolve().parents[1]
Rows = Iterable[tuple[str, ...]]


def sdks() -> str:
    """One line an SDK: distribution, versions, operations, provider names."""
    known: dict[str, list[Sdk]] = {}
    for instrumentor in INSTRUMENTORS:
        known.setdefault(instrumentor.sdk.requirement, []).append(instrumentor.sdk)
    rows = []
    for requirement, kin in sorted(known.items()):
        package, versions = requirement.split(" ", 1)
        kin.sort(key=lambda sdk: sdk.name)
        made = {operation for sdk in kin for operation in sdk.operations or operations(sdk.wire)}
        rows.append((f"`{package}`", versions, ", ".join(sorted(made)), ", ".join(_providers(kin))))
    return _table(("SDK", "versions", "operations", "provider names"), rows)


def hosts() -> str:
    """One line a provider: the hosts that are known as its own."""
    return _table(
        ("provider name", "hosts"), ((f"`{name}`", _code(known)) for name, known in hosts_of_providers().items())
    )


def attributes(section: str) -> str:
    """One line an attribute: its name, type and meaning, as they stand below the constant."""
    source = Path(spanledger.attributes.__file__).read_text(encoding="utf-8")
    text = source.partition(f"\n# {section}\n")[2].partition("\n# ")[0]
    found = re.findall(r'^[A-Z_]+: Final = "(.+)"\n"""(\S+): (.+)"""$', text, re.M)
    return _table(("attribute", "type", "meaning"), ((f"`{name}`", kind, meaning) for name, kind, meaning in found))


def tables() -> str:
    """One line a table of the schema: its columns, and what the migration says above it."""
    rows = []
    for path in migrations().values():
        sql = path.read_text(encoding="utf-8")
        for comment, name, columns in re.findall(
            r"^(?:-- ([^\n]+)\n)?CREATE TABLE IF NOT EXISTS \{database\}\.(\w+)[^\n]*\n\((.*?)^\)", sql, re.M | re.S
        ):
            listed = re.findall(r"^ +([a-z]\w*) +[A-Z]", columns, re.M)
            rows.append((f"`{name}`", comment, "above" if name == "llm_calls" else _code(listed)))
    return _table(("table", "what it is for", "columns"), rows)


def paths() -> str:
    """One line a path of the API: its parameters, those that all lists share as one word, and the answer's fields."""
    rows = []
    for path, methods in document()["paths"].items():
        asked = [each["name"] for each in methods["get"]["parameters"]]
        named = [name for name in asked if name not in FILTERS] if "trace" in asked else asked
        also = ["a dimension"] if "trace" in asked else []
        schema = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        rows.append(
            (f"`GET {path}`", ", ".join([*also, _code(named)]) if asked else "", _code(_resolved(schema)["properties"]))
        )
    return _table(("path", "parameters", "fields of the answer"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "sdks": sdks,
    "hosts": hosts,
    "attributes at the start": lambda: attributes("At the start of the span"),
    "attributes at the end": lambda: attributes("At its end"),
    "attributes around calls": lambda: attributes("Of spans around calls"),
    "tables": tables,
    "paths": paths,
}
"""What stands behind `<!--` in a page -> what is written there."""

PAGES = ("README.md", "docs/providers.md", "docs/attributes.md", "docs/ledger.md", "docs/api.md")


def page(name: str) -> str:
    """The page as it must be: what stands between a table's two markers is written anew."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for table, write in TABLES.items():
        begin, end = f"<!-- {table}: written by scripts/reference.py -->\n", f"<!-- {table}: end -->"
        text = re.sub(f"(?<={begin}).*?(?={end})", lambda _, write=write: f"\n{write()}\n", text, flags=re.S)
    return text


def main() -> int:
    stale = [name for name in PAGES if page(name) != (ROOT / name).read_text(encoding="utf-8")]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"{name} is out of date: run python scripts/reference.py", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (ROOT / name).write_text(page(name), encoding="utf-8")
    return 0


def _providers(kin: list[Sdk]) -> list[str]:
    named = [name for sdk in kin for name in (sdk.provider, *(name for _, name in sdk.client_providers))]
    others = ["its host's"] if any(sdk.name in ("litellm", "openai") for sdk in kin) else []
    return [f"`{name}`" for name in dict.fromkeys(named) if name] + others


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document()["components"]["schemas"][name] if name else schema


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _table(head: tuple[str, ...], rows: Rows) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
