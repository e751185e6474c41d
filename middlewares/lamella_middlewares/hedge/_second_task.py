"""The task of the second copy: started by a timer, and never outliving the race."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Generic, TypeVar

import anyio

from lamella import Response
from lamella._closing import CLEANUP_SECONDS
from lamella._loops import current_loop

R = TypeVar("R", bound=Response)


class SecondTask(Generic[R]):
    """Runs the second copy, and keeps what came of it until somebody takes it.

    Args:
        send: Sends it.
        settled: Told, at once, that there is something to raise or to return.

    Attributes:
        error: How it failed.
        stop: What ended it and is no error: what a host framework steers with, or Ctrl-C.
    """

    def __init__(self, send: Callable[[], Awaitable[R]], settled: Callable[[], object]) -> None:
        self._send = send
        self._settled = settled
        self._scope = anyio.CancelScope()
        self._over = anyio.Event()
        self._unwanted = False
        self._answer: R | None = None
        self.error: Exception | None = None
        self.stop: BaseException | None = None

    def start(self, variables: Context) -> None:
        """Start it on the running loop, with these context variables."""
        current_loop().spawn(self._run, "lamella hedge", variables)

    async def _run(self) -> None:
        try:
            if self._unwanted:
                return  # the first copy has just won: nothing is sent for nothing
            with self._scope:
                answer = await self._send()
                if self._unwanted:
                    await answer.aclose()
                else:
                    self._answer = answer
                    self._settled()
        except Exception as error:  # noqa: BLE001 - its attempt has it; the first copy's counts
            self.error = error
        except anyio.get_cancelled_exc_class():
            raise  # the whole loop is ending
        except BaseException as stop:  # noqa: BLE001 - raised where the call runs
            self.stop = stop
            self._settled()
        finally:
            self._over.set()

    @property
    def settled(self) -> bool:
        """Whether there is something to raise or to return."""
        return self._answer is not None or self.stop is not None

    async def wait(self) -> None:
        """Wait until it is over, well or not."""
        await self._over.wait()

    def take(self) -> R | None:
        """Its answer, once; None if there is none."""
        if self.stop is not None:
            raise self.stop
        answer, self._answer = self._answer, None
        return answer

    def cancel(self) -> None:
        """Nobody wants it any more: it closes whatever it is still going to have."""
        self._unwanted = True
        self._scope.cancel()

    async def end(self) -> None:
        """Cancel it, wait for its end, and close the answer that it has already."""
        self.cancel()
        answer, self._answer = self._answer, None
        interruption: BaseException | None = None
        if not self._over.is_set():
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True) as scope:
                while not self._over.is_set():
                    try:
                        await self._over.wait()
                    except BaseException as error:
                        if scope.cancel_called:
                            raise  # it takes too long to end
                        # Task.cancel() of asyncio goes through shields; the end is near, though.
                        interruption = interruption or error
        if answer is not None:
            await answer.aclose()
        if interruption is not None:
            raise interruption
