"""What stands behind `vault:`."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

import attrs

from lamella import SecretError

SYNTAX: Final = (
    "Write vault:MOUNT/PATH#FIELD, or vault:MOUNT/PATH?version=3#FIELD for one version; a slash in "
    "the mount is %2F."
)

_PARTS = re.compile(r"(?P<path>[^?#]*)(?P<rest>(?:[?#][^?#]*)*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@attrs.frozen
class Reference:
    """A field of a secret of the KV engine, version 2.

    Attributes:
        mount: Where the engine is mounted.
        path: The secret's path in it.
        field: Which of its fields; None for the only one.
        version: Which version; None for the newest.
    """

    mount: str
    path: str
    field: str | None = None
    version: int | None = None

    @property
    def target(self) -> str:
        """The path and query of the request for it."""
        where = f"/v1/{quote(self.mount)}/data/{quote(self.path)}"
        return where if self.version is None else f"{where}?version={self.version}"


def parsed(text: str) -> Reference:
    """What stands behind the colon.

    Raises:
        SecretError: If it is no reference of this kind. It is not repeated.
    """
    found = _PARTS.fullmatch(text)
    mount, _, path = (found["path"] if found else "").partition("/")
    field: str | None = None
    version: int | None = None
    for part in re.findall(r"[?#][^?#]*", found["rest"] if found else ""):
        sign, value = part[0], unquote(part[1:])
        name, _, number = value.partition("=")
        if sign == "#" and value and field is None:
            field = value
        elif sign == "?" and name == "version" and version is None and _is_version(number):
            version = int(number)
        else:
            raise _no_reference()
    names = [unquote(part) for part in (mount, *path.split("/"))]
    if any(name in {"", ".", ".."} or _CONTROL.search(name) for name in names):
        raise _no_reference()
    return Reference(names[0], "/".join(names[1:]), field, version)


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) > 0


def _no_reference() -> SecretError:
    return SecretError("What stands behind 'vault:' names no field of a secret.", hint=SYNTAX)
