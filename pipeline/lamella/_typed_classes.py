"""Classes with fields: what their fields are called, how an instance is made, who refuses a value.

attrs, dataclasses, TypedDict and NamedTuple. Instances are made by calling the class, so that its
converters, validators and `__post_init__` run. Where one of them refuses, each field's own
validator is asked by itself: so a problem names its field, and there is one for each wrong field.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, NotRequired, Required, cast, get_args, get_origin

import attrs
import typing_extensions
from typing_extensions import ReadOnly

from lamella._errors import ConfigurationError
from lamella._schema_docs import Words, words_of
from lamella._typed_nodes import Node
from lamella._typed_plain import plain
from lamella._typed_problems import Problem, kind_of
from lamella._typed_records import NO_DEFAULT, WRONG_VALUES, Field, said

_UNREAD: Final = object()
_EMPTY: Final[Mapping[Any, Any]] = {list: [], dict: {}, set: [], frozenset: [], tuple: []}
"""What factories make that make the same each time."""


@attrs.frozen
class ReadField:
    """A field before its type is read."""

    name: str
    annotation: Any
    required: bool
    default: Any = NO_DEFAULT
    description: str = ""

    def field(self, node: Node) -> Field:
        """The field, now that its node is known."""
        return Field(self.name, node, self.required, self.default, self.description)


@attrs.frozen
class ReadClass:
    """A class before the types of its fields are read.

    Attributes:
        title: Its name.
        make: Makes an instance of the fields that were there.
        explain: Finds which fields a class that refused them did not take; None if it cannot.
        about: What it says of itself.
        variables: What its type variables stand for.
    """

    title: str
    fields: Sequence[ReadField]
    make: Callable[[dict[str, Any]], Any]
    explain: Callable[[dict[str, Any]], list[Problem]] | None
    about: str
    variables: Mapping[Any, Any]


def is_class_with_fields(given: type[Any]) -> bool:
    """Whether it is one of the four kinds."""
    return (
        typing_extensions.is_typeddict(given)
        or attrs.has(given)
        or dataclasses.is_dataclass(given)
        or (issubclass(given, tuple) and hasattr(cast("Any", given), "_fields"))
    )


def class_fields(given: Any, origin: Any, asked: str, where: str) -> ReadClass:
    """What a class is made of.

    Args:
        given: The class, with its arguments if it is generic.
        origin: The class itself.
        asked: What was asked for, for messages.
        where: The place in it.

    Raises:
        ConfigurationError: If an annotation cannot be understood, or no instance can be made.
    """
    hints = _hints(origin, asked, where)
    words = words_of(origin)
    title = _title(given, origin)
    variables = _variables(given, origin)
    if typing_extensions.is_typeddict(origin):
        fields = _dict_fields(origin, hints, words)
        return ReadClass(title, fields, dict[str, Any], None, words.about, variables)
    if attrs.has(origin):
        fields = _attrs_fields(origin, hints, words, (asked, where))
        explain = _attrs_explainer(origin)
    elif dataclasses.is_dataclass(origin):
        fields = _dataclass_fields(origin, hints, words)
        explain = None
    else:
        fields = _tuple_fields(origin, hints, words)
        explain = None
    _check_makeable(origin, fields, asked, where)

    call = cast("Callable[..., Any]", origin)
    return ReadClass(title, fields, lambda found: call(**found), explain, words.about, variables)


def _hints(owner: Any, asked: str, where: str, known: Any = None, name: str = "") -> dict[str, Any]:
    own = {getattr(owner, "__name__", ""): owner}
    try:
        return typing_extensions.get_type_hints(owner, known, own, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        place = f" (at ${where})" if where else ""
        name = name or owner.__qualname__
        msg = f"{asked}: an annotation of {name}{place} cannot be read: {error}."
        hint = "Define or import what it names in the module of the class, at its top level."
        raise ConfigurationError(msg, hint=hint) from None


def _attrs_fields(
    origin: Any, hints: Mapping[str, Any], words: Words, asked: tuple[str, str]
) -> list[ReadField]:
    found: list[ReadField] = []
    for field in attrs.fields(origin):
        if not field.init:
            continue
        alias = field.alias or field.name
        annotation = hints.get(field.name, field.type or Any)
        if field.converter is not None:  # it is given what its parameter says
            annotation = _taken(origin, alias, field.converter, annotation, asked)
        default = field.default
        factory = hasattr(default, "takes_self")  # an `attrs.Factory`
        if factory:
            default = _UNREAD if default.takes_self else default.factory
        found.append(
            ReadField(
                alias,
                annotation,
                required=field.default is attrs.NOTHING,
                default=_default(default, made=factory),
                description=_description(field.metadata, words, field.name),
            )
        )
    return found


def _taken(origin: Any, alias: str, converter: Any, declared: Any, asked: tuple[str, str]) -> Any:
    """What a converter takes, as attrs has it: where it does not say, what the field is."""
    annotation = getattr(origin.__init__, "__annotations__", {}).get(alias)
    if annotation is None:
        return declared
    function = getattr(converter, "converter", converter)  # an `attrs.Converter`
    known = {
        **vars(sys.modules[origin.__module__]),
        **getattr(getattr(function, "__init__", None), "__globals__", {}),
        **getattr(function, "__globals__", {}),
    }
    holder: Any = types.SimpleNamespace(__annotations__={alias: annotation})
    return _hints(holder, *asked, known, f"the converter of {origin.__qualname__}.{alias}")[alias]


def _dataclass_fields(origin: Any, hints: Mapping[str, Any], words: Words) -> list[ReadField]:
    found: list[ReadField] = []
    for field in dataclasses.fields(origin):
        if not field.init:
            continue
        factory = field.default_factory is not dataclasses.MISSING
        default: Any = field.default_factory if factory else field.default
        found.append(
            ReadField(
                field.name,
                hints[field.name],
                required=default is dataclasses.MISSING,
                default=_default(default, made=factory),
                description=_description(field.metadata, words, field.name),
            )
        )
    return found


def _dict_fields(origin: Any, hints: Mapping[str, Any], words: Words) -> list[ReadField]:
    found: list[ReadField] = []
    for name, hint in hints.items():
        required = name in origin.__required_keys__
        annotation = hint
        while (form := get_origin(annotation)) in (Required, NotRequired, ReadOnly):
            required = required if form is ReadOnly else form is Required
            annotation = get_args(annotation)[0]
        found.append(ReadField(name, annotation, required, NO_DEFAULT, words.of.get(name, "")))
    return found


def _tuple_fields(origin: Any, hints: Mapping[str, Any], words: Words) -> list[ReadField]:
    defaults: Mapping[str, Any] = origin._field_defaults
    return [
        ReadField(
            name,
            hints.get(name, Any),
            required=name not in defaults,
            default=_default(defaults.get(name, attrs.NOTHING), made=False),
            description=words.of.get(name, ""),
        )
        for name in origin._fields
    ]


def _description(metadata: Mapping[Any, Any], words: Words, name: str) -> str:
    own = metadata.get("description")
    return own if isinstance(own, str) else words.of.get(name, "")


def _default(given: Any, *, made: bool) -> Any:
    """A default as plain JSON. What a factory makes is shown if it is empty: else it may differ."""
    if given in (attrs.NOTHING, dataclasses.MISSING, _UNREAD):
        return NO_DEFAULT
    if made:
        return _EMPTY.get(given, NO_DEFAULT)
    try:
        return plain(given)
    except (TypeError, ValueError):
        return NO_DEFAULT


def _check_makeable(origin: Any, fields: Sequence[ReadField], asked: str, where: str) -> None:
    """Refuse a class that wants more than its fields: its own `__init__`, or an InitVar."""
    try:
        parameters = tuple(inspect.signature(origin).parameters.values())
    except (TypeError, ValueError):
        return
    known = {each.name for each in fields}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = {each.name: each.default is each.empty for each in parameters if each.kind in named}
    wanted = [name for name, required in taken.items() if required and name not in known]
    strange = [each.name for each in fields if each.name not in taken]
    name = f"{origin.__qualname__} (at ${where})" if where else origin.__qualname__
    if wanted:
        msg = f"{asked}: {name} is made with {wanted[0]!r}, which is no field."
        raise ConfigurationError(msg, hint="Give the parameter a default, or make it a field.")
    if strange and not any(each.kind is each.VAR_KEYWORD for each in parameters):
        msg = f"{asked}: {name} has the field {strange[0]!r}, and is not made with it."
        raise ConfigurationError(msg, hint="Have its __init__ take every field by its name.")


def _attrs_explainer(origin: Any) -> Callable[[dict[str, Any]], list[Problem]]:
    """What asks each field's converter and validator by itself."""

    def explain(found: dict[str, Any]) -> list[Problem]:
        try:
            instance = origin.__new__(origin)
        except TypeError:  # its own `__new__` wants more
            return []
        problems: list[Problem] = []
        given: list[tuple[Any, Any]] = []
        for field in attrs.fields(origin):
            alias = field.alias or field.name
            if not field.init or alias not in found:
                continue
            value = found[alias]
            try:
                value = _converted(field, value, instance)
                object.__setattr__(instance, field.name, value)
            except WRONG_VALUES as error:
                problems.append(_refused(alias, value, error))
            else:
                given.append((field, value))
        for field, value in given:
            if field.validator is not None:
                try:
                    field.validator(instance, field, value)
                except WRONG_VALUES as error:
                    problems.append(_refused(field.alias or field.name, value, error))
                except AttributeError:
                    continue  # it looked at a field that is missing here
        return problems

    return explain


