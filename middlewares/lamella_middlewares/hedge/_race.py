"""One call that may be sent twice: the first copy, the second if it comes to that, one answer.

The first copy runs where the call runs, under a cancel scope that ends when it returns; a timer
starts the second in a task of its own. A call that begins in time pays for no task, and for no
further round of the event loop. The two tasks are as strict as a task group: the race is not over
before the second copy is, whoever has won and however the call ends, and no group of exceptions
leaves it.
"""

from __future__ import annotations

import logging
import math
from contextvars import Context as Variables
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from lamella import (
    DeadlineExceeded,
    LamellaError,
    OpenAttempt,
    OverloadedError,
    RateLimitError,
    Request,
    Response,
)
from lamella._watchdog import Alarm
from lamella_middlewares.hedge._second_copy import SecondCopy, second_copy
from lamella_middlewares.hedge._second_task import SecondTask

if TYPE_CHECKING:
    from lamella import Handler
    from lamella_middlewares.hedge._first_events import FirstEvents
    from lamella_middlewares.hedge._load import Load
    from lamella_middlewares.hedge._middleware import Hedge

R = TypeVar("R", bound=Response)

logger = logging.getLogger("lamella")

LONGEST_PAUSE = 3600.0
"""Seconds; a provider that asks for less for longer is taken to mean an hour."""

SOON = 0.001
"""Seconds; a timer that is early by less than that is in time."""


