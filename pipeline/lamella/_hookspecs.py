"""What a plugin may contribute: one hook for each kind.

A plugin is a module (or any object) with functions of these names. Each returns a mapping of names;
a value is an import path, `"package.module:attribute"`, so that naming one thing imports that thing
only, or the object itself. No marker is needed, and no import of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("lamella")


@hookspec
def lamella_middlewares() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Layers: a class whose arguments are its options, or a middleware that has none."""


@hookspec
def lamella_transports() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Transports, likewise; a table `{"use": "openai", ...}` is another one with options given."""


@hookspec
def lamella_stores() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Stores: classes or functions that make `Stores`, or one of its parts.

    What makes one part only may be registered as `NAME_PART`, such as `redis_blobs`: it is taken
    where `NAME` is named for that part.
    """


@hookspec
def lamella_tokenizers() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Tokenizers, by the name that model cards use: a TokenCounter, or what makes one."""


@hookspec
def lamella_price_sources() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Where prices that change come from."""


@hookspec
def lamella_secret_sources() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Functions, plain or async, from what stands behind `SCHEME:` to the secret, by scheme."""


@hookspec
def lamella_detectors() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Detectors of personal data: a `Detector`, or a class or function that makes one."""


@hookspec
def lamella_presets() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Presets: `Preset` records, or tables of the shape that `lamella.toml` has."""


@hookspec
def lamella_model_cards() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Model cards: card files' paths, their tables, or functions that give cards."""


@hookspec
def lamella_templates() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Prompt templates: a `PromptTemplate`, or a table of the shape that its file would have.

    Or the `Path` of a folder of such files, whose names then begin with the name registered.
    """


@hookspec
def lamella_commands() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Commands of the command line: functions whose parameters are the command's.

    A mapping from names to functions is a command with commands of its own.
    """
