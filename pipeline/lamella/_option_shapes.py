"""The shapes of options: one cattrs converter, strict, and what each is called in messages."""

from __future__ import annotations

import dataclasses
import datetime as dt
import inspect
import types
from collections import abc
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, Union, cast, get_args, get_origin

import attrs
import cattrs

from lamella._errors import SecretError
from lamella._mistakes import Finding, Misfit
from lamella._money import Money
from lamella._secrets import Secret
from lamella._structuring import build, fit

Hook: TypeAlias = Callable[[Any, Any], Any]

_PLAIN: Final = (str, bytes, bool, int, float, list, tuple, dict, dt.date, dt.datetime, dt.time)
"""What a file can hold, besides nothing."""

_LISTS: Final[Mapping[Any, Any]] = {
    list: list,
    abc.MutableSequence: list,
    tuple: tuple,
    abc.Sequence: tuple,
    abc.Collection: tuple,
    abc.Iterable: tuple,
    set: set,
    abc.MutableSet: set,
    frozenset: frozenset,
    abc.Set: frozenset,
}
_TABLES: Final = (dict, abc.Mapping, abc.MutableMapping)

_FROM_CODE: Final = ", from code"
_AMOUNT: Final = "text such as '5.00'"

_WORDS: Final[Mapping[Any, str]] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    dt.timedelta: "a number of seconds",
    Path: "a path",
    Secret: "a reference such as 'env:NAME' or 'file:PATH'",
    type(None): "nothing",
    Any: "anything",
}


def structure(value: object, wanted: Any) -> Any:
    """`value` in the shape of `wanted`.

    Raises:
        Misfit: If it has another.
    """
    try:
        return converter().structure(value, wanted)
    except (ValueError, TypeError, KeyError, cattrs.StructureHandlerNotFoundError) as error:
        raise _misfit(value, wanted) from error


def expected(wanted: Any) -> str:
    """What a value of the type `wanted` is called."""
    words = _WORDS.get(wanted)
    if words is not None:
        return words
    arguments = get_args(wanted)
    if _is_union(wanted) and {Money, str} <= set(arguments):
        return _AMOUNT
    if _is_union(wanted):
        spans = dt.timedelta in arguments  # then a number is one of seconds
        left = [each for each in arguments if each is not type(None)]
        left = [each for each in left if not (spans and each in (int, float))]
        left = [each for each in left if not expected(each).endswith(_FROM_CODE)] or left
        return " or ".join(dict.fromkeys(expected(each) for each in left))
    if get_origin(wanted) is Literal:
        return _one_of(arguments)
    if _is_list(wanted):
        of = [each for each in arguments if each is not ...]
        return f"a list, each {expected(of[0])}" if of and of[0] is not Any else "a list"
    if _is_table(wanted):
        return "a table"
    if inspect.isclass(wanted) and issubclass(wanted, Enum):
        return _one_of([each.value for each in wanted])
    name = getattr(wanted, "__name__", None) or str(wanted)
    return f"a table of {name}'s options" if _is_record(wanted) else f"a {name}{_FROM_CODE}"


def _one_of(values: abc.Sequence[object]) -> str:
    words = [repr(value) for value in values]
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


@cache
def converter() -> cattrs.Converter:
    """The converter, made on first use."""
    made = cattrs.Converter(detailed_validation=False, structure_fallback_factory=lambda _: _object)
    for kind in (bool, int, float, str):
        made.register_structure_hook(kind, _exact)
    made.register_structure_hook(dt.timedelta, _span)
    made.register_structure_hook(Path, _path)
    made.register_structure_hook(Secret, _secret)
    for applies, hook in _HOOKS:
        made.register_structure_hook_func(applies, hook)
    return made


def _misfit(value: object, wanted: Any) -> Misfit:
    return Misfit([Finding((), expected(wanted), value)])


def _exact(value: Any, wanted: Any) -> Any:
    if type(value) is wanted or (wanted is not bool and _is_number_for(value, wanted)):
        return value
    if wanted is str and isinstance(value, str) and not isinstance(value, Enum):
        return value
    raise _misfit(value, wanted)


def _is_number_for(value: object, wanted: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, wanted) or (wanted is float and isinstance(value, int))


def _span(value: Any, wanted: Any) -> dt.timedelta:
    if isinstance(value, dt.timedelta):
        return value
    if _is_number_for(value, float):
        return dt.timedelta(seconds=value)
    raise _misfit(value, wanted)


