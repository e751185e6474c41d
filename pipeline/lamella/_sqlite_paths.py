"""Paths of stores' files: what is no such path is told when the store is made."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from lamella._options import Check, refused


def absolute(path: Any) -> Any:
    """The path as it is now, wherever the program goes later."""
    if not isinstance(path, str | Path) or not str(path):
        return path
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:  # "~somebody", whom the system does not know
        return str(path)


def usable(memory: str) -> Check:
    """A validator: a path under which there is a file that can be written, or could be one.

    Args:
        memory: The store to be used instead for what is to be in memory.
    """
    return partial(_usable, memory)


def _usable(memory: str, store: object, option: attrs.Attribute[Any], path: Any) -> None:
    want = "the path of a file, such as 'lamella.sqlite'"
    if not isinstance(path, Path):
        raise refused(store, option, path, want)
    if (
        path.name == ":memory:"
        or "\0" in str(path)
        or any(p.startswith("file:") for p in path.parts)
    ):
        raise refused(
            store, option, str(path), f"{want} ({memory} keeps what it is given in memory)"
        )
    if path.is_dir():
        raise refused(store, option, str(path), f"{want}, and not a directory: add a name to it")
    if not path.parent.is_dir():
        want = f"a path whose directory is there: make {str(path.parent)!r}, or give another path"
        raise refused(store, option, str(path), want)
    for place in (path, path.parent):
        if place.exists() and not os.access(place, os.W_OK):
            want = f"a path that can be written: {str(place)!r} is read-only for this user"
            raise refused(store, option, str(path), want)
