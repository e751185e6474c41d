"""Classes made with msgspec: msgspec itself reads them, with their tags, renamed fields and all."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from lamella._schema_book import SchemaBook
from lamella._schema_shapes import read_without_nulls, schema_shape
from lamella._typed_problems import Key, Misfit, Problem, Step, kind_of
from lamella._typed_records import WRONG_VALUES, BySchema

_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?(?P<path>\$[^`]*)`)?$", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")
_EXPECTED: Final = re.compile(r"^Expected (?P<want>.+?)(?:, got `(?P<got>[^`]+)`)?$", re.DOTALL)
_REQUIRED: Final = re.compile(r"^Object missing required field `(?P<name>[^`]+)`$")


class StructNode(BySchema):
    """A `msgspec.Struct`. Of several problems the first is found."""

    __slots__ = ("_type", "kinds", "words")

    def __init__(self, given: Any) -> None:
        msgspec.json.Decoder(given)
        self._type = given
        self._schema = msgspec.json.schema(given)
        self._shape = schema_shape(self._schema)
        self._title = getattr(given, "__name__", "Struct")
        self.kinds = frozenset({"object"} if self._shape is not None else {"array"})
        self.words = f"object ({self._title})" if self._shape is not None else "array"

    def read(self, value: Any) -> Any:
        """An instance."""
        return read_without_nulls(self._converted, value, self._schema)

    def _converted(self, value: Any) -> Any:
        try:
            return msgspec.convert(value, self._type)
        except WRONG_VALUES as error:  # `msgspec.ValidationError` is one
            raise Misfit([_problem(str(error), value)]) from None

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """As msgspec gives it."""
        return book.merge(self._schema)


def _problem(message: str, value: Any) -> Problem:
    """A problem from msgspec's sentence; other sentences may hold the value and are detail."""
    place = _PLACE.match(message)
    what = place["what"] if place else message
    path = (place["path"] or "$") if place else "$"
    steps: list[Step] = [
        int(found[2]) if found[2] else found[1] or Key("*") for found in _STEP.finditer(path)
    ]
    if missed := _REQUIRED.match(what):
        return Problem((*steps, missed["name"]), "a value", "nothing")
    kind = _kind_at(value, steps)
    if expected := _EXPECTED.match(what):
        got = expected["got"] or f"another {kind}"
        return Problem(tuple(steps), expected["want"].replace("`", ""), got)
    return Problem(tuple(steps), "value that msgspec takes", f"another {kind}", what[:500])


def _kind_at(value: Any, steps: list[Step]) -> str:
    """The kind of JSON at a place; msgspec leaves the keys of mappings out of it."""
    for step in steps:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return "value"
    return kind_of(value)
