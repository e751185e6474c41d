"""Plain values, as a file or a call gives them, into the arguments of a class or function.

The target's own annotations say what is expected: there is no second description of options to keep
in step. Nothing is coerced: `"5"` is no integer, and 1 is not true. Every mistake is found, not the
first only.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, TypeVar, cast

import attrs

from lamella._checked_tables import close_to
from lamella._mistakes import Finding, Misfit
from lamella._objections import objection, objections

T = TypeVar("T")

_CONVERTERS_THAT_CHECK = (bool, int, float, str)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@attrs.frozen
class Parameters:
    """What a class or function can be called with.

    Attributes:
        types: The type of each option by name; `Any` where it is not known.
        required: Those without a default.
        open: Whether it takes options of any other name too.
    """

    types: Mapping[str, Any]
    required: tuple[str, ...]
    open: bool


def build(factory: Callable[..., Any], options: Mapping[str, object]) -> Any:
    """Call `factory` with options that have the shape its annotations ask for.

    Args:
        factory: A class, or a function that makes something.
        options: Plain values by name. `_` and `-` in names are alike. Objects that only code can
            give pass as they are if their type fits.

    Raises:
        Misfit: With every option that is unknown, missing or of the wrong shape; or with what the
            factory itself objected to.
    """
    known = parameters_of(factory)
    findings = wrong_names(options)
    wrong = {finding.path[0] for finding in findings}
    arguments: dict[str, Any] = {}
    seen: set[str] = set()
    for given, value in options.items():
        if str(given) in wrong:
            continue
        name = given if given in known.types else given.replace("-", "_")
        seen.add(name)
        if name not in known.types and not known.open:
            findings.append(Finding((given,), _unknown(name, known)))
            continue
        try:
            arguments[name] = fit(value, known.types.get(name, Any))
        except Misfit as misfit:
            findings.extend(misfit.under(given))
    for name in known.required:
        if name not in seen:
            wanted = known.types[name]
            more = "and has no default" if wanted is Any else f"expected {_expected(wanted)}"
            findings.append(Finding((name,), f"is missing, {more}"))
    objected: Exception | None = None
    if not findings:
        try:
            return factory(**arguments)
        except Exception as error:  # noqa: BLE001 - a stranger's class may object with anything
            objected = error
    if attrs.has(_innermost(factory)) and all(name in arguments for name in known.required):
        findings.extend(objections(factory, arguments, known, objected))
    elif objected is not None:
        findings.extend(objection((), objected, arguments))
    raise Misfit(findings) from objected


def build_option(option: str, factory: Callable[..., T], table: Mapping[str, Any]) -> T:
    """What a table describes that was given for one option of a layer.

    Args:
        option: The option, for messages.
        factory: Makes it.
        table: Its own options.

    Raises:
        Misfit: As for `build`, with the path of each mistake beginning at the option.
    """
    try:
        return cast("T", build(factory, table))
    except Misfit as misfit:
        raise Misfit(misfit.under(option)) from None


def wrong_names(options: Mapping[Any, object]) -> list[Finding]:
    """What is wrong with the names of options by themselves: no text, or one name spelt twice."""
    findings: list[Finding] = []
    spelt: dict[str, str] = {}
    for given in options:
        if not isinstance(given, str):
            findings.append(Finding((str(given),), "is no option: its name is no text"))
            continue
        other = spelt.setdefault(given.replace("-", "_"), given)
        if other != given:
            findings.append(Finding((given,), f"is there already, as {other!r}"))
    return findings


def fit(value: object, wanted: Any) -> Any:
    """`value` in the shape of the type `wanted`.

    Raises:
        Misfit: If it has another.
    """
    if wanted is Any or wanted is object:
        return value
    from lamella._option_shapes import structure

    return structure(value, wanted)


def parameters_of(factory: Callable[..., Any]) -> Parameters:
    """What `factory` can be called with."""
    # A class is looked at once: evaluating its annotations costs a millisecond or more, and every
    # pipeline of a preset is made of the same ones. Of other things, equal ones may take different.
    if inspect.isclass(factory):
        return _parameters_of_class(cast("type", factory))
    return _looked_up(factory)


@lru_cache(maxsize=256)
def _parameters_of_class(factory: type) -> Parameters:
    return _looked_up(factory)


def _looked_up(factory: Callable[..., Any]) -> Parameters:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some of those that are written in C do not say
        return Parameters({}, (), open=True)
    hints = _hints_of(factory)
    named = [each for each in signature.parameters.values() if each.kind in _NAMED]
    known = {each.name: hints.get(each.name, Any) for each in named}
    rest = [each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD]
    named_rest = _named_rest(hints.get(rest[0], Any)) if rest else None
    return Parameters(
        types={**known, **(named_rest or {})},
        required=tuple(each.name for each in named if each.default is inspect.Parameter.empty),
        open=bool(rest) and named_rest is None,
    )


def _named_rest(hint: Any) -> Mapping[str, Any] | None:
    """The options of `**options: Unpack[SomeTypedDict]`; None if any will do."""
    if typing.get_origin(hint) is not typing.Unpack:
        return None
    (table,) = typing.get_args(hint)
    return _resolved(table)


def _innermost(factory: Any) -> Any:
    while isinstance(factory, partial):
        factory = cast("Any", factory.func)  # pyright: ignore[reportUnknownMemberType]
    return factory


def _hints_of(factory: Any) -> dict[str, Any]:
    factory = _innermost(factory)
    if not inspect.isclass(factory):
        return _resolved(factory)
    if not attrs.has(factory):
        return _resolved(factory.__init__)
    hints: dict[str, Any] = {}
    for base in reversed(factory.__mro__):
        hints.update(_resolved(base))
    fields = attrs.fields(factory)
    return {field.alias or field.name: _field_type(field, hints) for field in fields if field.init}


def _field_type(field: attrs.Attribute[Any], hints: Mapping[str, Any]) -> Any:
    """The type that a field takes: where it has a converter, what that takes."""
    declared = hints.get(field.name, Any)
    converter = cast("Any", field.converter)  # pyright: ignore[reportUnknownMemberType]
    if isinstance(converter, attrs.Converter):
        converter = cast("Any", converter).converter
    if converter is None or converter in _CONVERTERS_THAT_CHECK:
        return converter or declared
    if inspect.isclass(converter):  # frozenset, tuple: they take less than they could
        return declared
    takes = [hint for name, hint in _resolved(converter).items() if name != "return"]
    return takes[0] if takes else Any


def _resolved(owner: Any) -> dict[str, Any]:
    """An object's own annotations, evaluated one by one; `Any` for what cannot be."""
    annotations: Mapping[str, Any] = (
        vars(owner).get("__annotations__", {})
        if (inspect.isclass(owner))
        else getattr(owner, "__annotations__", {})
    )
    names = _names_around(owner)
    hints: dict[str, Any] = {}
    for name, annotation in annotations.items():
        holder: Any = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints[name] = typing.get_type_hints(holder, names)[name]
        except Exception:  # noqa: BLE001 - a name for checkers only: the owner judges the value
            hints[name] = Any
    return hints


def _names_around(owner: Any) -> dict[str, Any]:
    """The names that an object's annotations may mean.

    A package may say that a class is its own which was written in an inner module (this one does),
    so that `__module__` leads nowhere; the class's own `__init__` still knows where that was.
    """
    module = sys.modules.get(getattr(owner, "__module__", None) or "")
    function = vars(owner).get("__init__") if inspect.isclass(owner) else owner
    written: Mapping[str, Any] = getattr(function, "__globals__", None) or {}
    return {**(vars(module) if module is not None else {}), **written}


def _unknown(name: str, known: Parameters) -> str:
    if not known.types:
        return "is no option: there are none"
    offer = close_to(name, known.types)
    return f"is no option. {offer or 'There are ' + ', '.join(sorted(known.types)) + '.'}"


def _expected(wanted: Any) -> str:
    from lamella._option_shapes import expected

    return expected(wanted)
