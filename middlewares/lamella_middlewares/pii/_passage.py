"""One call's way through the layer: masked on the way in, restored on the way out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio

from lamella import (
    Answer,
    Ending,
    Handler,
    InspectionError,
    LamellaError,
    Outcome,
    Request,
    Response,
    StoreUnavailableError,
    TextChannels,
)
from lamella._answer_shape import as_read
from lamella_middlewares.pii._inspecting import AT_ONCE, LAYER, failed
from lamella_middlewares.pii._masking import Masking, TooMuch, blocked, unreadable
from lamella_middlewares.pii._restoring import Restoring, tokens_in, tools_of
from lamella_middlewares.pii._screening import Screening
from lamella_middlewares.pii._showing import Masked, answer_through
from lamella_middlewares.pii._strategies import Strategy
from lamella_middlewares.pii._vault import FULL

if TYPE_CHECKING:
    from lamella_middlewares.pii._inspecting import Inspector
    from lamella_middlewares.pii._middleware import PII
    from lamella_middlewares.pii._session import SessionVault
    from lamella_middlewares.pii._vault import CallVault

R = TypeVar("R", bound=Response)
T = TypeVar("T")

logger = logging.getLogger("lamella")


class Passage(Generic[R]):
    """One call. As a handler it masks, asks the handler inside, and restores.

    Args:
        pii: The options.
        inspector: Finds personal data.
        vault: The call's values.
        session: The session's; None where there are no sessions.
        call_next: Where to send the request.
    """

    def __init__(
        self,
        pii: PII,
        inspector: Inspector,
        vault: CallVault,
        session: SessionVault | None,
        call_next: Handler,
    ) -> None:
        self.__name__ = getattr(call_next, "__name__", "handler")
        self._pii = pii
        self._inspector = inspector
        self._vault = vault
        self._session = session
        self._call_next = call_next
        self._request: Request[Any] | None = None
        self._shown: Masked | None = None
        self._screening: Screening | None = None
        self._restoring: Restoring | None = None
        self._below: Response | None = None  # the answer before anything is restored in it

    async def __call__(self, request: Request[R], /) -> R:
        self._request = request
        masked = await self._mask(request)
        response = await self._seen_here(lambda: self._call_next(masked))
        if not isinstance(cast("object", response), Response):
            return response  # the core says what is wrong with it
        self._below = response
        if self._pii.looks_out:
            response = await self._screen(response)
        if not len(self._vault):
            return response
        return response.transform(TextChannels(as_read(self._request, self._restore().filter)))

    async def _seen_here(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something whose errors come with parts of an answer, and mend those."""
        try:
            return await work()
        except LamellaError as error:
            failure = self._as_seen_here(error)
            if failure is error:
                raise
        # Not inside the handler: the error that it was holds what nobody has looked into.
        raise failure from failure.__cause__

    # --- in ------------------------------------------------------------------------------------

    async def _mask(self, request: Request[R]) -> Request[R]:
        """The request as it may leave, noted and shown to observers.

        Raises:
            BlockedError: If it has something in it that must not leave.
            InspectionError: If it could not be looked into.
            StoreUnavailableError: If the session's vault could not be reached.
        """
        pii, context = self._pii, request.context
        reached = await self._with_store(lambda session: session.load(context))
        masking, masked = await self._masked(request)
        masking.clear()
        self._note_in(request, masking)
        if masking.failure is None:
            self._show(request, masked)
            # What was found may stand there as it was: a value that reads like what is put instead.
            if not (masking.counts or masking.unread or masking.brackets):
                self._inspector.clear.remember(request)
        if not pii.looks_in:
            return request
        if masking.blocked:
            raise blocked(masking.blocked, outcome=Outcome.NOT_SENT)
        if masking.unread and pii.scan.unread == "refuse":
            raise unreadable(masking.unread)
        if reached:
            vault = self._vault
            await self._with_store(lambda one: one.keep(context, vault.values, vault.repeated))
        return cast("Request[R]", masked)

    async def _masked(self, request: Request[R]) -> tuple[Masking, Any]:
        """The request masked: to be sent, or where only answers are, to be shown to observers."""
        pii = self._pii
        masking = self._masking()
        try:
            if not self._inspector.blocking:
                try:
                    return masking, masking.mask(request, at_once=AT_ONCE)
                except TooMuch:
                    masking = self._masking()
            found = await self._in_thread(request, lambda: masking.mask(request))
        except InspectionError as error:
            if pii.looks_in and (error.inspector == FULL or not self._lenient):
                raise
            self._vault = self._vault.renewed()  # the thread may be about the other one still
            masking = self._masking()
            masking.failure = error
            return masking, request
        return masking, found

    def _masking(self) -> Masking:
        pii = self._pii
        return Masking(
            self._inspector,
            self._vault,
            pii.strategy_of if pii.looks_in else _redact,
            most=pii.scan.max_characters,
            lenient=self._lenient or not pii.looks_in,
        )

    async def _with_store(self, work: Callable[[SessionVault], Awaitable[None]]) -> bool:
        """Do something with the session's vault; whether there is one, and it answers.

        Raises:
            StoreUnavailableError: If it does not, unless the call is to pass nevertheless.
        """
        if self._session is None:
            return False
        try:
            await work(self._session)
        except StoreUnavailableError as error:
            if not self._lenient:
                raise
            self._pass(error)
            return False
        return True

    # --- out -----------------------------------------------------------------------------------

    async def _screen(self, response: R) -> R:
        """The answer with what the model has brought itself masked.

        Raises:
            BlockedError: If it has something in it that must not pass.
            InspectionError: If it could not be looked into.
        """
        pii = self._pii
        if response.open and (self._inspector.blocking or pii.blocks):
            await self._seen_here(lambda: _whole(response))
        screening = self._screening = Screening(
            self._inspector,
            self._vault,
            pii.strategy_of,
            most=pii.scan.max_characters,
            look_behind=pii.scan.look_behind,
            lenient=self._lenient,
        )
        channels = TextChannels(as_read(self._request, screening.filter))
        if response.open:
            screened = response.transform(channels)
        elif self._inspector.blocking or _size(response) > AT_ONCE:
            request = cast("Request[Any]", self._request)
            try:
                screened = await self._in_thread(request, lambda: response.transform(channels))
            except InspectionError as error:
                if not self._lenient:
                    raise error.copy(outcome=Outcome.FAILED) from None
                screening.failure = error
                screened = response
        else:
            screened = response.transform(channels)
        if screened.head.raw is not None and (screened.open or screening.counts):
            screened.head = _without_raw(screened.head)
        self._below = screened
        return screened

    def _restore(self) -> Restoring:
        made = () if self._screening is None else self._screening.made
        self._restoring = Restoring(
            self._vault,
            tools=tools_of(self._request, named=self._pii.restore_tools),
            ours=made,
        )
        return self._restoring

    # --- the end -------------------------------------------------------------------------------

    def end(self, _: Ending) -> None:
        """Say what was done, and forget every value."""
        try:
            self._note_out()
            self._show_answer()
        finally:
            self._vault.clear()
            self._request = self._below = None

    def _note_out(self) -> None:
        request = self._request
        if request is None:
            return
        note = request.context.note
        screening, restoring, session = self._screening, self._restoring, self._session
        if screening is not None and screening.counts:
            note(LAYER, "pii.masked", direction="out", kinds=screening.counts)
        if screening is not None and screening.blocked:
            note(LAYER, "pii.blocked", direction="out", kinds=sorted(screening.blocked))
        if screening is not None and screening.failure is not None:
            self._pass(screening.failure)
        if restoring is not None and restoring.counts:
            note(LAYER, "pii.restored", kinds=restoring.counts)
        unknown = self._unknown() if restoring is None else restoring.unknown
        if unknown:
            note(LAYER, "pii.unknown", count=unknown)
        if session is not None and session.unreadable:
            note(LAYER, "pii.unreadable", count=session.unreadable)

    def _unknown(self) -> int:
        """How many tokens are in an answer that nothing was restored in, as nothing is known."""
        below = self._below
        if below is None:
            return 0
        made = () if self._screening is None else self._screening.made
        return sum(token not in made for token in tokens_in(below.events))

    def _note_in(self, request: Request[Any], masking: Masking) -> None:
        note = request.context.note
        if not self._pii.looks_in:
            return
        if masking.failure is not None:
            self._pass(masking.failure)
        if masking.counts:
            note(LAYER, "pii.masked", direction="in", kinds=masking.counts)
        if masking.unread:
            note(LAYER, "pii.unread", count=masking.unread)
        if masking.blocked:
            note(LAYER, "pii.blocked", direction="in", kinds=sorted(masking.blocked))

    def _pass(self, failure: LamellaError) -> None:
        """Say aloud that something goes on that nobody has looked into."""
        request = self._request
        assert request is not None  # noqa: S101 - set before anything can fail
        what = type(failure).__name__
        inspector = getattr(failure, "inspector", "")
        request.context.note(LAYER, "pii.passed", error=what, inspector=inspector)
        logger.warning(
            "PII lets through what it could not look into (%s: %s), as on_failure='pass' says.",
            what,
            inspector or "store",
        )

    def _show(self, request: Request[Any], masked: Any) -> None:
        self._shown = request.context.trace.content[request.context.branch] = Masked(masked)

    def _show_answer(self) -> None:
        below, shown = self._below, self._shown
        if below is None or shown is None:
            return
        if self._pii.looks_out:
            shown.answered(below, None)
        elif not self._inspector.blocking:
            shown.answered(below, self._inspector.redacted)

    # --- besides -------------------------------------------------------------------------------

    @property
    def _lenient(self) -> bool:
        return self._pii.on_failure == "pass"

    def _as_seen_here(self, error: LamellaError) -> LamellaError:
        """The error with what of an answer it carries restored, as the answer would have been.

        So are the errors that it is made of, or was caused by.
        """
        changes: dict[str, Any] = {}
        if error.partial is not None and (self._pii.looks_out or len(self._vault)):
            changes["partial"] = self._partial(error.partial)
        several: tuple[Any, ...] = getattr(error, "errors", ())
        inner = tuple([self._mended(one) for one in several])
        cause = self._mended(error.__cause__)
        same = all(one is other for one, other in zip(inner, several, strict=True))
        if not changes and same and cause is error.__cause__:
            return error
        fresh = error.copy(**cast("Any", changes))
        if not same:
            vars(fresh)["errors"] = inner
        fresh.__cause__ = cause
        return fresh

    def _mended(self, error: Any) -> Any:
        return self._as_seen_here(error) if isinstance(error, LamellaError) else error

    def _partial(self, partial: Answer) -> Answer | None:
        """What had come of an answer, as it would have been shown; None if that cannot be said."""
        pii = self._pii
        if pii.looks_out and self._inspector.blocking:
            return None
        screening = Screening(
            self._inspector,
            self._vault,
            lambda kind: "redact" if pii.strategy_of(kind) == "block" else pii.strategy_of(kind),
            most=pii.scan.max_characters,
            look_behind=None,
        )
        restoring = self._restore()
        makes = (screening.filter, restoring.filter) if pii.looks_out else (restoring.filter,)
        try:
            return answer_through(partial, [as_read(self._request, make) for make in makes])
        except InspectionError:
            return None

    async def _in_thread(self, request: Request[Any], work: Callable[[], T]) -> T:
        """Do what takes long where it blocks nobody, for as long as that may take.

        Raises:
            InspectionError: If it takes longer.
        """
        context, timeout = request.context, float(cast("float", self._pii.scan.timeout))

        async def in_time() -> tuple[T] | None:
            with anyio.move_on_after(timeout):
                return (await context.ports.thread(work),)
            return None

        found = await context.wait(in_time, what="PII looked into texts")
        if found is None:
            raise failed("the detectors together", f"took longer than {timeout:g} s")
        return found[0]


async def _whole(response: Response) -> None:
    """Read an open answer to its end before anybody sees it: until then it is not committed."""
    attempt = response.context.attempt
    if attempt is not None:
        attempt.committed = False
    await response.collect()
    if attempt is not None:
        attempt.committed = True


def _size(response: Response) -> int:
    """How much text an answer has, roughly."""
    size = 0
    for event in response.events:
        for name in ("text", "arguments", "transcript"):
            size += len(getattr(event, name, ""))
    return size


def _without_raw(head: Any) -> Any:
    import attrs

    return attrs.evolve(head, raw=None)


def _redact(_: str) -> Strategy:
    return "redact"