def _converted(field: Any, value: Any, instance: Any) -> Any:
    converter: Any = field.converter
    if converter is None:
        return value
    if not hasattr(converter, "takes_self"):
        return converter(value)
    more = [instance] if converter.takes_self else []
    more += [field] if converter.takes_field else []
    return converter.converter(value, *more)


def _refused(name: str, value: Any, error: Exception) -> Problem:
    kind = kind_of(value)
    got = f"another {kind}" if kind != kind_of(object()) else "another value"
    return Problem((name,), "value that its validator takes", got, said(error))


def _title(given: Any, origin: Any) -> str:
    args = [getattr(each, "__name__", str(each)) for each in get_args(given)]
    return "_".join([origin.__name__, *args])


def _variables(given: Any, origin: Any) -> dict[Any, Any]:
    """What the type variables of a class and of its bases stand for."""
    own: Sequence[Any] = getattr(origin, "__parameters__", ())
    found: dict[Any, Any] = dict(zip(own, get_args(given), strict=False))
    waiting: list[Any] = list(getattr(origin, "__orig_bases__", ()))
    while waiting:
        base = waiting.pop(0)
        kind: Any = get_origin(base)
        if kind is None or kind is Generic:
            continue
        names: Sequence[Any] = getattr(kind, "__parameters__", ())
        for variable, value in zip(names, get_args(base), strict=False):
            found.setdefault(variable, found.get(value, value))
        waiting += getattr(kind, "__orig_bases__", ())
    return found
