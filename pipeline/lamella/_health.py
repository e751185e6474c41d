"""Whether calls can be expected to work now."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio
import attrs

from lamella._layers import name_of
from lamella._nothing import NOTHING
from lamella._targets import transports_of

if TYPE_CHECKING:
    from lamella._pipeline import Pipeline
    from lamella._ports import Ports

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
        transports: Each transport by name, those of targets included.
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
            for name, transport in _transports(pipeline).items():
                group.start_soon(_ask, transport, name, transports)
            for layer, info in zip(pipeline.layers, pipeline.infos, strict=True):
                if hasattr(layer, "health"):
                    group.start_soon(_ask, layer, info.name, layers, pipeline.ports)
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


def _transports(pipeline: Pipeline) -> dict[str, Any]:
    """The pipeline's own transport and those of the targets of its layers, by name."""
    own = pipeline.transport
    found = {name_of(own): own}
    for layer in pipeline.layers:
        for name, transport in transports_of(layer).items():
            if all(transport is not other for other in found.values()):
                found[f"{name}#1" if name in found else name] = transport
    return found


async def _ask(
    thing: Any, name: str, found: dict[str, PartHealth], ports: Ports | None = None
) -> None:
    """One part's own word, bounded in time; a part that fails to answer is unwell.

    A layer holds options only, and what it counts lives in the stores: one whose `health` has a
    parameter `ports` is given the pipeline's.
    """
    ask = getattr(thing, "health", None)
    if ask is None:
        found[name] = PartHealth(None)
        return
    with anyio.move_on_after(CHECK_SECONDS) as scope:
        try:
            said = _asked(ask, ports)
            found[name] = _understood(await said if inspect.isawaitable(said) else said)
        except Exception as error:  # noqa: BLE001 - a health report never raises
            found[name] = PartHealth(well=False, detail={"error": type(error).__name__})
    if scope.cancelled_caught:
        found[name] = PartHealth(well=False, detail={"error": f"no word in {CHECK_SECONDS:g} s"})


def _asked(ask: Any, ports: Ports | None) -> Any:
    return ask(ports=ports) if ports is not None and _takes_ports(ask) else ask()


def _takes_ports(ask: Any) -> bool:
    method = getattr(ask, "__func__", None)
    return "ports" in (inspect.signature(ask).parameters if method is None else _names_of(method))


@lru_cache(maxsize=128)
def _names_of(method: Any) -> frozenset[str]:
    """A method's parameters. To find them takes longer than most layers take to answer."""
    return frozenset(inspect.signature(method).parameters)


def said_at_once(layer: Any, ports: Ports) -> PartHealth | None:
    """What a layer says of itself without being waited for; None if it says nothing, or not so."""
    ask = getattr(layer, "health", None)
    if ask is None or inspect.iscoroutinefunction(ask):
        return None
    try:
        said = _asked(ask, ports)
        if inspect.iscoroutine(said):
            said.close()
            return None
        return None if inspect.isawaitable(said) else _understood(said)
    except Exception as error:  # noqa: BLE001 - as above
        return PartHealth(well=False, detail={"error": type(error).__name__})


def _understood(said: object) -> PartHealth:
    if isinstance(said, PartHealth):
        return said
    if isinstance(said, Health):  # a pipeline used as a transport
        return PartHealth(said.status not in {"down", "closed"}, attrs.asdict(said))
    if isinstance(said, Mapping):
        return PartHealth(None, dict(said))  # pyright: ignore[reportUnknownArgumentType]
    return PartHealth(bool(said))
