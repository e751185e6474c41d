"""The layer: first a plain call, and the walk through targets only once that has failed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

import attrs

from lamella import CardBook, ConfigurationError, Handler, Request, Response, middleware
from lamella._nothing import NOTHING
from lamella._options import one_of, refused, seconds, span
from lamella._retry_budget import RetryBudget
from lamella._target_fitness import REQUIRE
from lamella._target_forms import as_targets, told_apart
from lamella._targets import Target
from lamella._warm import Warm
from lamella_middlewares.fallback._alternatives import more_behind
from lamella_middlewares.fallback._triggers import Triggers, filtered

if TYPE_CHECKING:
    from lamella_middlewares.fallback._walk import Walk

R = TypeVar("R", bound=Response)

_walking: Final = Warm(partial(import_module, "lamella_middlewares.fallback._walk"))


async def _walk(fallback: Fallback, request: Request[R], call_next: Handler) -> Walk[R]:
    """A way through the targets; its code is imported off the event loop when one first fails."""
    if not _walking.done:
        await _walking.ready(request.context)
    from lamella_middlewares.fallback._walk import Walk

    return Walk(fallback, request, call_next)


def _first(given: Any) -> Target | None:
    if given is None:
        return None
    found = as_targets(given, "primary")
    if len(found) != 1:
        msg = f"Fallback(primary=...) is one target, and {len(found)} were given."
        raise ConfigurationError(msg, hint="Give the others as targets.")
    return found[0]


def _budget(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, RetryBudget):
        raise refused(layer, option, value, "a RetryBudget, or None for no bound")


def _card_book(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, CardBook):
        raise refused(layer, option, value, "a CardBook, or None for the library's own")


def _tags(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    given: Any = value
    if not isinstance(given, Mapping) or not all(
        isinstance(tag, str) and wanted and isinstance(wanted, str | list | tuple | set | frozenset)
        for tag, wanted in cast("Mapping[object, object]", given).items()
    ):
        want = 'a table of tags, each with the value or values that will do: {"region": "eu"}'
        raise refused(layer, option, value, want)


def _triggers_of(layer: Any) -> Triggers:
    return Triggers.of(layer.on)


@middleware(phase="choose", rank=10, effects=("calls again", "changes requests"))
@attrs.frozen(eq=False)
class Fallback:
    """Sends a request to the next target where one has failed in a way that may pass elsewhere.

    Only what has not been handed on is sent elsewhere: never an answer that the caller has seen
    part of. All targets share the call's deadline, its bound on attempts and the retry budget. A
    target that cannot take the request as it is, is left out; nothing is dropped to make it fit.

    Args:
        targets: Where else, in order: model names, transports, pipelines, `Target`s or tables; see
            `as_targets`.
        on: What else leads to the next target, besides what says so itself (`error.elsewhere`): the
            word `"content_filter"`, exception types, plain functions of the exception, or a list of
            these. None is nothing else.
        primary: The first target. None is the request as it comes, to the pipeline's own transport.
        require: Tags that a target must have, each with its value or those that will do:
            `{"region": "eu"}`. A request may require more in `context.attributes["require"]`.
        state: What becomes of state that only the provider that made it understands, such as sealed
            reasoning, on the way to another. `"strip"` leaves it out, with a note; `"refuse"`
            leaves out the target. What stands for content (`previous_response_id`, the id of a
            file) always leaves out the target.
        min_useful: Seconds that must be left of the deadline for a further target, above 0.
        budget: Bounds second visits to a target in one model turn, which Retry outside leads to,
            together with all other retries. None sets no bound. First visits are no retries.
        book: Where the targets' models are looked up. None is the library's model cards.
    """

    targets: tuple[Target, ...] = attrs.field(converter=as_targets)
    on: Any = attrs.field(default=None, kw_only=True)
    primary: Target | None = attrs.field(default=None, converter=_first, kw_only=True)
    require: Mapping[str, Any] = attrs.field(default=NOTHING, validator=_tags, kw_only=True)
    state: Literal["strip", "refuse"] = attrs.field(
        default="strip", validator=one_of("strip", "refuse"), kw_only=True
    )
    min_useful: float = attrs.field(default=0.1, converter=seconds, validator=span, kw_only=True)
    budget: RetryBudget | None = attrs.field(factory=RetryBudget, validator=_budget, kw_only=True)
    book: CardBook | None = attrs.field(
        default=None, validator=_card_book, repr=False, kw_only=True
    )
    triggers: Triggers = attrs.field(
        init=False, repr=False, default=attrs.Factory(_triggers_of, takes_self=True)
    )

    def __attrs_post_init__(self) -> None:
        if self.primary is not None:
            primary, *others = told_apart([self.primary, *self.targets])
            object.__setattr__(self, "primary", primary)
            object.__setattr__(self, "targets", tuple(others))

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on, elsewhere where that makes sense.

        Raises:
            TargetsFailedError: If several targets have failed; of the first one's class as well.
            NoTargetError: If no target can take the request.
            LamellaError: What the only target that was asked failed with, or what no other target
                can mend.
        """
        context = request.context
        plain = self.primary is None and not self.require and REQUIRE not in context.attributes
        if not plain or context.bound.turn.used:
            return await (await _walk(self, request, call_next)).run()
        try:
            response = await call_next(more_behind(request, self, self.targets))
        except Exception as error:  # noqa: BLE001 - judged there, and raised unless sent elsewhere
            failure = error
        else:
            found = filtered(response) if self.triggers.content_filter else None
            if found is None:
                return response
            failure = found
        # Outside the `except`, so that later errors do not carry this one as their context.
        return await (await _walk(self, request, call_next)).run(failure)
