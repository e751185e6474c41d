"""Types with named fields, and unions, which are told apart by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from lamella._errors import ConfigurationError
from lamella._nothing import NOTHING
from lamella._schema_book import SchemaBook
from lamella._typed_nodes import Node, Tag, bare, tag_of
from lamella._typed_problems import (
    MOST_PROBLEMS,
    Findings,
    Misfit,
    Problem,
    kind_of,
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


class Union(Node):
    """One of several types: told apart by the kind of JSON, then by tags and required names."""

    __slots__ = ("_by_kind", "_nodes", "_records", "_tags")

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = tuple(nodes)
        self._by_kind: dict[str, tuple[Node, ...]] = {}
        self._records: tuple[tuple[Node, Shape], ...] = ()
        self._tags: tuple[str, ...] = ()

    @property
    def kinds(self) -> frozenset[str]:  # type: ignore[override]
        """Those of all members."""
        return frozenset(self._by_kind) or frozenset[str]().union(
            *(node.kinds for node in self.members(set()))
        )

    @property
    def words(self) -> str:  # type: ignore[override]
        """Any of them."""
        return " or ".join(dict.fromkeys(node.words for node in self.members(set())))

    def finish(self) -> None:
        """Sort the members by the kinds that they take, now that every node is known.

        Raises:
            ConfigurationError: If an object or an array would fit two of them.
        """
        ranked = sorted(self.members(set()), key=lambda node: node.rank)
        self._by_kind = {
            kind: tuple(node for node in ranked if kind in node.kinds) for kind in self.kinds
        }
        for kind in ("object", "array"):
            _check_apart(self._by_kind.get(kind, ()), kind)
        objects = self._by_kind.get("object", ())
        shapes = [(node, shape) for node in objects if (shape := shape_of(node)) is not None]
        if len(shapes) > 1:
            self._records = tuple(shapes)
            self._tags = _telling_tags([shape for _, shape in shapes])

    def members(self, seen: set[int]) -> list[Node]:
        """The members, with those of the unions among them that are not seen yet."""
        seen.add(id(self))
        found: list[Node] = []
        for node in self._nodes:
            plain = bare(node)
            if not isinstance(plain, Union):
                found.append(plain)
            elif id(plain) not in seen:
                found += plain.members(seen)
        return found

    def read(self, value: Any) -> Any:
        """By the member that the value is one of."""
        nodes = self._by_kind.get(kind_of(value), ())
        if len(nodes) == 1:
            return nodes[0].read(value)
        if value.__class__ is dict and self._records:
            return self._record(value).read(value)
        for node in nodes:
            try:
                return node.read(value)
            except Misfit:
                continue
        raise misfit(self.words, value, self.kinds)

    def schema(self, book: SchemaBook) -> dict[str, Any]:
        """Any of them."""
        return {"anyOf": [node.schema(book) for node in self._nodes]}

    def _record(self, value: dict[str, Any]) -> Node:
        """The record that an object is meant to be, whether or not it fits."""
        shapes = self._records
        for tag in self._tags:
            if value.get(tag) is not None:
                for node, shape in shapes:
                    if shape.has(tag, value[tag]):
                        return node
                raise Misfit([_wrong_tag(tag, [shape for _, shape in shapes], value[tag])])
        left = [each for each in shapes if each[1].may_be(value)] or shapes
        names = value.keys()

        def fit(item: tuple[Node, Shape]) -> tuple[int, int]:
            return -len(item[1].required - names), len(item[1].properties & names)

        return max(left, key=fit)[0]


def shape_of(node: Node) -> Shape | None:
    """The shape of the objects that a node takes; None if it takes any."""
    plain = bare(node)
    return plain.shape if isinstance(plain, Shaped) else None


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


def _check_apart(nodes: Sequence[Node], kind: str) -> None:
    for place, one in enumerate(nodes):
        for other in nodes[place + 1 :]:
            mine, theirs = shape_of(one), shape_of(other)
            if mine is None or theirs is None:
                pair = f"{_name(one)} and {_name(other)}"
                msg = f"A union has two members that are a JSON {kind}: {pair}."
                hint = "Make each of them a field of a class, and the union one of the classes."
                raise ConfigurationError(msg, hint=hint)
            if not mine.unlike(theirs):
                msg = f"A JSON object can be both {_name(one)} and {_name(other)} of one union."
                hint = (
                    "Give each a field that tells it: kind: Literal['a'] in one, "
                    "kind: Literal['b'] in the other; or a required field that the other lacks."
                )
                raise ConfigurationError(msg, hint=hint)


def _name(node: Node) -> str:
    return node.title if isinstance(node, Shaped) else node.words


def _telling_tags(shapes: Sequence[Shape]) -> tuple[str, ...]:
    """The tags that each of several records has, and no two with the same value."""
    return tuple(
        name
        for name in shapes[0].tags
        if all(name in shape.tags for shape in shapes)
        and sum(len(shape.tags[name]) for shape in shapes)
        == len(frozenset[Tag]().union(*(shape.tags[name] for shape in shapes)))
    )


def _wrong_tag(name: str, shapes: Sequence[Shape], item: Any) -> Problem:
    """The problem of an object whose tag is none of theirs."""
    options = sorted({repr(each) for shape in shapes for _, each in shape.tags[name]})
    return Problem((name,), "one of " + ", ".join(options), f"another {kind_of(item)}")
