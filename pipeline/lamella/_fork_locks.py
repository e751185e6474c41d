"""Locks that a forked child finds open.

A child has only the thread that forked. A lock that another thread held at that moment would stay
shut for ever, and what it covers would be half-changed. So a fork waits for these locks, which are
held for microseconds, and both processes open them again.
"""

from __future__ import annotations

import os
import threading
from weakref import WeakSet

_guard = threading.Lock()
_locks: WeakSet[threading.Lock] = WeakSet()
_shut: list[threading.Lock] = []


def fork_safe_lock() -> threading.Lock:
    """A lock for short, synchronous sections, in which no other such lock is taken."""
    new = threading.Lock()
    with _guard:
        _locks.add(new)
    return new


def _shut_all() -> None:
    _guard.acquire()
    for lock in list(_locks):
        lock.acquire()
        _shut.append(lock)


def _open_all() -> None:
    while _shut:
        _shut.pop().release()
    _guard.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_shut_all, after_in_parent=_open_all, after_in_child=_open_all)
