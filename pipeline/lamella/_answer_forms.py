"""The classes that answers are made of, as rows of plain values and back.

A row is a number for the class and then its fields in order. How a field is written follows from
its annotation, so that a new field is covered by being there, and one of a kind that nobody has
thought of fails when this module is used first. Reading believes nothing: each value must be of a
class that its field can have.
"""

from __future__ import annotations

import struct
import sys
import types
from array import array
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs
import msgspec

from lamella._nothing import NOTHING

Row: TypeAlias = list[Any]
Step: TypeAlias = Callable[[Any], Any] | None
"""What is done with a value of one class; None takes it as it is."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode

_SCALARS: Final = frozenset({str, int, float, bool, bytes, type(None)})
_FEW: Final = 4  # coordinates by which most embeddings show that they need 8 bytes
_MOST_KNOWN: Final = 256  # combinations of classes that are remembered for each class of rows


class Misformed(ValueError):
    """A row is none that was written here."""


@attrs.frozen
class _Form:
    """How the values of one field are written and read, by their classes."""

    write: dict[type, Step]
    read: dict[type, Step]


class Forms:
    """Rows of some classes.

    Args:
        kinds: The classes; the rows' numbers are their places here.
        names: What the names in their annotations stand for.
        left_out: Fields that are not written, by class; they need defaults.
    """

    def __init__(
        self,
        kinds: Sequence[type],
        names: Mapping[str, Any],
        left_out: Mapping[type, frozenset[str]],
    ) -> None:
        self._rows = {kind: _Rows(number) for number, kind in enumerate(kinds)}
        for kind, rows in self._rows.items():
            hints = get_type_hints(kind, localns=dict(names))
            fields = [
                field for field in attrs.fields(kind) if field.name not in left_out.get(kind, ())
            ]
            rows.learn(kind, fields, [self._form(kind, hints[field.name]) for field in fields])

    def write(self, value: Any) -> Row:
        """The row of a value.

        Raises:
            TypeError: If it is of no such class, or a field holds what has no form. The message
                names classes and no content.
        """
        kind: Any = value.__class__
        rows = self._rows.get(kind)
        if rows is None:
            raise _formless(value)
        return rows.write(value)

    def values(self, kind: type, row: Any) -> Row:
        """The values of the fields in a row, for who makes the object of them.

        Raises:
            ValueError: If it is no row of the class; of `Misformed`, or as a class inside says it.
            TypeError: Likewise.
        """
        rows = self._rows[kind]
        if type(row) is not list or not row or row[0] != rows.number:
            raise Misformed
        return rows.values(row)

    @property
    def description(self) -> str:
        """The classes, and their fields with the annotations: other ones mean another format."""
        return "\n".join([rows.description for rows in self._rows.values()])

    # --- from annotations ----------------------------------------------------------------------

    def _form(self, kind: type, hint: Any) -> _Form:
        origin, inner = get_origin(hint), get_args(hint)
        if hint in _SCALARS:
            steps: dict[type, Step] = {float: None, int: None} if hint is float else {hint: None}
            return _Form(steps, steps)
        if origin in (Union, types.UnionType):
            forms = [self._form(kind, one) for one in inner]
            return self._united(kind, hint, forms)
        if hint in self._rows:
            return _Form({hint: self._rows[hint].write}, {list: self._reader(hint)})
        if origin is Mapping:
            return self._mapping(kind, inner[1])
        if origin is tuple and inner[1:] == (...,):
            return self._tuple(kind, inner[0])
        if origin is frozenset and inner == (str,):
            return _Form({frozenset: _write_words}, {list: _read_words})
        if origin is Sequence and get_origin(inner[0]) is Mapping:
            return _Form(dict.fromkeys((list, tuple), _write_records), {list: _read_records})
        raise _unforeseen(kind, hint)

    def _united(self, kind: type, hint: Any, forms: list[_Form]) -> _Form:
        write = {one: step for form in forms for one, step in form.write.items()}
        rows = [one for one in write if one in self._rows]
        read = {one: step for form in forms for one, step in form.read.items()}
        if rows:
            if any(list in form.read for form in forms if not set(form.write) & set(rows)):
                raise _unforeseen(kind, hint)  # which of them a list is nobody could tell
            read[list] = self._reader(*rows)
        return _Form(write, read)

    def _reader(self, *kinds: type) -> Callable[[Any], Any]:
        readers = {self._rows[kind].number: self._rows[kind].read for kind in kinds}

        def read(row: Any) -> Any:
            reader = readers.get(row[0]) if row.__class__ is list and row else None
            if reader is None:
                raise Misformed
            return reader(row)

        return read

    def _mapping(self, kind: type, inner: Any) -> _Form:
        if inner is Any:
            return _Form(
                {dict: _write_json, type(NOTHING): None}, {dict: lambda read: read or NOTHING}
            )
        write, read = _all_values(self._form(kind, inner))
        return _Form({dict: write, type(NOTHING): None}, {dict: read})

    def _tuple(self, kind: type, inner: Any) -> _Form:
        if inner is float:
            return _Form({tuple: _write_numbers}, {bytes: _read_packed, list: _read_numbers})
        form = self._form(kind, inner)

        def write(values: tuple[Any, ...]) -> Row:
            return [_written(form, value) for value in values]

        def read(values: Row) -> tuple[Any, ...]:
            return tuple([_read(form, value) for value in values])

        def read_rows(values: Row) -> tuple[Any, ...]:
            return tuple([step(value) for value in values])

        step: Any = form.read.get(list)
        return _Form({tuple: write}, {list: read_rows if [*form.read] == [list] else read})


class _Rows:
    """The rows of one class."""

    __slots__ = ("_forms", "_get", "_names", "_readable", "_writable", "description", "kind",
                 "number")  # fmt: skip

    def __init__(self, number: int) -> None:
        self.number = number

    def learn(
        self, kind: type, fields: Sequence[attrs.Attribute[Any]], forms: Sequence[_Form]
    ) -> None:
        """How they look. Apart from making them, for the forms of fields refer to all of them."""
        names = [field.name for field in fields]
        self.kind = kind
        self.description = f"{kind.__name__}({', '.join(f'{f.name}: {f.type}' for f in fields)})"
        self._forms = (_Form({int: None}, {int: None}), *forms)
        self._get = attrgetter(*names) if len(names) > 1 else _only(names[0])
        self._names = None if _positional(kind, fields) else names
        self._writable: dict[tuple[type, ...], tuple[tuple[int, Any], ...]] = {}
        self._readable: dict[tuple[type, ...], tuple[tuple[int, Any], ...]] = {}

    def write(self, value: Any) -> Row:
        row = [self.number, *self._get(value)]
        classes = tuple(map(type, row))
        steps = self._writable.get(classes)
        if steps is None:
            found = [_writer(form, one) for form, one in zip(self._forms, classes, strict=True)]
            steps = _kept(self._writable, classes, found)
        for place, step in steps:
            row[place] = step(row[place])
        return row

    def values(self, row: Any) -> Row:
        classes = tuple(map(type, row))
        steps = self._readable.get(classes)
        if steps is None:
            if len(row) != len(self._forms):
                raise Misformed
            found = [_reader(form, one) for form, one in zip(self._forms, classes, strict=True)]
            steps = _kept(self._readable, classes, found)
        values: Row = row[1:]
        for place, step in steps:
            values[place - 1] = step(row[place])
        return values

    def read(self, row: Any) -> Any:
        values = self.values(row)
        if self._names is None:
            return self.kind(*values)
        return self.kind(**dict(zip(self._names, values, strict=True)))


def _kept(
    known: dict[tuple[type, ...], tuple[tuple[int, Any], ...]],
    classes: tuple[type, ...],
    steps: Sequence[Step],
) -> tuple[tuple[int, Any], ...]:
    """The steps that there are, each with its place; remembered for the next such row."""
    found = tuple([(place, step) for place, step in enumerate(steps) if step is not None])
    if len(known) < _MOST_KNOWN:
        known[classes] = found
    return found


def _only(name: str) -> Callable[[Any], tuple[Any]]:
    get = attrgetter(name)
    return lambda value: (get(value),)


def _positional(kind: type, fields: Sequence[attrs.Attribute[Any]]) -> bool:
    """Whether objects can be made of their fields' values in order."""
    first = attrs.fields(kind)[: len(fields)]
    return all(one is field and not field.kw_only for one, field in zip(first, fields, strict=True))


