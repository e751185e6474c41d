"""Vocabularies that are on this machine: tiktoken's, splintr-rs's. Nothing is ever downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from lamella._errors import ConfigurationError
from lamella._exact_counter import Encode

_SPLINTR: Final = frozenset(
    {
        "cl100k_base",
        "deepseek_v3",
        "glm4",
        "kimi_k2",
        "llama3",
        "mistral_v3",
        "o200k_base",
        "o200k_harmony",
        "olmo2",
        "phi4",
        "qwen3",
    }
)
"""Names that splintr-rs knows. Texts of its SentencePiece ones do not add up from pieces."""

_EXTRA: Final = 'Install it with: pip install "lamella[tokens]"'


def vocabulary(name: str, ranks: str | os.PathLike[str] | None = None) -> Callable[[], Encode]:
    """What reads the vocabulary of that name; whether there is one is found out here.

    tiktoken's is taken where its ranks are there, because tiktoken lets other threads run, and else
    that of splintr-rs.

    Args:
        name: As model cards have it.
        ranks: A file of tiktoken's ranks; None looks for one where tiktoken keeps its own.

    Raises:
        ConfigurationError: If the packages or the ranks are missing.
    """
    if ranks is None and name in _SPLINTR and find_spec("splintr") is not None:
        try:
            return _of_tiktoken(name, None)
        except ConfigurationError:
            return partial(_of_splintr, name)
    return _of_tiktoken(name, ranks)


def _of_tiktoken(name: str, ranks: str | os.PathLike[str] | None) -> Callable[[], Encode]:
    if find_spec("tiktoken") is None:
        msg = f"Counting tokens with {name!r} needs the package tiktoken, which is not installed."
        raise ConfigurationError(msg, hint=_EXTRA)
    from lamella._tiktoken_ranks import encoding, find_ranks

    loaded: Any = None if ranks is not None else _loaded_by_program(name)
    if loaded is not None:
        return partial(_as_is, loaded.encode_ordinary)
    try:
        find_ranks(name, ranks)
    except LookupError as error:
        if name in _SPLINTR and ranks is None:
            need = f"The tokenizer {name!r} is in the package splintr-rs, which is not installed."
            raise ConfigurationError(need, hint="pip install splintr-rs") from error
        msg = f"tiktoken, and the plugins of it that are installed, have no encoding {name!r}."
        raise ConfigurationError(msg, hint=f"They have {', '.join(error.args)}.") from error
    return partial(encoding, name, ranks)


def _loaded_by_program(name: str) -> Any:
    """The encoding if the program itself has had tiktoken load it."""
    loaded: Mapping[str, Any] = import_module("tiktoken.registry").ENCODINGS
    return loaded.get(name)


def _as_is(encode: Encode) -> Encode:
    return encode


def _of_splintr(name: str) -> Encode:
    try:
        found: Any = import_module("splintr").Tokenizer.from_pretrained(name)
        encode: Encode = found.encode_ordinary
    except Exception as error:
        msg = f"splintr-rs could not load {name!r}: {type(error).__name__}: {error}"
        raise ConfigurationError(msg, hint="pip install --upgrade splintr-rs") from error
    return encode
