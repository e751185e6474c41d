"""One conversation that has become too long, on its way past the layer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from lamella import ChatRequest, Context, Handler, Message, Outcome, SummariseError, Target
from lamella._message_sizes import in_thread
from lamella._shortening import MessageTokens
from lamella._target_fitness import Fitness
from lamella._token_estimate import ESTIMATOR
from lamella_middlewares.summarise._flights import LATE, Made, flights_of, made_once
from lamella_middlewares.summarise._names import LAYER
from lamella_middlewares.summarise._pieces import Piece, pieces
from lamella_middlewares.summarise._plan import SUMMARY, takes_long
from lamella_middlewares.summarise._shelf import digests
from lamella_middlewares.summarise._texts import FRAME_TOKENS, PROMPT, standing_in
from lamella_middlewares.summarise._transcript import record_line
from lamella_middlewares.summarise._writer import Order

if TYPE_CHECKING:
    from lamella._history import Group
    from lamella_middlewares.summarise._middleware import Summarise
    from lamella_middlewares.summarise._plan import Plan
    from lamella_middlewares.summarise._shelf import Shelf
    from lamella_middlewares.summarise._writer import Writer

MOST_CALLS: Final = 12
"""How many child calls one call makes; the next one goes on from there."""

UNKNOWN_WINDOW: Final = 32_000
"""Tokens that a model reads of whose context window nobody knows."""

GRACE: Final = 1.0
"""Seconds after which a child call is cut off that should have ended by its own deadline."""

_PATIENT: Final = 0.9
"""How much of the timeout a child call must have for its lateness to be held against the model."""

_LONGER: Final = 1.5
"""How much longer than it may be a summary is let be: its model counts otherwise."""

_WINDOW: Final = 0.75
"""How much of a window is used: counts are estimates."""
_LEAST: Final = 500
"""Tokens that are read at once, however small a window is said to be."""
_THREAD_TOKENS: Final = 4_000
"""From here on writing down what is summarised is done in a thread."""


class Visit:
    """A conversation of which the oldest turns are to become a summary.

    Args:
        layer: The layer, with its options.
        request: What is asked.
        call_next: The handler inside.
        plan: What is to be summarised.
        count: Counts the tokens of a message.
        shelf: Where summaries are kept.
        writer: What is known of who writes them.
        decisive: What decides a summary besides what it stands for.
    """

    __slots__ = (
        "_call_next", "_context", "_count", "_covered", "_decisive", "_earlier", "_keys", "_layer",
        "_plan", "_request", "_shelf", "_writer",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what a call is made of
        self,
        layer: Summarise,
        request: ChatRequest,
        call_next: Handler,
        plan: Plan,
        *,
        count: MessageTokens,
        shelf: Shelf,
        writer: Writer,
        decisive: tuple[Any, ...],
    ) -> None:
        self._layer = layer
        self._request = request
        self._context: Context = request.context
        self._call_next = call_next
        self._plan = plan
        self._count = count
        self._shelf = shelf
        self._writer = writer
        self._decisive = decisive
        self._covered: tuple[Group, ...] = plan.covered
        self._keys: list[str] = []
        self._earlier: tuple[int, Made] | None = None  # how many groups it stands for

    async def messages(self) -> tuple[Message, ...]:
        """What is to be sent.

        Raises:
            SummariseError: If there is no summary, and `otherwise` is `"raise"`.
            DeadlineExceeded: If the call's own deadline passes.
            ClosedError: If the pipeline closes meanwhile.
        """
        try:
            self._keys = await self._digests()
        except TypeError as error:
            return self._without(str(error))
        made, joined = await self._shelf.find(self._keys[-1]), False
        if made is None:
            why = self._shelf.left(self._keys[-1], self._seconds)
            made, joined = (Made(why=why), False) if why else await self._bounded()
        if not made.text:
            earlier = self._earlier or await self._kept_before()
            if earlier is None or earlier[0] < len(self._covered):
                self._earlier = earlier
                return self._without(made.why)
            made = earlier[1]  # another one had it ready a moment too late
        return self._used(made, joined=joined)

    async def _digests(self) -> list[str]:
        if takes_long(self._plan.before, len(self._request.messages)):
            return await in_thread(self._request, digests, self._decisive, self._covered)
        return digests(self._decisive, self._covered)

    def _used(self, made: Made, *, joined: bool) -> tuple[Message, ...]:
        """What is sent with the summary, which is noted."""
        plan, summary = self._plan, self._summary(made, len(self._covered))
        sent = plan.filled(summary)
        self._context.note(
            LAYER,
            "summarise.used",
            digest=self._keys[-1][:32],
            messages=_messages_in(self._covered),
            before=plan.before,
            after=plan.before and plan.after - self._layer.allowance + self._count(summary),
            age=round(made.age, 3),
            joined=joined,
            strategies=plan.used,
        )
        return sent

    # --- making --------------------------------------------------------------------------------

    @property
    def _seconds(self) -> float:
        """How long a summary may take from now on."""
        timeout: Any = self._layer.timeout
        return min(timeout, max(self._context.left(), 0.0) / 2)  # type: ignore[no-any-return]

    async def _bounded(self) -> tuple[Made, bool]:
        """The summary, made by this call or another one, or why there is none in time."""
        context, seconds = self._context, self._seconds
        grace = min(GRACE, seconds / 4)
        order = Order(
            prompt=self._prompt,
            tokens=self._layer.max_output_tokens,
            until=context.clock.now() + seconds,
            grace=grace,
        )
        flights, make = flights_of(context, self._layer.namespace), partial(self._make, order)
        with anyio.move_on_after(seconds + 2 * grace):
            return await made_once(flights, self._keys[-1], context, make, seconds)
        return Made(why=LATE), False

    async def _make(self, order: Order) -> Made:
        """Write the summary: of what came since the last one that there is."""
        context = self._context
        began = context.ports.monotonic()
        self._earlier = await self._kept_before()
        done, made = (0, Made()) if self._earlier is None else self._earlier
        if done == len(self._covered):
            return made  # another call was quicker
        made, parts = await self._written(order, done, made)
        if made.text:
            context.note(
                LAYER,
                "summarise.made",
                digest=self._keys[-1][:32],
                messages=_messages_in(self._covered[done:]),
                parts=parts,
                rolled=done > 0,
                cut=made.cut,
                seconds=round(context.ports.monotonic() - began, 3),
            )
        return made

    async def _written(self, order: Order, done: int, made: Made) -> tuple[Made, int]:
        """The summary that is made of an earlier one and the groups since; in how many parts.

        Each part is kept, so that what has been paid for is not paid for again.
        """
        # Who has waited for another one, or has not the whole time, says little of the model.
        timeout: Any = self._layer.timeout
        seconds = order.until - self._context.clock.now()
        hurried: bool = seconds < _PATIENT * timeout
        parts, most = 0, await self._readable()
        rest = await self._pieces(done, most)
        for number in range(MOST_CALLS):
            piece, record = rest[0], made
            lines = f"{record_line(made.text)}\n{piece.lines}" if made.text else piece.lines
            order = attrs.evolve(order, lines=lines, hurried=hurried or number > 0)
            made, cost = await self._writer.write(
                self._request, order, self._target, self._call_next
            )
            if made.too_long and most > _LEAST:  # for the model, or for a layer inside
                most = max(_LEAST, min(most, len(lines) // 4) // 2)
                made, rest = record, await self._pieces(done, most)
                continue
            done += piece.groups
            if made.text:
                made = self._fitting(made, done)
            if made.unfit:
                self._shelf.leave_unfit(self._keys[-1], made.why)
            elif made.why == LATE and number == 0:
                self._shelf.leave_late(self._keys[-1], LATE, seconds)
            if not made.text:
                return made, parts
            await self._shelf.put(self._keys[done - 1], made, cost=cost, model=self._request.model)
            self._earlier, parts = (done, made), parts + 1
            del rest[0]
            if not rest:
                return made, parts
        return Made(why="too long for one call; the next one goes on"), parts

    async def _pieces(self, done: int, tokens: int) -> list[Piece]:
        covered = self._covered[done:]
        if self._tokens(covered) < _THREAD_TOKENS:
            return pieces(covered, tokens)
        return await in_thread(self._request, pieces, covered, tokens)

    async def _readable(self) -> int:
        """Tokens of the conversation that who summarises can read at once."""
        most: int | None = self._layer.max_input_tokens
        if most is None:
            fitness = Fitness(self._request)
            await fitness.ready()
            window = fitness.window(self._target) or UNKNOWN_WINDOW
            own = ESTIMATOR.count([self._prompt]) + FRAME_TOKENS
            most = int(window * _WINDOW) - own - 2 * self._layer.max_output_tokens
            most = max(_LEAST, most)
        return most

    @property
    def _replaced(self) -> tuple[str, ...]:
        """What has made single messages shorter."""
        return tuple([name for name in self._plan.used if name != SUMMARY])

    @property
    def _prompt(self) -> str:
        return PROMPT if self._layer.prompt is None else self._layer.prompt

    @property
    def _target(self) -> Target | None:
        targets = self._layer.targets
        return targets[0] if targets else None

    async def _kept_before(self) -> tuple[int, Made] | None:
        """The summary of the longest part that has one, and how many groups it stands for."""
        found = await self._shelf.longest(self._keys)
        return None if found is None else (found[0] + 1, found[1])

    # --- without one ---------------------------------------------------------------------------

    def _without(self, why: str) -> tuple[Message, ...]:
        """What is sent if there is no summary, as `otherwise` says."""
        otherwise = self._layer.otherwise
        done, made = (0, None) if self._earlier is None else self._earlier
        stands = [] if made is None else [self._summary(made, done)]
        left_out = _messages_in(self._covered[done:]) if otherwise == "sliding_window" else 0
        self._context.note(
            LAYER,
            "summarise.failed",
            why=why,
            otherwise=otherwise,
            left_out=left_out,
            strategies=self._replaced if otherwise == "sliding_window" else (),
        )
        if otherwise == "raise":
            raise _refused(why)
        if otherwise == "sliding_window":
            return self._plan.filled(*stands)
        whole = self._request.messages
        if not stands:
            return whole
        gone = {place for group in self._covered[:done] for place in range(group.start, group.stop)}
        first = self._covered[0].start
        kept = [one for place, one in enumerate(whole[first:], first) if place not in gone]
        return (*whole[:first], *stands, *kept)

    # --- the message ---------------------------------------------------------------------------

    def _summary(self, made: Made, groups: int) -> Message:
        return standing_in(made.text, self._keys[groups - 1][:16], cut=made.cut)

    def _fitting(self, made: Made, groups: int) -> Made:
        """The summary, cut if it is far longer than it may be; none if it saves nothing."""
        tokens = self._count(self._summary(made, groups)) - FRAME_TOKENS
        if tokens + FRAME_TOKENS >= self._tokens(self._covered[:groups]):
            return Made(why="it is longer than what it stands for", lasting=True, unfit=True)
        most = _LONGER * self._layer.max_output_tokens
        if tokens <= most:
            return made
        # Whoever wrote it has not kept to it, and the conversation would be too long for good.
        return attrs.evolve(made, text=made.text[: int(len(made.text) * most / tokens)], cut=True)

    def _tokens(self, covered: tuple[Group, ...]) -> int:
        return sum([self._count(message) for group in covered for message in group.messages])


def _refused(why: str) -> SummariseError:
    error = SummariseError(
        f"The conversation is too long, and could not be summarised: {why}.",
        hint="The trace has the child call. Summarise(otherwise='sliding_window') goes on without "
        "the oldest turns.",
        layer=LAYER,
        outcome=Outcome.NOT_SENT,
    )
    error.why = why
    return error


def _messages_in(covered: tuple[Group, ...]) -> int:
    return sum([len(group.messages) for group in covered])
