"""What a source gives for a reference, kept for all of this process who hold that reference.

A source is asked by one at a time, in a task that belongs to none of those who wait, so that a
caller who gives up takes nothing from the others. A value that is near its end is renewed while it
is still used; one that has ended is used on while the source fails, within bounds.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import anyio
import attrs

from lamella._errors import LamellaError, SecretError
from lamella._fork_locks import fork_safe_lock
from lamella._local_state import LocalObjects
from lamella._loops import Loop, Waiter, current_loop
from lamella._revealed import revealed_values

if TYPE_CHECKING:
    from lamella._ports import Ports

SecretSource: TypeAlias = Callable[[str], str | Awaitable[str]]
"""What a plugin contributes for a scheme: it is given what stands behind the colon."""

ASK_SECONDS: Final = 30.0
"""How long a source may take; after that it counts as failed."""

PATIENCE_SECONDS: Final = 1.0
"""How long a caller waits for a new value when an earlier one can be used."""

REFUSED_PATIENCE_SECONDS: Final = 5.0
"""How long a caller waits for a new value when the earlier one was refused."""

CALM_SECONDS: Final = 5.0
"""How long a source is left alone after it has failed while an earlier value is used, and after it
has confirmed a value that a provider refuses."""

FAILED_SECONDS: Final = 1.0
"""For how long a failure is everybody's when there is no value at all."""

AHEAD: Final = (0.7, 0.9)
"""The part of its time after which a value is renewed, at random in between: processes that began
together do not ask together."""

GONE: Final = "gone"
"""The `code` of a source's `SecretError` that says that there is no such secret any more: then the
earlier value is not used on."""

LARGEST: Final = 1 << 20
LINE_ENDS: Final = "\r\n"
"""What editors, and tools that store keys, leave behind a value."""

_MOST_LOST: Final = 3
"""After so many askings that were cancelled from outside, a caller gives up: a source whose own
work was cancelled looks like an event loop that ends."""

_MOST_VALUES: Final = 1_024
_STUCK_SECONDS: Final = ASK_SECONDS + 5.0


def hidden(value: str) -> Callable[[], str]:
    """A value inside a function, where what walks over attributes finds no text."""
    return lambda: value


def is_text(value: object) -> bool:
    """Whether it is a string that is not empty."""
    return isinstance(value, str) and value != ""


@attrs.frozen
class Terms:
    """How one `Secret` wants its value.

    Attributes:
        ttl: Seconds for which it is kept.
        stale_for: Seconds after those for which it is used on while the source fails.
    """

    ttl: float
    stale_for: float


class Kept:
    """A value that a source gave."""

    __slots__ = ("ahead", "doubted", "taken", "tell")

    def __init__(self, value: str, taken: float, ahead: float) -> None:
        self.tell = hidden(value)
        self.taken = taken
        self.ahead = ahead
        self.doubted = False

    def is_fresh(self, now: float, terms: Terms) -> bool:
        return not self.doubted and now < self.taken + terms.ttl

    def is_usable(self, now: float, terms: Terms) -> bool:
        return now < self.taken + terms.ttl + terms.stale_for


class Flight:
    """One asking of the source, and who waits for it."""

    __slots__ = ("begun", "done", "doubts", "error", "kept", "loop", "process", "waiting")

    def __init__(self, begun: float, doubts: int, loop: Loop | None) -> None:
        self.begun = begun
        self.doubts = doubts
        self.loop = loop
        self.process = os.getpid()
        self.waiting: list[Waiter] = []
        self.done = False
        self.kept: Kept | None = None
        self.error: SecretError | None = None

    def is_lost(self, now: float) -> bool:
        """Whether nobody can bring it to its end: a fork's parent, a closed loop, a lost thread."""
        if self.process != os.getpid() or now >= self.begun + _STUCK_SECONDS:
            return True
        return self.loop is not None and self.loop.closed


