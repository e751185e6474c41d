"""A token that a login gave: shared by all who ask, renewed before its end."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from lamella._fork_locks import fork_safe_lock
from lamella._loops import Waiter
from lamella._ports import default_ports
from lamella._revealed import remember
from lamella._secret_values import hidden

RENEW_PART: Final = 2 / 3
"""The part of its time after which a token is renewed."""

WAIT_SECONDS: Final = 30.0
"""After so long a login by somebody else counts as lost."""


class LoginToken:
    """A token, and how long it holds.

    Args:
        value: The token.
        seconds: How long it holds; 0 is without end.
        renewable: Whether it can be prolonged.
        now: The monotonic instant, in seconds.
    """

    __slots__ = ("_tell", "begun", "renewable", "seconds")

    def __init__(self, value: str, seconds: float, *, renewable: bool, now: float) -> None:
        remember(value)
        self._tell = hidden(value)
        self.seconds = seconds
        self.renewable = renewable
        self.begun = now

    @property
    def value(self) -> str:
        """The token itself."""
        return self._tell()

    def is_due(self, now: float) -> bool:
        """Whether it is time for another."""
        return self.seconds > 0 and now >= self.begun + self.seconds * RENEW_PART

    def holds(self, now: float) -> bool:
        """Whether it has not ended."""
        return self.seconds <= 0 or now < self.begun + self.seconds


class Tokens:
    """The token of one way to log in, got by one caller at a time. For all loops and threads.

    Args:
        get: Gets a token, given the one before if it still holds.
    """

    __slots__ = ("_begun", "_busy", "_get", "_lock", "_now", "_token", "_waiting")

    def __init__(self, get: Callable[[LoginToken | None], Awaitable[LoginToken]]) -> None:
        self._get = get
        self._now = default_ports().monotonic
        self._lock = fork_safe_lock()
        self._token: LoginToken | None = None
        self._busy: tuple[int, object] | None = None
        self._begun = 0.0
        self._waiting: list[Waiter] = []

    async def token(self) -> str:
        """A token that holds.

        Raises:
            SecretError: If none can be had.
        """
        while True:
            waiter, mine, now = Waiter(), (os.getpid(), object()), self._now()
            with self._lock:
                token = self._token
                if token is not None and not token.is_due(now):
                    return token.value
                held = token if token is not None and token.holds(now) else None
                if self._is_free(now):
                    self._busy, self._begun = mine, now
                elif held is not None:
                    return held.value
                else:
                    self._waiting.append(waiter)
            if self._busy is mine:
                return await self._renewed(mine, held)
            with anyio.move_on_after(WAIT_SECONDS):
                await waiter.wait()

    def _is_free(self, now: float) -> bool:
        """Whether nobody gets a token now, who could bring it to its end."""
        busy = self._busy
        return busy is None or busy[0] != os.getpid() or now > self._begun + WAIT_SECONDS

    def forget(self, value: str) -> None:
        """Drop a token that was refused."""
        with self._lock:
            if self._token is not None and self._token.value == value:
                self._token = None

    async def _renewed(self, mine: tuple[int, object], held: LoginToken | None) -> str:
        new: LoginToken | None = None
        try:
            new = await self._get(held)
            return new.value
        finally:
            with self._lock:
                if new is not None:
                    self._token = new
                if self._busy is mine:
                    self._busy = None
                waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.wake()
