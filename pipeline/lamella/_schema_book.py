"""The named definitions of one JSON Schema, while it is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

_PREFIX: Final = "#/$defs/"
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]+")


def schema_name(text: str, otherwise: str = "answer") -> str:
    """A name as providers take it: letters, digits, `_` and `-`, at most 64."""
    return _NOT_IN_NAMES.sub("_", text).strip("_")[:64] or otherwise


class SchemaBook:
    """Definitions by their names; one for each object that defines something."""

    def __init__(self) -> None:
        self.definitions: dict[str, dict[str, Any]] = {}
        self._names: dict[int, str] = {}
        self._merged: dict[str, tuple[str, Any]] = {}
        self._kept: list[object] = []  # so that no id is used twice

    def refer(
        self, owner: object, name: str, write: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """A reference to what the owner defines, which is written at the first time."""
        known = self._names.get(id(owner))
        if known is None:
            known = self._names[id(owner)] = self._free(schema_name(name, "Item"))
            self._kept.append(owner)
            self.definitions[known] = {}  # its place, before those that it refers to
            self.definitions[known] = write()
        return {"$ref": _PREFIX + known}

    def merge(self, schema: Mapping[str, Any], root: str = "#") -> dict[str, Any]:
        """A whole schema of another maker: its definitions join these, under free names.

        Args:
            schema: The schema.
            root: What its references to itself (`#`) are to be.
        """
        rest = {key: value for key, value in schema.items() if key != "$defs"}
        inner: Mapping[str, Any] = schema.get("$defs", {})
        names: dict[str, str] = {"#": root}
        new: list[str] = []
        for name, body in inner.items():
            whole = (name, with_definitions(dict(body), inner))
            known = next((each for each, one in self._merged.items() if one == whole), None)
            if known is None:
                known = self._free(schema_name(name, "Item"))
                self.definitions[known] = {}
                self._merged[known] = whole
                new.append(name)
            names[name] = known
        for name in new:
            self.definitions[names[name]] = _renamed(inner[name], names)
        return cast("dict[str, Any]", _renamed(rest, names))

    def whole(self, root: Mapping[str, Any]) -> dict[str, Any]:
        """The schema with the definitions it reaches; a reference at the root is written out."""
        root = dict(root)
        reference = root.get("$ref")
        if isinstance(reference, str):
            body = self.definitions[reference.removeprefix(_PREFIX)]
            root = {**body, **{key: value for key, value in root.items() if key != "$ref"}}
        return with_definitions(root, self.definitions)

    def _free(self, name: str) -> str:
        free, number = name, 2
        while free in self.definitions:
            free = f"{name[:60]}_{number}"
            number += 1
        return free


def with_definitions(root: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """A schema with those of the definitions that it reaches."""
    reached: dict[str, Any] = {}
    waiting = [root]
    while waiting:
        for name in references(waiting.pop()):
            if name in known and name not in reached:
                reached[name] = known[name]
                waiting.append(known[name])
    if not reached:
        return root
    return {**root, "$defs": {name: known[name] for name in known if name in reached}}


def references(schema: Any) -> list[str]:
    """The names of the definitions that a schema refers to."""
    found = all_references(schema)
    return [each.removeprefix(_PREFIX) for each in found if each.startswith(_PREFIX)]


def all_references(schema: Any) -> list[str]:
    """Everything that a schema refers to, as it is written."""
    found: list[str] = []
    waiting: list[Any] = [schema]
    while waiting:
        each: Any = waiting.pop()
        if isinstance(each, Mapping):
            given = cast("Mapping[str, Any]", each)
            if isinstance(given.get("$ref"), str):
                found.append(given["$ref"])
            waiting.extend(given.values())
        elif isinstance(each, list):
            waiting.extend(cast("Any", each))
    return found


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, Mapping):
        given = cast("Mapping[str, Any]", schema)
        changed = {key: _renamed(value, names) for key, value in given.items()}
        reference = changed.get("$ref")
        if isinstance(reference, str) and reference.startswith(_PREFIX):
            name = reference.removeprefix(_PREFIX)
            changed["$ref"] = _PREFIX + names.get(name, name)
        elif reference == "#":
            changed["$ref"] = names[reference]
        tagged = changed.get("discriminator")
        if isinstance(tagged, dict) and isinstance(tagged.get("propertyName"), str):  # pyright: ignore[reportUnknownMemberType]
            del changed["discriminator"]  # OpenAPI's; the tags themselves say it
        return changed
    if isinstance(schema, list):
        return [_renamed(each, names) for each in cast("Any", schema)]
    return schema
