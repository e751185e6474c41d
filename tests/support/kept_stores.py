"""Kept answers in stores of their own, some of which fail when told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kept_answers import sample

from lamella import (
    Packing,
    Secret,
    StoreUnavailableError,
)
from lamella._kept_answers import KeptAnswers
from lamella._memory_blobs import MemoryBlobs
from lamella._memory_stores import memory_stores
from lamella._packing import Packer

KEY = Secret.of_value("0123456789abcdef-of-the-tests")
ANSWER = sample()


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def memory(clock: Callable[[], float] | None = None, **bounds: Any) -> MemoryBlobs:
    """A store of one's own."""
    blobs = memory_stores(monotonic=clock or Clock(), **bounds).blobs
    assert isinstance(blobs, MemoryBlobs)
    return blobs


def kept(store: Any = None, namespace: str = "", packing: Packing | None = None) -> KeptAnswers:
    """What a layer keeps there."""
    packing = packing or Packing()
    secret = None if packing.key is None else packing.key.reveal().encode()
    return KeptAnswers("cache", namespace, store or memory(), Packer(packing, secret))


class Remote:
    """A store that others use too, and that fails or hangs when told to.

    Attributes:
        error: What every operation raises; None for none.
        asked: The operations so far.
    """

    def __init__(self, inner: MemoryBlobs | None = None, *, shared: bool = False) -> None:
        self.inner = inner or memory()
        self.shared = shared
        self.error: BaseException | None = None
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name == "instant":
            raise AttributeError(name)
        operation = getattr(self.inner, name)

        async def ask(*given: Any, **named: Any) -> Any:
            self.asked.append(name)
            if self.error is not None:
                raise self.error
            return await operation(*given, **named)

        return ask


OUT = StoreUnavailableError("The store is out.")
