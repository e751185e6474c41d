"""The end of a process: what still waits is written, without an event loop and within bounds.

At that point no thread can be started any more, and no loop runs. A record that waits keeps its
spool alive, whatever has become of the layer.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakSet

EXIT_SECONDS: Final = 2.0
"""How long the end of the process waits for stores, of all spools together."""


class Holder(Protocol):
    """What has records that wait."""

    def write_now(self, more_time: Callable[[], bool]) -> None:
        """Write what waits; it blocks."""
        ...

    def begin_anew(self) -> None:
        """In a forked child: what waits is the parent's."""
        ...


_known: WeakSet[Holder] = WeakSet()
_holding: set[Holder] = set()
_registered = False


def know(holder: Holder) -> None:
    """There is one more, which is to be empty in forked children."""
    _known.add(holder)


def hold(holder: Holder) -> None:
    """Something waits in it now."""
    global _registered  # noqa: PLW0603 - once a process
    _holding.add(holder)
    if not _registered:
        _registered = True
        atexit.register(write_all)


def let_go(holder: Holder) -> None:
    """Nothing waits in it any more."""
    _holding.discard(holder)


def write_all(seconds: float = EXIT_SECONDS) -> None:
    """Write what waits everywhere; a batch that was begun is not broken off."""
    bridge = sys.modules.get("lamella._bridge")
    if bridge is not None:
        bridge.close_bridge()  # the calls that it ends have records as well
    end = time.monotonic() + seconds  # noqa: TID251 - there is no pipeline any more
    for holder in list(_holding):
        holder.write_now(lambda: time.monotonic() < end)  # noqa: TID251


def _begin_anew() -> None:
    _holding.clear()
    for holder in list(_known):
        holder.begin_anew()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_begin_anew)
