"""Who still uses what: an object used by several pipelines closes with the last of them."""

from __future__ import annotations

from weakref import WeakSet, finalize

from lamella._fork_locks import fork_safe_lock

_users: dict[int, WeakSet[object]] = {}  # by identity: equal layers are not the same layer
_lock = fork_safe_lock()


def use(thing: object, user: object) -> None:
    """`user` works with `thing` from now on."""
    with _lock:
        users = _users.get(id(thing))
        if users is None:
            try:
                finalize(thing, _users.pop, id(thing), None).atexit = False
            except TypeError:  # nothing can refer to it weakly; it closes with its first user
                return
            users = _users[id(thing)] = WeakSet()
        users.add(user)


def users_of(thing: object) -> list[object]:
    """Who works with `thing` now."""
    with _lock:
        return list(_users.get(id(thing), ()))


def release(thing: object, user: object) -> bool:
    """`user` is done with `thing`; whether it was the last one."""
    with _lock:
        users = _users.get(id(thing))
        if users is None:
            return True
        users.discard(user)
        return not users
