"""The running event loop, asyncio's or trio's, behind one small face.

anyio offers no way to start a task that outlives its caller, nor one to wake a loop from another
thread that it did not start itself. This file is the only place that knows the two backends apart.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Collection
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

import anyio

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

logger = logging.getLogger("lamella")


class Loop(Protocol):
    """One running event loop."""

    def spawn(
        self, function: Callable[[], Awaitable[None]], name: str, context: Context | None = None
    ) -> None:
        """Start a task that belongs to nobody. Call on the loop's own thread.

        Args:
            function: What it runs.
            name: What to call it.
            context: Its context variables. None leaves them to the loop: asyncio copies those of
                the code that runs, trio starts with its own.
        """
        ...

    def call_soon(self, function: Callable[[], object]) -> bool:
        """Run a plain function on the loop soon, from any thread; False once it is closed."""
        ...

    def now(self) -> float:
        """The instant on the loop's clock. Call on the loop's own thread, in a task or outside."""
        ...

    def call_at(self, instant: float, function: Callable[[], object]) -> Callable[[], object]:
        """Run a plain function at an instant, in a task of its own; what takes that back."""
        ...

    def task(self) -> object:
        """The running task, to tell it from others. Call on the loop's own thread."""
        ...

    @property
    def scope(self) -> type[anyio.CancelScope]:
        """The backend's own class of scopes. Ask for it in a task.

        `anyio.CancelScope()` looks for the backend each time, which costs more than the scope.
        """
        ...

    @property
    def closed(self) -> bool:
        """Whether the loop has ended for good."""
        ...


