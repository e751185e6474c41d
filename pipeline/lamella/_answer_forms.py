"""The classes that answers are made of, as rows of plain values and back.

A row is a number for the class and then its fields in order. How a field is written follows from
its annotation, so that a new field is covered by being there, and one of a kind that nobody has
thought of fails when this module is used first. Reading believes nothing: each value must be of a
class that its field can have.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs

from lamella._answer_values import (
    SCALARS,
    Misformed,
    Row,
    formless,
    read_numbers,
    read_packed,
    read_records,
    read_words,
    text_of,
    write_json,
    write_numbers,
    write_records,
    write_words,
)
from lamella._nothing import NOTHING

Step: TypeAlias = Callable[[Any], Any] | None
"""What is done with a value of one class; None takes it as it is."""

_MOST_KNOWN: Final = 256  # combinations of classes that are remembered for each class of rows


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
            raise formless(value)
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
        if hint in SCALARS:
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
            return _Form({frozenset: write_words}, {list: read_words})
        if origin is Sequence and get_origin(inner[0]) is Mapping:
            return _Form(dict.fromkeys((list, tuple), write_records), {list: read_records})
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
                {dict: write_json, type(NOTHING): None}, {dict: lambda read: read or NOTHING}
            )
        write, read = _all_values(self._form(kind, inner))
        return _Form({dict: write, type(NOTHING): None}, {dict: read})

    def _tuple(self, kind: type, inner: Any) -> _Form:
        if inner is float:
            return _Form({tuple: write_numbers}, {bytes: read_packed, list: read_numbers})
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
    raise formless(value)


def _unforeseen(kind: type, hint: object) -> TypeError:
    return TypeError(f"{kind.__name__} has a field of {hint!r}, for which answers have no form.")


def _all_values(form: _Form) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """How mappings are written and read whose values have a form."""

    def write(values: Mapping[Any, Any]) -> dict[str, Any]:
        return {text_of(key): _written(form, value) for key, value in values.items()}

    def read(values: dict[Any, Any]) -> Mapping[str, Any]:
        if not all(type(key) is str for key in values):
            raise Misformed
        return {key: _read(form, value) for key, value in values.items()} or NOTHING

    return write, read
