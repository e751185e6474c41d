"""Which engine reads the patterns of this package: RE2 where it is installed, else `re`."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any


@cache
def _re2() -> Any:
    try:
        return importlib.import_module("re2")
    except ImportError:
        return None


def name() -> str:
    """`"re2"` or `"re"`."""
    return "re" if _re2() is None else "re2"


def compile_bytes(expression: str) -> Any:
    """The expression compiled by RE2, for texts encoded as UTF-8."""
    re2 = _re2()
    options = re2.Options()
    options.log_errors = False  # it would write to stderr
    return re2.compile(expression.encode(), options)
