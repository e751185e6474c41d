"""Where a choose layer sends a request: to a target."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from lamella._errors import ConfigurationError
from lamella._nothing import NOTHING
from lamella._responses import Response

if TYPE_CHECKING:
    from lamella._handlers import Handler, Transport
    from lamella._requests import Request

R = TypeVar("R", bound=Response)

REST_SECONDS = 60.0
"""For how long a credential that was refused is left alone, unless its pool says otherwise."""


def _is_nested(target: Any) -> bool:
    if target.transport is None:
        return False
    from lamella._pipeline import Pipeline

    return isinstance(target.transport, Pipeline)


def _renames(target: Any) -> bool:
    changes: Any = target.changes
    return isinstance(changes, Mapping) and list(changes) == ["model"]  # pyright: ignore[reportUnknownArgumentType]


def _branch(target: Any) -> str:
    return str(target.name).replace("/", "-")


@attrs.frozen(eq=False, repr=False)
class Target:
    """A place that can answer: a transport, a change to the request, or both.

    Choose layers take targets in shorter forms too; see `as_targets`. They send a request there
    with `send`: through `call_next`, so that every inner layer applies to it and limits, breakers
    and prices see the target; or, where its transport is a pipeline, to that pipeline itself, which
    has a stack of its own.

    Attributes:
        name: What it is called in the trace, and as `served_by` where it has a transport; what
            limits and breakers are counted under then.
        transport: Replaces the pipeline's transport. None keeps it.
        changes: Fields of the request to change, for example `{"model": "gpt-4o-mini"}`.
        tags: What is promised of it, such as `{"region": "eu"}`, for requests that require it.
        credentials: Of a pool, its members: the same provider with different credentials.
        spread: Of a pool, whether calls take turns at which credential they begin with. Otherwise
            all begin with the first that is accepted.
        rest: Of a pool, for how many seconds later calls avoid a credential that was refused.
        nested: Whether its transport is a pipeline.
        branch: Its name as a step of a branch.
        renames: Whether the model is all that it changes.
    """

    name: str
    transport: Handler | None = None
    changes: Mapping[str, Any] = NOTHING
    tags: Mapping[str, str] = NOTHING
    credentials: tuple[Target, ...] = ()
    spread: bool = False
    rest: float = REST_SECONDS
    nested: bool = attrs.field(init=False, default=attrs.Factory(_is_nested, takes_self=True))
    branch: str = attrs.field(init=False, default=attrs.Factory(_branch, takes_self=True))
    renames: bool = attrs.field(init=False, default=attrs.Factory(_renames, takes_self=True))

    @classmethod
    def pool(
        cls,
        name: str,
        transports: Iterable[Transport],
        *,
        changes: Mapping[str, Any] = NOTHING,
        tags: Mapping[str, str] = NOTHING,
        spread: bool = False,
        rest: float = REST_SECONDS,
    ) -> Target:
        """One provider with several credentials: `Target.pool("openai", [OpenAI(a), OpenAI(b)])`.

        A credential that is refused (401, 402, 403, an empty account) or throttled (429) is left
        for the next one at once, without a wait. Each is counted apart, as `openai#1`, `openai#2`.

        Args:
            name: What the provider is called.
            transports: One for each credential; at least one, and no pipelines.
            changes: As for a target.
            tags: As for a target.
            spread: Whether calls take turns at which credential they begin with.
            rest: For how many seconds later calls avoid a credential that was refused; above 0.

        Raises:
            ConfigurationError: If there is no transport, or one of them is none.
        """
        from lamella._target_forms import pooled

        return pooled(name, transports, changes=changes, tags=tags, spread=spread, rest=rest)

    @property
    def model(self) -> str | None:
        """The model that it asks for; None keeps the request's."""
        return self.changes.get("model")

    def changes_for(self, request: Request[Any]) -> Mapping[str, Any]:
        """The changes as they hold for a request.

        The model that a transport was made with is not for operations that take one of their own: a
        chat model judges nothing. Such a request gets the one that the transport has for it.
        """
        changes = self.changes
        if not request.own_model or "model" not in changes:
            return changes
        transport: Any = self.credentials[0].transport if self.credentials else self.transport
        while (inner := getattr(transport, "transport", None)) is not None:
            transport = inner  # a pipeline's own
        if changes["model"] != getattr(transport, "model", None):
            return changes
        return {**changes, "model": None}

    def but(
        self,
        *,
        name: str | None = None,
        changes: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Target:
        """The same target, its credentials included, with what is given here instead.

        Args:
            name: Another name; None keeps it.
            changes: Other changes; None keeps them.
            tags: Other tags; None keeps them.
        """
        name = self.name if name is None else name
        changes = self.changes if changes is None else changes
        members = [
            attrs.evolve(member, name=f"{name}#{number}", changes=changes)
            for number, member in enumerate(self.credentials, 1)
        ]
        tags = self.tags if tags is None else tags
        return attrs.evolve(self, name=name, changes=changes, tags=tags, credentials=tuple(members))

    def __repr__(self) -> str:
        words = [repr(self.name)]
        if self.transport is not None:
            words.append(repr(self.transport))
        words += [f"{name}={value!r}" for name, value in self.changes.items()]
        if self.tags:
            words.append(f"tags={dict(self.tags)!r}")
        if self.credentials:
            words.append(f"credentials={len(self.credentials)}")
        return f"<Target {' '.join(words)}>"


def send(request: Request[R], target: Target, call_next: Handler) -> Awaitable[R]:
    """Send a request to a target, on a branch of its own. Every choose layer does it so.

    Args:
        request: The request as the choose layer got it.
        target: Where to.
        call_next: The handler inside the choose layer.

    Returns:
        What is to be awaited for the answer; it raises what the target fails with, and
        `CredentialsExhaustedError` if no credential of a pool is accepted.
    """
    if target.credentials:
        from lamella._key_pools import walk

        return walk(request, target, call_next)
    request = request.aim(target, branch=target.branch)
    if target.nested:
        assert target.transport is not None  # noqa: S101 - a nested target has a pipeline
        return target.transport(request)
    return call_next(request)


def transports_of(layer: object) -> dict[str, Any]:
    """The transports, pipelines included, of the targets that a layer holds, by name.

    A layer holds targets in an attribute `targets`, a tuple, and where it has one that comes first
    in `primary`; the pipeline that runs the layer closes them.
    """
    found: dict[str, Any] = {}
    for target in targets_of(layer):
        for member in target.credentials or (target,):
            if member.transport is not None:
                found[member.name] = member.transport
    return found


def targets_of(layer: object) -> tuple[Target, ...]:
    """The targets that a layer holds."""
    held: Any = getattr(layer, "targets", ())
    primary: Any = getattr(layer, "primary", None)
    listed: list[Any] = [primary, *held] if isinstance(held, tuple) else [primary]
    return tuple([target for target in listed if isinstance(target, Target)])


def must_be_target_changes(changes: Mapping[str, Any], what: str) -> None:
    """Refuse changes that no request could take.

    Raises:
        ConfigurationError: Naming the field, and the closest one.
    """
    from lamella._chat import ChatRequest
    from lamella._embeddings import EmbeddingRequest

    barred = {"context", "target", "stream"} & changes.keys()
    if barred:
        names = ", ".join(sorted(barred))
        msg = f"{what} changes {names}, which belongs to the call."
        raise ConfigurationError(msg, hint="A target changes what is asked: model, temperature ...")
    model = changes.get("model", "m")
    if not isinstance(model, str) or not model:
        raise ConfigurationError(f"{what} has the model {model!r}: give the name of a model.")
    errors: list[Exception] = []
    for example in (ChatRequest.of("x"), EmbeddingRequest(inputs=("x",))):
        try:
            example.evolve(**changes)
        except (TypeError, ValueError) as error:
            errors.append(error)
        else:
            return
    raise ConfigurationError(f"{what} cannot change a request so: {errors[0]}") from errors[0]
