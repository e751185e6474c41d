"""Typed values as plain JSON: the way back, by what a value is."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final
from weakref import WeakKeyDictionary

import attrs
import msgspec

_AS_IT_IS: Final = frozenset({str, int, bool, type(None)})


def plain(value: Any) -> Any:
    """The value as JSON has it: dicts, lists, texts, numbers, true, false and null.

    Fields of classes go by the names under which they are read. Sets are put into an order.

    Raises:
        TypeError: If something in it has no form in JSON; the message names its class.
        ValueError: If it holds a number that is none (NaN) or endless.
    """
    kind = value.__class__
    if kind in _AS_IT_IS:
        return value
    return (_WRITERS.get(kind) or _learn(kind))(value)


def _learn(kind: type[Any]) -> Callable[[Any], Any]:
    writer = _WRITERS[kind] = _writer(kind)
    return writer


def _writer(kind: type[Any]) -> Callable[[Any], Any]:
    if issubclass(kind, enum.Enum):
        return lambda value: plain(value.value)
    if hasattr(kind, "__pydantic_serializer__"):
        return _pydantic
    if attrs.has(kind):
        names = [
            (field.alias or field.name, field.name) for field in attrs.fields(kind) if field.init
        ]
        return lambda value: {alias: plain(getattr(value, name)) for alias, name in names}
    if dataclasses.is_dataclass(kind):
        own = [field.name for field in dataclasses.fields(kind) if field.init]
        return lambda value: {name: plain(getattr(value, name)) for name in own}
    for base, writer in _BASES:
        if issubclass(kind, base):
            return writer
    return _other


def _pydantic(value: Any) -> Any:
    """A model or a dataclass of pydantic's, by its aliases."""
    serializer = value.__class__.__pydantic_serializer__
    return serializer.to_python(value, mode="json", by_alias=True)


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {key if key.__class__ is str else _key(key): plain(item) for key, item in value.items()}


def _decimal(value: decimal.Decimal) -> str:
    if not value.is_finite():
        msg = f"{value!r} has no form in JSON."
        raise ValueError(msg)
    return str(value)


def _key(key: Any) -> str:
    found = plain(key)
    if isinstance(found, str):
        return found
    if isinstance(found, int | float) and not isinstance(found, bool):
        return msgspec.json.encode(found).decode()
    msg = f"A key of the class {type(key).__name__!r} has no form in JSON."
    raise TypeError(msg)


def _sequence(value: Any) -> Any:
    if hasattr(value, "_asdict"):  # a NamedTuple
        return {name: plain(item) for name, item in value._asdict().items()}
    return [plain(item) for item in value]


def _set(value: AbstractSet[Any]) -> list[Any]:
    items = [plain(item) for item in value]
    return sorted(items, key=lambda item: msgspec.json.encode(item, order="deterministic"))


def _float(value: float) -> float:
    if not math.isfinite(value):
        msg = f"{value!r} has no form in JSON."
        raise ValueError(msg)
    return float(value)


def _other(value: Any) -> Any:
    return msgspec.to_builtins(value, str_keys=True, enc_hook=_hook)


def _hook(value: Any) -> Any:
    """What msgspec does not know, within what it knows."""
    kind = value.__class__
    writer = _writer(kind)
    if writer is _other:
        msg = f"Something of the class {kind.__name__!r} has no form in JSON."
        raise TypeError(msg)
    return writer(value)


_BASES: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (str, str.__str__),
    (bool, bool),
    (int, int),
    (float, _float),
    (decimal.Decimal, _decimal),
    (Mapping, _mapping),
    ((list, tuple), _sequence),
    (AbstractSet, _set),
)

_WRITERS: Final[WeakKeyDictionary[type[Any], Callable[[Any], Any]]] = WeakKeyDictionary()
"""How values of each class that has been met are written."""
