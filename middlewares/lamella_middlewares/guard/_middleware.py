"""Guard: a gate for what goes to the model and for what comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Literal, TypeVar

import attrs

from lamella import ConfigurationError, Handler, Request, Response, Secret, middleware
from lamella._options import is_async, one_of, optional_seconds, refused, span_or_none, whole
from lamella_middlewares.guard._answers import guard_answer, passed
from lamella_middlewares.guard._approvals import Approval
from lamella_middlewares.guard._clear import Clear
from lamella_middlewares.guard._requests import guard_request
from lamella_middlewares.guard._rules import (
    Direction,
    FunctionRule,
    Rule,
    clears,
    inspects,
    rules_of,
    waits,
)
from lamella_middlewares.guard._scene import Scene

R = TypeVar("R", bound=Response)


def _behind(guard: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        whole(0)(guard, option, value)


def _approver(guard: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not is_async(value):
        raise refused(guard, option, value, "an async function that takes an Approval")


def _fits_the_rules(guard: Guard, _: attrs.Attribute[Any], direction: Any) -> None:
    for rule in guard.rules:
        ways = {"in", "out"} if rule.direction == "both" else {rule.direction}
        if direction != "both":
            ways &= {direction}
        if not ways or (ways == {"out"} and not inspects(rule)):
            raise ConfigurationError(
                f"Guard(direction={direction!r}): the rule {rule.name!r} has nothing to look at "
                "there.",
                hint="Leave the guard's `direction` out, or give the rule to another guard.",
            )


def _previewed(guard: Guard, option: attrs.Attribute[Any], value: Any) -> None:
    whole(0)(guard, option, value)
    if value and guard.approve is None:
        raise refused(guard, option, value, "0, or give `approve` as well, which it is for")


def _key(given: Secret | str | None) -> Secret | None:
    return None if given is None else Secret.of(given)


def _of(*directions: str) -> Any:
    """The rules for a direction."""

    def chosen(guard: Guard) -> tuple[Rule, ...]:
        attrs.validate(guard)  # attrs itself does so only once all fields are there
        if guard.direction not in directions:
            return ()
        made = [_with_look_behind(rule, guard.look_behind) for rule in guard.rules]
        found = [rule for rule in made if rule.direction in directions]
        return tuple([rule for rule in found if "in" in directions or inspects(rule)])

    return attrs.Factory(chosen, takes_self=True)


def _waits(guard: Any) -> bool:
    """Whether an answer has to wait for a rule or an approver."""
    return guard.approve is not None or any(waits(rule) for rule in guard._answers)  # noqa: SLF001


def _clear(guard: Any) -> Clear | None:
    """What passes at a glance; None where a rule has to be asked each time."""
    requests, answers = guard._requests, guard._answers  # noqa: SLF001
    if not all(map(clears, (*requests, *answers))):
        return None
    return Clear(requests, answers)


def _with_look_behind(rule: Rule, look_behind: int | None) -> Rule:
    """A function that does not say how far it looks behind takes the guard's word."""
    if look_behind is None or not isinstance(rule, FunctionRule) or rule.look_behind is not None:
        return rule
    return attrs.evolve(rule, look_behind=look_behind)


@middleware(
    phase="govern",
    rank=80,
    effects=["short-circuits", "changes requests", "changes events", "asks a child"],
    inside={
        "pii": "its rules, and the services that they ask, would see raw personal data",
        "template": "what is put into a template would reach the provider unguarded",
        "structured": "what it asks again would reach the provider unguarded",
        "tools": "tool results would reach the model unguarded",
        "retrieval": "the documents that are found would reach the model unguarded",
    },
    outside={
        "cache": "an answer from the cache would pass no guard",
        "semantic_cache": "an answer from the cache would pass no guard",
        "single_flight": "who shares an answer would pass no guard, and need no approval",
    },
)
@attrs.frozen
class Guard:
    """Lets requests and answers pass, changes them, blocks them, or has somebody asked first.

    Rules are asked in order, and each sees what those before have left. Of several verdicts the
    strictest holds: block, ask, change, allow. An answer that arrives in pieces is let through as
    far as the rules allow, and nothing that was let through is taken back.

    Args:
        rules: One rule or several: ready ones such as `blocked_terms([...])`, `Rule`s, functions
            that take an `Inspection` and return a verdict, or tables such as
            `{"use": "max_length", "characters": 1000}`.
        direction: `"in"` for requests, `"out"` for answers, `"both"` for what each rule is for.
        look_behind: For functions that do not say it themselves: how many characters one finding
            can have, with what has to be seen around it, 0 or more. None: they need a whole text.
        approve: Asked where a rule says so; an async function that takes an `Approval` and returns
            True or False. It may take as long as the call's deadline allows. None: nobody can be
            asked, and `ApprovalRequired` is raised.
        on_failure: `"refuse"`: what a rule cannot inspect does not pass. `"pass"`: it does, with a
            warning in the log and a note in the trace.
        timeout: Seconds for each verdict that is awaited, above 0, or a timedelta; None sets no
            limit but the call's deadline.
        preview: How many characters of a text approvers are shown, 0 or more.
        approval_key: A `Secret`, or a reference such as `"env:NAME"`, that ids of approvals are
            made with: they then tell nothing to who guesses at the text. None: without.
    """

    rules: tuple[Rule, ...] = attrs.field(converter=rules_of)
    direction: Direction = attrs.field(
        default="both", validator=[one_of("in", "out", "both"), _fits_the_rules]
    )
    look_behind: int | None = attrs.field(default=None, validator=_behind)
    approve: Callable[[Approval], Awaitable[bool]] | None = attrs.field(
        default=None, validator=_approver
    )
    on_failure: Literal["refuse", "pass"] = attrs.field(
        default="refuse", validator=one_of("refuse", "pass")
    )
    timeout: float | None = attrs.field(
        default=10.0, converter=optional_seconds, validator=span_or_none
    )
    preview: int = attrs.field(default=0, validator=_previewed)
    approval_key: Secret | None = attrs.field(default=None, converter=_key)
    _requests: tuple[Rule, ...] = attrs.field(
        init=False, eq=False, repr=False, default=_of("in", "both")
    )
    _answers: tuple[Rule, ...] = attrs.field(
        init=False, eq=False, repr=False, default=_of("out", "both")
    )

    _awaited: bool = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_waits, takes_self=True)
    )

    _clear: Clear | None = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(_clear, takes_self=True)
    )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Pass the request on as the rules let it, and its answer back likewise.

        Raises:
            BlockedError: A rule does not let the request or the answer pass.
            ApprovalRequired: Somebody has to agree, and there is nobody to ask.
            InspectionError: A rule or the approver failed or took too long.
            SecretError: The key of approvals cannot be had.
        """
        key = b""
        if self.approval_key is not None:
            value = await self.approval_key.fetch(ports=request.context.ports)
            key = sha256(value.encode()).digest()
        clear, scene = self._clear, Scene(self, request, call_next, key)
        if self._requests and (clear is None or not clear.request(request)):
            request = await guard_request(scene, self._requests)
        response = await call_next(request)
        if not self._answers:
            return response
        try:
            if clear is not None and clear.answer(request, response):
                return passed(response)
            return await guard_answer(scene, self._answers, response, waits=self._awaited)
        except BaseException:
            await response.aclose()
            raise
