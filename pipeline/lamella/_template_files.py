"""Reading a folder of prompt templates: every `.toml` in it, named by its path.

`support/reply.toml` is the template `support/reply`; `support/reply@2.toml` is its version 2. What
begins with a dot is passed over, and so is what ends otherwise. Names are looked up among what was
read, so that no name leads out of the folder.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from lamella._errors import ConfigurationError
from lamella._template_tables import read_template
from lamella._templates import PromptTemplate, Source, version_key

Stamps: TypeAlias = Mapping[str, tuple[int, int, int, int]]
"""Of each file what changes when the file does."""

MOST_BYTES: Final = 4 * 2**20
"""How large a file may be."""

_SUFFIX: Final = ".toml"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)*\Z")


def is_name(name: str) -> bool:
    """Whether a template can be called so."""
    return _NAME.match(name) is not None


def stamps_of(folder: Path) -> Stamps:
    """The files of a folder, each with what changes when the file does. Blocks.

    Raises:
        ConfigurationError: If the folder, or one in it, cannot be read.
    """
    return {
        path: (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        for path, state in sorted(_files(folder))
    }


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    def fail(error: OSError) -> None:
        msg = f"The prompts' folder {str(folder)!r} cannot be read: {error.strerror}."
        raise ConfigurationError(msg, hint="Give a folder with templates in it.") from error

    def told(path: str, error: OSError) -> ConfigurationError:
        msg = f"{path}: cannot be read ({error.strerror})."
        return ConfigurationError(msg, hint="Mend it, or take it out of the folder.")

    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for name in files:
            if name.startswith(".") or not name.endswith(_SUFFIX):
                continue
            path = os.path.join(place, name)  # noqa: PTH118 - a Path each would double the time
            try:
                yield path, os.stat(path)  # noqa: PTH116
            except FileNotFoundError as error:
                if os.path.islink(path):  # noqa: PTH114 - one to nowhere; else it has gone by now
                    raise told(path, error) from error
            except OSError as error:
                raise told(path, error) from error


def read_folder(
    folder: Path, paths: Collection[str], prefix: str = ""
) -> tuple[PromptTemplate, ...]:
    """The templates of a folder. Blocks.

    Args:
        folder: The folder.
        paths: Its files.
        prefix: What stands before their names, with its `/`.

    Raises:
        ConfigurationError: If a file is wrong; all mistakes of all files at once.
    """
    found: dict[tuple[str, tuple[int, ...]], tuple[PromptTemplate, str]] = {}
    wrong: list[str] = []
    if not paths:
        msg = f"The prompts' folder {str(folder)!r} has no template in it."
        raise ConfigurationError(msg, hint="A template is a file such as support/reply.toml.")
    for path in paths:
        try:
            template = read_file(Path(path), folder, prefix)
            key = template.name, version_key(template.version)
            if key in found:
                msg = f"{path}: {template.name!r} has a version {template.version} already"
                raise ConfigurationError(f"{msg}, in {found[key][1]}.")
            found[key] = template, path
        except ConfigurationError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigurationError("\n".join(wrong))
    return tuple([template for template, _ in found.values()])


def read_file(path: Path, folder: Path, prefix: str = "") -> PromptTemplate:
    """The template of one file of a folder. Blocks.

    Raises:
        ConfigurationError: If it cannot be read, or is wrong.
    """
    stem = path.relative_to(folder).with_suffix("").as_posix()
    name, _, version = stem.partition("@")
    if not is_name(name):
        msg = f"{path}: {name!r} is no name of a template."
        raise ConfigurationError(msg, hint="Use letters, digits, _ and -.")
    table = dict(_table(path))
    if version:
        stated = table.setdefault("version", version)
        if stated != version:
            msg = f"{path}: version = {stated!r}, and its name says {version!r}."
            raise ConfigurationError(msg, hint="Let both say the same, or only one say it.")
    return read_template(Source(table, prefix + name, str(path), file=True))


def _table(path: Path) -> Mapping[str, Any]:
    try:
        if not path.is_file():  # opening a pipe would wait for whoever writes to it
            raise ConfigurationError(f"{path}: is no file.", hint="Take it out of the folder.")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            msg = f"{path}: has more than {MOST_BYTES} bytes."
            raise ConfigurationError(msg, hint="What is that long is a variable.")
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})."
        raise ConfigurationError(msg, hint="Check the path and its permissions.") from error
    except UnicodeDecodeError as error:
        msg = f"{path}: is not text in UTF-8 ({error.reason} at byte {error.start})."
        raise ConfigurationError(msg, hint="Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:  # also a number, or nesting, beyond all bounds
        msg = f"{path}: not a TOML file ({error})."
        hint = "A text of several lines stands between three quotes: '''...'''."
        raise ConfigurationError(msg, hint=hint) from error
