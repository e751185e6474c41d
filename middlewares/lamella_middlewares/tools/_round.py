"""The calls of one message: each is answered exactly once, in their order, whatever happens."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import anyio

from lamella import Message, Part, Text, ToolCall
from lamella_middlewares.tools import _outcomes as outcomes
from lamella_middlewares.tools._function_tool import FunctionTool
from lamella_middlewares.tools._outcomes import Answered, told
from lamella_middlewares.tools._parameters import BadArguments
from lamella_middlewares.tools._results import NoResult, cut, fenced, is_large, parts_of
from lamella_middlewares.tools._scene import Asked, Ready, Scene
from lamella_middlewares.tools._told import ToolContext, ToolFailed

logger = logging.getLogger("lamella")

_PAUSE: Final = 0.5
"""Seconds before the first retry of a tool, at most; doubled for each further one."""
_LONGEST_PAUSE: Final = 10.0
_AGAIN: Final = frozenset({"failed", "timed_out"})


class Round:
    """The calls of one message.

    Args:
        scene: What the turns share.
        asked: The calls, in order.
        turn: Which model turn asks.
        messages: The conversation, up to the message that asks.
    """

    def __init__(
        self, scene: Scene, asked: Asked, turn: int, messages: tuple[Message, ...]
    ) -> None:
        self._scene = scene
        self._asked_for = asked
        self._calls = asked.calls
        self._turn = turn
        self._messages = messages
        self._answers: dict[int, Answered] = {}
        self._ready: list[Ready] = []
        self._began: dict[int, float] = {}
        self._run: set[int] = set()  # by their places: what may have had an effect

    def prepare(self) -> None:
        """Read what the model asks for; what cannot be run is answered."""
        for place, call in enumerate(self._calls):
            if place in self._asked_for.duplicates:
                self._answer(place, told(call, "duplicate", outcomes.DUPLICATE))
                continue
            tool = self._scene.tools.by_name.get(call.name)
            if tool is None:
                names = ", ".join(self._scene.tools.by_name)
                self._answer(place, told(call, "unknown", outcomes.UNKNOWN.format(names=names)))
                continue
            try:
                read = tool.parameters.read(call.arguments)
            except BadArguments as wrong:
                why = outcomes.INVALID.format(why=wrong)
                self._answer(place, told(call, "invalid", why))
            except Exception as error:  # noqa: BLE001 - of a validator of the program's
                self._report(call, error)
                why = outcomes.INVALID.format(why=outcomes.UNCHECKED.format(error=_name(error)))
                self._answer(place, told(call, "invalid", why))
            else:
                self._ready.append(Ready(place, call, tool, read))

    def refuse(self, why: str) -> None:
        """Run none of them."""
        for place, call in enumerate(self._calls):
            self._answer(place, told(call, "not_run", why))

    def questions(self) -> dict[str, ToolCall]:
        """The calls that somebody has to decide about before any is run, by their questions' ids.

        Nobody is asked here: these are for the caller to be asked.
        """
        approvals = self._scene.approvals
        asking = [
            ready
            for ready in self._ready
            if self._approver(ready.tool) == "ask" and not approvals.decided(ready.call)
        ]
        if not self._asked_for.mended:
            return {approvals.id_of(ready.call): ready.call for ready in asking}
        for ready in asking:  # nobody could say later which call he has agreed to
            self._ready.remove(ready)
            self._answer(ready.place, told(ready.call, "not_asked", outcomes.NOT_ASKED))
        return {}

    async def run(self, seconds: float | None) -> None:
        """Run those that are ready, at once, and wait for all.

        Args:
            seconds: How long all of them may take together; None is as long as the deadline allows.

        Raises:
            DeadlineExceeded: If the call's deadline passes.
            ClosedError: If the pipeline closes.
        """
        if not self._ready:
            return
        with anyio.move_on_after(seconds) as scope:
            await self._scene.context.wait(self._all, what="tools were run")
        if scope.cancelled_caught:
            self.end(outcomes.LATE, "timed_out")

    def end(self, begun: str = outcomes.CANCELLED, outcome: str = "cancelled") -> None:
        """Answer what has no answer: the round is over.

        Args:
            begun: What the model is told of a call that was begun; of another, that it was not.
            outcome: What became of it.
        """
        for place, call in enumerate(self._calls):
            if place not in self._answers:
                text = begun if place in self._run else outcomes.NEVER_RUN
                self._answer(place, told(call, outcome, text))

    @property
    def over(self) -> bool:
        """Whether every call has its answer."""
        return len(self._answers) == len(self._calls)

    @property
    def answers(self) -> tuple[Message, ...]:
        """The messages that answer the calls, in their order."""
        return tuple([self._answers[place].message for place in range(len(self._calls))])

    # --- running -------------------------------------------------------------------------------

    async def _all(self) -> None:
        room = anyio.Semaphore(self._scene.tools.concurrency)
        try:
            async with anyio.create_task_group() as group:
                for ready in self._ready:
                    await room.acquire()  # here, so that they begin in their order
                    group.start_soon(self._one, ready, room)
        except BaseExceptionGroup as several:
            raise _single(several) from None
        self.end()

    async def _one(self, ready: Ready, room: anyio.Semaphore) -> None:
        self._began[ready.place] = self._scene.context.trace.now()
        try:
            self._answer(ready.place, await self._answered(ready))
        finally:
            room.release()

    async def _answered(self, ready: Ready) -> Answered:
        refusal = await self._refusal(ready)
        if refusal is not None:
            return refusal
        context, tries = self._scene.context, 0
        while True:
            tries += 1
            answer = await self._tried(ready, tries)
            pause = min(_PAUSE * 2.0 ** (tries - 1), _LONGEST_PAUSE) * context.ports.random.random()
            if answer.outcome not in _AGAIN or tries > ready.tool.retries:
                return answer
            if pause >= context.left():
                return answer
            context.note("tools", "tools.retried", tool=ready.tool.name, outcome=answer.outcome)
            await context.ports.sleep(pause)

    async def _tried(self, ready: Ready, attempt: int) -> Answered:
        """One try of a call."""
        tool, call, layer = ready.tool, ready.call, self._scene.tools
        # Read anew for each further try: the one before may have changed what it was given.
        read = ready.read if attempt == 1 else tool.parameters.read(call.arguments)
        run = tool.parameters.call(tool.function, read, self._told(ready, attempt))
        seconds = layer.timeout if tool.timeout is None else tool.timeout
        self._run.add(ready.place)
        self._scene.effects = self._scene.effects or not tool.idempotent
        try:
            with anyio.move_on_after(seconds):
                return self._shaped(call, tool, await self._parts(tool, run), "ok")
        except ToolFailed as failure:
            return self._shaped(call, tool, (Text(failure.text),), "refused")
        except NoResult as none:
            return told(call, "no_result", outcomes.FAILED.format(error=none))
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() == -math.inf:
                raise
            # Nobody has cancelled this: what the tool awaited was cancelled, as asyncio allows.
            return told(call, "cancelled", outcomes.CANCELLED)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a model ends no program
            self._report(call, error)
            return told(call, "failed", outcomes.FAILED.format(error=_name(error)))
        return told(call, "timed_out", outcomes.TIMED_OUT.format(seconds=seconds or 0))

    async def _parts(
        self, tool: FunctionTool[..., Any], run: Callable[[], Any]
    ) -> tuple[Part, ...]:
        """What a function gives, as parts: JSON of much is made off the event loop."""
        thread = self._scene.context.ports.thread
        if tool.is_async:
            value = run()
        else:
            value = await thread(_run_and_write, run)
            if not inspect.isawaitable(value):
                return cast("tuple[Part, ...]", value)
        if inspect.isawaitable(value):
            value = await value
        if is_large(value):
            try:
                return await thread(parts_of, value)
            except RuntimeError:  # changed meanwhile, as what a tool keeps may be: not here
                pass
        return parts_of(value)

    def _shaped(
        self, call: ToolCall, tool: FunctionTool[..., Any], parts: tuple[Any, ...], outcome: str
    ) -> Answered:
        """An answer within its size, between its lines."""
        layer = self._scene.tools
        most = layer.max_output if tool.max_output is None else tool.max_output
        parts, left_out = cut(parts, most)
        if left_out:
            self._scene.context.note("tools", "tools.cut", tool=tool.name, characters=left_out)
        return Answered(call, fenced(parts, tool.name) if layer.fence else parts, outcome)

    def _told(self, ready: Ready, attempt: int) -> ToolContext:
        scene = self._scene
        return ToolContext(
            ready.call,
            scene.context,
            self._turn,
            self._messages,
            attempt,
            request=scene.request,
            call_next=scene.call_next,
        )

    def _report(self, call: ToolCall, error: Exception | SystemExit) -> None:
        """Let the program know of a tool's exception; the trace has its class."""
        context, on_error = self._scene.context, self._scene.tools.on_error
        context.note("tools", "tools.failed", tool=call.name, error=type(error).__name__)
        if on_error is None:
            return
        if isinstance(error, SystemExit):
            left, error = error, RuntimeError("The tool called sys.exit().")
            error.__cause__ = left
        try:
            on_error(call, error)
        except Exception as failure:  # noqa: BLE001 - its traceback would quote the tool's error
            logger.error("Tools: on_error has failed: %s.", _name(failure))  # noqa: TRY400

    # --- asking --------------------------------------------------------------------------------

    def _approver(self, tool: FunctionTool[..., Any]) -> Any:
        approve: Any = self._scene.tools.approve if tool.approve is None else tool.approve
        return approve or None

    async def _refusal(self, ready: Ready) -> Answered | None:
        """Why a call is not run; None if it is."""
        words = self._scene.approvals.refused(ready.call)
        if words is not None:  # also of a tool that no longer asks anybody
            return told(ready.call, "declined", words or outcomes.DECLINED)
        approve = self._approver(ready.tool)
        if approve is None or self._scene.approvals.take(ready.call):
            return None
        try:
            verdict = await self._asked(approve, ready)
        except Exception as error:  # noqa: BLE001 - who cannot be asked has not agreed
            self._report(ready.call, error)
            return told(ready.call, "not_asked", outcomes.NOT_ASKED)
        if verdict is True:
            return None
        if isinstance(verdict, str):
            return told(ready.call, "declined", verdict)
        if verdict is False:
            return told(ready.call, "declined", outcomes.DECLINED)
        wrong = TypeError(f"approve=... gave {type(verdict).__name__}, not True, False or a text.")
        self._report(ready.call, wrong)
        return told(ready.call, "not_asked", outcomes.NOT_ASKED)

    async def _asked(self, approve: Callable[..., Any], ready: Ready) -> Any:
        from lamella._options import is_async

        context = self._told(ready, 1)
        if is_async(approve):
            waiting: Awaitable[Any] = approve(ready.call, context)
            return await waiting
        found = await self._scene.context.ports.thread(approve, ready.call, context)
        return await found if inspect.isawaitable(found) else found

    def _answer(self, place: int, answer: Answered) -> None:
        """Answer a call; what became of it goes into the trace."""
        self._answers[place] = answer
        context = self._scene.context
        now = context.trace.now()
        known = answer.call.name in self._scene.tools.by_name
        context.note(
            "tools",
            "tools.called",
            tool=answer.call.name if known else None,  # what a model made up may say anything
            outcome=answer.outcome,
            seconds=now - self._began.get(place, now),
            bytes=answer.size,
        )


def _run_and_write(run: Callable[[], Any]) -> Any:
    """What a plain function gives, as parts; what is to be awaited as it is. For a thread."""
    value = run()
    return value if inspect.isawaitable(value) else parts_of(value)


def _name(error: BaseException) -> str:
    return type(error).__name__


def _single(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception that a group is about: what ends the program before what is cancelled."""
    cancelled = anyio.get_cancelled_exc_class()
    rest = several.split(cancelled)[1] or several
    first = rest.exceptions[0]
    return _single(first) if isinstance(first, BaseExceptionGroup) else first  # pyright: ignore[reportUnknownArgumentType]
