"""Tools as an API takes them, written once and the same every time.

Tools stand at the very beginning of what a model reads, so that one byte of difference there costs
the whole prompt cache. They are written in one order (`_stable_schemas`), and kept by what they
say: the caller's tools are encoded as they are, which is quick and sees any change in nested JSON,
and what was written for those bytes before is taken again. That two tools are the same object
proves nothing, since somebody may have written into its schema meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs
import msgspec

from lamella._fork_locks import fork_safe_lock
from lamella._parts import Opaque
from lamella._tools import Tool
from lamella.transports._losses import Losses
from lamella.transports._stable_schemas import in_order, stable_schema

Tools: TypeAlias = Sequence[Tool | Opaque]

MOST_SETS: Final = 256
"""How many sets of tools are remembered in a process, for all APIs."""
MOST_BYTES: Final = 4 * 1024 * 1024
"""How many bytes those may have together, as they were given and as they are written."""
MOST_OF_A_SET: Final = 256 * 1024
"""A set with more is written anew each time."""

_UNKNOWN: Final = (TypeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for what JSON cannot say; the whole body is refused for it later."""


class WrittenTools(list[Any]):
    """A list of tools that knows its own JSON. Its items are shared, and must not be written to."""

    __slots__ = ("_items", "_json")

    def __init__(self, items: list[Any], json: bytes) -> None:
        super().__init__(items)
        self._items = items
        self._json = json

    @property
    def json(self) -> bytes | None:
        """Its JSON; None if the list has been changed."""
        return self._json if self == self._items else None


@attrs.frozen
class _Written:
    items: list[Any]
    json: bytes
    losses: Losses
    size: int


class _Kept:
    """What has been written lately."""

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._sets: OrderedDict[object, _Written] = OrderedDict()
        self._bytes = 0

    def find(self, key: object) -> _Written | None:
        with self._lock:
            found = self._sets.get(key)
            if found is not None:
                self._sets.move_to_end(key)
            return found

    def keep(self, key: object, written: _Written) -> None:
        size = written.size
        if size > MOST_OF_A_SET:
            return
        with self._lock:
            if key in self._sets:
                return
            self._sets[key] = written
            self._bytes += size
            while len(self._sets) > MOST_SETS or self._bytes > MOST_BYTES:
                _, gone = self._sets.popitem(last=False)
                self._bytes -= gone.size


_KEPT: Final = _Kept()


def written_tools(
    tools: Tools, write: Callable[[Tools, Losses], list[Any]], losses: Losses, *, api: str
) -> list[Any]:
    """Tools as an API takes them: the same bytes for tools that say the same.

    Args:
        tools: A request's.
        write: Writes them. It may go by nothing but the tools and what the losses say of the API.
        losses: Where what is left out is noted, also if it was written before.
        api: Tells the API from others.

    Raises:
        UnsupportedError: If `write` refuses one of them.
    """
    try:
        given = _ENCODER.encode(tools)
    except _UNKNOWN:
        return write(tools, losses)
    key = (api, losses.settings, given)
    found = _KEPT.find(key)
    if found is None:
        apart = losses.apart()
        written = write([settled(tool) for tool in tools], apart)
        try:
            json = _ENCODER.encode(written)
            # Read again, so that nothing of it is the caller's, who may write into it.
            items = _DECODER.decode(json)
        except _UNKNOWN:
            losses.include(apart)
            return written
        found = _Written(items, json, apart, len(given) + len(json))
        _KEPT.keep(key, found)
    losses.include(found.losses)
    return WrittenTools(found.items, found.json)


def settled(tool: Tool | Opaque) -> Tool | Opaque:
    """The same tool, with the words of its schema in the one order."""
    if isinstance(tool, Opaque):
        return attrs.evolve(tool, data=_settled_data(tool.data))
    extra = in_order(tool.extra) if tool.extra else tool.extra
    return attrs.evolve(tool, parameters=stable_schema(tool.parameters), extra=extra)


def _settled_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """A hosted tool: the order of its fields means nothing, and of what is in them nobody knows."""
    found = in_order(data)
    for name in _SCHEMA_FIELDS & found.keys():
        if isinstance(found[name], Mapping):
            found[name] = stable_schema(found[name])
    return found


_SCHEMA_FIELDS: Final = frozenset({"input_schema", "parameters"})


def with_written(body: dict[str, Any]) -> dict[str, Any]:
    """A body in which written tools are their JSON, at the top or one below."""
    found = body
    for name, value in body.items():
        if name == "tools":
            found = {**found, "tools": _raw(value)}
        elif type(value) is dict and "tools" in value:
            inner: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
            found = {**found, name: {**inner, "tools": _raw(inner["tools"])}}
    return found


def _raw(tools: object) -> object:
    json = tools.json if isinstance(tools, WrittenTools) else None
    return tools if json is None else msgspec.Raw(json)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    msg = f"a {type(value).__name__}"
    raise TypeError(msg)


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_plain)
_DECODER: Final = msgspec.json.Decoder(list[Any])
