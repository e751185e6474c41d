"""Types with named fields, and what their objects are known by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from lamella._nothing import NOTHING
from lamella._schema_book import SchemaBook
from lamella._typed_nodes import Node, Tag, bare, tag_of
from lamella._typed_problems import (
    MOST_PROBLEMS,
    Findings,
    Misfit,
    Problem,
    misfit,
    missing,
)
from lamella._typed_scalars import Choice

WRONG_VALUES: Final = (ValueError, TypeError, AssertionError, ArithmeticError, LookupError)
"""What validators and converters raise for a wrong value; anything else is a mistake in them."""

NO_DEFAULT: Final = object()
"""In the place of a field's default: there is none, or none that JSON can say."""

_SCALARS: Final = (str, int, float, bool, type(None))
T = TypeVar("T")


@attrs.frozen
class Field:
    """One field of a record, as JSON names it.

    Attributes:
        name: Of the property.
        node: What it is read by.
        required: Whether it has to be there.
        default: What stands for it where it is not there, as plain JSON, for the schema.
        description: For the model.
    """

    name: str
    node: Node
    required: bool
    default: Any = NO_DEFAULT
    description: str = ""


@attrs.frozen
class Shape:
    """What an object is known by, among others.

    Attributes:
        properties: Names that it may have.
        required: Names that it must have.
        tags: Names whose values are from a fixed set, with the set.
    """

    properties: frozenset[str]
    required: frozenset[str]
    tags: Mapping[str, frozenset[Tag]] = NOTHING

    def unlike(self, other: Shape) -> bool:
        """Whether any object that fits one of the two can be told from those of the other."""
        for name, values in self.tags.items():
            if name in other.tags and not values & other.tags[name]:
                return True
        return bool(self.required - other.properties or other.required - self.properties)

    def may_be(self, value: Mapping[str, Any]) -> bool:
        """Whether the tags that an object has are this one's; null may stand for a default."""
        return all(
            self.has(name, value[name]) or (value[name] is None and name not in self.required)
            for name in self.tags
            if name in value
        )

    def has(self, name: str, item: Any) -> bool:
        """Whether a tag may have this value."""
        return item.__class__ in _SCALARS and tag_of(item) in self.tags[name]


class Shaped(Node):
    """A node for objects that have a shape."""

    __slots__ = ()
    kinds = frozenset({"object"})

    @property
    def shape(self) -> Shape:
        """Its shape."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Its name, for messages."""
        raise NotImplementedError


class BySchema(Shaped):
    """A node for what a JSON Schema describes: its own, or one that another library has made."""

    __slots__ = ("_schema", "_shape", "_title")

    _schema: Mapping[str, Any]
    _shape: Shape | None
    _title: str

    @property
    def shape(self) -> Shape:
        """Of its properties, as they are called in JSON."""
        return self._shape or Shape(frozenset(), frozenset())

    @property
    def title(self) -> str:
        """Its name, for messages."""
        return self._title


class Record(Shaped):
    """A class with fields: attrs, dataclass, TypedDict or NamedTuple."""

    __slots__ = ("_about", "_explain", "_fields", "_make", "_plan", "_title")

    def __init__(
        self,
        title: str,
        make: Callable[[dict[str, Any]], Any],
        explain: Callable[[dict[str, Any]], list[Problem]] | None = None,
        about: str = "",
    ) -> None:
        self._title = title
        self._make = make
        self._explain = explain
        self._about = about
        self._fields: tuple[Field, ...] = ()
        self._plan: tuple[tuple[str, Callable[[Any], Any], bool, bool], ...] = ()

    @property
    def title(self) -> str:
        """The name of the class."""
        return self._title

    @property
    def words(self) -> str:  # type: ignore[override]
        """An object, and which."""
        return f"object ({self._title})"

    @property
    def shape(self) -> Shape:
        """Of its fields."""
        tags = {
            each.name: node.values
            for each in self._fields
            if isinstance(node := bare(each.node), Choice)
        }
        required = frozenset(each.name for each in self._fields if each.required)
        return Shape(frozenset(each.name for each in self._fields), required, tags)

    def take(self, fields: Sequence[Field]) -> None:
        """Give it its fields; they may refer to it."""
        self._fields = tuple(fields)

    def finish(self) -> None:
        """Prepare the reading, now that every node is known."""
        self._plan = tuple(
            (each.name, each.node.read, each.required, "null" in each.node.kinds)
            for each in self._fields
        )

    def read(self, value: Any) -> Any:
        """An instance. Properties without a field are let be; null may stand for a default."""
        if value.__class__ is not dict:
            raise misfit(self.words, value)
        found: dict[str, Any] = {}
        findings: Findings | None = None
        for name, read, required, takes_null in self._plan:
            if name not in value:
                if required:
                    findings = findings or Findings()
                    findings.problems.append(missing(name, self._expected(name)))
                continue
            each = value[name]
            if each is None and not required and not takes_null:
                continue
            try:
                found[name] = read(each)
            except Misfit as wrong:
                findings = findings or Findings()
                findings.add(name, wrong)
        if findings is not None:
            raise Misfit(findings.problems[:MOST_PROBLEMS])
        try:
            return self._make(found)
        except WRONG_VALUES as error:
            raise self._refused(found, error) from None

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """A reference to its definition."""
        return book.refer(self, self._title, lambda: self._definition(book))

    def _definition(self, book: SchemaBook) -> dict[str, Any]:
        found: dict[str, Any] = {"title": self._title}
        if self._about:
            found["description"] = self._about
        found["type"] = "object"
        found["properties"] = {each.name: _property(each, book) for each in self._fields}
        if required := [each.name for each in self._fields if each.required]:
            found["required"] = required
        return found

    def _expected(self, name: str) -> str:
        return next(each.node.words for each in self._fields if each.name == name)

    def _refused(self, found: dict[str, Any], error: Exception) -> Misfit:
        """Which field the class did not take, and what it said of it."""
        problems = self._explain(found) if self._explain is not None else []
        if problems:
            return Misfit(problems[:MOST_PROBLEMS])
        return misfit(f"object that {self._title} takes", found, self.kinds, said(error))


def said(error: Exception) -> str:
    """What an exception of a validator says; only for whoever wrote the value."""
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return " ".join(text.split())[:500]


def _property(each: Field, book: SchemaBook) -> dict[str, Any]:
    found = each.node.schema(book)
    if each.description and "description" not in found:
        found["description"] = each.description
    if each.default is not NO_DEFAULT:
        found["default"] = each.default
    return found
