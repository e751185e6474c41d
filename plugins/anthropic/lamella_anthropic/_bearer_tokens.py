"""Tokens that expire: fetched once for all who wait, and renewed before their time.

A token is renewed by the first request that finds it near its end, while others go on with it; one
that has ended is waited for. Renewal that fails, or that takes long, is no error as long as the
token holds.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import attrs

from lamella._errors import LamellaError
from lamella._fork_locks import fork_safe_lock
from lamella._loops import Waiter
from lamella._ports import default_ports

RENEW_SECONDS: Final = 120.0
"""How long before its end a token is renewed."""

LEAST_SECONDS: Final = 30.0
"""A token with less than this left is not used any more: the request has to arrive, too."""

PATIENCE_SECONDS: Final = 5.0
"""How long a request waits for a renewal while the token holds."""

CALM_SECONDS: Final = 5.0
"""After a renewal that failed, the next one waits this long while the token holds."""


@attrs.frozen
class AccessToken:
    """A token, and when it ends.

    Attributes:
        value: The token itself.
        expires: Seconds since the epoch.
    """

    value: str = attrs.field(repr=False)
    expires: float


class BearerTokens:
    """The token of one transport, for all its event loops and threads.

    Args:
        fetch: Gets a new one.
        wall: Seconds since the epoch; None for the system's clock.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[AccessToken]],
        *,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._fetch = fetch
        self._wall = wall or default_ports().wall
        self._lock = fork_safe_lock()
        self._token: AccessToken | None = None
        self._waiting: list[Waiter] = []
        self._busy = False
        self._calm_until = 0.0

    async def token(self) -> str:
        """A token that holds.

        Raises:
            LamellaError: If none can be had.
        """
        while True:
            with self._lock:
                known = self._token
                left = -1.0 if known is None else known.expires - self._wall()
                if known is not None and self._good(left):
                    return known.value
                if not self._busy:
                    self._busy = True
                    break
                if known is not None and left > LEAST_SECONDS:
                    return known.value
            waiter = Waiter()
            with self._lock:
                if self._busy:
                    self._waiting.append(waiter)
                else:
                    waiter.wake()
            await waiter.wait()
        return await self._renewed(known if left > LEAST_SECONDS else None)

    def forget(self) -> None:
        """Drop the token, which the provider did not take."""
        with self._lock:
            self._token = None

    def _good(self, left: float) -> bool:
        calm = left > LEAST_SECONDS and self._wall() < self._calm_until
        return left > RENEW_SECONDS or calm

    async def _renewed(self, known: AccessToken | None) -> str:
        kept = known
        patience = math.inf if known is None else PATIENCE_SECONDS
        try:
            with anyio.move_on_after(patience):
                kept = await self._fetch()
        except LamellaError:
            if known is None:
                raise
        finally:
            if kept is known:
                self._calm_until = self._wall() + CALM_SECONDS
            with self._lock:
                self._busy = False
                self._token = kept
                waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter.wake()
        assert kept is not None  # noqa: S101 - what failed without one has raised
        return kept.value
