"""The way of one request to a target: who could take it, who should, and who does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

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
)
from lamella._target_fitness import Fitness
from lamella_middlewares.route._board import Board, Standing
from lamella_middlewares.route._policies import Candidate
from lamella_middlewares.route._rollout import CONTROL
from lamella_middlewares.route._trip import Trip

if TYPE_CHECKING:
    from lamella_middlewares.route._middleware import Route

R = TypeVar("R", bound=Response)

_UNHARMED = frozenset({None, Outcome.COMPLETE, Outcome.CANCELLED, Outcome.LEFT})
"""Outcomes of attempts that do not speak against asking their target again."""


Place: TypeAlias = tuple[Target, Standing, float]
"""A target, its standing, and its weight now: another thread may be setting that one."""


class Journey(Generic[R]):
    """One request on its way.

    Args:
        route: The layer.
        request: The request as it got it.
        call_next: The handler inside the layer.
        board: What is known of the targets.
    """

    __slots__ = ("_arm", "_board", "_by", "_call_next", "_group", "_request", "_route", "_waits",
                 "_wanted", "_why")  # fmt: skip

    def __init__(self, route: Route, request: Request[R], call_next: Handler, board: Board) -> None:
        self._route = route
        self._request = request
        self._call_next = call_next
        self._board = board
        self._group: tuple[Standing, ...] = board.group(request.context.provider, route.places)
        self._wanted: Collection[str] = ()
        self._arm: str | None = None
        self._by = ""
        self._why: dict[str, str] = {}
        self._waits: list[float] = []

    async def run(self) -> R:
        """Send the request to a target; to another one where that cannot even take it.

        Raises:
            NoTargetError: If there is none.
            LamellaError: What the target failed with.
        """
        route = self._route
        left = self._weighted()
        if route.classifier is not None:
            await self._classify()
        if route.rollout:
            self._draw_arm()
        fitness = Fitness(self._request, route.book, require=route.require)
        refusal: LamellaError | None = None
        while True:
            choice = self._choose(left)
            if choice is None:
                raise self._nobody(left) from refusal
            # Only of the one that is chosen: asking all of them is dear, and comes to the same.
            why = fitness.unsuitable(choice.target)
            if why is not None:
                self._unsuitable(choice, why)
            else:
                response = await self._send(choice)
                if not isinstance(response, RefusedError):
                    return response
                refusal = response
                self._refused(choice, refusal)
            left = [one for one in left if one[0] is not choice.target]

    async def _send(self, choice: Candidate) -> R | RefusedError:
        """Send the request to a target; why not, if it was refused here and another may take it.

        Raises:
            LamellaError: What the target failed with.
        """
        route, request = self._route, self._request
        self._request.context.note("route", "route.chosen", target=choice.name, by=self._by)
        place = (choice.target, choice.standing)
        trip = Trip(route, request, self._call_next, self._board, self._group, place)
        try:
            response = await ending(trip, request, trip.settle)
        except RefusedError as error:
            if trip.sent() or not error.elsewhere:
                raise
            return error
        if route.shadow is not None and route.shadow_target is not None:
            route.shadow.start(request, route.shadow_target, self._call_next, self._board)
        return response

    # --- who could ---------------------------------------------------------------------------

    def _weighted(self) -> list[Place]:
        """The targets that get any traffic now."""
        route, weights = self._route, self._route.weights
        places = zip(route.choices, self._group, strict=True)
        if not weights:
            return [(target, standing, 1.0) for target, standing in places]
        found: list[Place] = []
        for target, standing in places:
            weight = weights.of(target.name)
            if weight > 0:
                found.append((target, standing, weight))
            else:
                self._why[target.name] = "its weight is 0"
        return found

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

    # --- who should --------------------------------------------------------------------------

    def _choose(self, left: Sequence[Place]) -> Candidate | None:
        """The target that gets it; None if none can."""
        candidates, ejected = self._available(left)
        arms = self._route.arms
        failed, running = self._touched(left)
        pool, by = candidates, "the only one"
        if self._wanted:
            mine = [one for one in candidates if one.name in self._wanted]
            mine = _without(mine, failed)
            if mine:
                pool, by = mine, "classifier"
        if arms:
            mine = _without([one for one in pool if one.name == self._arm], failed)
            if mine:
                return self._chosen(mine[0], "rollout")
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
            return self._chosen(pool[0], by)
        sticky = None if self._route.affinity is None else self._by_affinity(left, pool)
        return sticky or self._by_policy(pool)

    def _available(self, left: Sequence[Place]) -> tuple[list[Candidate], list[Candidate]]:
        """Those that are well, and those that are ejected: better than none."""
        route, request = self._route, self._request
        now = request.context.ports.monotonic()
        slow_start = 0.0 if route.ejection is None else route.ejection.slow_start
        well: list[Candidate] = []
        ejected: list[Candidate] = []
        for target, standing, weight in left:
            conduct, ramp = standing.conduct, 1.0
            kin = well
            if not conduct.spotless:
                status = conduct.status(now)
                if status not in {"ok", "ejected"}:
                    continue
                kin = well if status == "ok" else ejected
                ramp = conduct.ramp(now, slow_start)
            kin.append(Candidate(target, standing, weight * ramp, ramp, request, now))
        return well, ejected

    def _touched(self, left: Sequence[Place]) -> tuple[Collection[str], Collection[str]]:
        """The targets that have failed in this model turn, and those that have it under way."""
        context = self._request.context
        turn = context.bound.turn
        running = tuple(self._board.flying.get(turn, ()))
        if not turn.used:
            return (), running
        steps: set[str] = set()
        for attempt in context.trace.of_turn(turn):
            if attempt.outcome not in _UNHARMED:
                steps.update(attempt.branch.split("/"))
                steps.add(attempt.provider)
        names = [(place[0].name, place[0].branch) for place in left]
        return [name for name, branch in names if branch in steps or name in steps], running

    def _by_affinity(self, left: Sequence[Place], pool: Sequence[Candidate]) -> Candidate | None:
        affinity = self._route.affinity
        assert affinity is not None  # noqa: S101 - asked before
        key = affinity.key(self._request)
        if key is None:
            return None
        # Ranked among all that could take it, whether well or not: who is unwell keeps its keys.
        names = [one[0].name for one in left if one[0].name not in self._route.arms]
        wanted = [name for name in names if name in self._wanted]
        tenant = self._request.context.tenant
        # Who comes back from an ejection gets its keys back by and by.
        weights = {one[0].name: one[2] for one in left} | {one.name: one.weight for one in pool}
        found = affinity.choose(affinity.ranked(key, tenant, wanted or names, weights), pool)
        return None if found is None else self._chosen(found, affinity.word)

    def _by_policy(self, pool: Sequence[Candidate]) -> Candidate:
        route = self._route
        chosen: object = route.policy.choose(
            self._request, pool, self._request.context.ports.random
        )
        for one in pool:
            if one is chosen:
                return self._chosen(one, route.policy_word)
        raise TypeError(
            f"Route's policy {route.policy!r} returned {chosen!r}, which is none of the candidates "
            "that it was given."
        )

    def _chosen(self, candidate: Candidate, by: str) -> Candidate:
        self._by = by
        return candidate

    # --- who does not ------------------------------------------------------------------------

    def _unsuitable(self, choice: Candidate, why: str) -> None:
        self._why[choice.name] = why
        self._request.context.note("route", "route.unsuitable", target=choice.name, why=why)

    def _refused(self, choice: Candidate, error: LamellaError) -> None:
        self._why[choice.name] = f"refused: {error.code or type(error).__name__}"
        facts: dict[str, float] = {}
        if error.retry_after is not None:
            facts["retry_after"] = error.retry_after
            self._waits.append(error.retry_after)
        self._request.context.note(
            "route", "route.refused", target=choice.name, error=type(error).__name__, **facts
        )

    def _nobody(self, left: Sequence[Place]) -> NoTargetError:
        now = self._request.context.ports.monotonic()
        waits = self._waits
        for _, standing, _ in left:
            conduct = standing.conduct
            status, wait = conduct.status(now), conduct.back_in(now)
            only_arm = "it gets the traffic of its rollout only"
            self._why[standing.name] = only_arm if status == "ok" else status
            if wait:
                waits.append(wait)
        reasons = "; ".join(f"{name}: {why}" for name, why in self._why.items())
        return NoTargetError(
            f"Route has no target for this request ({reasons}).",
            hint="Wait for retry_after, add a target, or put Fallback outside Route.",
            status=503,
            code="no_target",
            retry_after=min(waits, default=None),
            layer="route",
        )


def _without(candidates: list[Candidate], names: Collection[str]) -> list[Candidate]:
    return [one for one in candidates if one.name not in names] if names else candidates
