"""Who writes summaries: a child call, which may fail without the call's failing."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import anyio
import attrs

from lamella import (
    BlockedError,
    ChatRequest,
    ClosedError,
    ContextLengthError,
    DeadlineExceeded,
    Handler,
    InvalidRequestError,
    Message,
    Money,
    RefusedError,
    Request,
    Target,
)
from lamella._aside import AskedAside
from lamella._keepable import cost_of_turn
from lamella._targets import send
from lamella_middlewares.summarise._flights import LATE, Made
from lamella_middlewares.summarise._names import LAYER
from lamella_middlewares.summarise._texts import question

REST: Final = 30.0
"""Seconds between the tries while it fails."""

_OF_THE_CONVERSATION: Final = (InvalidRequestError, BlockedError)
"""What says that this conversation cannot be summarised, and nothing of any other."""

_TOKENS_A_WORD: Final = 2
"""What a word takes in most languages, generously: the model should end before it is cut off."""


@attrs.frozen
class Order:
    """What one child call is to do.

    Attributes:
        prompt: What the model is told.
        tokens: The most it may write.
        until: The instant on the call's clock by which it is to be done: the child's deadline.
        grace: Seconds after that instant at which it is cut off nevertheless.
        lines: The messages, a line each.
        hurried: Whether it has not the whole time that the layer gives.
    """

    prompt: str = attrs.field(repr=False)
    tokens: int
    until: float
    grace: float
    lines: str = attrs.field(default="", repr=False)
    hurried: bool = False


class Writer(AskedAside):
    """Writes summaries; and what is known of the model that does."""

    __slots__ = ()
    kind = "model"
    rest = REST
    without = "Summarise leaves it alone and does what its option `otherwise` says"

    async def write(
        self,
        request: ChatRequest,
        order: Order,
        target: Target | None,
        call_next: Handler,
    ) -> tuple[Made, Money | None]:
        """A summary, or why there is none; and what it has cost, if anybody knows.

        Args:
            request: For which it is wanted.
            order: What is to be done.
            target: Who does it; None is the request's own model, through the handler inside.
            call_next: The handler inside the layer.

        Raises:
            DeadlineExceeded: If the call's own deadline passes.
            ClosedError: If the pipeline closes meanwhile.
        """
        if not self.breaker.admits():
            return Made(why="left alone after failures", lasting=True), None
        began, context = self.monotonic(), request.context
        child = _asked(request, order)
        made, tells = Made(why=LATE, lasting=not order.hurried), not order.hurried
        with anyio.move_on_after(order.until - context.clock.now() + order.grace):
            try:
                made = await _answer(child, target, call_next)
                tells = not made.unfit
            except _OF_THE_CONVERSATION as error:
                made, tells = _unfit(type(error).__name__), False
                made = attrs.evolve(made, too_long=isinstance(error, ContextLengthError))
            except Exception as error:
                if isinstance(error, DeadlineExceeded | ClosedError) and _is_over(request):
                    raise  # the call is over, and not only the summary
                late = isinstance(error, DeadlineExceeded)
                # What a layer refuses (the caller's budget, say) is not the model's fault.
                tells = not isinstance(error, RefusedError) and not (late and order.hurried)
                why = LATE if late else type(error).__name__
                made = Made(why=why, lasting=tells)
        if made.text:
            self.answered()
        elif tells:
            self.failed(began, made.why)
        return made, cost_of_turn(child.context)


def _asked(request: ChatRequest, order: Order) -> ChatRequest:
    """The child call's request. No `Summarise` on its way summarises it again."""
    mark = hashlib.sha256(order.lines.encode(), usedforsecurity=False).hexdigest()[:16]
    words = max(20, order.tokens // _TOKENS_A_WORD)
    asked = ChatRequest(
        messages=(
            Message("system", order.prompt),
            Message("user", question(order.lines, mark, words)),
        ),
        model=request.model,
        max_output_tokens=order.tokens,
    )
    child = request.child(asked, purpose="summary", asked_by=LAYER)
    context = child.context
    own = context.deadline
    context = context.evolve(
        attributes={**context.attributes, LAYER: False},
        deadline=order.until if own is None else min(own, order.until),
    )
    placed: ChatRequest = child.evolve(context=context)  # type: ignore[assignment]
    return placed


async def _answer(child: ChatRequest, target: Target | None, call_next: Handler) -> Made:
    sent = call_next(child) if target is None else send(child, target, call_next)
    response = await (await sent).collect()
    if response.refusal is not None:
        return _unfit("the model declined")
    reason = response.finish_reason
    text = response.text.strip()
    if reason not in {"stop", "length"}:
        return _unfit(f"it ended with {reason!r}")
    if not text:
        cut = reason == "length"
        return _unfit("max_output_tokens left no room for it" if cut else "it is empty")
    return Made(text, cut=reason == "length")


def _unfit(why: str) -> Made:
    return Made(why=why, lasting=True, unfit=True)


def _is_over(request: Request[Any]) -> bool:
    return request.context.call.closing or request.context.left() <= 0
