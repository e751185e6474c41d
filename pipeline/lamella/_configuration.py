"""Reading `lamella.toml`: presets, and which plugins may load.

The file is the one that `LAMELLA_CONFIG` names, or else `lamella.toml` in the working directory, if
there is one. It is read when a preset or a name is first asked for, and again when it has changed.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

from lamella._errors import ConfigurationError
from lamella._mistakes import Finding, Misfit, Mistakes, Place
from lamella._nothing import NOTHING
from lamella._preset_records import Preset
from lamella._registry import key_of
from lamella._structuring import fit

FILE: Final = "lamella.toml"
FILE_VARIABLE: Final = "LAMELLA_CONFIG"
PLUGINS_VARIABLE: Final = "LAMELLA_PLUGINS"

_Stamp: TypeAlias = tuple[str, int, int, int, int]

_POSITION: Final = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)\Z")


@attrs.frozen
class PluginSettings:
    """The table `[plugins]`.

    Attributes:
        allow: The distributions that may load, besides this one. None lets all load.
    """

    allow: tuple[str, ...] | None = None


@attrs.frozen
class Configuration:
    """What a file says.

    Attributes:
        presets: Presets by name.
        plugins: Which plugins may load.
    """

    presets: Mapping[str, Preset] = attrs.field(default=NOTHING, hash=False)
    plugins: PluginSettings = PluginSettings()


@attrs.frozen
class ConfigurationFile:
    """A file and what it says.

    Attributes:
        source: The file as it was named; empty without one.
        settings: What it says.
    """

    source: str
    settings: Configuration


def read_configuration(path: str | os.PathLike[str] | None = None) -> ConfigurationFile:
    """Read the configuration.

    Args:
        path: The file. None looks where the module's docstring says; without a file there is
            nothing to say.

    Raises:
        ConfigurationError: If the file cannot be read, is no TOML, or has mistakes; all are named.
    """
    found = _find(path)
    if found is None:
        return ConfigurationFile("", Configuration())
    return ConfigurationFile(str(found), _read(found, _stamp(found)))


def allowed_distributions() -> frozenset[str] | None:
    """The distributions that may load; None for all.

    The environment variable stands above the file.

    Raises:
        ConfigurationError: If the file that would say so is no TOML, or its `[plugins]` is wrong.
            Mistakes elsewhere in it do not matter here.
    """
    listed = os.environ.get(PLUGINS_VARIABLE)
    if listed is not None:
        return frozenset(name.strip() for name in listed.split(",") if name.strip())
    found = _find(None)
    if found is None:
        return None
    tables = _tables(found, _stamp(found))
    settings = _fitted(tables.get("plugins", {}), PluginSettings, Place(str(found), ("plugins",)))
    return None if settings.allow is None else frozenset(settings.allow)


def _find(path: str | os.PathLike[str] | None) -> Path | None:
    if path is not None:
        return _path(path)
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return _path(named)
    # Not only files: a link that leads nowhere would drop what it says of plugins.
    return Path(FILE) if os.path.lexists(FILE) else None


def _path(given: str | os.PathLike[str]) -> Path:
    try:
        return Path(given).expanduser()
    except (TypeError, RuntimeError) as error:  # no path, or the home folder of nobody
        msg = f"The configuration {given!r} is no path of a file: {error}."
        raise ConfigurationError(msg, hint="Give the path of a file that can be read.") from error


def _stamp(path: Path) -> _Stamp:
    """What changes when the file does, even if it keeps its size and its time is set back."""
    try:
        state = path.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    times = state.st_mtime_ns, state.st_ctime_ns
    return str(path.absolute()), state.st_ino, state.st_size, *times


@lru_cache(maxsize=16)
def _read(path: Path, stamp: _Stamp) -> Configuration:
    place = Place(str(path))
    settings: Configuration = _fitted(_tables(path, stamp), Configuration, place)
    mistakes = Mistakes()
    spelt: dict[str, str] = {}
    for name in settings.presets:
        other = spelt.setdefault(key_of(name), name)
        if other != name:
            found = Finding((), f"is there already, as {other!r}: `-`, `_` and capitals are alike")
            mistakes.add(place.at("presets", name), found)
    mistakes.raise_any()
    return settings


@lru_cache(maxsize=16)
def _tables(path: Path, _: _Stamp) -> Mapping[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: byte {error.start + 1} is no UTF-8."
        raise ConfigurationError(msg, hint="TOML files are UTF-8 text.") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place, reason = _where(str(error), text)
        msg = f"{path}: {place}: {reason}."
        raise ConfigurationError(msg, hint="Correct the TOML there.") from error
    except (ValueError, RecursionError) as error:  # a number, or nesting, beyond Python's bounds
        msg = f"{path}: {type(error).__name__}: {error}."
        raise ConfigurationError(msg, hint="No setting is that large.") from error


def _where(message: str, text: str) -> tuple[str, str]:
    """Line and column, and the reason, out of what the parser says."""
    found = _POSITION.search(message)
    if found is None:
        return "somewhere", message
    reason = message[: found.start()]
    if found[1] is None:
        lines = text.split("\n")
        return f"line {len(lines)}, column {len(lines[-1]) + 1}", f"{reason} (end of the file)"
    return f"line {found[1]}, column {found[2]}", reason


def _unreadable(path: Path, error: OSError | ValueError) -> ConfigurationError:
    named = os.environ.get(FILE_VARIABLE)
    asked = f" ({FILE_VARIABLE} names it)" if named and _path(named) == path else ""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    msg = f"{path}{asked} cannot be read: {reason or type(error).__name__}."
    return ConfigurationError(msg, hint="Give the path of a file that can be read.")


def _fitted(tables: Any, wanted: type[Any], place: Place) -> Any:
    mistakes = Mistakes()
    made = wanted()
    try:
        made = fit(tables, wanted)
    except Misfit as misfit:
        mistakes.add(place, *misfit.findings)
    mistakes.raise_any()
    return made