class AsyncioLoop:
    """asyncio's."""

    __slots__ = ("__weakref__", "_loop", "_scope", "_tasks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)
        self._scope: type[anyio.CancelScope] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(
        self, function: Callable[[], Awaitable[None]], name: str, context: Context | None = None
    ) -> None:
        task = (
            sys.modules["asyncio"]
            .get_running_loop()
            .create_task(_guarded(function, name), name=name, context=context)
        )
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    def call_soon(self, function: Callable[[], object]) -> bool:
        loop = self._loop()
        if loop is None:
            return False
        try:
            # Not in the caller's context: that may say that another backend is running.
            loop.call_soon_threadsafe(function, context=Context())
        except RuntimeError:
            return False
        return True

    def now(self) -> float:
        now: float = sys.modules["asyncio"].get_running_loop().time()
        return now

    def call_at(self, instant: float, function: Callable[[], object]) -> Callable[[], object]:
        loop = sys.modules["asyncio"].get_running_loop()

        async def run() -> None:
            function()

        # A timer is no task: a loop that is closed under it has nothing to complain about.
        handle: asyncio.TimerHandle = loop.call_at(
            instant, self.spawn, run, "lamella timer", context=Context()
        )
        return handle.cancel

    def task(self) -> object:
        return sys.modules["asyncio"].current_task()

    @property
    def scope(self) -> type[anyio.CancelScope]:
        if self._scope is None:
            self._scope = type(anyio.CancelScope())
        return self._scope

    @property
    def closed(self) -> bool:
        loop = self._loop()
        return loop is None or loop.is_closed()


class TrioLoop:
    """trio's."""

    __slots__ = ("__weakref__", "_lowlevel", "_scope", "_token")

    def __init__(self, lowlevel: Any, token: Any) -> None:
        self._lowlevel = lowlevel
        self._token = ref(token)
        self._scope: type[anyio.CancelScope] | None = None

    def spawn(
        self, function: Callable[[], Awaitable[None]], name: str, context: Context | None = None
    ) -> None:
        self._lowlevel.spawn_system_task(_guarded, function, name, name=name, context=context)

    def call_soon(self, function: Callable[[], object]) -> bool:
        token = self._token()
        if token is None:
            return False
        try:
            token.run_sync_soon(_attempted, function)
        except RuntimeError:  # trio.RunFinishedError is one
            return False
        return True

    def now(self) -> float:
        now: float = sys.modules["trio"].current_time()
        return now

    def call_at(self, instant: float, function: Callable[[], object]) -> Callable[[], object]:
        scope = anyio.CancelScope()

        async def wait() -> None:
            with scope:
                await anyio.sleep_until(instant)
                function()

        self.spawn(wait, "lamella timer")
        return scope.cancel

    def task(self) -> object:
        return self._lowlevel.current_task()

    @property
    def scope(self) -> type[anyio.CancelScope]:
        if self._scope is None:
            self._scope = type(anyio.CancelScope())
        return self._scope

    @property
    def closed(self) -> bool:
        return not self.call_soon(lambda: None)


async def _guarded(function: Callable[[], Awaitable[None]], name: str) -> None:
    """Run detached work; its failure is logged, for nobody else can hear of it."""
    try:
        await function()
    except Exception:
        logger.exception("detached work %r failed", name)


def _attempted(function: Callable[[], object]) -> None:
    """Call a function that came from another thread; its failure would end the whole of trio's run.

    A run that is ending still takes calls but no new tasks: what is dropped at the very end cannot
    be closed any more, and is left to the garbage collector.
    """
    try:
        function()
    except RuntimeError:
        logger.debug("the event loop is ending", exc_info=True)
    except Exception:
        logger.exception("a call into the event loop failed")


_LOOPS: dict[int, tuple[ref[Any], Loop]] = {}
"""The loops by the identity of what their backend calls them: several times faster than by weak
keys. A loop that has gone takes its entry along, and one that has taken its place is told apart."""


def current_loop() -> Loop:
    """The loop that this code runs on.

    Raises:
        RuntimeError: Outside any event loop.
    """
    # Neither backend is imported here: a program that runs one has imported it.
    lowlevel = _lowlevel or _find_trio()
    if lowlevel is not None and lowlevel.in_trio_run():
        token = lowlevel.current_trio_token()
        return _known(token) or _remember(token, TrioLoop(lowlevel, token))
    asyncio = _modules.get("asyncio")
    if asyncio is None:
        msg = "This needs a running event loop, asyncio's or trio's."
        raise RuntimeError(msg)
    native = asyncio.get_running_loop()
    latest = _latest
    if latest is not None and latest[0]() is native:  # mostly it is the same one
        return latest[1]
    return _known(native) or _remember(native, AsyncioLoop(native))


_modules: Final = sys.modules
_lowlevel: Any = None
"""trio's, once somebody has imported it."""
_latest: tuple[ref[Any], Loop] | None = None
"""The loop of asyncio's that was asked for last, on whatever thread."""


def _find_trio() -> Any:
    global _lowlevel  # noqa: PLW0603 - it is looked for until it is found
    lowlevel = _modules.get("trio.lowlevel")
    if hasattr(lowlevel, "in_trio_run"):  # another thread may be half-way through importing it
        _lowlevel = lowlevel
        return lowlevel
    return None


def _known(native: object) -> Loop | None:
    global _latest  # noqa: PLW0603 - see there
    found = _LOOPS.get(id(native))
    if found is None or found[0]() is not native:
        return None
    _latest = found
    return found[1]


def _remember(native: Any, loop: Loop) -> Loop:
    key, known = id(native), _LOOPS  # at the interpreter's end the module's own names have gone

    def forget(reference: ref[Any]) -> None:
        global _latest  # noqa: PLW0603 - see there
        latest = _latest
        if latest is not None and latest[0] is reference:
            _latest = None
        found = known.get(key)
        if found is not None and found[0] is reference:
            del known[key]

    known[key] = ref(native, forget), loop
    return loop


class PerLoop(Generic[T]):
    """A value for each event loop, made on first use and forgotten with its loop.

    Args:
        make: Makes the value; runs on the loop it is for.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: WeakKeyDictionary[Loop, T] = WeakKeyDictionary()

    def get(self) -> T:
        """The running loop's value."""
        loop = current_loop()
        try:
            return self._values[loop]
        except KeyError:
            self._forget_closed()
            value = self._values[loop] = self._make()
            return value

    def _forget_closed(self) -> None:
        """A value may keep its loop alive (a pool's sockets do), so weak keys are not enough."""
        for loop in self._loops():
            if loop.closed:
                self._values.pop(loop, None)

    def peek(self) -> T | None:
        """The running loop's value if there is one already."""
        return self._values.get(current_loop())

    def pop(self) -> T | None:
        """Take the running loop's value out."""
        return self._values.pop(current_loop(), None)

    def items(self) -> list[tuple[Loop, T]]:
        """Every loop that is still alive, with its value."""
        values = self._values
        return [(loop, values[loop]) for loop in self._loops() if loop in values]

    def _loops(self) -> list[Loop]:
        # keyrefs() is a copy made in one go: another thread's loop may add itself meanwhile.
        references = self._values.keyrefs()
        return [loop for reference in references if (loop := reference()) is not None]

    def clear(self) -> None:
        """Forget all values."""
        self._values = WeakKeyDictionary()


class OnLoop(Protocol):
    """Something that belongs to an event loop."""

    @property
    def loop(self) -> Loop:
        """Its loop."""
        ...


L = TypeVar("L", bound=OnLoop)


def left_behind(found: Collection[L]) -> list[L]:
    """Those whose event loop has been closed under them: nobody will end them any more.

    An open call is remembered by its pipeline, so they do not become garbage either.
    """
    closed = {loop for loop in {each.loop for each in found} if loop.closed}
    return [each for each in found if each.loop in closed] if closed else []


class Waiter:
    """Waits on one loop for a word that may come from another, or from a plain thread."""

    __slots__ = ("_event", "_loop")

    def __init__(self) -> None:
        self._loop = current_loop()
        self._event = anyio.Event()

    def wake(self) -> bool:
        """End the wait, from anywhere; False if its loop has been closed, with all that waited."""
        return self._loop.call_soon(self._event.set)

    async def wait(self) -> None:
        """Wait for `wake`."""
        await self._event.wait()