class SourcedValue:
    """The value of one reference. Thread-safe.

    Args:
        source: Who is asked.
        reference: The whole reference, for messages.
        clock: Monotonic seconds: that of the ports of all who ask.

    Attributes:
        problem: Why the source could not be asked the last time; None if it could.
    """

    __slots__ = ("_calm_until", "_doubts", "_flight", "_kept", "_lock", "_reference", "_source",
                 "_sure_until", "clock", "problem")  # fmt: skip

    def __init__(self, source: SecretSource, reference: str, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._source = source
        self._reference = reference
        self._lock = fork_safe_lock()
        self._kept: Kept | None = None
        self._flight: Flight | None = None
        self._doubts = 0
        self._calm_until = self._sure_until = -math.inf
        self.problem: SecretError | None = None

    def settled(self, now: float, terms: Terms) -> str | None:
        """The value, if nobody has to be asked, not even for the next one; None otherwise."""
        kept = self._kept
        if kept is None or not kept.is_fresh(now, terms) or self._is_due(kept, now, terms):
            return None
        return kept.tell()

    def _is_due(self, kept: Kept, now: float, terms: Terms) -> bool:
        """Whether a value that still holds is to be renewed."""
        return now >= max(kept.taken + terms.ttl * kept.ahead, self._calm_until)

    def invalidate(self, value: str | None, now: float) -> None:
        """Have the source asked again by the next who wants a value.

        Args:
            value: The value that was refused. Nothing happens if there is another one by now, or
                if the source has just said that it is the right one. None is any, at once.
            now: The monotonic instant, in seconds.
        """
        with self._lock:
            kept = self._kept
            if value is None:
                self._calm_until = -math.inf
            # What was sent is without the spaces around it; what is kept may have them.
            elif kept is None or kept.tell().strip() != value.strip() or now < self._sure_until:
                return
            self._doubts += 1
            if kept is not None:
                kept.doubted = True

    # --- asked by tasks ----------------------------------------------------------------------

    async def fetch(self, terms: Terms, ports: Ports) -> str:
        """The value.

        Raises:
            SecretError: If there is none.
        """
        lost = 0
        while True:
            now = ports.monotonic()
            kept = self._kept
            if kept is not None and kept.is_fresh(now, terms):
                if self._is_due(kept, now, terms):
                    self._join(terms, ports, now)
                return kept.tell()
            if now < self._calm_until and self.problem is not None:
                return self._instead(now, terms, self.problem)
            earlier = kept if kept is not None and kept.is_usable(now, terms) else None
            patience = self._patience(earlier)
            flight, waiter = self._join(terms, ports, now, patience)
            if waiter is not None:
                with anyio.move_on_after(flight.begun + patience - now):
                    await waiter.wait()
            if flight.error is not None:
                return self._instead(ports.monotonic(), terms, flight.error)
            if flight.kept is not None and not flight.kept.doubted:
                return flight.kept.tell()
            if earlier is not None and not flight.done:
                return earlier.tell()
            lost += flight.done and flight.kept is None
            if lost == _MOST_LOST:
                return self._instead(ports.monotonic(), terms, self._cancelled())

    def _patience(self, earlier: Kept | None) -> float:
        """Seconds to wait for a new value, from when the source was asked."""
        if earlier is None:
            return _STUCK_SECONDS
        # Once the source has failed to give another, a refused one is used on like any.
        refused = earlier.doubted and self.problem is None
        return REFUSED_PATIENCE_SECONDS if refused else PATIENCE_SECONDS

    def _instead(self, now: float, terms: Terms, problem: SecretError) -> str:
        """The earlier value, while the source fails.

        Raises:
            SecretError: `problem`, if there is none, or it is too old.
        """
        kept = self._kept
        if kept is not None and kept.is_usable(now, terms):
            return kept.tell()
        raise problem.copy().with_traceback(None)

    def _join(
        self, terms: Terms, ports: Ports, now: float, patience: float = 0.0
    ) -> tuple[Flight, Waiter | None]:
        """The flight that is under way, or a new one; and what ends when it does.

        Args:
            terms: As for `fetch`.
            ports: As for `fetch`.
            now: The monotonic instant, in seconds.
            patience: Seconds to wait, from its beginning; if they are over, nobody waits.
        """
        loop = current_loop()
        waiter = Waiter() if patience > 0 else None
        with self._lock:
            flight, begins = self._flight, False
            if flight is None or flight.is_lost(now):
                flight, begins = Flight(now, self._doubts, loop), True
                self._flight = flight
            if waiter is not None and now < flight.begun + patience:
                flight.waiting.append(waiter)
            else:
                waiter = None
        if begins:
            mine = flight

            async def fly() -> None:
                await self._fly(mine, terms, ports)

            try:
                loop.spawn(fly, "lamella secret", Context())
            except BaseException:
                self._land(mine, terms, now)
                raise
        return flight, waiter

    async def _fly(self, flight: Flight, terms: Terms, ports: Ports) -> None:
        try:
            with anyio.move_on_after(ASK_SECONDS):
                flight.kept = self._checked(await self._ask(ports), flight.begun, ports)
            if flight.kept is None:
                flight.error = self._too_slow()
        except (anyio.get_cancelled_exc_class(), KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - a stranger's source may raise anything
            flight.error = failed(error, self._reference)
        finally:
            self._land(flight, terms, ports.monotonic())

    async def _ask(self, ports: Ports) -> object:
        source, rest = self._source, self._reference.partition(":")[2]
        # A plain function may block: it reads a file, or waits for a server.
        found: object = (
            source(rest) if _is_async(source) else await ports.thread(cast("Any", source), rest)
        )
        return await found if inspect.isawaitable(found) else found

    def _land(self, flight: Flight, terms: Terms, now: float) -> None:
        """What a flight has brought is everybody's. One that was cancelled has brought nothing."""
        with self._lock:
            if self._flight is flight:
                self._flight = None
            if flight.kept is not None:
                self._take(flight.kept, flight.doubts, now)
            elif flight.error is not None:
                self._give_up(flight.error, terms, now)
            flight.done = True
            waiting, flight.waiting = flight.waiting, []
        for waiter in waiting:
            waiter.wake()

    def _take(self, new: Kept, doubts: int, now: float) -> None:
        old = self._kept
        if old is not None and old.taken > new.taken:
            return  # who was thought lost has come late
        if old is not None and old.doubted and old.tell() == new.tell():
            # The value that was refused. Asked before that was known, it says nothing.
            new.doubted = doubts != self._doubts
            self._sure_until = now + CALM_SECONDS
        self._kept, self.problem, self._calm_until = new, None, -math.inf

    def _give_up(self, error: SecretError, terms: Terms, now: float) -> None:
        if error.code == GONE:
            self._kept = None
        calm = FAILED_SECONDS if self._kept is None else CALM_SECONDS
        self.problem, self._calm_until = error, now + min(calm, terms.ttl)

    # --- asked by plain code -----------------------------------------------------------------

    def reveal(self, terms: Terms, ports: Ports) -> str:
        """The value, by asking a plain source in place.

        Raises:
            SecretError: If there is none, or the source can only be awaited.
        """
        now = ports.monotonic()
        kept = self._kept
        if kept is not None and kept.is_fresh(now, terms):
            return kept.tell()
        if now < self._calm_until and self.problem is not None:
            return self._instead(now, terms, self.problem)
        if _is_async(self._source):
            return self._instead(now, terms, self._asynchronous())
        mine = Flight(now, self._doubts, None)
        try:
            found: object = self._source(self._reference.partition(":")[2])
            if not inspect.isawaitable(found):
                mine.kept = self._checked(found, now, ports)
            elif inspect.iscoroutine(found):
                found.close()
        except Exception as error:  # noqa: BLE001 - as in `_fly`
            mine.error = failed(error, self._reference)
        self._land(mine, terms, ports.monotonic())
        if mine.kept is not None:
            return mine.kept.tell()
        return self._instead(now, terms, mine.error or self._asynchronous())

    def _asynchronous(self) -> SecretError:
        msg = f"The source of {_shown(self._reference)} is asynchronous."
        return SecretError(msg, hint="Use `await secret.fetch()`.")

    # --- what came ---------------------------------------------------------------------------

    def _checked(self, found: object, taken: float, ports: Ports) -> Kept:
        value = found.rstrip(LINE_ENDS) if isinstance(found, str) else ""
        if 0 < len(value) <= LARGEST:
            least, most = AHEAD
            return Kept(value, taken, least + (most - least) * ports.random.random())
        state = f"gave more than {LARGEST} characters" if value else "gave no text"
        del found, value  # what shows tracebacks with their variables shows none
        msg = f"The source of {_shown(self._reference)} {state}."
        raise SecretError(msg, hint="Look whether the secret exists there and is not empty.")

    def _cancelled(self) -> SecretError:
        msg = f"The source of {_shown(self._reference)} was cancelled whenever it was asked."
        hint = "Look at what it waits for."
        return SecretError(msg, hint=hint, retryable=True, elsewhere=True)

    def _too_slow(self) -> SecretError:
        msg = f"The source of {_shown(self._reference)} did not answer in {ASK_SECONDS:g} s."
        hint = "Look whether it can be reached from here."
        return SecretError(msg, hint=hint, retryable=True, elsewhere=True)


def failed(error: BaseException, reference: str) -> SecretError:
    """The error of a source that failed: without a value, a stranger's words, or its variables."""
    kind = type(error).__name__
    hint = "Look whether it can be reached and allows this program in."
    retryable = False
    if isinstance(error, LamellaError):
        # Ours do not repeat what a source said. A plugin's might, if it was not careful.
        if any(value in str(error) for value in revealed_values()):
            msg = f"The source of {_shown(reference)} failed with {kind}."
            return SecretError(msg, hint=hint, elsewhere=True)
        if isinstance(error, SecretError):
            known = error.copy(elsewhere=True).with_traceback(None)
            known.__cause__ = None
            return known
        retryable = error.retryable
        kind = f"{kind}: {error}"
    msg = f"The source of {_shown(reference)} failed with {kind.removesuffix('.')}."
    return SecretError(msg, hint=hint, retryable=retryable, elsewhere=True)


def _shown(reference: str) -> str:
    return f"Secret({reference!r})"


def _is_async(source: object) -> bool:
    """Whether calling it only makes something to await."""
    call = getattr(source, "__call__", None)  # noqa: B004 - of an object, which may be async
    return inspect.iscoroutinefunction(source) or inspect.iscoroutinefunction(call)


_values = LocalObjects(max_objects=_MOST_VALUES)


def sourced_value(source: SecretSource, reference: str, clock: Callable[[], float]) -> SourcedValue:
    """The value of a reference at a source: the same for all who ask, as long as it is used.

    Each clock has values of its own: what virtual time calls fresh says nothing of another's.
    """
    # The object holds source and clock: the numbers belong to no others while it is there.
    key = (str(id(source)), str(id(clock)), reference)
    return _values.get(key, lambda: SourcedValue(source, reference, clock))
