"""The life of one call: what it must clean up, and how it is interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import ref

import anyio

from lamella._errors import ClosedError
from lamella._loops import current_loop
from lamella._outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lamella._responses import Response
    from lamella._trace import Trace


def closed_error(what: str) -> ClosedError:
    """The error that closing causes, whatever the interrupted work was waiting for."""
    return ClosedError(
        f"The pipeline was closed while {what}.",
        hint="Give aclose() a longer `drain` if running calls should finish.",
        outcome=Outcome.CANCELLED,
    )


class Call:
    """What the core keeps for one call while it runs.

    Every open response born in the call is known here, weakly: it must not live longer for it.
    """

    __slots__ = (
        "__weakref__", "_after", "_born", "_failure", "closing", "ended", "loop", "scopes",
        "trace",
    )  # fmt: skip

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.loop = current_loop()  # asking for it again costs more than anything else here
        self.ended = False
        self.closing = False
        self._born: list[ref[Response]] = []
        self.scopes: set[anyio.CancelScope] = set()  # of work that a closing pipeline interrupts
        self._failure: Exception | None = None
        self._after: dict[object, Callable[[], object]] | None = None

    def after(self, callback: Callable[[], object], *, key: object = None) -> None:
        """Tell a plain function once the call is over and its trace is complete.

        For observers who want the whole of it: what other layers, and the core itself, note at the
        end is in the trace by then. It must not refer to a response, which would then live until
        the call ends. What it raises is noted.

        Args:
            callback: The function.
            key: What it is told for. Of several callbacks of one key the last one is told: a layer
                of a pipeline inside may be passed once for each try. None is a key of its own.
        """
        self._after = self._after or {}
        self._after[object() if key is None else key] = callback

    def born(self, response: Response) -> None:
        """An open response has come to be in this call."""
        self._born.append(ref(response))

    def enter(self, scope: anyio.CancelScope) -> None:
        """Work is under way that a closing pipeline has to interrupt."""
        self.scopes.add(scope)

    def leave(self, scope: anyio.CancelScope) -> None:
        """That work is over."""
        self.scopes.discard(scope)

    def failed(self, failure: Exception) -> None:
        """A callback failed on an answer that ended well; the first one reaches the consumer."""
        if self.ended:  # the core hands out nothing more, so whoever registered it is told
            raise failure
        self._failure = self._failure or failure

    @property
    def failing(self) -> bool:
        """Whether a callback has failed whose error the consumer is yet to be told."""
        return self._failure is not None

    def raise_failure(self) -> None:
        """Raise what a callback raised, once; the core does this where an answer is handed out."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def end(self) -> list[Response]:
        """The call is over; what was opened in it and neither closed nor read to its end."""
        self.ended = True
        if not self._born:
            return _NOTHING_OPEN
        born, self._born = self._born, []
        found = [response for reference in born if (response := reference()) is not None]
        leaks = [response for response in found if response.open]
        for leak in leaks:
            self.trace.note("core", "leak", response=type(leak).__name__)
        return leaks

    async def close(self, outcome: Outcome) -> None:
        """End the call: close what was left open in it, and finish its trace.

        A pipeline does this for its calls; who runs `request.detach(...)` does it for that call.
        """
        waiting = self.over(outcome)
        if waiting is not None:
            await waiting

    def over(self, outcome: Outcome) -> Awaitable[None] | None:
        """`close`: None where nothing was left open, so that nothing is to be awaited."""
        if self._born:
            leaks = self.end()
            if leaks:
                return self._close_all(leaks, outcome)
        self.ended = True
        self.trace.finish(outcome)
        if self._after:
            self._tell()
        return None

    async def _close_all(self, leaks: list[Response], outcome: Outcome) -> None:
        try:
            with anyio.CancelScope(shield=True):
                for leak in leaks:
                    await leak.aclose()
        finally:
            self._finish(outcome)

    def _finish(self, outcome: Outcome) -> None:
        self.trace.finish(outcome)
        if self._after:
            self._tell()

    def _tell(self) -> None:
        after, self._after = self._after or {}, None
        for callback in after.values():
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - who looks on harms nobody
                self.trace.note("core", "callback.failed", error=type(error).__name__)

    def interrupt(self) -> bool:
        """The pipeline closes: end waits and reads with `ClosedError`, soon, on the call's loop.

        Returns:
            False if that loop has ended, and the call with it.
        """
        self.closing = True
        return self.loop.call_soon(self._interrupt)

    def _interrupt(self) -> None:
        for scope in list(self.scopes):
            scope.cancel()
        for reference in list(self._born):
            response = reference()
            if response is not None and response.open:
                self.loop.spawn(response.aclose, "lamella closing response")


_NOTHING_OPEN: Final[list[Response]] = []
