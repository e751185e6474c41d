"""Records as bytes: one form for each record, so that its digest speaks of what it says.

A record is one line of JSON in the canonical form of RFC 8785: the names of fields sorted by their
UTF-16 code units, no spaces, the shortest escapes. Numbers are whole and at most 2^53 - 1 either
way, which every reader of JSON keeps exactly; there are no floats, whose text is where readers and
writers of JSON differ. Money is counted in nano-units, time in microseconds.

Every record has these fields, and its own besides:

- `seq`: its number in its segment, from 0 without a gap. Number 0 is the segment's header.
- `prev`: the SHA-256 of the record before it (its line without the line feed), in hexadecimal;
  64 zeros in the header.
- `kind`: what it tells (`segment`, `intent`, `outcome`, `head`, `closed`, ...).
- `at`: when it was written down, in microseconds since 1970 by the wall clock.
- `mono`: the same instant by the monotonic clock, whose zero is anywhere.
- `clock`: `"back"` if `at` is earlier than in the record before; else there is no such field.

The log itself writes these kinds, the layer all others:

- `segment`, the header: `format`, `segment` (the id), `process`; after another segment of the same
  process also `previous`, `previous_size`, `previous_digest`, `previous_root` (up to where that one
  counts), `why` (`rotated`, `closed`, `failed`) and `error`; `lost`, how many records were refused.
- `closed`, the last one of a segment: `why`, and `next` if another one follows.
- `adopted`: `segment`, `size`, `digest`, `root`, `torn`, `torn_digest` of a dead process's segment.
- `recovered`, the last one of such a segment: `by`, `bytes`, `digest`, `kept` (a file's name).
- `note`, about a segment that could not be recovered, or the search for such: `about`, `segment`,
  `problem`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final, TypeAlias

import attrs
import msgspec

Record: TypeAlias = dict[str, Any]
"""A record as it was read: JSON values."""

GENESIS: Final = "0" * 64
"""The `prev` of a header."""
MAX_RECORD: Final = 16 * 1024 * 1024
"""How many bytes a record may have."""
MAX_DEPTH: Final = 32
"""How deep the values of a field may nest."""
MAX_NUMBER: Final = 2**53 - 1
"""The greatest number that every reader of JSON keeps exactly."""
RESERVED: Final = frozenset({"at", "clock", "kind", "mono", "prev", "seq"})
"""Names that a record's own fields cannot have."""


class MalformedRecord(ValueError):
    """A line is no record in canonical form; the message says in which way."""


def canonical(value: Any) -> bytes:
    """The canonical JSON (RFC 8785) of a value.

    Args:
        value: None, booleans, whole numbers, text, lists, tuples, and mappings with text as keys.

    Raises:
        TypeError: If it holds anything else, floats included; the message says in which field and
            never shows the value.
        ValueError: If a number is beyond 2^53 - 1, a text is not Unicode, or it nests too deep.
    """
    return _plainly(value, 0) or _value(value, (), 0)


def digest(line: bytes) -> str:
    """The SHA-256 by which the next record knows this one, in hexadecimal."""
    return sha256(line).hexdigest()


@attrs.define
class Draft:
    """A record that lacks its place: what `seq` and `prev` will be is not known yet.

    Attributes:
        parts: Its fields, each as (what to sort by, its JSON).
        size: How many bytes it will take at most.
        at: As in the record, once it is stamped.
        mono: Likewise.
    """

    parts: list[tuple[bytes, bytes]] = attrs.field(repr=False)
    size: int
    at: int = 0
    mono: int = 0

    @classmethod
    def of(cls, kind: str, fields: Mapping[str, Any]) -> Draft:
        """Draft a record.

        Raises:
            TypeError: As `canonical`.
            ValueError: As `canonical`; or if a field has a reserved name, or the record is larger
                than `MAX_RECORD`.
        """
        if not RESERVED.isdisjoint(fields):
            taken = sorted(RESERVED.intersection(fields))
            raise ValueError(
                f"Audit: a record of kind {kind!r} has no fields of its own {taken!r}."
            )
        parts = [_part("kind", kind)]
        parts.extend([_part(name, value) for name, value in fields.items()])
        size = sum([len(part[1]) + 1 for part in parts]) + _ROOM
        if size > MAX_RECORD:
            raise ValueError(
                f"Audit: a record of kind {kind!r} would have {size} bytes, more than "
                f"{MAX_RECORD}: keep large values elsewhere and their digest here."
            )
        return cls(parts, size)

    def stamp(self, at: int, mono: int) -> Draft:
        """Say when it was written down; once. The same draft."""
        self.at, self.mono = at, mono
        self.parts.append((_AT, b'"at":%d' % at))
        self.parts.append((_MONO, b'"mono":%d' % mono))
        return self

    def line(self, seq: int, prev: str, *, back: bool) -> bytes:
        """The record in its place, without the line feed."""
        parts = [*self.parts, (_PREV, b'"prev":"%b"' % prev.encode()), (_SEQ, b'"seq":%d' % seq)]
        if back:
            parts.append((_CLOCK, b'"clock":"back"'))
        parts.sort()
        return b"{%b}" % b",".join([part[1] for part in parts])


