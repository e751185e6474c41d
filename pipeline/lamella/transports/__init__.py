"""Transports: handlers that talk to providers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamella.transports._mock import Mock

__all__ = ("Mock",)

_LAZY = {"Mock": "_mock"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        public = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
        public.__module__ = __name__
        globals()[name] = public
        return public
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
