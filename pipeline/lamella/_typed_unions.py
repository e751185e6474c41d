"""Unions: told apart by the kind of JSON, then by tags and required names of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamella._errors import ConfigurationError
from lamella._schema_book import SchemaBook
from lamella._typed_nodes import Node, Tag, bare
from lamella._typed_problems import Misfit, Problem, kind_of, misfit
from lamella._typed_records import Shape, Shaped


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
