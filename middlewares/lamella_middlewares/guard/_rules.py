"""What a rule is, and what it is given to look at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

import attrs

from lamella import Channel, ConfigurationError, Request, Response, Surface
from lamella._layers import name_of
from lamella._options import each_of, is_async
from lamella_middlewares.guard._verdicts import Verdict, allow, is_word

if TYPE_CHECKING:
    from lamella import Context
    from lamella_middlewares.guard._scene import Scene

R = TypeVar("R", bound=Response)
L = TypeVar("L", bound="Rule")

Direction: TypeAlias = Literal["in", "out", "both"]
"""What is looked at: requests, answers, or both."""

DIRECTIONS = ("in", "out", "both")


class About(TypedDict, total=False):
    """What can be said of every ready rule; see `Rule` for each."""

    name: str
    direction: Direction
    roles: Collection[str] | None


@attrs.frozen
class Inspection:
    """A text that a rule is to look at.

    Attributes:
        text: The text. While it is still arriving, the piece that is held back, with what a rule
            may have to see before it.
        start: Where in `text` begins what is to be judged; before it is what has been let through.
        offset: Where `text` begins in the whole text.
        final: Whether nothing more comes.
        direction: `"in"` for a request, `"out"` for an answer.
        surface: Where it stands in a request; None for an answer's.
        channel: Which text of an answer it is; None for a request's.
    """

    text: str
    start: int
    offset: int
    final: bool
    direction: Literal["in", "out"]
    surface: Surface | None
    channel: Channel | None
    _scene: Scene = attrs.field(alias="scene", repr=False, eq=False)

    @property
    def request(self) -> Request[Any]:
        """The request, or the one that is being answered."""
        return self._scene.request

    @property
    def context(self) -> Context:
        """The context of the call."""
        return self._scene.request.context

    @property
    def kept(self) -> dict[Any, Any]:
        """What rules keep for the rest of the call: one dict for each call, for all its turns."""
        return self._scene.kept

    async def child(self, request: Request[R], *, purpose: str) -> R:
        """Ask a model or service something in this call, through the layers inside this one."""
        return await self._scene.child(request, purpose)


@attrs.frozen
class Review:
    """A request that a rule is to look at as a whole.

    Attributes:
        request: The request, as the rules before have left it.
    """

    request: Request[Any]
    _scene: Scene = attrs.field(alias="scene", repr=False, eq=False)

    @property
    def context(self) -> Context:
        """The context of the call."""
        return self.request.context

    @property
    def kept(self) -> dict[Any, Any]:
        """What rules keep for the rest of the call: one dict for each call, for all its turns."""
        return self._scene.kept

    async def child(self, request: Request[R], *, purpose: str) -> R:
        """Ask a model or service something in this call, through the layers inside this one."""
        return await self._scene.child(request, purpose)


Given: TypeAlias = Verdict | Awaitable[Verdict]


class Rule:
    """The base of every rule. Override `inspect`, `review`, or both; plain or asynchronous.

    A rule holds options only, is used by many calls at once, and may be run in a thread.

    Attributes:
        name: What it is called in errors, notes and questions: a word.
        direction: What it is made for; `Guard(direction=...)` may narrow it.
        roles: The roles of messages whose texts it looks at in requests; None for all texts, those
            of tools and of no message included.
        look_behind: While an answer is still arriving: how many characters one finding can have,
            with what has to be seen before and behind it. So many are held back. None: it needs the
            whole text, which is held back until its end.
        blocking: Whether a plain rule takes long, and so is run in a thread.
    """

    name: str = ""
    direction: Direction = "both"
    roles: Collection[str] | None = None
    look_behind: int | None = None
    blocking: bool = False

    def inspect(self, inspection: Inspection, /) -> Given:
        """Judge one text, of a request or of an answer."""
        return allow()

    def review(self, review: Review, /) -> Given:
        """Judge a request as a whole. `change(request)` changes it."""
        return allow()

    def clears(self, text: str, /) -> bool:
        """Whether a whole text passes, and nothing is said of it; False: `inspect` is to be asked.

        For rules to which nothing but the text matters, and which see at once that there is nothing
        in it: that most texts are clear is remembered, and costs next to nothing.
        """
        return False


@attrs.frozen
class FunctionRule(Rule):
    """A rule made of a function."""

    function: Callable[[Inspection], Given] = attrs.field(repr=False)
    name: str
    direction: Direction = "both"
    roles: Collection[str] | None = None
    look_behind: int | None = None
    blocking: bool = False

    def inspect(self, inspection: Inspection, /) -> Given:
        """What the function says."""
        return self.function(inspection)


class _RuleOptions(TypedDict, total=False):
    name: str | None
    direction: Direction
    roles: Collection[str] | None
    look_behind: int | None
    blocking: bool


@overload
def rule(
    function: Callable[[Inspection], Given], /, **options: Unpack[_RuleOptions]
) -> FunctionRule: ...


@overload
def rule(
    **options: Unpack[_RuleOptions],
) -> Callable[[Callable[[Inspection], Given]], FunctionRule]: ...


def rule(
    function: Callable[[Inspection], Given] | None = None, /, **options: Unpack[_RuleOptions]
) -> Any:
    """A rule made of a function, plain or asynchronous. Also a decorator.

    Args:
        function: It gets an `Inspection` and returns a verdict.
        **options: `name` (otherwise the function's), `direction`, `roles`, `look_behind` and
            `blocking`; see `Rule`.

    Raises:
        ConfigurationError: If an option is wrong.
    """
    if function is None:
        return partial(rule, **options)
    given: dict[str, Any] = {**options}
    given["name"] = given.get("name") or name_of(function).strip("<>_")
    return checked(FunctionRule(function, **given))


def checked(made: L) -> L:
    """The rule, if what it says of itself can be.

    Raises:
        ConfigurationError: Otherwise.
    """
    what = f"The rule {made.name!r}" if made.name else f"A {type(made).__name__}"
    if not is_word(made.name):
        raise ConfigurationError(
            f"{what} has no name that is a word (letters, digits and ._:/- signs, 64 at most).",
            hint="Set `name`: it stands in errors and notes.",
        )
    if made.direction not in DIRECTIONS:
        raise ConfigurationError(
            f"{what}: direction={made.direction!r}: give 'in', 'out' or 'both'."
        )
    behind = made.look_behind
    if behind is not None and (type(behind) is not int or behind < 0):
        raise ConfigurationError(
            f"{what}: look_behind={behind!r}: give a number of characters, 0 or more, or None if "
            "it needs the whole text."
        )
    if isinstance(made.roles, str):
        raise ConfigurationError(f"{what}: roles={made.roles!r}: give a list such as ['user'].")
    if made.blocking and (waits_for(made, "inspect") or waits_for(made, "review")):
        raise ConfigurationError(
            f"{what}: blocking=True is for plain functions, and this one is asynchronous.",
            hint="Leave `blocking` out: what is awaited does not hold the loop.",
        )
    if not inspects(made) and not reviews(made):
        raise ConfigurationError(f"{what} overrides neither `inspect` nor `review`.")
    return made


def inspects(made: Rule) -> bool:
    """Whether it judges texts."""
    return type(made).inspect is not Rule.inspect


def reviews(made: Rule) -> bool:
    """Whether it judges requests as a whole."""
    return type(made).review is not Rule.review


def clears(made: Rule) -> bool:
    """Whether it can tell at once that a text is clear.

    Who overrides `inspect` of a rule that can has made another of it, and is to say so itself.
    """
    if not inspects(made) or reviews(made):
        return False
    for kind in type(made).__mro__:
        if "clears" in kind.__dict__:
            return kind is not Rule
        if "inspect" in kind.__dict__:
            return False
    return False


def waits(made: Rule) -> bool:
    """Whether its verdict on a text has to be awaited."""
    return made.blocking or waits_for(made, "inspect")


def waits_for(made: Rule, method: Literal["inspect", "review"]) -> bool:
    """Whether one of its methods is asynchronous."""
    if isinstance(made, FunctionRule) and method == "inspect":
        return is_async(made.function)
    return is_async(getattr(made, method))


class _Ready:
    """The ready rules by name, as configuration files name them."""

    names: ClassVar[Mapping[str, str]] = {
        "addresses": "_addresses",
        "blocked_terms": "_terms",
        "consumption": "_consumption",
        "injection_markers": "_injection",
        "max_length": "_patterns",
        "moderation": "_moderation",
        "pattern": "_patterns",
    }

    @classmethod
    def make(cls, given: Mapping[str, Any]) -> Rule:
        import importlib

        from lamella._structuring import build

        options = dict(given)
        name = options.pop("use", None)
        if name not in cls.names:
            raise ConfigurationError(
                f"Guard: there is no rule {name!r}.",
                hint=f"Give {{'use': ..., options}} with one of {', '.join(cls.names)}.",
            )
        module = importlib.import_module(f"{__package__}.{cls.names[name]}")
        return cast("Rule", build(getattr(module, name), options))


def rules_of(given: Any) -> tuple[Rule, ...]:
    """Rules from what a program or a file gives: one or several rules, functions or tables.

    Raises:
        ConfigurationError: If it is something else, or nothing.
    """
    items = [given] if _is_one(given) else None
    if items is None and isinstance(given, Sequence) and not isinstance(given, str):
        items = list(cast("Any", given))
    if not items:
        raise ConfigurationError(
            f"Guard({given!r}): give a rule, such as blocked_terms([...]), or a list of rules."
        )
    return tuple(each_of("rules", items, _rule_of))


def _is_one(given: Any) -> bool:
    return isinstance(given, Rule | Mapping) or callable(given)


def _rule_of(item: Any) -> Rule:
    if isinstance(item, Rule):
        return checked(item)
    if isinstance(item, Mapping):
        return checked(_Ready.make(cast("Mapping[str, Any]", item)))
    if callable(item) and not isinstance(item, type):
        return rule(cast("Any", item))
    raise ConfigurationError(
        f"Guard: {item!r} is no rule.",
        hint="Give blocked_terms([...]) or another ready rule, a Rule of yours, or a function that "
        "takes an Inspection and returns a verdict.",
    )
