"""Ctrl-C and SIGTERM: the work under way is cancelled, cleans up, and has a bounded time for it.

The event loop's own handling would end the whole program. Here a signal cancels the innermost scope
that has asked for it: in a conversation Ctrl-C stops the answer and nothing else.
"""

from __future__ import annotations

import os
import signal
import threading  # noqa: TID251 - the bound must hold even while the event loop is blocked
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio

from lamella._loops import Loop, current_loop
from lamella.cli._errors import exit_code_of_signal

if TYPE_CHECKING:
    import asyncio  # noqa: TID251 - as below

T = TypeVar("T")

Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | None

GRACE_SECONDS = 5.0
"""How long cleaning up may take after the first signal. Then the process ends as it is."""


class Terminated(BaseException):
    """Raised when SIGTERM has ended the work, as `KeyboardInterrupt` is by Ctrl-C."""


class Interrupts:
    """What signals do while an event loop runs. Made by `run`.

    Attributes:
        received: The first signal that came; None before.
        ending: Whether the whole work is being cancelled.
    """

    def __init__(self, loop: Loop, whole: anyio.CancelScope) -> None:
        self._loop = loop
        self._scopes = [whole]
        self._timer: threading.Timer | None = None
        self._drain: Callable[[], object] | None = None
        self._bound = GRACE_SECONDS
        self.received: int | None = None
        self.ending = False

    @contextmanager
    def stopping(self) -> Generator[anyio.CancelScope, None, None]:
        """Within the block Ctrl-C cancels the block, and not the program."""
        with anyio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                yield scope
            finally:
                self._scopes.remove(scope)

    @contextmanager
    def draining(self, begin: Callable[[], object], *, bound: float) -> Generator[None, None, None]:
        """Within the block the first signal lets work end by itself, and the second cancels it.

        Args:
            begin: Called on the event loop after the first signal: it begins nothing more.
            bound: Seconds from then until the process ends as it is, cleaning up included.
        """
        self._drain, self._bound = begin, bound
        try:
            yield
        finally:
            self._drain, self._bound = None, GRACE_SECONDS

    def handle(self, number: int, _: FrameType | None) -> None:
        """Take a signal. Another one, while the work is being cancelled, ends at once."""
        inner = len(self._scopes) > 1 and number == signal.SIGINT
        if inner and not self._scopes[-1].cancel_called:
            self._loop.call_soon(self._scopes[-1].cancel)
            return
        if self.ending:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated
        if self.received is None:
            self.received = number
            code = exit_code_of_signal(number)
            self._timer = threading.Timer(self._bound, os._exit, [code])
            self._timer.daemon = True
            self._timer.start()
            if self._drain is not None:
                self._loop.call_soon(self._drain)
                return
        self.ending = True
        self._loop.call_soon(self._scopes[0].cancel)

    def done(self) -> None:
        """The work has ended: nothing is to be bounded any more."""
        if self._timer is not None:
            self._timer.cancel()


def run(work: Callable[[Interrupts], Awaitable[T]]) -> T:
    """Run asynchronous work to its end, or until a signal.

    Args:
        work: Given the `Interrupts`, in case part of it may be stopped alone.

    Raises:
        KeyboardInterrupt: After Ctrl-C, once the work has cleaned up.
        Terminated: After SIGTERM, likewise.
    """

    async def main() -> T:
        scope = anyio.CancelScope()
        interrupts = Interrupts(current_loop(), scope)
        with scope, _handled_by(interrupts):
            return await work(interrupts)
        raise KeyboardInterrupt if interrupts.received == signal.SIGINT else Terminated

    return anyio.run(main, backend="asyncio")


@contextmanager
def _handled_by(interrupts: Interrupts) -> Generator[None, None, None]:
    import asyncio  # noqa: TID251 - which `run` has chosen

    loop = asyncio.get_running_loop()
    before: dict[int, Handler] = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere signals cannot be taken
        before = {
            number: _taken(number, interrupts.handle, loop)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
    try:
        yield
    finally:
        interrupts.done()
        for number, handler in before.items():
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _taken(
    number: int,
    handler: Callable[[int, FrameType | None], Any],
    loop: asyncio.AbstractEventLoop,
) -> Handler:
    """Have a signal handled, also one that comes just before the loop waits; by what it was before.

    Python runs handlers between two of its instructions, and the loop's whole wait is one: the loop
    has to be woken. It is for signals that it handles itself, and on Windows for all.
    """
    before: Handler = signal.getsignal(number)
    with suppress(NotImplementedError):
        loop.add_signal_handler(number, _nothing)
    signal.signal(number, handler)
    return before


def _nothing() -> None:
    """What the loop itself does about a signal."""
