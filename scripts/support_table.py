"""Write the tables of supported SDKs and hosts into README.md and docs/providers.md, out of the code.

python scripts/support_table.py            # writes
python scripts/support_table.py --check    # exits 1 if a page is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from spanledger.instrumentation import INSTRUMENTORS
from spanledger.instrumentation.sdks import Sdk
from spanledger.instrumentation.wire.endpoints import operations
from spanledger.pricing.names import hosts_of_providers

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/providers.md")


def sdk_table() -> str:
    """One line an SDK: distribution, versions, operations, provider names."""
    sdks: dict[str, list[Sdk]] = {}
    for instrumentor in INSTRUMENTORS:
        sdks.setdefault(instrumentor.sdk.requirement, []).append(instrumentor.sdk)
    rows = []
    for requirement, kin in sorted(sdks.items()):
        package, versions = requirement.split(" ", 1)
        kin.sort(key=lambda sdk: sdk.name)
        made = {operation for sdk in kin for operation in sdk.operations or operations(sdk.wire)}
        rows.append((f"`{package}`", versions, ", ".join(sorted(made)), ", ".join(_providers(kin))))
    return _table(("SDK", "versions", "operations", "provider names"), rows)


def host_table() -> str:
    """One line a provider: the hosts that are known as its own."""
    rows = (
        (f"`{provider}`", ", ".join(f"`{host}`" for host in hosts)) for provider, hosts in hosts_of_providers().items()
    )
    return _table(("provider name", "hosts"), rows)


def page(name: str) -> str:
    """The page as it must be: what stands between a table's two markers is written anew."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for table, write in (("sdks", sdk_table), ("hosts", host_table)):
        begin, end = f"<!-- {table}: written by scripts/support_table.py -->\n", f"<!-- {table}: end -->"
        text = re.sub(f"(?<={begin}).*?(?={end})", lambda _, write=write: f"\n{write()}\n", text, flags=re.S)
    return text


def main() -> int:
    stale = [name for name in PAGES if page(name) != (ROOT / name).read_text(encoding="utf-8")]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"{name} is out of date: run python scripts/support_table.py", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (ROOT / name).write_text(page(name), encoding="utf-8")
    return 0


def _providers(kin: list[Sdk]) -> list[str]:
    named = [name for sdk in kin for name in (sdk.provider, *(name for _, name in sdk.client_providers))]
    others = ["its host's"] if any(sdk.name in ("litellm", "openai") for sdk in kin) else []
    return [f"`{name}`" for name in dict.fromkeys(named) if name] + others


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
