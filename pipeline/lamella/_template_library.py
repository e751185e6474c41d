"""Where prompt templates are looked up: folders, templates made in code, and plugins.

What is looked up is one snapshot of all that was read, which is replaced as a whole: any number of
threads and event loops may ask at once. Folders are read when the library is made, plugins' when a
name is asked for that no folder has.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

from lamella._checked_tables import close_to
from lamella._errors import ConfigurationError, LamellaError, TemplateError
from lamella._nothing import NOTHING
from lamella._registry import registry
from lamella._template_files import stamps_of
from lamella._template_shelves import (
    EMPTY,
    KIND,
    Shelf,
    Versions,
    items_of,
    shelf_of_code,
    shelf_of_folder,
    shelf_of_plugin,
    sorted_templates,
)
from lamella._templates import PromptTemplate, version_key

Folder: TypeAlias = str | os.PathLike[str]


class PromptLibrary:
    """Prompt templates by name and version. Any thread may use it.

    Args:
        folders: A folder of template files, or several; the first that has a name counts for it.
        templates: Templates made in code, with names; they come before those of folders.
        pins: The version that is taken of some templates where a prompt names none. None of a
            template's versions is pinned otherwise: then it is the latest that is no draft.

    Raises:
        ConfigurationError: If a folder cannot be read, a file or a pin is wrong; all mistakes at
            once.
    """

    def __init__(
        self,
        folders: Folder | Iterable[Folder] = (),
        *,
        templates: Iterable[PromptTemplate] = (),
        pins: Mapping[str, str] = NOTHING,
    ) -> None:
        self._folders = tuple([Path(each) for each in _listed(folders)])
        self._own = shelf_of_code(templates)
        self._pins = dict(pins)
        self._shelves: tuple[Shelf, ...] = self._read()
        self._plugins: dict[str, Shelf] = {}
        self._check_pins()

    def get(self, name: str, version: str | None = None) -> PromptTemplate:
        """The template of that name. Blocks only where a plugin's is asked for the first time.

        Args:
            name: Its name, as `support/reply`.
            version: Which version; None is the pinned one, or else the latest that is no draft.

        Raises:
            TemplateError: If there is no such name or version.
            PluginError: If a plugin's template is wrong, or cannot be loaded.
        """
        found = self.known(name, version)
        if found is not None:
            return found
        versions = self._of_plugin(name)
        if versions is None:
            raise self._unknown(name)
        return self._chosen(name, versions, version)

    def known(self, name: str, version: str | None = None) -> PromptTemplate | None:
        """The same without any waiting; None if plugins have to be asked.

        Raises:
            TemplateError: If the name has no such version.
        """
        loaded = self._plugins.get(name.partition("/")[0], EMPTY)
        for shelf in (self._own, *self._shelves, loaded):
            versions = shelf.names.get(name)
            if versions is not None:
                return self._chosen(name, versions, version)
        return None

    def templates(self) -> tuple[PromptTemplate, ...]:
        """All versions of all templates, sorted by name and version; plugins' too. Blocks.

        Those of plugins that are `broken` are missing.
        """
        self.broken()
        return sorted_templates((self._own, *self._shelves, *self._plugins.values()))

    def own(self) -> tuple[PromptTemplate, ...]:
        """The same without those of plugins. Does not block."""
        return sorted_templates((self._own, *self._shelves))

    def broken(self) -> Mapping[str, LamellaError]:
        """What is wrong with plugins' templates, by the names that they have there. Blocks.

        They are read if they have not been yet.
        """
        found: dict[str, LamellaError] = {}
        for name in registry().names(KIND):
            try:
                self._of_plugin(name)
            except LamellaError as error:
                found[name] = error
        return found

    def refresh(self) -> bool:
        """Read the folders again if a file has come, gone or changed. Blocks.

        Returns:
            Whether it did.

        Raises:
            ConfigurationError: If a file is wrong now; what was read before stays.
        """
        before = [shelf.stamps for shelf in self._shelves]
        if before == [stamps_of(folder) for folder in self._folders]:
            return False
        self._shelves = self._read()
        return True

    @property
    def fingerprint(self) -> str:
        """What tells it from others, for the keys of caches."""
        from lamella._fingerprints import digest

        shelves = (self._own, *self._shelves)
        found = [
            [
                template.fingerprint
                for versions in shelf.names.values()
                for template in versions.values()
            ]
            for shelf in shelves
        ]
        return digest([found, sorted(map(list, self._pins.items()))])

    def __repr__(self) -> str:
        folders = ", ".join([repr(str(folder)) for folder in self._folders])
        return f"<PromptLibrary [{folders}]>"

    # --- reading -----------------------------------------------------------------------------

    def _read(self) -> tuple[Shelf, ...]:
        shelves: list[Shelf] = []
        wrong: list[str] = []
        for folder in self._folders:
            try:
                shelves.append(shelf_of_folder(folder))
            except ConfigurationError as error:
                wrong.append(str(error))
        if wrong:
            raise ConfigurationError("\n".join(wrong))
        return tuple(shelves)

    def _of_plugin(self, name: str) -> Versions | None:
        """What plugins have under a name; read once, and told from then on."""
        first = name.partition("/")[0]
        if first not in registry().names(KIND):
            return None
        shelf = self._plugins.get(first)
        if shelf is None:
            shelf = shelf_of_plugin(first)
            self._plugins = {**self._plugins, first: shelf}
        return shelf.names.get(name)

    # --- choosing ----------------------------------------------------------------------------

    def _chosen(self, name: str, versions: Versions, version: str | None) -> PromptTemplate:
        wanted = self._pins.get(name) if version is None else version
        if wanted is not None:
            found = versions.get(_key(wanted))
            if found is None:
                raise _no_version(name, wanted, versions)
            return found
        latest = [key for key, template in versions.items() if not template.draft]
        if not latest:
            raise _no_version(name, None, versions)
        return versions[max(latest)]

    def _unknown(self, name: str) -> TemplateError:
        known = {each for shelf in (self._own, *self._shelves) for each in shelf.names}
        known |= {each for shelf in self._plugins.values() for each in shelf.names}
        known |= set(registry().names(KIND)) - {each.partition("/")[0] for each in known}
        offer = close_to(name, known) or (
            f"Known are {', '.join(sorted(known))}." if known else "There are none at all."
        )
        error = TemplateError(
            f"There is no prompt template {name!r}.", hint=offer, layer="template"
        )
        error.template = name
        return error

    def _check_pins(self) -> None:
        wrong: list[str] = []
        for name, version in self._pins.items():
            try:
                self.get(name, version)
            except TemplateError as error:
                wrong.append(f"pins: {error}")
        if wrong:
            raise ConfigurationError("\n".join(wrong))


def _key(version: object) -> tuple[int, ...]:
    """A version to look for; what is none is found nowhere."""
    try:
        return version_key(cast("str", version))
    except (AttributeError, ValueError):
        return ()


def _no_version(name: str, version: str | None, versions: Versions) -> TemplateError:
    known = ", ".join([versions[key].version for key in sorted(versions)])
    if version is None:
        msg = f"The prompt template {name!r} has drafts only."
        hint = f"Ask for one by its version: {known}."
    else:
        msg = f"The prompt template {name!r} has no version {version!r}."
        hint = f"It has {known}."
    error = TemplateError(msg, hint=hint, layer="template")
    error.template, error.version = name, version
    return error


def _listed(folders: Folder | Iterable[Folder]) -> Sequence[Folder]:
    found: list[Folder] = []
    for folder in items_of(folders):
        if not isinstance(folder, str | os.PathLike) or folder == "":
            msg = f"folders={folder!r}: give the path of a folder, or several."
            raise ConfigurationError(msg)
        found.append(cast("Folder", folder))
    return found
