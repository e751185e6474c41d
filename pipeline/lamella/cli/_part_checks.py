"""What the layers and stores of a preset find wrong with their secrets, files and servers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
import attrs

from lamella import GuardedBlobs, GuardedLeases, Secret, StoreUnavailableError
from lamella._options import is_async

if TYPE_CHECKING:
    from lamella import Pipeline

_SECONDS = 5.0
_DEEP = 6
"""How far options are looked into: a store inside of its guard, a secret in a list."""


async def problems_of_parts(pipeline: Pipeline, *, live: bool = False) -> tuple[str, ...]:
    """What is wrong, a paragraph each; nothing is made or changed.

    A part with an async `check()` looks itself, and raises; of the others it is seen that their
    secrets can be had. What a layer says of its store is not said again for the store itself.

    Args:
        pipeline: Which has the layers and stores.
        live: Whether those that do not look themselves are asked whether they are well, as far as
            that is a question to a server.
    """
    stores = pipeline.ports.stores
    parts = {info.name: layer for info, layer in zip(pipeline.infos, pipeline.layers, strict=True)}
    parts |= {
        f"{name}.{own}": getattr(layer, own, None)
        for name, layer in list(parts.items())
        for own in ("store", "index")
    }
    parts |= {f"stores.{name}": getattr(stores, name) for name in ("leases", "blobs")}
    found: dict[str, list[str]] = {}
    for name, part in parts.items():
        known = found.get(name.partition(".")[0], ())
        found[name] = [each for each in await _problems(part, live=live) if each not in known]
    return tuple([f"{name}: {each}" for name, problems in found.items() for each in problems])


async def _problems(part: Any, *, live: bool) -> list[str]:
    while isinstance(part, GuardedLeases | GuardedBlobs):
        part = part.store  # a guard would answer in its place
    check = getattr(part, "check", None)
    if is_async(check):
        asked: list[Any] = [check]
    else:
        secrets = {str(secret): secret for secret in _secrets_in(part, _DEEP)}
        asked = [secret.fetch for secret in secrets.values()]
        if live and is_async(getattr(part, "health", None)):
            asked.append(partial(_must_be_well, part))
    return [problem for ask in asked if (problem := await _problem(ask))]


async def _must_be_well(part: Any) -> None:
    """Raise what a store says is the matter with it."""
    found = await part.health()
    if found.well is False:
        raise StoreUnavailableError(str(found.detail.get("error") or "It does not answer."))


async def _problem(ask: Any) -> str:
    from lamella.cli._errors import paragraph

    with anyio.move_on_after(_SECONDS):
        try:
            await ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the person asks for
            return paragraph(error)
        return ""
    return f"it could not be looked at in {_SECONDS:g} s: its secrets, or what it keeps things in."


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
