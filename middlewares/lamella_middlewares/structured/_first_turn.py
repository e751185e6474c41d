"""The first question, in the best way that model, transport and provider take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lamella import (
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    ContentFilteredError,
    ContextLengthError,
    Handler,
    InvalidRequestError,
    LamellaError,
    UnsupportedError,
)
from lamella_middlewares.structured._modes import Asked, asked, card_of, modes, tool_may_be_forced

if TYPE_CHECKING:
    from lamella._cards import ModelCard
    from lamella._typed_forms import Form
    from lamella_middlewares.structured._middleware import Structured
    from lamella_middlewares.structured._modes import Mode

LAYER: Final = "structured"

_MOST_QUESTIONS: Final = 1_000

_KEPT_SECONDS: Final = 3_600.0
"""A refusal may be about this schema or these tools, and a server may learn: it is asked again."""


class Habits:
    """Which way is taken by models that have no card, as far as this process has found out."""

    def __init__(self) -> None:
        self._ways: dict[Any, tuple[Mode, float]] = {}

    def way(self, question: Any, now: float) -> Mode | None:
        """The way that a question of this kind was answered in; None if there is none to skip to.

        Args:
            question: Model, type and whether there are other tools.
            now: Monotonic time in seconds.
        """
        mode, until = self._ways.get(question, (None, now))
        return mode if now < until else None

    def learn(self, question: Any, mode: Mode, now: float) -> None:
        """Remember a way for an hour; names that callers make up do not fill the memory."""
        if len(self._ways) >= _MOST_QUESTIONS:
            self._ways.clear()
        self._ways[question] = mode, now + _KEPT_SECONDS


def must_be_possible(request: ChatRequest) -> None:
    """Refuse a request that asks for a value and for something else.

    Raises:
        ConfigurationError: That says what.
    """
    if request.response_format is not None:
        msg = "Both `returns=` and response_format say which shape the answer is to have."
        raise ConfigurationError(msg, hint="Leave response_format out.", layer=LAYER)
    if request.n is not None and request.n > 1:
        msg = f"n={request.n} asks for several answers, and `returns=` for one value."
        hint = "Leave n out, and run the request several times: run_many([request] * 3, returns=T)."
        raise ConfigurationError(msg, hint=hint, layer=LAYER)


async def first_turn(
    layer: Structured, request: ChatRequest, form: Form[Any], call_next: Handler
) -> tuple[Asked, ChatResponse]:
    """Ask; in the next best way where one is refused. What was asked, and the answer.

    Args:
        layer: Its options.
        request: The caller's, without `returns`.
        form: What is wanted.
        call_next: The handler inside.

    Raises:
        ConfigurationError: If the request cannot be asked so.
        LamellaError: What the layers inside raise.
    """
    card = None if layer.mode == "native" else await card_of(request)
    ways: tuple[Mode, ...]
    strict = layer.strict and form.strict is not None
    if layer.mode == "auto":
        ways = modes(card, strict=strict or not layer.strict, tool=tool_may_be_forced(request))
    else:
        ways = (layer.mode,)
    habits = _habits(request) if card is None and len(ways) > 1 else None
    question = (request.model, form.name, bool(request.tools))
    now = request.context.ports.monotonic
    known = None if habits is None else habits.way(question, now())
    if known in ways:
        ways = ways[ways.index(known) :]
    for place, mode in enumerate(ways):
        way = asked(mode, request, form, card, call_next, strict=strict)
        request.context.note(LAYER, "structured.asked", mode=mode, strict=way.strict)
        try:
            response = await call_next(way.request)
        except (UnsupportedError, InvalidRequestError) as error:
            if place == len(ways) - 1 or not _refuses_the_way(error, card):
                raise
            request = another(request, ways[place + 1])
            continue
        if habits is not None and place:
            habits.learn(question, mode, now())
        return way, response
    raise AssertionError("There is always a way.")  # pragma: no cover - `ways` is never empty


def another(request: ChatRequest, word: str) -> ChatRequest:
    """A request as another question: with a bound on attempts and an idempotency key of its own.

    It is a further model turn, but not called one: a layer inside may count turns of its own, whose
    branches and keys would be the same.
    """
    before, turn = request.context, request.turn(2, asked_by=LAYER)
    key = before.idempotency_key
    facts = {
        "branch": f"{before.branch}/{word}",
        "idempotency_key": None if key is None else f"{key}/{word}",
    }
    return turn.evolve(context=turn.context.evolve(**facts))


def _refuses_the_way(error: LamellaError, card: ModelCard | None) -> bool:
    """Whether an error may be about how it was asked, so that another way may be taken.

    What the transport has no words for was not sent. Of a model without a card nobody knows what
    it takes; a provider that refuses bills nothing.
    """
    if isinstance(error, UnsupportedError):
        return True
    other = isinstance(error, ContextLengthError | ContentFilteredError)
    return card is None and not other and error.status in {None, 400, 422}


def _habits(request: ChatRequest) -> Habits:
    context = request.context
    return context.ports.stores.local.get(("shared", LAYER, context.provider), Habits)
