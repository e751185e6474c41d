"""Public names that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def show_public_address(public: Any, package: str) -> None:
    """Let a public object show its public address in reprs, tracebacks and pickles."""
    if getattr(public, "__module__", "").startswith(f"{package}._"):
        public.__module__ = package


def lazily(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package.

    Args:
        package: Its name.
        homes: The private module that each name is found in.
    """

    def get(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        public = getattr(import_module(f"{package}.{home}"), name)
        show_public_address(public, package)
        setattr(sys.modules[package], name, public)  # so that the next time costs nothing
        return public

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
