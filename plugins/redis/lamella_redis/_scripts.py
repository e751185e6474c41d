"""The decisions, each one script that the server runs whole: what they are, and by what digest."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from importlib.resources import files
from typing import Literal, TypeAlias

import attrs

Decision: TypeAlias = Literal["reserve", "finish", "renew", "level", "now"]
Keeping: TypeAlias = Literal["put", "read", "info", "forget", "now"]
Placing: TypeAlias = Literal["add", "remove", "drop", "sweep", "length"]


@attrs.frozen
class Script:
    """A script and the digest under which servers keep it.

    Attributes:
        source: Its text.
        digest: The SHA-1 of its text.
    """

    source: bytes
    digest: bytes

    @classmethod
    def of(cls, source: str) -> Script:
        """The script with this text."""
        text = source.encode()
        return cls(text, sha1(text, usedforsecurity=False).hexdigest().encode())


@lru_cache
def script(decision: Decision) -> Script:
    """The script of a decision about limits, read on first use."""
    return _with("bucket", decision)


@lru_cache
def keeping(operation: Keeping) -> Script:
    """The script of an operation on kept values, read on first use."""
    return _with("entry", operation)


@lru_cache
def placing(operation: Placing) -> Script:
    """The script of an operation on vectors, read on first use."""
    return _with("vectors", operation)


def _with(beginning: str, decision: str) -> Script:
    folder = files("lamella_redis") / "lua"
    common = (folder / f"{beginning}.lua").read_text("utf-8")
    return Script.of(f"{common}\n{(folder / f'{decision}.lua').read_text('utf-8')}")
