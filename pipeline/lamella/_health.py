"""Whether calls can be expected to work now."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio
import attrs

from lamella._layers import name_of
from lamella._nothing import NOTHING

if TYPE_CHECKING:
    from lamella._pipeline import Pipeline

CHECK_SECONDS = 5.0
"""How long one part may take to answer before it counts as unwell."""

Status: TypeAlias = Literal["ok", "degraded", "down", "closed"]


@attrs.frozen
class PartHealth:
    """How one part is.

    Attributes:
        well: Whether it works; None if it cannot say.
        detail: What it says about itself: reachability, an open breaker, a full queue.
    """

    well: bool | None
    detail: Mapping[str, Any] = NOTHING


@attrs.frozen
class Health:
    """How a pipeline is.

    Attributes:
        status: `"ok"`; `"degraded"` if a layer or store is unwell; `"down"` if no transport works;
            `"closed"` once it has been closed.
        transports: Each transport by name.
        layers: Each layer that has something to say: breakers, limiters, queues.
        stores: Each store of the pipeline's own.
        background: The detached work under way.
        running: How many calls are under way.
    """

    status: Status
    transports: Mapping[str, PartHealth]
    layers: Mapping[str, PartHealth]
    stores: Mapping[str, PartHealth]
    background: tuple[str, ...]
    running: int


async def health(pipeline: Pipeline, *, closed: bool, running: int) -> Health:
    """Ask every part; see `Pipeline.health`."""
    transports: dict[str, PartHealth] = {}
    layers: dict[str, PartHealth] = {}
    stores: dict[str, PartHealth] = {}
    if not closed:
        async with anyio.create_task_group() as group:
            transport = pipeline.transport
            group.start_soon(_ask, transport, name_of(transport), transports)
            for layer, info in zip(pipeline.layers, pipeline.infos, strict=True):
                if hasattr(layer, "health"):
                    group.start_soon(_ask, layer, info.name, layers)
            for field in attrs.fields(type(pipeline.ports.stores)):
                store = getattr(pipeline.ports.stores, field.name)
                group.start_soon(_ask, store, field.name, stores)
    status = "closed" if closed else _status(transports, {**layers, **stores})
    return Health(status, transports, layers, stores, pipeline.background.names, running)


def _status(transports: Mapping[str, PartHealth], others: Mapping[str, PartHealth]) -> Status:
    if transports and all(part.well is False for part in transports.values()):
        return "down"
    unwell = any(part.well is False for part in (*transports.values(), *others.values()))
    return "degraded" if unwell else "ok"


async def _ask(thing: Any, name: str, found: dict[str, PartHealth]) -> None:
    """One part's own word, bounded in time; a part that fails to answer is unwell."""
    ask = getattr(thing, "health", None)
    if ask is None:
        found[name] = PartHealth(None)
        return
    with anyio.move_on_after(CHECK_SECONDS) as scope:
        try:
            said = ask()
            found[name] = _understood(await said if inspect.isawaitable(said) else said)
        except Exception as error:  # noqa: BLE001 - a health report never raises
            found[name] = PartHealth(well=False, detail={"error": type(error).__name__})
    if scope.cancelled_caught:
        found[name] = PartHealth(well=False, detail={"error": f"no word in {CHECK_SECONDS:g} s"})


def _understood(said: object) -> PartHealth:
    if isinstance(said, PartHealth):
        return said
    if isinstance(said, Health):  # a pipeline used as a transport
        return PartHealth(said.status not in {"down", "closed"}, attrs.asdict(said))
    if isinstance(said, Mapping):
        return PartHealth(None, dict(said))  # pyright: ignore[reportUnknownArgumentType]
    return PartHealth(bool(said))
