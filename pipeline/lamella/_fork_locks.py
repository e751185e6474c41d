"""Locks that a forked child finds open.

A child has only the thread that forked. A lock that another thread held at that moment would stay
shut for ever, and what it covers would be half-changed. So a fork waits for these locks, which are
held for microseconds, and both processes open them again.
"""

from __future__ import annotations

import os
import threading
from weakref import WeakSet

_guard = threading.Lock()  # of what is known; nothing is waited for under it
_forking = threading.Lock()  # one thread at a time
_locks: WeakSet[threading.Lock] = WeakSet()
_shut: list[threading.Lock] = []


def fork_safe_lock() -> threading.Lock:
    """A lock for short, synchronous sections, in which no other such lock is taken."""
    new = threading.Lock()
    with _guard:
        _locks.add(new)
    return new


def _shut_all() -> None:
    """Take every lock, and the guard last: who makes one under another needs it to let go."""
    _forking.acquire()
    while True:
        with _guard:
            known = list(_locks)
        taken = set(_shut)
        for lock in known:
            if lock not in taken:
                lock.acquire()
                _shut.append(lock)
        _guard.acquire()
        if set(_locks) <= set(_shut):
            return
        _guard.release()  # there are new ones


def _open_all() -> None:
    while _shut:
        _shut.pop().release()
    _guard.release()
    _forking.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_shut_all, after_in_parent=_open_all, after_in_child=_open_all)