def _path(value: Any, wanted: Any) -> Path:
    if isinstance(value, str | Path) and str(value):
        try:
            return Path(value).expanduser()
        except RuntimeError as error:  # the home folder of nobody
            raise _misfit(value, wanted) from error
    raise _misfit(value, wanted)


def _secret(value: Any, wanted: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        try:
            return Secret(value)
        except SecretError as error:
            raise Misfit([Finding((), str(error), error=error)]) from error
    raise Misfit([Finding((), f"expected {expected(wanted)}")])


def _literal(value: Any, wanted: Any) -> Any:
    for each in get_args(wanted):
        if type(each) is type(value) and each == value:
            return each
    raise _misfit(value, wanted)


def _union(value: Any, wanted: Any) -> Any:
    members = get_args(wanted)
    if value is None and type(None) in members:
        return None
    others = [member for member in members if member is not type(None)]
    if len(others) == 1:
        return fit(value, others[0])
    deepest: Misfit | None = None
    for member in sorted(others, key=lambda each: each is not type(value)):
        try:
            return fit(value, member)
        except Misfit as misfit:
            if any(finding.path for finding in misfit.findings):
                deepest = misfit  # the shape was right and something inside it is not
    if deepest is None and type(value) is float and Money in members:
        raise Misfit([Finding((), f"{expected(wanted)}, since a float is not exact", value)])
    raise deepest or _misfit(value, wanted)


def _list(value: Any, wanted: Any) -> Any:
    if not isinstance(value, list | tuple | set | frozenset):
        raise _misfit(value, wanted)
    items = list(cast("abc.Collection[Any]", value))
    arguments = get_args(wanted)
    kind = get_origin(wanted) or wanted
    if kind is tuple and arguments and arguments[-1] is not ...:
        if len(items) != len(arguments):
            raise Misfit([Finding((), f"a list of {len(arguments)}", value)])
        return tuple(_each(list(enumerate(items)), arguments))
    of = arguments[0] if arguments else Any
    return _LISTS[kind](_each(list(enumerate(items)), [of] * len(items)))


def _table(value: Any, wanted: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _misfit(value, wanted)
    items = cast("Mapping[str, Any]", value)
    of = (get_args(wanted) or (Any, Any))[1]
    return dict(zip(items, _each(list(items.items()), [of] * len(items)), strict=True))


def _each(items: abc.Sequence[tuple[Any, Any]], wanted: abc.Sequence[Any]) -> list[Any]:
    findings: list[Finding] = []
    made: list[Any] = []
    for (step, item), kind in zip(items, wanted, strict=True):
        try:
            made.append(fit(item, kind))
        except Misfit as misfit:
            findings.extend(misfit.under(step))
    if findings:
        raise Misfit(findings)
    return made


def _record(value: Any, wanted: Any) -> Any:
    if isinstance(value, get_origin(wanted) or wanted):
        return value
    if not isinstance(value, Mapping):
        raise _misfit(value, wanted)
    return build(wanted, cast("Mapping[str, object]", value))


def _object(value: object, wanted: Any) -> object:
    """What only code can give. Its type is checked as far as that can be done."""
    kind = get_origin(wanted) or wanted
    try:
        fits = isinstance(value, kind)
    except TypeError:  # a protocol, say: it would take the parts of the object to tell
        fits = value is not None and type(value) not in _PLAIN
    if fits:
        return value
    raise _misfit(value, wanted)


def _is_union(wanted: Any) -> bool:
    return get_origin(wanted) in (Union, types.UnionType)


def _is_literal(wanted: Any) -> bool:
    return get_origin(wanted) is Literal


def _is_list(wanted: Any) -> bool:
    kind = get_origin(wanted) or wanted
    return isinstance(kind, type) and kind in _LISTS


def _is_table(wanted: Any) -> bool:
    kind = get_origin(wanted) or wanted
    return kind in _TABLES


def _is_record(wanted: Any) -> bool:
    kind = get_origin(wanted) or wanted
    return inspect.isclass(kind) and (attrs.has(kind) or dataclasses.is_dataclass(kind))


# The last one that applies is taken.
_HOOKS: Final[abc.Sequence[tuple[Callable[[Any], bool], Hook]]] = (
    (_is_list, _list),
    (_is_table, _table),
    (_is_record, _record),
    (_is_literal, _literal),
    (_is_union, _union),
)
