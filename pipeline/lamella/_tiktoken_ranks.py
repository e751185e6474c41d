"""tiktoken's encodings with ranks that are on this machine.

tiktoken downloads ranks that it does not find, inside the functions that describe its encodings.
Those are run here in private copies of their modules, whose one way to files is a function that
reads what is there and raises where nothing is. The program's own tiktoken is not changed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Final, NoReturn, TypeAlias

from lamella._errors import ConfigurationError
from lamella._exact_counter import Encode
from lamella._mending import words_of

Read: TypeAlias = Callable[[str, str | None], bytes]
"""Reads a file of ranks: its address, and the SHA-256 that it must have, if that is known."""

_LOAD: Final = "tiktoken.load"
_OPENAI: Final = "tiktoken_ext.openai_public"
_CACHE_DIRS: Final = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")


class _ThereError(Exception):
    """The ranks are there, and need not be read now."""


def find_ranks(name: str, ranks: str | os.PathLike[str] | None = None) -> None:
    """Make sure that there are ranks for an encoding, without reading them.

    Args:
        name: The encoding's.
        ranks: The file that has them; None is tiktoken's cache.

    Raises:
        LookupError: If there is no such encoding; its arguments are those that there are.
        ConfigurationError: If its ranks are not there.
    """
    try:
        _described(name, partial(_there, name, ranks))
    except _ThereError:
        return


def encoding(name: str, ranks: str | os.PathLike[str] | None = None) -> Encode:
    """What encodes texts as the encoding does, special tokens' names being ordinary text.

    Raises:
        LookupError: As for `find_ranks`.
        ConfigurationError: If its ranks are not there, or not whole.
    """
    described = _described(name, partial(_read, name, ranks))
    try:
        encode: Encode = import_module("tiktoken").Encoding(**described).encode_ordinary
    except Exception as error:
        msg = f"tiktoken could not make the encoding {name!r}: {words_of(error)}"
        raise ConfigurationError(msg) from error
    return encode


def _described(name: str, read: Read) -> Mapping[str, Any]:
    """What an encoding is made of."""
    known: list[str] = []
    for constructors in _constructors(read):
        known += constructors
        if name not in constructors:
            continue
        try:
            return constructors[name]()
        except (_ThereError, ConfigurationError):
            raise
        except Exception as error:
            msg = f"tiktoken could not read the ranks of {name!r}: {words_of(error)}"
            raise ConfigurationError(msg) from error
    raise LookupError(*sorted(known))


def _constructors(read: Read) -> Iterator[Mapping[str, Callable[[], Mapping[str, Any]]]]:
    """The encodings of tiktoken itself, then those of its plugins."""
    original = import_module(_LOAD)
    load = _copied(_LOAD)

    def read_here(path: str, sha256: str | None = None) -> bytes:
        return read(path, sha256)

    vars(load).update(read_file_cached=read_here, read_file=_refuse)
    package = import_module("tiktoken_ext")
    names = {f"tiktoken_ext.{each.name}" for each in iter_modules(package.__path__)}
    for module_name in sorted(names, key=lambda each: (each != _OPENAI, each)):
        module = _copied(module_name)
        for attribute, value in list(vars(module).items()):
            if value is original:
                setattr(module, attribute, load)
            elif getattr(value, "__module__", None) == _LOAD:
                setattr(module, attribute, getattr(load, value.__name__))
        yield getattr(module, "ENCODING_CONSTRUCTORS", {})


def _copied(name: str) -> ModuleType:
    """A second copy of a module, which nobody else sees."""
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        msg = f"{name} could not be found: this tiktoken is not whole, or too new."
        raise ConfigurationError(msg, hint="pip install --force-reinstall tiktoken")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        msg = f"{name}, which describes tiktoken's encodings, failed: {words_of(error)}"
        raise ConfigurationError(msg, hint="Upgrade or uninstall it.") from error
    return module


def _refuse(path: str) -> NoReturn:
    msg = f"{path} was to be downloaded; token counting never uses the network."
    raise ConfigurationError(msg)


def _there(name: str, ranks: str | os.PathLike[str] | None, path: str, _: str | None) -> NoReturn:
    place = _place(name, ranks, path)
    if not place.is_file():
        raise _missing(name, path, place, given=ranks is not None)
    raise _ThereError


def _read(name: str, ranks: str | os.PathLike[str] | None, path: str, sha256: str | None) -> bytes:
    place = _place(name, ranks, path)
    try:
        content = place.read_bytes()
    except FileNotFoundError as error:
        raise _missing(name, path, place, given=ranks is not None) from error
    except OSError as error:
        msg = f"The ranks of {name!r} in {place} cannot be read: {words_of(error)}"
        raise ConfigurationError(msg) from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        msg = f"{place} does not have the ranks of {name!r}: its SHA-256 is {found}, not {sha256}."
        raise ConfigurationError(msg, hint="Remove it, and put a whole copy there.")
    return content


def _place(name: str, ranks: str | os.PathLike[str] | None, path: str) -> Path:
    """Where the ranks of an address are: the file given, or tiktoken's cache of downloads."""
    if ranks is not None:
        return Path(ranks)
    if "://" not in path:
        return Path(path)
    for variable in _CACHE_DIRS:
        folder = os.environ.get(variable)
        if folder == "":
            msg = f"The tokenizer {name!r} has no ranks: {variable} is empty, which is no cache."
            raise ConfigurationError(msg, hint=_how(name, "FOLDER"))
        if folder is not None:
            break
    else:
        folder = os.path.join(tempfile.gettempdir(), "data-gym-cache")  # noqa: PTH118 - a name
    # The name under which tiktoken keeps a download; nothing is protected by it.
    return Path(folder) / hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest()


def _missing(name: str, path: str, place: Path, *, given: bool) -> ConfigurationError:
    if given:
        return ConfigurationError(f"There are no ranks of {name!r} in {place}: no such file.")
    msg = f"The ranks of the tokenizer {name!r} are not on this machine: {place} is to hold {path}."
    return ConfigurationError(msg, hint=_how(name, str(place.parent)))


def _how(name: str, folder: str) -> str:
    return (
        f"Where there is a network, run TIKTOKEN_CACHE_DIR={folder} python -c "
        f"\"import tiktoken; tiktoken.get_encoding('{name}')\" once, take the folder along and set "
        f"TIKTOKEN_CACHE_DIR to it; or give the file: exact_counter('{name}', ranks=...)."
    )