class Race(Generic[R]):
    """One call.

    Args:
        hedge: The options.
        request: What is asked.
        call_next: Where the copies go.
        times: How long answers took to begin lately.
        load: What has been sent twice lately.
    """

    __slots__ = ("_alarm", "_began", "_call_next", "_context", "_delay", "_first", "_hedge",
                 "_load", "_request", "_second", "_times", "_used", "_variables")  # fmt: skip

    def __init__(
        self, hedge: Hedge, request: Request[R], call_next: Handler, times: FirstEvents, load: Load
    ) -> None:
        self._hedge = hedge
        self._request = request
        self._call_next = call_next
        self._times = times
        self._load = load
        self._context = request.context
        self._began = self._context.trace.now()
        self._used = self._context.bound.used
        self._variables: Variables | None = None
        self._first: anyio.CancelScope | None = None  # while the first copy is under way
        self._second: SecondTask[R] | None = None
        self._alarm: Alarm | None = None
        self._delay = 0.0

    async def run(self, delay: float | None) -> R:
        """The answer of whichever copy returns first.

        Args:
            delay: Seconds that the first copy's attempt may take to begin. None waits for ever.

        Raises:
            Exception: What the first copy raised, if no copy has an answer.
        """
        response: R | None = None
        failure: Exception | None = None
        try:
            if delay is None:
                response = await self._call_next(self._request)
            else:
                response = await self._watched(delay)
        except Exception as error:  # noqa: BLE001 - raised below, unless the second copy answers
            failure = error
        except GeneratorExit:
            if self._second is not None:
                self._second.cancel()  # nothing can be waited for any more
            raise
        except BaseException:
            if self._second is not None:
                await self._second.end()
            raise
        if failure is not None or self._context.bound.used > self._used + 1:
            self._heed_all(failure)
        if response is not None:
            if self._second is not None:
                await self._first_won(response, self._second)
            self._times.learn(response, self._context.ports.monotonic())
            return response
        if failure is not None:
            return await self._first_failed(failure)
        return self._second_won()

    async def _watched(self, delay: float) -> R | None:
        """The first copy's answer; None if the second has made an end of it."""
        self._delay = delay
        self._variables = copy_context()
        self._alarm = alarm = Alarm(self._look)
        response: R | None = None
        with self._context.call.loop.scope() as scope:
            self._first = scope
            alarm.arm(delay)
            try:
                response = await self._call_next(self._request)
            finally:
                self._first = None
                alarm.disarm()
        return response

    # --- starting the second copy --------------------------------------------------------------

    def _look(self) -> None:
        """The first copy has had its time: send the second, look again later, or leave it."""
        alarm = self._alarm
        if self._first is None or alarm is None:
            return
        mine = self._attempts()
        last = mine[-1] if mine else None
        if last is None or last.end is not None:
            # It waits for its turn here, or between two tries: a second copy would wait with it.
            alarm.arm(self._delay)
            return
        if last.first_event is not None:
            return  # it has begun; a layer inside reads ahead, or the caller wants it whole
        early = self._delay - (self._context.trace.now() - last.start)
        if early > SOON:
            alarm.arm(early)
            return
        copy = self._copy(self._delay)
        if copy is not None:
            self._second = SecondTask(lambda: copy.send(self._call_next), self._cancel_first)
            self._second.start(self._variables or copy_context())

    def _cancel_first(self) -> None:
        if self._first is not None:
            self._first.cancel()

    def _attempts(self) -> list[OpenAttempt]:
        """The first copy's, as they are now."""
        other = f"{self._context.branch}/hedge2"
        return [attempt for attempt in self._of_both() if not attempt.branch.startswith(other)]

    def _of_both(self) -> list[OpenAttempt]:
        """The attempts of both copies, as they are now."""
        branch = self._context.branch
        return [
            attempt
            for attempt in self._context.trace.of_turn(self._context.bound)
            if attempt.start >= self._began
            and (attempt.branch == branch or attempt.branch.startswith(f"{branch}/"))
        ]

    def _copy(self, least: float) -> SecondCopy | None:
        """The second copy, counted and noted; None, with a note, if there must be none."""
        context = self._context
        try:
            copy = second_copy(self._hedge, self._request)
        except Exception as error:
            # Nobody awaits this, and the first copy needs no second one.
            logger.exception("Hedge could not make the second copy of a request")
            context.note("hedge", "hedge.skipped", why=type(error).__name__)
            return None
        why = copy.why or self._refusal(least)
        if why is not None:
            context.note("hedge", "hedge.skipped", why=why)
            return None
        fields: dict[str, Any] = {} if copy.target is None else {"target": copy.target.name}
        context.note("hedge", "hedge.sent", after=context.trace.now() - self._began, **fields)
        return copy

    def _refusal(self, least: float) -> str | None:
        """Why there must be no second copy now; None if there may be, and it has been counted."""
        context = self._context
        if self._heed_all():
            return "pushback"  # this very call was told to send less
        if context.left() < least:
            return "deadline"
        if context.bound.left <= 0:
            return "attempt bound"
        return self._load.take(context.ports.monotonic())

    def _heed_all(self, failure: Exception | None = None) -> bool:
        """Heed what the tries have met, those too that a layer inside has made good.

        Returns:
            Whether the provider has asked for less.
        """
        now = self._context.trace.now()
        met = [(one.error, now - one.end) for one in self._of_both() if one.end is not None]
        heeded = [self._heed(error, ago) for error, ago in (*met, (failure, 0.0))]
        return any(heeded)

    def _heed(self, error: BaseException | None, ago: float = 0.0) -> bool:
        """Send nothing twice for a while if the provider asked for less, so many seconds ago."""
        if not isinstance(error, RateLimitError | OverloadedError):
            return False
        asked = error.retry_after
        seconds = asked if asked is not None and 0 < asked < math.inf else 0.0
        seconds = max(self._hedge.pause, min(seconds, LONGEST_PAUSE))
        self._load.pause(self._context.ports.monotonic() - ago, seconds)
        return True

    # --- the end -------------------------------------------------------------------------------

    async def _first_won(self, response: R, second: SecondTask[R]) -> None:
        try:
            await second.end()
        except BaseException:
            await response.aclose()
            raise
        self._heed(second.error)
        self._over("first")

    def _second_won(self) -> R:
        assert self._second is not None  # noqa: S101 - nothing else makes an end of the first
        answer = self._second.take()
        assert answer is not None  # noqa: S101 - with one it has made an end of the first
        self._over("second")
        mine = self._attempts()
        if mine:  # it took at least so long, and without it the delay would shrink and shrink
            seconds = self._context.trace.now() - mine[-1].start
            self._times.add(self._context.ports.monotonic(), seconds)
        return answer

    async def _first_failed(self, failure: Exception) -> R:
        elsewhere = isinstance(failure, LamellaError) and failure.elsewhere
        second = self._second
        if second is None:
            if elsewhere and self._hedge.on_failure:
                return await self._in_its_place(failure)
            raise failure
        if elsewhere and not second.settled:
            try:
                await self._context.wait(second.wait, what="a second copy was awaited")
            except DeadlineExceeded:
                pass  # both have failed, and what the first one met says more
            except BaseException:
                await second.end()
                raise
        if second.settled:
            return self._second_won()
        await second.end()
        self._heed(second.error)
        self._over("neither")
        raise failure

    async def _in_its_place(self, failure: Exception) -> R:
        """The first copy has failed, and there is no second: send it now."""
        copy = self._copy(self._delay)
        if copy is None:
            raise failure
        try:
            answer: R = await copy.send(self._call_next)
        except Exception as error:  # noqa: BLE001 - its attempt has it; the first copy's counts
            self._heed(error)
        else:
            self._over("second")
            return answer
        self._over("neither")
        raise failure

    def _over(self, winner: str) -> None:
        self._context.note("hedge", "hedge.over", winner=winner)