# --- values by their class -----------------------------------------------------------------------


def _writer(form: _Form, kind: type) -> Step:
    """What is done with a value of a class before it is written.

    Raises:
        TypeError: If the field has no such values.
    """
    if kind in form.write:
        return form.write[kind]
    for known, (wider, plain) in _WIDER.items():
        if known in form.write and issubclass(kind, wider) and kind is not bool:
            step = form.write[known]
            return plain if step is None else _after(plain, step)
    return _refuse


def _reader(form: _Form, kind: type) -> Step:
    if kind not in form.read:
        raise Misformed
    return form.read[kind]


def _written(form: _Form, value: Any) -> Any:
    step = _writer(form, value.__class__)
    return value if step is None else step(value)


def _read(form: _Form, value: Any) -> Any:
    step = _reader(form, value.__class__)
    return value if step is None else step(value)


_WIDER: Final[dict[type, tuple[type, Callable[[Any], Any]]]] = {
    str: (str, str.__str__),
    int: (int, int),
    float: (float, float),
    bytes: (bytes, bytes),
    dict: (Mapping, dict),
    tuple: (list, tuple),
}
"""Classes that are written like these plain ones: a program's own texts and numbers, mappings."""


def _after(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: second(first(value))


def _refuse(value: object) -> Any:
    raise _formless(value)


def _formless(value: object) -> TypeError:
    return TypeError(f"An answer holds something of the class {type(value).__name__!r}.")


def _unforeseen(kind: type, hint: object) -> TypeError:
    return TypeError(f"{kind.__name__} has a field of {hint!r}, for which answers have no form.")


def _all_values(form: _Form) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """How mappings are written and read whose values have a form."""

    def write(values: Mapping[Any, Any]) -> dict[str, Any]:
        return {_text(key): _written(form, value) for key, value in values.items()}

    def read(values: dict[Any, Any]) -> Mapping[str, Any]:
        if not all(type(key) is str for key in values):
            raise Misformed
        return {key: _read(form, value) for key, value in values.items()} or NOTHING

    return write, read


def _text(key: object) -> str:
    if not isinstance(key, str):
        raise _formless(key)
    return str.__str__(key)


def _write_words(words: frozenset[str]) -> Row:
    return sorted([_text(word) for word in words])


def _read_words(words: Row) -> frozenset[str]:
    if not all(type(word) is str for word in words):
        raise Misformed
    return frozenset(words)


# --- nested JSON ---------------------------------------------------------------------------------


def _write_json(value: Mapping[str, Any]) -> Any:
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
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return {_text(key): _plain(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):
        return str.__str__(value)
    raise _formless(value)


def _write_records(records: Sequence[Mapping[str, Any]]) -> Row:
    """Objects in a row, and whether they stood in a tuple."""
    if not all(isinstance(record, Mapping) for record in records):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _formless(records)
    return [isinstance(records, tuple), [_write_json(record) for record in records]]


def _read_records(row: Row) -> Sequence[Mapping[str, Any]]:
    if len(row) != 2 or type(row[0]) is not bool or row[1].__class__ is not list:
        raise Misformed
    records: list[Any] = row[1]
    if not all(type(record) is dict for record in records):
        raise Misformed
    return tuple(records) if row[0] else records


# --- coordinates ---------------------------------------------------------------------------------


def _write_numbers(values: tuple[Any, ...]) -> Any:
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


def _read_packed(data: bytes) -> tuple[float, ...]:
    code = data[:1]
    if code not in (b"f", b"d") or (len(data) - 1) % (4 if code == b"f" else 8):
        raise Misformed
    values: array[float] = array(code.decode())
    values.frombytes(data[1:])
    if sys.byteorder == "big":
        values.byteswap()
    return tuple(values)


def _read_numbers(values: Row) -> tuple[float, ...]:
    if not all(type(value) in (int, float) for value in values):
        raise Misformed
    return tuple(values)
