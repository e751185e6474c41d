"""What a function takes, as a model is told it, and the other way round."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_type_hints

import attrs
import msgspec

from lamella import ConfigurationError, Context
from lamella._nothing import NOTHING
from lamella._schema_docs import Words
from lamella_middlewares.tools._told import ToolContext

if TYPE_CHECKING:  # imported where the first tool is made: a list of the layers needs none of it
    from lamella._typed_forms import Form

_EMPTY: Final = inspect.Parameter.empty
_CONTEXTS: Final = (ToolContext, Context)
_MOST: Final = 12
"""How many problems of its arguments a model is told of."""


class BadArguments(Exception):
    """The model's arguments do not fit; `args[0]` tells the model what to mend."""


@attrs.frozen
class Parameters:
    """What a function takes from a model.

    Attributes:
        form: Reads all of them together.
        names: In order.
        positional: How many of them the function takes by position only.
        contexts: Which parameters are given the call's context, and which of the two kinds.
        whole: Whether the function takes the whole JSON object, as one argument.
    """

    form: Form[Any]
    names: tuple[str, ...]
    positional: int = 0
    contexts: Mapping[str, type] = NOTHING
    whole: bool = False

    def read(self, text: str) -> Any:
        """The arguments that a model wrote, checked.

        Raises:
            BadArguments: If they are no JSON object, or do not fit.
        """
        from lamella._typed_problems import FormError

        value = _object(text)
        if not self.whole:
            unknown = [name for name in value if name not in self.names]
            if unknown:
                known = ", ".join(self.names) or "none"
                named = ", ".join([repr(name[:60]) for name in unknown[:_MOST]])
                raise BadArguments(f"There is no parameter {named}. The parameters are: {known}.")
        try:
            return self.form.check(value)
        except FormError as wrong:
            problems = [problem.told for problem in wrong.problems[:_MOST]]
            raise BadArguments("\n".join(problems)) from None

    def call(self, function: Callable[..., Any], read: Any, told: ToolContext) -> Callable[[], Any]:
        """The call of the function, to be made without arguments."""
        contexts = {
            name: told if kind is ToolContext else told.context
            for name, kind in self.contexts.items()
        }
        if self.whole:
            return functools.partial(function, read, **contexts)
        by_place = [getattr(read, name) for name in self.names[: self.positional]]
        by_name = {name: getattr(read, name) for name in self.names[self.positional :]}
        return functools.partial(function, *by_place, **by_name, **contexts)


