"""What a store that did not answer has yet to be told: ends of leases, in the background."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import anyio
import attrs

from lamella._fork_locks import fork_safe_lock
from lamella._loops import Loop, current_loop

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0

Tell = Callable[[str, "tuple[int, ...] | None"], Awaitable[bool]]
"""Settles a lease with these amounts, or refunds it (None); whether the store has heard it."""


@attrs.define
class _Ending:
    amounts: tuple[int, ...] | None
    until: float


@attrs.frozen(eq=False)
class _Teller:
    loop: Loop
    scope: anyio.CancelScope
    process: int


class Arrears:
    """Ends of leases that the store has not heard of.

    A task on the loop of whoever adds the first tells them, in order, until all are told. One that
    is too old is dropped: its lease expires by itself. A forked child tells what it knows as well,
    which changes nothing.

    Args:
        tell: Tells the store one.
        most: How many are kept; beyond that the oldest is dropped.
        patience: Seconds for which one is kept.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self, tell: Tell, *, most: int, patience: float, monotonic: Callable[[], float]
    ) -> None:
        self._tell = tell
        self._most = most
        self._patience = patience
        self._monotonic = monotonic
        self._lock = fork_safe_lock()
        self._endings: OrderedDict[str, _Ending] = OrderedDict()
        self._teller: _Teller | None = None

    def __len__(self) -> int:
        return len(self._endings)

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._endings

    def add(self, lease_id: str, amounts: tuple[int, ...] | None) -> None:
        """Let the store be told that a lease was settled, or refunded (None).

        The first end of a lease counts, as it does in the store.
        """
        with self._lock:
            until = self._monotonic() + self._patience
            self._endings.setdefault(lease_id, _Ending(amounts, until))
            if len(self._endings) > self._most:
                self._endings.popitem(last=False)
        self._start()

    def resume(self) -> None:
        """Go on with what is left, if the loop or process of whoever told is no more."""
        if self._endings:
            self._start()

    def stop(self) -> None:
        """Tell nothing any more. What is left expires."""
        with self._lock:
            self._endings.clear()
            teller, self._teller = self._teller, None
        if teller is not None:
            teller.loop.call_soon(teller.scope.cancel)

    def _start(self) -> None:
        try:
            loop = current_loop()
        except (
            RuntimeError
        ):  # what was under way is dropped after its loop: the next answer resumes
            return
        busy, process = self._teller, os.getpid()
        if busy is not None and busy.process == process and not busy.loop.closed:
            return
        scope = anyio.CancelScope()
        with self._lock:
            if self._teller is not busy:  # another thread was quicker
                return
            self._teller = mine = _Teller(loop, scope, process)

        async def run() -> None:
            try:
                with scope:
                    await self._tell_all()
            finally:
                with self._lock:
                    if self._teller is mine:
                        self._teller = None

        loop.spawn(run, "lamella lease arrears")

    async def _tell_all(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await anyio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)
            while (first := self._first()) is not None:
                lease_id, ending = first
                if not await self._tell(lease_id, ending.amounts):
                    break
                pause = _FIRST_PAUSE
                with self._lock:
                    if self._endings.get(lease_id) is ending:
                        del self._endings[lease_id]
            with self._lock:
                if not self._endings:
                    self._teller = None
                    return

    def _first(self) -> tuple[str, _Ending] | None:
        """The oldest that is not too old."""
        with self._lock:
            now = self._monotonic() if self._endings else math.inf
            while self._endings:
                lease_id, ending = next(iter(self._endings.items()))
                if ending.until > now:
                    return lease_id, ending
                del self._endings[lease_id]
            return None
