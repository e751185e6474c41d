"""Which engine reads the patterns of this package: RE2 where it is installed, else `re`."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

_MEMORY: Final = 64 << 20
"""Bytes that RE2 may take for the states of several expressions at once; it uses some 1 MB."""


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


def compile_set(expressions: Iterable[str]) -> Any:
    """Expressions of which RE2 says in one pass which ones are in a text."""
    re2 = _re2()
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    compiled = re2.Set.SearchSet(options)
    for expression in expressions:
        compiled.Add(expression)
    compiled.Compile()
    return compiled
