"""The layer: options, and a look at what it knows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import attrs

from lamella import (
    CardBook,
    ConfigurationError,
    Handler,
    PartHealth,
    Ports,
    Request,
    Response,
    Target,
    middleware,
)
from lamella._layers import name_of
from lamella._options import is_number, refused
from lamella._options import seconds as in_seconds
from lamella._ports import default_ports
from lamella._target_forms import as_targets
from lamella_middlewares.route._affinity import Affinity, affinity_of
from lamella_middlewares.route._board import Board, TargetState
from lamella_middlewares.route._cheapest import Cheapest
from lamella_middlewares.route._classifier import Classifier, classifier_of
from lamella_middlewares.route._ejection import Ejection
from lamella_middlewares.route._journey import Journey
from lamella_middlewares.route._policies import Policy, Weighted, Weights, policy_of, weights_of
from lamella_middlewares.route._rollout import Rollout, rollouts_of
from lamella_middlewares.route._shadow import Shadow, shadow_of

R = TypeVar("R", bound=Response)

NOTHING: Mapping[str, Any] = MappingProxyType({})

HALF_LIFE: Final = 30.0
"""Seconds after which a measured latency counts half, unless the policy says otherwise."""


def _ejection(route: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, Ejection):
        raise refused(route, option, value, "an Ejection, or None to eject nothing")


def _card_book(route: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, CardBook):
        raise refused(route, option, value, "a CardBook, or None for the library's own")


def _tags(route: Any, option: attrs.Attribute[Any], value: object) -> None:
    is_table = isinstance(value, Mapping)
    table: Mapping[Any, Any] = cast("Any", value) if is_table else {None: None}
    if not all(isinstance(tag, str) and _will_do(wanted) for tag, wanted in table.items()):
        want = "a table of tags, such as {'region': 'eu'} or {'region': ['eu', 'ch']}"
        raise refused(route, option, value, want)


def _will_do(wanted: Any) -> bool:
    if isinstance(wanted, str):
        return True
    several = isinstance(wanted, list | tuple | set | frozenset) and bool(cast("Any", wanted))
    return several and all(isinstance(one, str) for one in cast("Any", wanted))


def _text(route: Any, option: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):
        raise refused(route, option, value, "text")


def _choices(given: Any) -> tuple[Target, ...]:
    return as_targets(given)


def _aside(route: Any, given: Any, option: str) -> Target | None:
    """A target that requests are not routed to: one of the others by name, or one of its own."""
    if given is None:
        return None
    for target in route.choices:
        if target.name == given:
            return cast("Target", target)
    found = as_targets(given, option)
    if len(found) != 1:
        raise ConfigurationError(f"Route({option}=...) takes one target, not {len(found)}.")
    [target] = found
    taken = {one.name for one in route.choices}
    return target if target.name not in taken else target.but(name=f"{target.name}#{option}")


def _shadow_target(route: Any) -> Target | None:
    return None if route.shadow is None else _aside(route, route.shadow.target, "shadow")


def _asked(route: Any) -> Target | None:
    return None if route.classifier is None else _aside(route, route.classifier.ask, "classifier")


def _targets(route: Any) -> tuple[Target, ...]:
    asides = [one for one in (route.shadow_target, route.asked) if one is not None]
    return tuple(dict.fromkeys([*route.choices, *asides]))


def _places(route: Any) -> tuple[tuple[str, bool], ...]:
    return tuple([(target.name, target.transport is not None) for target in route.choices])


def _half_life(route: Any) -> float:
    said: Any = getattr(route.policy, "half_life", None)
    return float(said) if is_number(said) and said > 0 else HALF_LIFE


def _names(route: Any) -> frozenset[str]:
    choices: tuple[Target, ...] = route.choices
    return frozenset([target.name for target in choices])


def _arms(route: Any) -> frozenset[str]:
    rollouts: tuple[Rollout, ...] = route.rollout
    return frozenset([rollout.target for rollout in rollouts])


def _policy_word(route: Any) -> str:
    return name_of(route.policy)


def _key(route: Any) -> tuple[str, ...]:
    return (route.namespace, "route")


def _made(make: Any) -> Any:
    """A field that follows from the options."""
    return attrs.field(init=False, repr=False, default=attrs.Factory(make, takes_self=True))


@middleware(
    phase="choose",
    rank=90,
    effects=("changes requests", "calls again", "asks a child"),
    inside={"hedge": "a hedge inside Route goes to the target that is slow already"},
)
@attrs.frozen(eq=False)
class Route:
    """Sends each request to one of several targets: models, deployments, providers, pipelines.

    What a target cannot do is left out, then what is unwell; of the rest a rollout, an affinity or
    the policy chooses. A target that refuses locally (an open breaker, a full limit) is replaced by
    another one within the same call. What one that was asked fails with is raised: `Fallback`
    outside goes elsewhere then, and so does the next try of a `Retry` outside.

    Args:
        targets: Two or more of what `Fallback` takes as well: models by name, transports,
            pipelines, tables, `Target`s. Requests go nowhere else: the pipeline's own transport
            serves those targets that have none.
        policy: `weighted`, `least_in_flight`, `latency`, `cost` or `usage`; a table with `use` and
            the policy's options; or an object of your own with `choose`.
        weights: How much each target gets, by name: 0 takes it out, or from a billionth to a
            billion; 1 where nothing is said. Set while requests pass: `route.weights["a"] = 0`.
        affinity: What stays together: `session`, `user`, `tenant`, `prompt`, a function of the
            request, a table, or an `Affinity`. None keeps nothing together.
        rollout: A `Rollout`, or several, as objects or tables: a share of the users gets a target
            that nobody else gets. The first that includes a user wins.
        classifier: A function of the request that returns a target's name or a score, a
            `Classifier`, or a table. None does not look at content.
        shadow: A `Shadow`, or a table: copies of requests for a second target.
        ejection: When a target is left alone for failing. None never does, and does not heed what
            providers say of time either.
        require: Tags that a target must have, each with the value or values that will do.
        book: The model cards that say what models can do. None takes those of the library and its
            plugins.
        namespace: What is known of targets is shared by this name, and by theirs.

    Attributes:
        targets: All targets that requests may go to, a shadow's and a classifier's included.
        choices: Those that are chosen from.
    """

    choices: tuple[Target, ...] = attrs.field(alias="targets", converter=_choices)
    policy: Policy = attrs.field(factory=Weighted, converter=policy_of)
    weights: Weights = attrs.field(default=None, converter=weights_of)
    affinity: Affinity | None = attrs.field(default=None, converter=affinity_of)
    rollout: tuple[Rollout, ...] = attrs.field(default=None, converter=rollouts_of)
    classifier: Classifier | None = attrs.field(default=None, converter=classifier_of)
    shadow: Shadow | None = attrs.field(default=None, converter=shadow_of)
    ejection: Ejection | None = attrs.field(factory=Ejection, validator=_ejection)
    require: Mapping[str, str | Collection[str]] = attrs.field(default=NOTHING, validator=_tags)
    book: CardBook | None = attrs.field(default=None, validator=_card_book, repr=False)
    namespace: str = attrs.field(default="shared", validator=_text)

    shadow_target: Target | None = _made(_shadow_target)
    asked: Target | None = _made(_asked)
    targets: tuple[Target, ...] = _made(_targets)
    places: tuple[tuple[str, bool], ...] = _made(_places)
    names: frozenset[str] = _made(_names)
    arms: frozenset[str] = _made(_arms)
    policy_word: str = _made(_policy_word)
    half_life: float = _made(_half_life)
    _key: tuple[str, ...] = _made(_key)

    def __attrs_post_init__(self) -> None:
        self._must_know("weights", self.weights)
        self._must_know("rollout", self.arms)
        self.weights.use(self.names)
        if isinstance(self.policy, Cheapest):
            self._must_know("policy", self.policy.prices)
        if self.classifier is not None:
            self._must_know("classifier", self.classifier.named)
        if not self.names - self.arms:
            raise ConfigurationError(
                "Route(rollout=...) leaves no target for those who are not in.",
                hint="Add the one that is in use now.",
            )

    def _must_know(self, option: str, names: Collection[str]) -> None:
        for name in names:
            if name not in self.names:
                raise ConfigurationError(
                    f"Route({option}=...) names the target {name!r}, and there is none.",
                    hint=f"There are: {', '.join(one.name for one in self.choices)}.",
                )

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request to one of the targets.

        Raises:
            NoTargetError: If none can take it; `retry_after` is the least of theirs.
            LamellaError: What the target failed with.
        """
        board = request.context.ports.stores.local.get(self._key, Board)
        return await Journey(self, request, call_next, board).run()

    def _board(self, ports: Ports | None) -> Board:
        return (ports or default_ports()).stores.local.get(self._key, Board)

    # --- looking, and acting by hand ---------------------------------------------------------

    def states(self, ports: Ports | None = None) -> tuple[TargetState, ...]:
        """How the targets stand that requests have been routed among.

        A target without a transport of its own stands here once for each provider that it was used
        with.

        Args:
            ports: Those of the pipeline, where it has its own. None takes the process's.
        """
        ports = ports or default_ports()
        board = self._board(ports)
        ejection = self.ejection or Ejection()
        return board.states(self.names, ports.monotonic(), self.weights.table, ejection)

    def isolate(self, target: str, *, ports: Ports | None = None) -> None:
        """Send nothing to a target until `reset`, in all pipelines that share what is known of it.

        Args:
            target: Its name.
            ports: As for `states`.

        Raises:
            ConfigurationError: If there is no such target.
        """
        self._must_know("targets", (target,))
        self._board(ports).isolate(target)

    def rest(self, target: str, seconds: float | timedelta, *, ports: Ports | None = None) -> None:
        """Send nothing to a target for a while: its provider is at work on it.

        Args:
            target: Its name.
            seconds: For how long, above 0; more than a day counts as a day.
            ports: As for `states`.

        Raises:
            ConfigurationError: If there is no such target, or the time is none.
        """
        self._must_know("targets", (target,))
        lasts = in_seconds(seconds)
        if not is_number(lasts) or lasts <= 0:
            raise ConfigurationError(
                f"Route.rest({target!r}, {seconds!r}): give seconds above 0, or a timedelta."
            )
        ports = ports or default_ports()
        self._board(ports).rest(target, ports.monotonic(), lasts)

    def reset(self, target: str, *, ports: Ports | None = None) -> None:
        """Forget all that speaks against a target: isolation, rests, ejections, failures.

        Args:
            target: Its name.
            ports: As for `states`.

        Raises:
            ConfigurationError: If there is no such target.
        """
        self._must_know("targets", (target,))
        self._board(ports).reset(target)

    def health(self, ports: Ports | None = None) -> PartHealth:
        """Whether all targets are well; the others by name. `Pipeline.health()` asks for it."""
        unwell = {one.name: one.status for one in self.states(ports) if one.status != "ok"}
        return PartHealth(not unwell, unwell)
