"""What a layer declares about itself: its phase, its neighbours, what it may do."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, cast, get_args

import attrs

from lamella._errors import ConfigurationError
from lamella._nothing import NOTHING
from lamella._requests import Request

Phase: TypeAlias = Literal[
    "observe", "compose", "govern", "remember", "shape", "choose", "attempt", "wire"
]
"""Where in the stack a layer belongs, outermost first."""

PHASES: tuple[str, ...] = get_args(Phase)

Effect: TypeAlias = Literal[
    "short-circuits", "calls again", "changes requests", "changes events", "asks a child"
]
"""What a layer may do besides passing on; `explain()` shows it."""

C = TypeVar("C", bound=Callable[..., Any])

_DECLARATION = "__lamella_layer__"


class Declared(TypedDict, total=False):
    """The optional part of a declaration; see `LayerInfo` for each."""

    name: str
    requests: type[Request[Any]]
    rank: int
    outside: Mapping[str, str]
    inside: Mapping[str, str]
    requires: Iterable[str]
    provides: Iterable[str]
    once: bool
    effects: Iterable[Effect]
    timed: bool


@attrs.frozen
class LayerInfo:
    """A layer's declaration.

    Attributes:
        name: What it is called in configuration, traces and messages.
        phase: Where it belongs; None for a function that declares nothing: it is taken as it
            stands.
        requests: The requests it handles; it is not in the chain of others.
        rank: Its place within the phase for `arrange`, 0 outermost to 99 innermost.
        outside: Layers that it must stand outside of, each with the reason. Breaking this leaks
            data or loses money, so it is an error.
        inside: Layers that it must stand inside of, each with the reason.
        requires: Names that some layer of the stack must provide.
        provides: Names that it provides, besides its own.
        once: Whether a stack may hold it only once.
        effects: What it may do besides passing on.
        timed: Whether it wants to know each layer's time: then `trace.spans` is kept in every call
            of the pipeline.
    """

    name: str
    phase: Phase | None = None
    requests: type[Request[Any]] = Request
    rank: int = 50
    outside: Mapping[str, str] = NOTHING
    inside: Mapping[str, str] = NOTHING
    requires: frozenset[str] = attrs.field(default=frozenset(), converter=frozenset)
    provides: frozenset[str] = attrs.field(default=frozenset(), converter=frozenset)
    once: bool = False
    effects: frozenset[Effect] = attrs.field(default=frozenset(), converter=frozenset)
    timed: bool = False


def middleware(*, phase: Phase, **declared: Unpack[Declared]) -> Callable[[C], C]:
    """Declare a class or an async function a middleware. Returns it unchanged.

    Args:
        phase: Where in the stack it belongs.
        **declared: See `LayerInfo`; the name is otherwise made from the class or function.

    Raises:
        ConfigurationError: If the phase is unknown, or a function is not asynchronous.
    """
    if phase not in PHASES:
        msg = f"Unknown phase {phase!r}: use one of {', '.join(PHASES)}."
        raise ConfigurationError(msg)

    def declare(layer: C) -> C:
        rest = dict(declared)
        name = str(rest.pop("name", None) or snake_case(getattr(layer, "__name__", "layer")))
        must_be_async(layer, name, "middleware", classes=True)
        info: Any = LayerInfo(name, phase, **cast("Any", rest))
        setattr(layer, _DECLARATION, info)
        return layer

    return declare


def info_of(layer: object) -> LayerInfo:
    """What a layer declares.

    An instance's own `phase` overrides its class's, and what its options make it need, a frozenset
    `requires`, is added.
    """
    info = getattr(layer, _DECLARATION, None)
    if not isinstance(info, LayerInfo):
        info = LayerInfo(name_of(layer))
    needs: Any = getattr(layer, "requires", None)
    if isinstance(needs, frozenset) and not isinstance(layer, type):
        wanted: Any = info.requires | cast("frozenset[str]", needs)
        info = attrs.evolve(info, requires=wanted)
    phase = getattr(layer, "phase", None)
    if phase is None or phase == info.phase:
        return info
    if phase not in PHASES:
        msg = (
            f"Layer {info.name!r} has the unknown phase {phase!r}: use one of {', '.join(PHASES)}."
        )
        raise ConfigurationError(msg)
    return attrs.evolve(info, phase=phase)


def name_of(thing: object) -> str:
    """What to call a layer or transport that does not say."""
    given = getattr(thing, "name", None)
    if isinstance(given, str) and given:
        return given
    while isinstance(thing, partial):
        thing = thing.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    name = getattr(thing, "__name__", None)
    return str(name) if isinstance(name, str) else snake_case(type(thing).__name__)


def snake_case(name: str) -> str:
    """`CircuitBreaker` as `circuit_breaker`; `PII` as `pii`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def must_be_async(thing: object, name: str, what: str, *, classes: bool = False) -> None:
    """Refuse what cannot be awaited. With `classes`, a class will do: its instances are checked.

    Raises:
        ConfigurationError: If it is a class, not callable, or a plain function.
    """
    if inspect.isclass(thing):
        if classes:
            return
        hint = f"Make an instance of it: {thing.__name__}()."
        msg = f"The class {thing.__name__} was given where a {what} is needed."
        raise ConfigurationError(msg, hint=hint)
    if not callable(thing):
        msg = f"{thing!r} cannot be called, so it is no {what}."
        hint = f"A {what} is an async function, or an object with `async def __call__`."
        raise ConfigurationError(msg, hint=hint)
    if what == "middleware" and is_routine(thing) and not _takes_next(thing):
        msg = f"The function {name!r} is no middleware: it cannot take (request, call_next)."
        hint = (
            f"One is `async def {name}(request, call_next)`. For a model to call: Tools([{name}])."
        )
        raise ConfigurationError(msg, hint=hint)
    if not _is_async(thing):
        msg = f"The {what} {name!r} is not asynchronous."
        hint = "Write `async def`; blocking work goes through `await context.ports.thread(...)`."
        if what == "middleware" and not classes:
            hint += f" For a model to call: Tools([{name}])."
        raise ConfigurationError(msg, hint=hint)


def is_layer(thing: object) -> bool:
    """Whether what can be called can be a middleware as it stands."""
    return isinstance(thing, type) or (
        _is_async(thing) and (not is_routine(thing) or _takes_next(thing))
    )


def is_routine(thing: object) -> bool:
    """Whether it is a function, a method, or a part of one, and no object of a class that acts."""
    return inspect.isroutine(_whole(thing))


def _is_async(thing: object) -> bool:
    whole = _whole(thing)
    call: Any = whole if inspect.isroutine(whole) else type(whole).__call__
    return inspect.iscoroutinefunction(call)


def _whole(thing: Any) -> Any:
    """The function that a part of one is made of."""
    while isinstance(thing, partial):
        thing = thing.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return thing  # pyright: ignore[reportUnknownVariableType]


def _takes_next(function: Any) -> bool:
    """Whether a function takes a request and what comes next, which it cannot do without."""
    if inspect.isfunction(function) and not function.__defaults__:
        code = function.__code__
        if code.co_argcount == 2 and not code.co_kwonlyargcount:
            return True  # nearly all of them, for a fraction of what a signature takes
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:  # one that is written in C, and does not say
        return True
    try:
        bound = signature.bind(None, None).arguments
    except TypeError:
        return False
    last = signature.parameters[list(bound)[-1]]
    return last.kind is last.VAR_POSITIONAL or last.default is last.empty
