"""The way of one request to a target: who could take it, who should, and who does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

from lamella import (
    Handler,
    LamellaError,
    NoTargetError,
    Outcome,
    RefusedError,
    Request,
    Response,
    Target,
    ending,
    provided,
)
from lamella._price_sources import PRICES, Pricing
from lamella._target_fitness import Fitness
from lamella_middlewares.route._affinity import Affinity
from lamella_middlewares.route._board import Board
from lamella_middlewares.route._policies import Candidate, Moment
from lamella_middlewares.route._rollout import CONTROL
from lamella_middlewares.route._trip import Trip, is_within

if TYPE_CHECKING:
    from lamella_middlewares.route._middleware import Route

R = TypeVar("R", bound=Response)

_UNHARMED = frozenset({None, Outcome.COMPLETE, Outcome.CANCELLED, Outcome.LEFT})
"""Outcomes of attempts that do not speak against asking their target again."""


class Journey(Trip[R]):
    """One request on its way, at one target after another until one takes it.

    Args:
        route: The layer.
        request: The request as it got it.
        call_next: The handler inside the layer.
        board: What is known of the targets.
    """

    __slots__ = ("_arm", "_pricing", "_waits", "_wanted", "_why")

    def __init__(self, route: Route, request: Request[R], call_next: Handler, board: Board) -> None:
        super().__init__(route, request, call_next, board)
        self._wanted: Collection[str] = ()
        self._arm: str | None = None
        self._why: dict[str, str] = {}  # why not, of the targets that are out already
        self._waits: list[float] = []
        self._pricing: Pricing | None = provided(call_next, PRICES)

    async def run(self) -> R:
        """Send the request to a target; to another one where that cannot even take it.

        Raises:
            NoTargetError: If there is none.
            LamellaError: What the target failed with.
        """
        route, board = self._route, self._board
        if route.classifier is not None:
            await self._classify()
        if route.rollout:
            self._draw_arm()
        request = self._request
        fitness = Fitness(request, route.book, require=route.require)
        if not fitness.at_hand:
            await fitness.ready()
        if self._pricing is not None and getattr(route.policy, "asks_prices", False):
            await self._pricing.ready(request)
        refusal: LamellaError | None = None
        while True:
            found = self._choose()
            if found is None:
                raise self._nobody() from refusal
            choice, by = found
            target = choice.target
            # Only of the one that is chosen: asking all of them is dear, and comes to the same.
            why = fitness.unsuitable(target)
            if why is not None:
                self._unsuitable(target, why)
                continue
            request.context.trace.note("route", "route.chosen", target=target.name, by=by)
            self.depart(choice)
            try:
                response = await ending(self, request, self.settle, answered=self.answered)
            except RefusedError as error:
                if self.sent() or not error.elsewhere:
                    raise
                refusal = error
                self._refused(target, error)
                continue
            if route.shadow is not None and route.shadow_target is not None:
                route.shadow.start(request, route.shadow_target, self._call_next, board)
            refusal = None  # or it would keep this frame, which its traceback keeps
            return response

    async def _classify(self) -> None:
        route, request = self._route, self._request
        assert route.classifier is not None  # noqa: S101 - asked before
        verdict = await route.classifier.verdict(
            request, route.asked, self._call_next, known=route.names
        )
        if verdict is None:
            return
        self._wanted = verdict.targets
        fields = {"score": verdict.score, "why": verdict.why}
        facts = {name: value for name, value in fields.items() if value is not None}
        request.context.note("route", "route.classified", targets=verdict.targets, **facts)

    def _draw_arm(self) -> None:
        """Decide once which rollout includes the caller; its tag goes inward, a note outward."""
        context = self._request.context
        tags = dict(context.tags)
        for rollout in self._route.rollout:
            included = self._arm is None and rollout.includes(context, context.ports.random)
            if included:
                self._arm = rollout.target
            arm = rollout.target if included else CONTROL
            tags[rollout.name] = arm
            context.note(
                "route", "route.arm", rollout=rollout.name, arm=arm, percent=rollout.percent
            )
        self._request = self._request.evolve(context=context.evolve(tags=tags))

    # --- who could ---------------------------------------------------------------------------

    def _available(self) -> tuple[list[Candidate], list[Candidate]]:
        """Those that are well, and those that are ejected: better than none."""
        route, request = self._route, self._request
        now = request.context.ports.monotonic()
        moment = Moment(request, now, self._pricing)
        well: list[Candidate] = []
        ejected: list[Candidate] = []
        why, weights = self._why, route.weights.table
        for target, standing in zip(route.choices, self._group, strict=True):
            conduct, weight = standing.conduct, 1.0
            if weights or why:
                weight = weights.get(target.name, 1.0)
                if not weight or target.name in why:
                    continue
            if conduct.spotless:
                well.append(Candidate(target, standing, weight, 1.0, moment))
                continue
            status = conduct.status(now)
            if status in {"ok", "ejected"}:
                slow_start = 0.0 if route.ejection is None else route.ejection.slow_start
                ramp = conduct.ramp(now, slow_start)
                one = Candidate(target, standing, weight * ramp, ramp, moment)
                (well if status == "ok" else ejected).append(one)
        return well, ejected

    def _touched(self) -> tuple[Collection[str], Collection[str]]:
        """The targets that have failed in this model turn, and those that have it under way."""
        context = self._request.context
        turn, branch = self._turn, context.branch
        running = [
            flight.standing.name
            for flight in tuple(self._board.flying.get(turn, ()))
            if not is_within(branch, flight.branch)  # or this very request is inside that one
        ]
        if not turn.used:
            return (), running
        steps: set[str] = set()
        for attempt in context.trace.of_turn(turn):
            if attempt.outcome not in _UNHARMED:
                steps.update(_beside(branch, attempt.branch))
                steps.add(attempt.provider)
        failed = [
            one.name for one in self._route.choices if one.name in steps or one.branch in steps
        ]
        return failed, running

    # --- who should --------------------------------------------------------------------------

    def _choose(self) -> tuple[Candidate, str] | None:
        """The target that gets it, and who says so; None if none can."""
        candidates, ejected = self._available()
        arms = self._route.arms
        failed: Collection[str] = ()
        running: Collection[str] = ()
        if self._turn.used or self._turn in self._board.flying:
            failed, running = self._touched()
        pool, by = candidates, "the only one"
        if self._wanted:
            mine = [one for one in candidates if one.name in self._wanted]
            mine = _without(mine, failed)
            if mine:
                pool, by = mine, "classifier"
        if arms:
            mine = [one for one in pool if one.name == self._arm]
            mine = _without(_without(mine, failed), running)
            if mine:
                return mine[0], "rollout"
            # Failed or ejected, its own target is still better than none; another's never is.
            own = arms - {self._arm}
            pool = _without(pool, arms) or _without(candidates, arms) or _without(candidates, own)
            ejected = _without(ejected, own)
        if not pool:
            if not ejected:
                return None
            pool = ejected
            self._request.context.note(
                "route", "route.panic", targets=tuple([one.name for one in ejected])
            )
        if failed or running:
            pool = _without(_without(pool, failed), running) or _without(pool, failed) or pool
        if len(pool) == 1:
            return pool[0], by
        if self._route.affinity is not None:
            found = self._by_affinity(self._route.affinity, pool)
            if found is not None:
                return found, self._route.affinity.word
        return self._by_policy(pool), self._route.policy_word

    def _by_affinity(self, affinity: Affinity, pool: Sequence[Candidate]) -> Candidate | None:
        key = affinity.key(self._request)
        if key is None:
            return None
        # Ranked among all that could take it, whether well or not: who is unwell keeps its keys.
        weights = {
            name: weight
            for name in [target.name for target in self._route.choices]
            if (weight := self._route.weights.table.get(name, 1.0)) and name not in self._why
        }
        names = [name for name in weights if name not in self._route.arms]
        wanted = [name for name in names if name in self._wanted]
        # Who comes back from an ejection gets its keys back by and by.
        weights |= {one.name: one.weight for one in pool}
        tenant = self._request.context.tenant
        return affinity.choose(affinity.ranked(key, tenant, wanted or names, weights), pool)

    def _by_policy(self, pool: Sequence[Candidate]) -> Candidate:
        policy = self._route.policy
        chosen: object = policy.choose(self._request, pool, self._request.context.ports.random)
        for one in pool:
            if one is chosen:
                return one
        raise TypeError(
            f"Route's policy {policy!r} returned {type(chosen).__name__}, and not one of the "
            "candidates that it was given."
        )

    # --- who does not ------------------------------------------------------------------------

    def _unsuitable(self, target: Target, why: str) -> None:
        self._why[target.name] = why
        self._request.context.note("route", "route.unsuitable", target=target.name, why=why)

    def _refused(self, target: Target, error: LamellaError) -> None:
        self._why[target.name] = f"refused: {error.code or type(error).__name__}"
        facts: dict[str, float] = {}
        if error.retry_after is not None:
            facts["retry_after"] = error.retry_after
            self._waits.append(error.retry_after)
        self._request.context.note(
            "route", "route.refused", target=target.name, error=type(error).__name__, **facts
        )

    def _nobody(self) -> NoTargetError:
        now = self._request.context.ports.monotonic()
        for standing in self._group:
            name, conduct = standing.name, standing.conduct
            if name in self._why:
                continue
            if not self._route.weights.table.get(name, 1.0):
                self._why[name] = "its weight is 0"
                continue
            status, wait = conduct.status(now), conduct.back_in(now)
            only_arm = "it gets the traffic of its rollout only"
            self._why[name] = only_arm if status == "ok" else status
            if wait:
                self._waits.append(wait)
        reasons = "; ".join(f"{name}: {why}" for name, why in self._why.items())
        return NoTargetError(
            f"Route has no target for this request ({reasons}).",
            hint="Wait for retry_after, add a target, or put Fallback outside Route.",
            status=503,
            code="no_target",
            retry_after=min(self._waits, default=None),
            layer="route",
        )


def _without(candidates: list[Candidate], names: Collection[str]) -> list[Candidate]:
    return [one for one in candidates if one.name not in names] if names else candidates


def _beside(branch: str, other: str) -> list[str]:
    """The steps of another branch from where the two part."""
    steps, path = branch.split("/"), other.split("/")
    shared = 0
    while shared < min(len(steps), len(path)) and steps[shared] == path[shared]:
        shared += 1
    return path[shared:]
