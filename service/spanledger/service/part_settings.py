"""Settings of a part of the service: `SPANLEDGER_<PART>_*` over the file's `settings.<part>`, and how they are read."""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from spanledger.settings import Settings, SettingsError

Reader = Callable[[Any], Any]
"""Text of a variable, or a value of the file, to the setting; raises ValueError that says what to use instead."""


class Address(NamedTuple):
    """Where to listen; port 0 is any free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def chosen(
    part: str,
    section: Mapping[str, Any],
    readers: Mapping[str, Reader],
    now: Settings,
    environ: Mapping[str, str],
    secret: Iterable[str] = (),
) -> dict[str, Any]:
    """The settings of `part` that the user has set.

    Parameters:
        part: `collector`; `SPANLEDGER_COLLECTOR` says whether it is enabled.
        section: of the file.
        readers: setting -> how its value is read; a `token` is a variable only.
        secret: settings whose values no error shows.

    Raises:
        SettingsError: a value is wrong, or there is no such setting.
    """
    prefix = f"SPANLEDGER_{part.upper()}"
    known = set(readers)
    for name in section:
        if name not in known:
            raise SettingsError(
                f"{now.config}: settings.{part}.{name} is no setting; known: {', '.join(sorted(known))}"
            )
    for name in environ:
        if name.startswith(f"{prefix}_") and name[len(prefix) + 1 :].lower() not in (known | {"token"}) - {"enabled"}:
            raise SettingsError(f"{name} is no setting; see docs/settings.md")
    found: dict[str, Any] = {}
    for name, read in readers.items():
        variable = prefix if name == "enabled" else f"{prefix}_{name.upper()}"
        value: Any = environ.get(variable, "").strip()
        where = variable
        if not value:
            value, where = section.get(name), f"{now.config}: settings.{part}.{name}"
            if value is None:
                continue
        try:
            found[name] = read(value)
        except (ValueError, TypeError) as error:
            shown = "" if name in secret else f"={value!r}" if where == variable else f" is {value!r}"
            raise SettingsError(f"{where}{shown}: {error}") from None
    return found


def count(value: Any) -> int:
    if isinstance(value, bool) or not str(value).strip().isdecimal() or not int(value):
        raise ValueError("use a whole number above 0")
    return int(value)


def seconds(value: Any) -> float:
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < 10**6:
        raise ValueError("use a number of seconds above 0")
    return number


def flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
        raise ValueError("use true or false")
    return text in ("true", "1", "yes", "on")


def address(value: Any) -> Address | None:
    if value is False or str(value).strip().lower() in ("off", "none", "no", "false"):
        return None
    form = "use HOST:PORT, as 127.0.0.1:14317, or off"
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/@\s]+)):(\d{1,5})", str(value).strip())
    if found is None or int(found[3]) > 65535:
        raise ValueError(form)
    return Address(found[1] or found[2], int(found[3]))


def file(value: Any) -> Path:
    path = Path(str(value)).expanduser()
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"cannot read it: {error.strerror}") from None
    return path


def secret_text(name: str, path: Path) -> str:
    """What is in a file that only its owner may read.

    Raises:
        SettingsError: others can read it, it cannot be read, or it is empty.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SettingsError(f"{name}={path}: others can read it, mode {mode:o}; chmod 600 {path}")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}={path}: cannot read it: {error}") from None
    if not text:
        raise SettingsError(f"{name}={path}: it is empty; put the token on its first line")
    return text


def token(name: str, text: str) -> str:
    """A token, as a header can carry it.

    Raises:
        SettingsError: it has characters that no header can carry.
    """
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise SettingsError(f"{name}: the token has blanks or characters beyond ASCII, which no header can carry")
    return text
