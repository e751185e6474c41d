"""Annotations to nodes: what a type is made of, and a refusal of what JSON cannot carry."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import inspect
import sys
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Final,
    ForwardRef,
    Generic,
    Literal,
    NewType,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)
from uuid import UUID  # noqa: TID251 - the type, which makes no ids here

import msgspec
import typing_extensions
from typing_extensions import NoDefault, Unpack

from lamella._errors import ConfigurationError
from lamella._typed_classes import class_fields, is_class_with_fields
from lamella._typed_limits import Limited, limited
from lamella._typed_nodes import (
    Anything,
    Array,
    Described,
    Map,
    Named,
    Node,
    Row,
    bare,
)
from lamella._typed_records import Record
from lamella._typed_scalars import Checked, Choice, Exact, Leaf
from lamella._typed_unions import Union as UnionNode

_ALIASES: Final = tuple(
    kind
    for kind in (
        getattr(typing_extensions, "TypeAliasType", None),
        getattr(typing, "TypeAliasType", None),  # Python 3.12
    )
    if kind is not None
)
_HINT: Final = (
    "Use what JSON can carry: a scalar, a list, a dict, or a class with annotated fields."
)

_SCALARS: Final[Mapping[Any, tuple[Mapping[str, Any], tuple[str, ...], int]]] = {
    str: ({"type": "string"}, ("string",), 5),
    int: ({"type": "integer"}, ("integer", "number"), 1),
    float: ({"type": "number"}, ("integer", "number"), 2),
    bool: ({"type": "boolean"}, ("boolean",), 0),
    None: ({"type": "null"}, ("null",), 0),
    types.NoneType: ({"type": "null"}, ("null",), 0),
    bytes: ({"type": "string", "contentEncoding": "base64"}, ("string",), 4),
    bytearray: ({"type": "string", "contentEncoding": "base64"}, ("string",), 4),
    dt.datetime: ({"type": "string", "format": "date-time"}, ("string",), 0),
    dt.date: ({"type": "string", "format": "date"}, ("string",), 0),
    dt.time: ({"type": "string", "format": "time"}, ("string",), 0),
    dt.timedelta: ({"type": "string", "format": "duration"}, ("string",), 0),
    UUID: ({"type": "string", "format": "uuid"}, ("string",), 0),
    decimal.Decimal: ({"type": "string", "format": "decimal"}, ("string", "integer", "number"), 3),
}
"""Types without parts: their schema, the kinds they are read from, their turn in a union."""

_ARRAYS: Final[Mapping[Any, Callable[[list[Any]], Any]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Collection: list,
    abc.Iterable: list,
    abc.Set: frozenset,
    abc.MutableSet: set,
}
_MAPS: Final = (dict, abc.Mapping, abc.MutableMapping)


class Reading:
    """The reading of one annotation, with everything that it refers to."""

    def __init__(self, asked: str) -> None:
        self._asked = asked
        self._records: dict[Any, Node] = {}
        self._aliases: dict[Any, Named] = {}
        self._unions: list[UnionNode] = []
        self._made: list[Record] = []

    def node(self, annotation: Any) -> Node:
        """The node of a whole annotation, ready to read.

        Raises:
            ConfigurationError: If JSON cannot carry it; it names the place.
        """
        node = self.part(annotation, "", {})
        self.finish()
        return node

    def finish(self) -> None:
        """Make every node ready, now that all are known."""
        for union in self._unions:
            union.finish()
        for record in self._made:
            record.finish()

    def add(self, record: Record) -> Record:
        """A record that is made ready with the others."""
        self._made.append(record)
        return record

    def part(self, annotation: Any, where: str, known: Mapping[Any, Any]) -> Node:
        """The node of an annotation at a place, with what type variables stand for."""
        annotation = known.get(annotation, annotation) if _hashable(annotation) else annotation
        if annotation in (Any, object):
            return Anything()
        if isinstance(annotation, str | ForwardRef):
            why = "it is a text, and not the type that the text names"
            raise self._refusal(annotation, where, why)
        origin = get_origin(annotation)
        if origin is Annotated:
            inner, *said = get_args(annotation)
            if not any(_is_pydantic(each) or type(each).__name__ == "Predicate" for each in said):
                return self._annotated(inner, limited(said), where, known)
            return self._pydantic(annotation)  # they are validators, which pydantic runs
        if isinstance(annotation, NewType | TypeVar):
            return self.part(_stood_for(annotation), where, known)
        if isinstance(annotation, _ALIASES) or isinstance(origin, _ALIASES):
            return self._alias(annotation, where, known)
        if origin is Literal or (
            isinstance(annotation, type) and issubclass(annotation, enum.Enum)
        ):
            return self._choice(annotation, where)
        if origin in (Union, types.UnionType):
            return self._union([self.part(each, where, known) for each in get_args(annotation)])
        return self._plain(annotation, Limited(), where, known)

    def _annotated(self, inner: Any, said: Limited, where: str, known: Mapping[Any, Any]) -> Node:
        inner = known.get(inner, inner) if _hashable(inner) else inner
        while isinstance(inner, NewType):
            inner = inner.__supertype__
        plain = get_origin(inner) or inner
        options = get_args(inner) if plain in (Union, types.UnionType) else ()
        if said.bounds and len(options) == 2 and types.NoneType in options:
            own = next(each for each in options if each is not types.NoneType)
            bounded = self._annotated(own, Limited(said.bounds), where, known)
            node: Node = self._union([bounded, self.part(None, where, known)])
        elif said.bounds and (plain in _SCALARS or plain in _ARRAYS or plain in _MAPS):
            node = self._plain(inner, said, where, known)
        elif said.bounds:
            why = "bounds are for numbers, texts, arrays and mappings"
            raise self._refusal(inner, where, why)
        else:
            node = self.part(inner, where, known)
        return Described(node, said.keywords) if said.keywords else node

    def _plain(self, given: Any, said: Limited, where: str, known: Mapping[Any, Any]) -> Node:
        """A type by its class: a scalar, an array, a mapping or a record."""
        if _hashable(given) and given in _SCALARS:
            return self._scalar(given, said, where)
        origin = get_origin(given) or given
        args = get_args(given)
        if origin in _ARRAYS:
            return self._array(origin, args, said, where, known)
        if origin in _MAPS:
            key, value = (self.part(each, f"{where}[*]", known) for each in args or (Any, Any))
            plain_key = args == () or bare(key).words == "string"
            if "string" not in key.kinds and not key.kinds & {"integer", "number"}:
                raise self._refusal(given, where, "the keys of a JSON object are texts")
            return Map(None if plain_key else key, value, said.sizes())
        return self._class(given, origin, where, known)

    def _scalar(self, given: Any, said: Limited, where: str) -> Node:
        schema, kinds, rank = _SCALARS[given]
        if given is decimal.Decimal and not said.bounds:
            return Exact(given, schema, kinds, rank)
        if not said.bounds:
            return Leaf(given, schema, kinds, rank)
        own = {name: said.bounds.get(name) for name in ("pattern", "multiple_of")}
        others = {name: bound for name, bound in said.bounds.items() if name not in own}
        try:
            typed = Annotated[given, msgspec.Meta(**others)] if others else given
            whole = Annotated[given, msgspec.Meta(**said.bounds)]
            bounds = msgspec.json.schema(whole)
            msgspec.json.Decoder(whole)
        except (TypeError, ValueError) as error:
            raise self._refusal(given, where, str(error)) from None
        leaf = Leaf(typed, {**schema, **bounds}, kinds, rank - 1 if rank == 5 else rank)
        if not any(own.values()):
            return leaf
        try:
            return Checked(leaf, **own)
        except ConfigurationError as error:
            msg = f"{self._asked}: {_at(where)}: {error.message}"
            raise ConfigurationError(msg, hint=error.hint) from None

    def _array(
        self, origin: Any, args: Sequence[Any], said: Limited, where: str, known: Mapping[Any, Any]
    ) -> Node:
        if origin is tuple and args and args[-1] is not Ellipsis:
            parts = () if args == ((),) else args
            if any(
                get_origin(each) is Unpack or getattr(each, "__unpacked__", False) for each in parts
            ):
                raise self._refusal(origin, where, "no type can be unpacked in it")
            if said.bounds:
                raise self._refusal(origin, where, "a tuple of fixed length has no further bounds")
            return Row([self.part(each, f"{where}[{i}]", known) for i, each in enumerate(parts)])
        item = self.part(args[0] if args else Any, f"{where}[*]", known)
        return Array(item, _ARRAYS[origin], said.sizes())

    def _class(self, given: Any, origin: Any, where: str, known: Mapping[Any, Any]) -> Node:
        key = _substituted(given, known)
        if key in self._records:
            return self._records[key]
        if _is_pydantic(given) or _is_pydantic(origin):
            return self._pydantic(key)
        if not isinstance(origin, type) and not typing_extensions.is_typeddict(origin):
            raise self._refusal(given, where)
        if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
            from lamella._typed_structs import StructNode

            try:
                node: Node = StructNode(key)
            except TypeError as error:
                raise self._refusal(given, where, str(error)) from None
            self._records[key] = node
            return node
        if not is_class_with_fields(cast("Any", origin)):
            raise self._refusal(given, where)
        return self._record(key, origin, where)

    def _pydantic(self, given: Any) -> Node:
        from lamella._typed_pydantic import PydanticNode

        if given not in self._records:
            self._records[given] = PydanticNode(given, self._asked)
        return self._records[given]

    def _record(self, key: Any, origin: Any, where: str) -> Node:
        read = class_fields(key, origin, self._asked, where)
        record = self._records[key] = Record(read.title, read.make, read.explain, read.about)
        record.take(
            [
                each.field(self.part(each.annotation, f"{where}.{each.name}", read.variables))
                for each in read.fields
            ]
        )
        return self.add(record)

    def _alias(self, given: Any, where: str, known: Mapping[Any, Any]) -> Node:
        origin = get_origin(given) or given
        args = tuple(_substituted(each, known) for each in get_args(given))
        if (origin, args) in self._aliases:
            return self._aliases[origin, args]
        named = self._aliases[origin, args] = Named(origin.__name__)
        variables = dict(zip(origin.__type_params__, args, strict=False))
        if not named.stand_for(self.part(self._meaning(origin, where), where, variables)):
            raise self._refusal(given, where, "it stands for itself")
        return named

    def _meaning(self, alias: Any, where: str) -> Any:
        """What an alias stands for; on Python 3.11 it is a text where it refers to itself."""
        try:
            value = alias.__value__  # since Python 3.12 it is only read now
        except (NameError, TypeError) as error:
            raise self._refusal(alias, where, f"it cannot be read: {error}") from None
        if not isinstance(value, str | ForwardRef):
            return value
        module = sys.modules.get(alias.__module__)
        names = {**vars(module), alias.__name__: alias} if module else {}
        text = value if isinstance(value, ForwardRef) else ForwardRef(value)
        try:
            return typing_extensions.evaluate_forward_ref(text, globals=names)
        except (NameError, TypeError, SyntaxError) as error:
            raise self._refusal(alias, where, f"it cannot be read: {error}") from None

    def _choice(self, given: Any, where: str) -> Node:
        members: list[Any] = (
            list(cast("Any", given)) if isinstance(given, type) else _literals(given)
        )
        pairs = [(each.value if isinstance(each, enum.Enum) else each, each) for each in members]
        strange = [each for each, _ in pairs if not isinstance(each, str | int | float | None)]
        if strange or not pairs:
            why = f"JSON has no {strange[0]!r}" if strange else "it has no values"
            raise self._refusal(given, where, why)
        if not isinstance(given, type):
            return Choice(pairs)
        about = inspect.cleandoc(given.__dict__.get("__doc__") or "")
        node = Choice(pairs, given)
        plain = not about or about == "An enumeration."
        return node if plain else Described(node, {"description": about})

    def _union(self, nodes: Sequence[Node]) -> Node:
        union = UnionNode(nodes)
        self._unions.append(union)
        return union

    def _refusal(self, given: Any, where: str, why: str = "") -> ConfigurationError:
        reason = why or "JSON has no form for it"
        msg = f"{self._asked}: {_at(where)} is {_shown(given)}: {reason}."
        return ConfigurationError(msg, hint=_HINT)


def _at(where: str) -> str:
    return f"the field ${where}" if where else "the type itself"


def _stood_for(given: NewType | TypeVar) -> Any:
    """What a name stands for: of a type variable, its default, or else its bound."""
    if isinstance(given, NewType):
        return given.__supertype__
    default = getattr(given, "__default__", NoDefault)
    if default not in (NoDefault, None):  # before Python 3.13, None stands for none
        return default
    options = given.__constraints__
    return Union[options] if options else given.__bound__ or Any  # noqa: UP007


def _shown(given: Any) -> str:
    return given.__qualname__ if isinstance(given, type) and not get_args(given) else repr(given)


def _hashable(given: Any) -> bool:
    try:
        hash(given)
    except TypeError:
        return False
    return True


def _literals(given: Any) -> list[Any]:
    found: list[Any] = []
    for each in get_args(given):
        found += _literals(each) if get_origin(each) is Literal else [each]
    return found


def _substituted(given: Any, known: Mapping[Any, Any]) -> Any:
    """An annotation with what its type variables stand for."""
    if isinstance(given, TypeVar):
        return known.get(given, given)
    parameters = getattr(given, "__parameters__", ())
    if not known or not parameters or get_origin(given) in (None, Generic):
        return given
    return given[tuple(known.get(each, each) for each in parameters)]


def _is_pydantic(given: Any) -> bool:
    return any(
        hasattr(given, name)
        for name in (
            "__pydantic_core_schema__",
            "__get_pydantic_core_schema__",
            "__pydantic_fields__",
        )
    )
