"""A token that a login gave: shared by all who ask, renewed before its end."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from lamella import LamellaError
from lamella._fork_locks import fork_safe_lock
from lamella._loops import Waiter
from lamella._ports import default_ports
from lamella._revealed import remember
from lamella._secret_values import hidden

RENEW_PART: Final = 2 / 3
"""The part of its time after which a token is renewed."""

WAIT_SECONDS: Final = 30.0
"""After so long a login by somebody else counts as lost."""

EXCHANGE_SECONDS: Final = 60.0
"""How long a token that replaced a refused one is not replaced for the same reason."""


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


class _Asking:
    """One login or renewal, and who waits for it."""

    __slots__ = ("begun", "error", "process", "waiting")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.process = os.getpid()
        self.waiting: list[Waiter] = []
        self.error: LamellaError | None = None

    def is_lost(self, now: float) -> bool:
        """Whether nobody can bring it to its end."""
        return self.process != os.getpid() or now > self.begun + WAIT_SECONDS


class Tokens:
    """The token of one way to log in, got by one caller at a time. For all loops and threads.

    Args:
        get: Gets a token, given the one before if it still holds.
    """

    __slots__ = ("_asking", "_exchanged", "_get", "_lock", "_now", "_token")

    def __init__(self, get: Callable[[LoginToken | None], Awaitable[LoginToken]]) -> None:
        self._get = get
        self._now = default_ports().monotonic
        self._lock = fork_safe_lock()
        self._token: LoginToken | None = None
        self._asking: _Asking | None = None
        self._exchanged = -math.inf

    async def token(self, refused: str | None = None) -> str:
        """A token that holds.

        Args:
            refused: A token that is not to be given. It stays the others', until there is another:
                what was refused may be this caller's path alone.

        Raises:
            LamellaError: If none can be had.
        """
        while True:
            waiter, now = Waiter(), self._now()
            with self._lock:
                token = self._token
                if token is not None and token.value == refused:
                    token = None
                if token is not None and not token.is_due(now):
                    return token.value
                held = token if token is not None and token.holds(now) else None
                asking, leads = self._asking, False
                if asking is None or asking.is_lost(now):
                    asking, leads = _Asking(now), True
                    self._asking = asking
                elif held is not None:
                    return held.value
                else:
                    asking.waiting.append(waiter)
            if leads:
                return await self._asked(asking, held)
            with anyio.move_on_after(WAIT_SECONDS):
                await waiter.wait()
            if asking.error is not None:
                raise asking.error.copy()

    def may_exchange(self, refused: str) -> bool:
        """Whether to try another token than one that was refused.

        Once in a minute: a refusal may be of a path, for which no token is good, and each login
        leaves Vault a lease and may use up a secret id.
        """
        with self._lock:
            if self._token is None or self._token.value != refused:
                return True
            now = self._now()
            if now < self._exchanged + EXCHANGE_SECONDS:
                return False
            self._exchanged = now
            return True

    async def _asked(self, mine: _Asking, held: LoginToken | None) -> str:
        try:
            new = await self._get(held)
        except LamellaError as error:
            if held is not None:
                return held.value  # it holds for a while yet
            mine.error = error
            raise
        else:
            with self._lock:
                self._token = new
            return new.value
        finally:
            with self._lock:
                if self._asking is mine:
                    self._asking = None
                waiting, mine.waiting = mine.waiting, []
            for waiter in waiting:
                waiter.wake()