def _object(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}  # how some providers say that there are none
    try:
        value: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadArguments(f"The arguments are not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise BadArguments("The arguments have to be one JSON object.")
    return value  # pyright: ignore[reportUnknownVariableType]


# --- from a function ---------------------------------------------------------------------------


def parameters_of(function: Callable[..., Any], name: str, words: Words) -> Parameters:
    """What a function takes, by its signature.

    Raises:
        ConfigurationError: If a parameter has no type, or one that JSON has no form for.
    """
    from lamella._typed_annotations import Reading
    from lamella._typed_forms import Form

    signature, hints = _signature(function, name)
    contexts: dict[str, type] = {}
    fields: list[tuple[str, Any, Any]] = []
    positional = 0
    for parameter in signature.parameters.values():
        kind = _context_kind(hints.get(parameter.name))
        if kind is not None and parameter.kind is parameter.POSITIONAL_ONLY:
            msg = f"The tool {name!r} takes its context {parameter.name!r} by position only."
            raise ConfigurationError(msg, hint="Put it behind the `/`: it is given by its name.")
        if kind is not None:
            contexts[parameter.name] = kind
            continue
        positional += parameter.kind is parameter.POSITIONAL_ONLY
        fields.append(_field(parameter, hints, name, words))
    record = make_dataclass(name.replace("-", "_"), fields, kw_only=True)
    form: Form[Any] = Form(record, Reading(f"The tool {name!r}").node(record), name)
    names = tuple([name for name, _, _ in fields])
    return Parameters(form, names, positional, contexts)


def given_parameters(
    function: Callable[..., Any], name: str, schema: Mapping[str, Any]
) -> Parameters:
    """What a function takes whose caller wrote the JSON Schema: the whole object.

    Raises:
        ConfigurationError: If the schema describes no object, or the function takes none.
    """
    from lamella._typed_forms import form_of

    if schema.get("type") != "object":
        msg = f"tool({name!r}, parameters=...): the schema is not of type 'object'."
        raise ConfigurationError(msg, hint="Arguments of a tool are an object of named values.")
    signature, hints = _signature(function, name)
    contexts: dict[str, type] = {}
    others: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        kind = _context_kind(hints.get(parameter.name))
        if kind is None:
            others.append(parameter)
        else:
            contexts[parameter.name] = kind
    needed = [one for one in others[1:] if one.default is _EMPTY and _is_plain(one)]
    if not others or needed or others[0].kind is inspect.Parameter.KEYWORD_ONLY:
        msg = f"tool({name!r}, parameters=...): the function has to take one argument."
        raise ConfigurationError(msg, hint="It is given the whole JSON object, as a dict.")
    return Parameters(form_of(dict(schema)), (), contexts=contexts, whole=True)


def _signature(
    function: Callable[..., Any], name: str
) -> tuple[inspect.Signature, Mapping[str, Any]]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        msg = f"The tool {name!r} has no signature that can be read: {error}."
        raise ConfigurationError(msg, hint="Write a function around it.") from None
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not inspect.isroutine(inner):
        inner = type(inner).__call__
    try:
        return signature, get_type_hints(inner, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        msg = f"The tool {name!r} has an annotation that cannot be read: {error}."
        hint = "Define or import what it names at the top level of the function's module."
        raise ConfigurationError(msg, hint=hint) from None


def _context_kind(hint: Any) -> type | None:
    """Which of the two contexts an annotation asks for, `| None` included; None for neither."""
    for one in (hint, *get_args(hint)):
        if one in _CONTEXTS:
            return one  # type: ignore[no-any-return]
    return None


def _is_plain(parameter: inspect.Parameter) -> bool:
    return parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def _field(
    parameter: inspect.Parameter, hints: Mapping[str, Any], tool: str, words: Words
) -> tuple[str, Any, Any]:
    """A field of the record that the arguments are read as."""
    name = parameter.name
    if not _is_plain(parameter):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        msg = f"The tool {tool!r} takes {stars}{name}: a model has to be told each parameter."
        hint = "Name the parameters, or give tool(..., parameters={JSON Schema})."
        raise ConfigurationError(msg, hint=hint)
    if name not in hints:
        msg = f"The parameter {name!r} of the tool {tool!r} has no type."
        hint = f"Annotate it, as in `{name}: str`, so that arguments can be checked."
        if name in {"self", "cls"}:
            hint = "Give the method of an object, as in Tools([shop.find]), not that of a class."
        raise ConfigurationError(msg, hint=hint)
    annotation: Any = hints[name]
    description = words.of.get(name)
    if description:
        annotation = Annotated[annotation, msgspec.Meta(description=description)]
    if parameter.default is _EMPTY:
        return name, annotation, field()
    default = parameter.default
    if default is None or isinstance(default, str | int | float):
        return name, annotation, field(default=default)
    return name, annotation, field(default_factory=lambda: default)


def names_of(tools: Sequence[Any]) -> frozenset[str]:
    """The names that tools of whatever kind have, those of providers' hosted tools included."""
    found: set[str] = set()
    for one in tools:
        data: Any = getattr(one, "data", None)
        if data is None:
            found.add(one.name)
            continue
        for holder in (data, *data.values()):
            if isinstance(holder, Mapping) and isinstance(name := holder.get("name"), str):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                found.add(name)
    return frozenset(found)
