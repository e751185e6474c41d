"""A JSON Schema that a caller wrote: the value is plain JSON, checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella._schema_book import SchemaBook
from lamella._schema_checks import Checker
from lamella._schema_shapes import schema_shape, without_nulls
from lamella._typed_nodes import KINDS
from lamella._typed_problems import Misfit
from lamella._typed_records import Shape, Shaped


class SchemaNode(Shaped):
    """A JSON Schema."""

    __slots__ = ("_checker", "_schema", "_shape", "_title", "kinds", "words")

    def __init__(self, schema: Mapping[str, Any], title: str) -> None:
        self._schema = schema
        self._checker = Checker(schema)
        self._title = title
        self._shape = schema_shape(schema)
        self.kinds = KINDS
        self.words = title

    @property
    def title(self) -> str:
        """Its title."""
        return self._title

    @property
    def shape(self) -> Shape:
        """Of its properties."""
        return self._shape or Shape(frozenset(), frozenset())

    def read(self, value: Any) -> Any:
        """The value, without nulls for what may be missing but not be null."""
        pruned = without_nulls(value, self._schema)
        problems = self._checker.problems(pruned)
        if problems:
            raise Misfit(problems)
        return pruned

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """As it was given."""
        return book.merge(self._schema)
