"""What the layers and stores of a preset find wrong with the secrets they were given."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import anyio
import attrs

from lamella import Secret
from lamella._options import is_async

if TYPE_CHECKING:
    from lamella import Pipeline

_SECONDS = 5.0
_DEEP = 6
"""How far options are looked into: a store inside of its guard, a secret in a list."""


async def problems_of_parts(pipeline: Pipeline) -> tuple[str, ...]:
    """What is wrong, a paragraph each; nothing is sent but questions to sources of secrets.

    A part with an async `check()` looks itself, and raises; of the others it is seen that their
    secrets can be had.
    """
    stores = pipeline.ports.stores
    parts = {info.name: layer for info, layer in zip(pipeline.infos, pipeline.layers, strict=True)}
    parts |= {
        f"{name}.{own}": getattr(layer, own, None)
        for name, layer in list(parts.items())
        for own in ("store", "index")
    }
    parts |= {f"stores.{name}": getattr(stores, name) for name in ("leases", "blobs")}
    found: list[str] = []
    for name, part in parts.items():
        found += [f"{name}: {problem}" for problem in await _problems(part)]
    return tuple(dict.fromkeys(found))


async def _problems(part: Any) -> list[str]:
    check = getattr(part, "check", None)
    if is_async(check):
        asked = [check]
    else:
        secrets = {str(secret): secret for secret in _secrets_in(part, _DEEP)}
        asked = [secret.fetch for secret in secrets.values()]
    return [problem for ask in asked if (problem := await _problem(ask))]


async def _problem(ask: Any) -> str:
    from lamella.cli._errors import paragraph

    with anyio.move_on_after(_SECONDS):
        try:
            await ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the person asks for
            return paragraph(error)
        return ""
    return f"its secrets could not be fetched in {_SECONDS:g} s."


def _secrets_in(value: object, deep: int) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif deep and not isinstance(value, type):
        for inner in _parts_of(value):
            yield from _secrets_in(inner, deep - 1)


def _parts_of(value: object) -> Collection[object]:
    if isinstance(value, Mapping):
        return cast("Mapping[object, object]", value).values()
    if isinstance(value, list | tuple | set | frozenset):
        return cast("Collection[object]", value)
    kind = type(value)
    if not attrs.has(kind):
        return ()
    return [getattr(value, field.name, None) for field in attrs.fields(kind)]
