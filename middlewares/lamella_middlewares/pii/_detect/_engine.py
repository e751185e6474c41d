"""Which engine reads the patterns: RE2 where it is installed, else `re`."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any


@cache
def name() -> str:
    """`"re2"` or `"re"`."""
    return "re" if find_spec("re2") is None else "re2"


def re2_bytes(expression: str) -> Any:
    """The expression compiled by RE2, for texts encoded as UTF-8."""
    import re2

    options = re2.Options()
    options.log_errors = False
    return re2.compile(expression.encode(), options)
