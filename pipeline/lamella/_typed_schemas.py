"""A JSON Schema that a caller wrote: the value is plain JSON, checked against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from lamella._schema_book import SchemaBook, all_references
from lamella._schema_checks import Checker
from lamella._schema_shapes import read_without_nulls, resolved, schema_kinds, schema_shape
from lamella._typed_problems import Misfit
from lamella._typed_records import BySchema

_OLD: Final = "#/definitions/"


class SchemaNode(BySchema):
    """A JSON Schema."""

    __slots__ = ("_checker", "_itself", "kinds", "words")

    def __init__(self, schema: Mapping[str, Any], title: str) -> None:
        if "definitions" in schema and "$defs" not in schema:
            renewed = _renewed(schema)
            renewed["$defs"] = renewed.pop("definitions")
            schema = renewed
        self._checker = Checker(schema)
        self._schema = schema
        self._itself = "#" in all_references(schema)
        self._title = title
        self._shape = schema_shape(schema)
        self.kinds = schema_kinds(schema)
        self.words = title

    def read(self, value: Any) -> Any:
        """The value, without nulls for what may be missing but not be null."""
        return self._read(value, self._schema)

    def item_reader(self) -> Callable[[Any], Any] | None:
        """What reads one item, where it takes arrays of one kind; else None."""
        found = resolved(self._schema, self._schema)
        if found.get("type") != "array" or "prefixItems" in found:
            return None
        items = found.get("items", True)
        return lambda value: self._read(value, items)

    def _read(self, value: Any, schema: Any) -> Any:
        def check(given: Any) -> Any:
            problems = self._checker.problems(given, schema)
            if problems:
                raise Misfit(problems)
            return given

        return read_without_nulls(check, value, self._schema, schema)

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """As it was given; a schema that refers to itself becomes a definition."""
        if not self._itself:
            return book.merge(self._schema)
        return book.refer(self, self._title, lambda: self._definition(book))

    def _definition(self, book: SchemaBook) -> dict[str, Any]:
        own = book.refer(self, self._title, dict[str, Any])["$ref"]  # it has its name by now
        return book.merge(self._schema, own)


def _renewed(schema: Any) -> Any:
    """The schema with `$defs` where older drafts have `definitions`."""
    if isinstance(schema, Mapping):
        given = cast("Mapping[str, Any]", schema)
        found = {key: _renewed(each) for key, each in given.items()}
        reference = found.get("$ref")
        if isinstance(reference, str) and reference.startswith(_OLD):
            found["$ref"] = "#/$defs/" + reference.removeprefix(_OLD)
        return found
    return [_renewed(each) for each in cast("Any", schema)] if isinstance(schema, list) else schema
