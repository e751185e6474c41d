"""One canonical form of values: two are encoded alike if, and only if, they say the same.

The form is msgpack, in which every value carries its type and its length: 1, 1.0, True, "1" and
b"1" differ, and no two sequences of texts run together. The keys of mappings are sorted; sequences
keep their order, and a list is as good as a tuple. What has fields is written with the name of its
class and the names of its fields, so that a new field is covered by being there. Within nested
JSON, what goes over the wire alike (a date and its ISO text) is alike.
"""

from __future__ import annotations

import enum
import hashlib
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar, get_args, get_origin

import attrs
import msgspec

from lamella._nothing import NOTHING
from lamella._remembered import Remembered

T = TypeVar("T")

Form: TypeAlias = Any
"""A value as the encoder takes it: scalars, lists, mappings, and `Ext` for the names of classes."""

_CLASS, _TYPE, _ENUM, _DIGEST = 1, 2, 3, 4
"""Kinds of `Ext`, which no plain value has: what they name cannot be taken for a text."""

_AS_IT_IS = frozenset(
    {str, int, float, bool, type(None), bytes, dict, type(NOTHING), msgspec.msgpack.Ext}
)
"""What the encoder takes as it is: scalars, and nested JSON."""

_EMPTY: tuple[Any, ...] = ()
"""What many fields are, and the encoder takes as it is: there is one of it in a process."""

_LONGEST = 256
"""Bytes up to which what is remembered of an object is itself; of a longer one it is a digest."""

_FLOATS = frozenset({"float", "float | None", "<class 'float'>", "typing.Optional[float]"})
"""Types of fields in which 1 and 1.0 are the same number, as they are in JSON."""


def encode(form: Form) -> bytes:
    """The bytes of a form.

    Raises:
        TypeError: If it holds what has no canonical form, or keys of mappings that are not text.
        OverflowError: If it holds an integer beyond 64 bits.
        UnicodeEncodeError: If it holds text that is not Unicode.
        RecursionError: If it holds itself.
    """
    return _ENCODER.encode(form)


def form(value: Any) -> Form:
    """The form of any value.

    Raises:
        TypeError: If it has none; the message names its type and never shows it.
    """
    kind: Any = value.__class__
    if kind is msgspec.msgpack.Ext:
        _refuse(value)
    if kind in _AS_IT_IS:
        return value
    return (_FORMS.get(kind) or _learn(kind))(value)


def fields_form(kind: type, without: Collection[str] = ()) -> Callable[[Any], Form]:
    """What makes the form of an attrs class, of all its fields but those named."""
    names = [field.name for field in attrs.fields(kind) if field.name not in without]
    tag = msgspec.msgpack.Ext(_CLASS, f"{_name(kind)}({','.join(names)})".encode())
    if len(names) < 2:  # attrgetter would give the value itself, and no tuple
        return lambda value: [tag, *[form(getattr(value, name)) for name in names]]
    get = attrgetter(*names)

    def make(value: Any) -> Form:
        return [tag, *_formed(get(value))]

    types = [str(field.type) for field in attrs.fields(kind) if field.name in names]
    floats = [place for place, of in enumerate(types, 1) if of in _FLOATS]
    if not floats:
        return make

    def make_with_floats(value: Any) -> Form:
        found: list[Any] = [tag, *_formed(get(value))]
        for place in floats:
            if found[place].__class__ is int:
                found[place] = float(found[place])
        return found

    return make_with_floats


def leave_out(kind: type, names: Collection[str]) -> None:
    """Have fields of a class, and of those made from it, left out wherever one is met."""
    _WITHOUT[kind] = frozenset(names)


def remember(kind: type[T], is_fixed: Callable[[T], bool]) -> None:
    """Have the form of each object of a class remembered for as long as the object lives.

    Args:
        kind: The class.
        is_fixed: Whether nobody can change such an object.
    """
    _FORMS[kind] = _remembering(fields_form(kind, _left_out(kind)), is_fixed)


def _left_out(kind: type) -> frozenset[str]:
    return frozenset(
        name for base, names in _WITHOUT.items() if issubclass(kind, base) for name in names
    )


def _formed(items: Iterable[Any]) -> list[Form]:
    """The items, each as its form. It runs for each message and part, so it is made to be quick."""
    plain, forms = _AS_IT_IS, _FORMS
    return [
        item
        if item is None or item is _EMPTY or item.__class__ in plain
        else (forms.get(item.__class__) or _learn(item.__class__))(item)
        for item in items
    ]


def _learn(kind: type[Any]) -> Callable[[Any], Form]:
    """How values of a class are formed, from now on."""
    make: Callable[[Any], Form] = _refuse
    if attrs.has(kind):
        make = fields_form(kind, _left_out(kind))
    else:
        for known, one in _ABSTRACT:
            if issubclass(kind, known):
                make = one
                break
    _FORMS[kind] = make
    return make


def _remembering(make: Callable[[T], Form], is_fixed: Callable[[T], bool]) -> Callable[[T], Form]:
    """Forms that are encoded once for each object, and of long ones the digest."""
    known: Remembered[Form] = Remembered()

    def remembered(value: T) -> Form:
        found: Form = known.get(value)
        if found is not None:
            return found
        data = encode(make(value))
        if len(data) <= _LONGEST:
            found = msgspec.Raw(data)
        else:
            made = hashlib.sha256(data, usedforsecurity=False).digest()
            found = msgspec.msgpack.Ext(_DIGEST, made)
        if is_fixed(value):
            known.put(value, found)
        return found

    return remembered


def _mapping(value: Mapping[str, Any]) -> Form:
    return dict(value)


def _type(value: type) -> Form:
    return msgspec.msgpack.Ext(_TYPE, _name(value).encode())


def _alias(value: Any) -> Form:
    """`list[int]`, `int | None`: what `returns` may be."""
    return [form(get_origin(value)), *_formed(get_args(value))]


def _scalar(value: object, plain: str | float) -> Form:
    """A text or a number of a class of its own."""
    return [_type(type(value)), plain]


def _enum(value: enum.Enum) -> Form:
    return msgspec.msgpack.Ext(_ENUM, f"{_name(type(value))}.{value.name}".encode())


def _hook(value: object) -> Form:
    """What the encoder does not know, within nested JSON."""
    return dict(value) if isinstance(value, Mapping) else _refuse(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _refuse(value: object) -> Form:
    raise TypeError(f"something of the class {type(value).__name__!r}")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


_ABSTRACT: tuple[tuple[Any, Callable[[Any], Form]], ...] = (
    (enum.Enum, _enum),
    (Mapping, _mapping),
    (list, _formed),
    (tuple, _formed),
    (type, _type),
    (types.GenericAlias, _alias),
    (types.UnionType, _alias),
    (str, lambda value: _scalar(value, str.__str__(value))),
    (int, lambda value: _scalar(value, int(value))),
    (float, lambda value: _scalar(value, float(value))),
    (bytearray, bytes),
)
"""How values of these classes, and of those made from them, are formed."""

_WITHOUT: dict[type, frozenset[str]] = {}
"""Fields that are left out, by class."""

_FORMS: dict[type, Callable[[Any], Form]] = {list: _formed, tuple: _formed}
"""How values of each class that has been met are formed."""

_ENCODER = msgspec.msgpack.Encoder(order="deterministic", enc_hook=_hook)
