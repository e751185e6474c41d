"""What a store that did not answer has yet to be told: ends of leases, in the background."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import anyio
import attrs

from lamella._fork_locks import fork_safe_lock
from lamella._loops import Loop, current_loop

logger = logging.getLogger("lamella")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0

Tell = Callable[[str, "tuple[int, ...] | None"], Awaitable[bool]]
"""Settles a lease with these amounts, or refunds it (None); whether the store has heard it."""


@attrs.define
class _Ending:
    """How a lease has ended.

    Attributes:
        amounts: What it was settled with; None if it was refunded.
        until: The instant after which it is too old.
        lasting: The process for which it never is; 0 for none.
    """

    amounts: tuple[int, ...] | None
    until: float
    lasting: int = 0


@attrs.frozen(eq=False)
class _Teller:
    loop: Loop
    scope: anyio.CancelScope
    process: int


class Arrears:
    """Ends of leases that the store has not heard of.

    A task on the loop of whoever adds the first tells them, in order, until all are told. One that
    is too old is dropped, unless it lasts: its lease expires by itself. A forked child tells what
    it knows as well, which changes nothing.

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
        self._warned = False

    def __len__(self) -> int:
        return len(self._endings)

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._endings

    def add(self, lease_id: str, amounts: tuple[int, ...] | None, *, lasts: bool = False) -> None:
        """Let the store be told that a lease was settled, or refunded (None).

        The first end of a lease counts, as it does in the store. One that `lasts` does not get too
        old in this process, until there is a `doubt`.
        """
        process = os.getpid() if lasts else 0
        with self._lock:
            until = self._monotonic() + self._patience
            self._endings.setdefault(lease_id, _Ending(amounts, until, process))
            lost = len(self._endings) > self._most and self._drop()
        self._warn(lost=lost)
        self._start()

    def doubt(self, lease_id: str) -> None:
        """The store may have been told already, which it does not remember for long."""
        with self._lock:
            ending = self._endings.get(lease_id)
            if ending is not None and ending.lasting:
                ending.lasting = 0
                ending.until = self._monotonic() + self._patience

    async def tell(self) -> None:
        """Tell what is left, in order, until the store does not answer."""
        while (first := self._first()) is not None:
            lease_id, ending = first
            if not await self._tell(lease_id, ending.amounts):
                return
            with self._lock:
                if self._endings.get(lease_id) is ending:
                    del self._endings[lease_id]

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
            before = len(self._endings)
            await self.tell()
            with self._lock:
                if not self._endings:
                    self._teller = None
                    self._warned = False
                    return
                pause = min(_LONGEST_PAUSE, 2 * pause)
                if len(self._endings) < before:
                    pause = _FIRST_PAUSE

    def _first(self) -> tuple[str, _Ending] | None:
        """The oldest that is not too old."""
        lost, found = False, None
        with self._lock:
            now, process = self._monotonic() if self._endings else 0.0, os.getpid()
            while self._endings:
                lease_id, ending = next(iter(self._endings.items()))
                if ending.until > now or ending.lasting == process:
                    found = lease_id, ending
                    break
                lost = self._drop() or lost
        self._warn(lost=lost)
        return found

    def _drop(self) -> bool:
        """Forget the oldest; whether what was used of its lease is not counted for it."""
        _, ending = self._endings.popitem(last=False)
        return ending.amounts is not None

    def _warn(self, *, lost: bool) -> None:
        if lost and not self._warned:
            self._warned = True
            logger.warning(
                "a lease store did not hear in time how leases have ended: what they have used may "
                "not be counted"
            )
