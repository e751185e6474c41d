"""Values that fields of an answer hold, as the encoder takes them and back: JSON, coordinates."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

Row: TypeAlias = list[Any]

SCALARS: Final = frozenset({str, int, float, bool, bytes, type(None)})
"""Classes that are written as they are."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode

_FEW: Final = 4  # coordinates by which most embeddings show that they need 8 bytes


class Misformed(ValueError):
    """A row is none that was written here."""


def formless(value: object) -> TypeError:
    """The error of what cannot be written; it shows the class and no content."""
    return TypeError(f"An answer holds something of the class {type(value).__name__!r}.")


def text_of(key: object) -> str:
    """The text of a key or a word.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(key, str):
        raise formless(key)
    return str.__str__(key)


def write_words(words: frozenset[str]) -> Row:
    """Words, the same ones always in the same order."""
    return sorted([text_of(word) for word in words])


def read_words(words: Row) -> frozenset[str]:
    """The words again."""
    if not all(type(word) is str for word in words):
        raise Misformed
    return frozenset(words)


# --- nested JSON ---------------------------------------------------------------------------------


def write_json(value: Mapping[str, Any]) -> Any:
    """Nested JSON, of plain lists and mappings.

    What the encoder gives back as it was needs no look at each of its values.
    """
    try:
        if not value or _decode(_encode(value)) == value:
            return value
    except (TypeError, ValueError, OverflowError):
        pass  # a text that is no Unicode, or what is refused below
    return _plain(value)


def _plain(value: Any) -> Any:
    if type(value) in SCALARS:
        return value
    if isinstance(value, Mapping):
        return {text_of(key): _plain(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):
        return str.__str__(value)
    raise formless(value)


def write_records(records: Sequence[Mapping[str, Any]]) -> Row:
    """Objects in a row, and whether they stood in a tuple."""
    if not all(isinstance(record, Mapping) for record in records):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise formless(records)
    return [isinstance(records, tuple), [write_json(record) for record in records]]


def read_records(row: Row) -> Sequence[Mapping[str, Any]]:
    """The objects again, in a list or a tuple."""
    if len(row) != 2 or type(row[0]) is not bool or row[1].__class__ is not list:
        raise Misformed
    records: list[Any] = row[1]
    if not all(type(record) is dict for record in records):
        raise Misformed
    return tuple(records) if row[0] else records


# --- coordinates ---------------------------------------------------------------------------------


def write_numbers(values: tuple[Any, ...]) -> Any:
    """Coordinates, exactly, as 4 bytes each where that is exact, or else as 8."""
    classes = set(map(type, values))
    if not all(issubclass(kind, float) for kind in classes):
        if classes <= {int, float}:
            return list(values)
        raise TypeError("An embedding has coordinates that are no numbers.")
    if _short(values[:_FEW]) is not None and (short := _short(values)) is not None:
        return b"f" + short
    return b"d" + struct.pack(f"<{len(values)}d", *values)


def _short(values: tuple[float, ...]) -> bytes | None:
    """The values in 4 bytes each; None if that changes one."""
    form = f"<{len(values)}f"
    try:
        packed = struct.pack(form, *values)
    except OverflowError:
        return None
    return packed if struct.unpack(form, packed) == values else None


def read_packed(data: bytes) -> tuple[float, ...]:
    """Coordinates again, from the bytes of them."""
    code = data[:1]
    if code not in (b"f", b"d") or (len(data) - 1) % (4 if code == b"f" else 8):
        raise Misformed
    values: array[float] = array(code.decode())
    values.frombytes(data[1:])
    if sys.byteorder == "big":
        values.byteswap()
    return tuple(values)


def read_numbers(values: Row) -> tuple[float, ...]:
    """Coordinates again, of which some were whole numbers."""
    if not all(type(value) in (int, float) for value in values):
        raise Misformed
    return tuple(values)
