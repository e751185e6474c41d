"""Prompt templates by name and version, as one place has them: a folder, code, or a plugin."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import attrs

from lamella._errors import ConfigurationError, PluginError
from lamella._mending import words_of
from lamella._nothing import NOTHING
from lamella._registry import registry
from lamella._template_files import Stamps, is_name, read_folder, stamps_of
from lamella._template_tables import read_template
from lamella._templates import PromptTemplate, Source, version_key

Versions: TypeAlias = Mapping[tuple[int, ...], PromptTemplate]

KIND: Final = "templates"
"""Of what kind they are in the registry."""

_READINGS: Final = 3
"""How often a folder is read that changes meanwhile: a file is half written, or gone."""


@attrs.frozen
class Shelf:
    """The templates of one place, by name and version."""

    names: Mapping[str, Versions]
    stamps: Stamps = NOTHING


EMPTY: Final = Shelf(NOTHING)
"""Of a place that has none."""


def sorted_templates(shelves: Iterable[Shelf]) -> tuple[PromptTemplate, ...]:
    """All versions of all templates; of shelves that have one name, the first has it."""
    names: dict[str, Versions] = {}
    for shelf in shelves:
        for name, versions in shelf.names.items():
            names.setdefault(name, versions)
    return tuple([names[name][key] for name in sorted(names) for key in sorted(names[name])])


def items_of(given: Any) -> tuple[Any, ...]:
    """What was given as several, or the one thing that it is."""
    if isinstance(given, str | os.PathLike) or not isinstance(given, Iterable):
        return (given,)  # pyright: ignore[reportUnknownVariableType]
    return tuple(given)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def shelf_of_code(templates: Iterable[PromptTemplate]) -> Shelf:
    """The templates that were made in code.

    Raises:
        ConfigurationError: If one is none, has no name, or comes twice in a version.
    """
    found = items_of(templates)
    for template in found:
        if not isinstance(template, PromptTemplate) or not is_name(template.name):
            msg = f"templates: {template!r} is no PromptTemplate with a name."
            hint = 'Make it by PromptTemplate.of(..., name="support/reply").'
            raise ConfigurationError(msg, hint=hint)
    return Shelf(_by_name(found))


def _by_name(templates: Iterable[PromptTemplate]) -> Mapping[str, Versions]:
    found: dict[str, dict[tuple[int, ...], PromptTemplate]] = {}
    for template in templates:
        versions = found.setdefault(template.name, {})
        if versions.setdefault(version_key(template.version), template) is not template:
            msg = (
                f"The prompt template {template.name!r} comes twice in version {template.version}."
            )
            raise ConfigurationError(msg)
    return found


def shelf_of_folder(folder: Path, prefix: str = "") -> Shelf:
    """The templates of a folder, all of one moment unless it never rests. Blocks.

    Raises:
        ConfigurationError: If it cannot be read, or a file is wrong.
    """
    for _ in range(_READINGS - 1):
        stamps = stamps_of(folder)
        try:
            shelf = _shelf_of(folder, stamps, prefix)
        except ConfigurationError:
            if stamps_of(folder) == stamps:
                raise
        else:
            if stamps_of(folder) == stamps:
                return shelf
    return _shelf_of(folder, stamps_of(folder), prefix)


def _shelf_of(folder: Path, stamps: Stamps, prefix: str) -> Shelf:
    return Shelf(_by_name(read_folder(folder, stamps, prefix)), stamps)


def shelf_of_plugin(name: str) -> Shelf:
    """What plugins have registered under a name.

    Raises:
        PluginError: If it is no template, or is wrong, or fails, with whose it is.
    """
    given: Any = registry().get(KIND, name)
    origin = registry().origin(KIND, name)
    try:
        return _made_of(name, given, origin)
    except PluginError:
        raise
    except ConfigurationError as error:
        raise PluginError(f"Template {name!r} of {origin} is wrong. {error}") from error
    except (Exception, SystemExit) as error:
        msg = f"Template {name!r} of {origin} could not be made: {words_of(error)}."
        raise PluginError(msg, hint="Upgrade or remove that distribution.") from error


def _made_of(name: str, given: Any, origin: str) -> Shelf:
    """The templates that a template, a table, a folder's path, or what gives one of them, is."""
    if callable(given) and not isinstance(given, PromptTemplate):
        given = given()
    if isinstance(given, os.PathLike):
        return shelf_of_folder(Path(cast("os.PathLike[str]", given)), f"{name}/")
    if isinstance(given, Mapping):
        table = dict(cast("Mapping[str, Any]", given))
        given = read_template(Source(table, name, f"template {name!r} of {origin}"))
    if isinstance(given, PromptTemplate):
        source = attrs.evolve(given.source, name=name)  # under the name it has here
        return Shelf(_by_name([read_template(source)]))
    msg = f"Template {name!r} of {origin} is {given!r}, which is no template."
    hint = "It has to be a PromptTemplate, a table, or the Path of a folder: upgrade or remove it."
    raise PluginError(msg, hint=hint)