def read_record(line: bytes) -> Record:
    """Read a line, without its line feed.

    Raises:
        MalformedRecord: If it is not a record in the one form that a record has.
    """
    try:
        value = _DECODER.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedRecord("it is not JSON") from error
    if not isinstance(value, dict):
        raise MalformedRecord("it is not a JSON object")
    record: Record = value  # pyright: ignore[reportUnknownVariableType]
    try:
        same = canonical(record) == line
    except (TypeError, ValueError) as error:
        raise MalformedRecord("it holds a value that no record has") from error
    if not same:
        raise MalformedRecord("it is not in canonical form")
    for name, fits in _SHAPE.items():
        if name not in record:
            raise MalformedRecord(f"it has no {name!r}")
        if not fits(record[name]):
            raise MalformedRecord(f"its {name!r} is not what it should be")
    if record.get("clock", "back") != "back":
        raise MalformedRecord("its 'clock' is not what it should be")
    return record


def _part(name: Any, value: Any) -> tuple[bytes, bytes]:
    known = _NAMES.get(name) if name.__class__ is str else None
    order, prefix = _named(name) if known is None else known
    return order, prefix + (_plainly(value, 1) or _value(value, (name,), 1))


def _named(name: Any) -> tuple[bytes, bytes]:
    """What a field sorts by, and what stands before its value."""
    if not isinstance(name, str):
        raise TypeError(f"Audit: the name of a field is of the type {type(name).__name__!r}.")
    found = name.encode("utf-16-be", "surrogatepass"), _text(name, (name,)) + b":"
    if len(_NAMES) < _MOST_NAMES and name.__class__ is str:
        _NAMES[name] = found
    return found


def _plainly(value: Any, depth: int) -> bytes | None:
    """The canonical form of a value by the encoder alone, which is much faster; None if it cannot.

    It sorts names by their characters, which is the order of their UTF-16 where they are ASCII.
    """
    if not _is_plain(value, depth):
        return None
    try:
        return _encode(value)
    except UnicodeEncodeError:  # `_value` says where
        return None


def _is_plain(value: Any, depth: int) -> bool:
    kind: Any = value.__class__
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return bool(-MAX_NUMBER <= value <= MAX_NUMBER)
    if depth >= MAX_DEPTH:
        return False
    if kind is dict:
        for name, inner in value.items():
            if name.__class__ is not str or not name.isascii() or not _is_plain(inner, depth + 1):
                return False
        return True
    if kind is list:
        return all(_is_plain(inner, depth + 1) for inner in value)
    return False


def _value(value: Any, path: tuple[str, ...], depth: int) -> bytes:
    kind: Any = value.__class__
    if kind is str:
        return _text(value, path)
    if kind is int:
        return _number(value, path)
    if value is None or kind is bool:
        return b"null" if value is None else b"true" if value else b"false"
    if depth >= MAX_DEPTH:
        raise ValueError(f"Audit: {_where(path)} nests deeper than {MAX_DEPTH} levels.")
    if isinstance(value, Mapping):
        return _object(value, path, depth)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return b"[%b]" % b",".join([_value(each, path, depth + 1) for each in value])  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):  # of a class of its own, such as a member of an enumeration
        return _text(str.__str__(value), path)
    if isinstance(value, int):
        return _number(int(value), path)
    hint = ": count in a smaller unit, or write it as text" if isinstance(value, float) else ""
    raise TypeError(f"Audit: {_where(path)} holds a {kind.__name__!r}, which no record has{hint}.")


def _object(value: Mapping[Any, Any], path: tuple[str, ...], depth: int) -> bytes:
    parts: list[tuple[bytes, bytes]] = []
    for name, inner in value.items():
        if not isinstance(name, str):
            raise TypeError(
                f"Audit: {_where(path)} holds a mapping with keys of the type "
                f"{type(name).__name__!r}; they must be text."
            )
        inner_path = (*path, name)
        json = b"%b:%b" % (_text(name, inner_path), _value(inner, inner_path, depth + 1))
        parts.append((name.encode("utf-16-be"), json))
    parts.sort()
    return b"{%b}" % b",".join([part[1] for part in parts])


def _text(value: str, path: tuple[str, ...]) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:
        raise ValueError(f"Audit: {_where(path)} holds text that is not Unicode.") from None


def _number(value: int, path: tuple[str, ...]) -> bytes:
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise ValueError(
            f"Audit: {_where(path)} holds a whole number beyond 2^53 - 1: write it as text."
        )
    return b"%d" % value


def _where(path: tuple[str, ...]) -> str:
    """The field at fault by the name that its layer gave it; keys within it may be anybody's."""
    return f"the field {path[0]!r}" if path else "it"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return type(value) is int


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


_SHAPE: Final[dict[str, Callable[[object], bool]]] = {
    "seq": lambda value: type(value) is int and value >= 0,
    "prev": _is_digest,
    "kind": _is_text,
    "at": _is_number,
    "mono": _is_number,
}
_AT, _CLOCK, _MONO, _PREV, _SEQ = (
    name.encode("utf-16-be") for name in ("at", "clock", "mono", "prev", "seq")
)
_ROOM: Final = 192
"""What the fields that every record has, and the brackets, take at most."""
_NAMES: Final[dict[str, tuple[bytes, bytes]]] = {}
_MOST_NAMES: Final = 256
"""How many names of fields are remembered: those of layers, which are always the same."""
_encode = msgspec.json.Encoder(order="deterministic").encode
_DECODER = msgspec.json.Decoder()
