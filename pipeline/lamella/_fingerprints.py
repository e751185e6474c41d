"""What stands inside a place of the stack, as a short digest.

Where the target is not chosen yet, the answer to a request also depends on the layers inside that
change requests or events, on those that choose targets, and on the transport. Caches put this
digest into their keys, so that another stack never finds this one's answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any, Final, cast

import attrs

from lamella._layers import LayerInfo, name_of

_CHANGING: Final = frozenset({"changes requests", "changes events"})
_MARK: Final = "__lamella_inside__"
_DEPTH: Final = 12
"""How deep options are looked into; nobody nests targets deeper."""
_DEPTH_OF_FUNCTION: Final = 4
"""What a function takes of that: functions know each other, and every way would be gone."""
_BY_TEXT: Final = frozenset({"datetime", "decimal", "fractions", "pathlib", "uuid", "zoneinfo"})
"""The modules whose values are told apart by their text."""


class Inside:
    """What decides the answer from one handler of a chain on; digested when it is first asked for.

    Args:
        word: What stands here, in a form to digest. None is for what decides nothing.
        inner: What stands inside of it.
    """

    __slots__ = ("_digest", "_inner", "_word")

    def __init__(self, word: Callable[[], Any] | None, inner: Inside | None = None) -> None:
        self._word = word
        self._inner = inner
        self._digest: str | None = None

    @property
    def digest(self) -> str:
        """32 hexadecimal digits."""
        if self._digest is None:
            inner = "" if self._inner is None else self._inner.digest
            self._digest = inner if self._word is None else digest([self._word(), inner])
        return self._digest


def inside(call_next: Any) -> str:
    """What stands inside a layer and decides the answer: 32 hexadecimal digits.

    It covers, in order, the layers inside that change requests or events or choose targets, those
    that declare nothing, with their options, and the transport by its name. It is worked out once
    for each chain, when it is first asked for. Options are the fields of attrs classes and data
    classes, a plain layer's attributes, and what a function was given: defaults, the variables that
    it closes over, a `partial`'s arguments. A layer or transport whose options do not show what it
    does (a prompt read from a file) states a text of its own as its attribute `fingerprint`, which
    counts for it.

    Args:
        call_next: The handler that the layer was given.
    """
    found: Any = getattr(call_next, _MARK, None)
    if found.__class__ is Inside:
        known: str = found._digest or found.digest  # noqa: SLF001 - its own module
        return known
    return digest(fingerprint(call_next))


def mark(handler: Any, found: Inside) -> None:
    """Remember what stands inside a handler; the core does this where it folds."""
    setattr(handler, _MARK, found)


def marked(handler: Any) -> Inside | None:
    """What was remembered."""
    return cast("Inside | None", getattr(handler, _MARK, None))


def layer_inside(layer: Any, info: LayerInfo, inner: Inside | None) -> Inside:
    """What stands inside, the layer included."""
    decides = info.phase in {None, "choose"} or bool(info.effects & _CHANGING)
    return Inside(partial(_layer, layer, info) if decides or _stated(layer) else None, inner)


def transport_inside(transport: Any) -> Inside:
    """What a transport is, as the innermost place."""
    return Inside(partial(_transport, transport))


def digest(form: Any) -> str:
    """The digest of a form."""
    import hashlib  # this and msgspec are only loaded where keys are made

    from lamella._canonical import encode

    return hashlib.sha256(encode(form), usedforsecurity=False).hexdigest()[:32]


def fingerprint(thing: Any) -> str:
    """What tells a transport, a pipeline or a function from others.

    It is the text that the thing states as its `fingerprint`, or else its class and its name; empty
    for None.
    """
    if thing is None:
        return ""
    stated = getattr(thing, "fingerprint", None)
    if isinstance(stated, str):
        return stated
    given: Any = thing
    if isinstance(thing, partial):
        return fingerprint(given.func)
    if isinstance(getattr(thing, "__qualname__", None), str):
        return _function(thing)
    kind: Any = given.__class__
    return f"{_class(kind)}:{name_of(thing)}"


def _layer(layer: Any, info: LayerInfo) -> Any:
    found = _described(layer, _DEPTH)
    plain = hasattr(layer, "__dict__") and not isinstance(layer, FunctionType)
    if plain and isinstance(found, str) and not _stated(layer):
        found = [found, _described(vars(layer), _DEPTH)]
    return [info.name, found]


def _transport(transport: Any) -> Any:
    """A function with what it was given; anything else by its name."""
    return _given(transport, _DEPTH) or fingerprint(transport)


def _described(value: Any, depth: int) -> Any:
    """Options in a form to digest. What cannot be told apart is told apart by its class only."""
    if value is None or isinstance(value, str | int | float | bytes):
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)
    if _stated(value) or depth == 0:
        return fingerprint(value)
    if isinstance(value, re.Pattern):
        return ["pattern", value.pattern, value.flags]  # pyright: ignore[reportUnknownMemberType]
    items: Any = value
    if isinstance(value, Mapping):
        pairs = sorted(items.items(), key=_text)
        return [[str(key), _described(item, depth - 1)] for key, item in pairs]
    if isinstance(value, list | tuple):
        return [_described(item, depth - 1) for item in items]
    if isinstance(value, AbstractSet):
        return ["set", *sorted([_described(item, depth - 1) for item in items], key=digest)]
    kind: Any = items.__class__
    names = _option_names(kind)
    if names is not None:
        fields = [[name, _described(getattr(value, name, None), depth - 1)] for name in names]
        return [_class(kind), fields]
    found = _given(value, depth)
    if found is None and kind.__module__.partition(".")[0] in _BY_TEXT:
        found = [_class(kind), str(value)]
    return fingerprint(value) if found is None else found


def _option_names(kind: Any) -> list[str] | None:
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind) if field.init]
    return list(fields) if (fields := getattr(kind, "__dataclass_fields__", None)) else None


def _given(value: Any, depth: int) -> Any:
    """A function by its name and what it was given; None for what is none, or was given nothing."""
    if _stated(value):
        return None
    function: Any = value
    deeper = max(0, depth - _DEPTH_OF_FUNCTION)
    if isinstance(value, partial):
        given = [function.func, function.args, function.keywords]
    elif isinstance(value, MethodType):
        given = [value.__func__, value.__self__]
    elif isinstance(value, FunctionType):
        cells = value.__closure__ or ()
        if not (cells or value.__defaults__ or value.__kwdefaults__):
            return None
        held = [_contents(cell) for cell in cells]
        return [
            _function(value),
            *_described([value.__defaults__, value.__kwdefaults__, held], deeper + 1),
        ]
    else:
        return None
    return _described(given, deeper + 1)


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _stated(thing: Any) -> bool:
    """Whether it says itself what tells it from others."""
    return isinstance(getattr(thing, "fingerprint", None), str)


def _text(item: tuple[Any, Any]) -> str:
    return str(item[0])


def _function(thing: Any) -> str:
    name = f"{thing.__module__}.{thing.__qualname__}"
    code = getattr(thing, "__code__", None)
    # Lambdas of one function share their name; where they stand tells most of them apart.
    return name if code is None or "<lambda>" not in name else f"{name}:{code.co_firstlineno}"


def _class(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
