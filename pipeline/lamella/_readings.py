"""What stands at a place of a stack now: an open circuit, the room in a limit, a queue.

Facts of calls are in their traces. These are facts of no call, and who watches a process (metrics,
a debugging page) asks for them when somebody looks. Layers never know each other: a layer that has
something to say has a plain method `readings(ports)`, and is asked through the pipelines it is in.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

import attrs

from lamella._ownership import users_of
from lamella._targets import transports_of

if TYPE_CHECKING:
    from lamella._pipeline import Pipeline

logger = logging.getLogger("lamella")


@attrs.frozen
class Reading:
    """One number that a layer shows.

    Attributes:
        layer: Whose.
        name: What it is: `"available"` and `"limit"` (room in a limit, and all of it), `"waiting"`
            (how many wait), `"state"` (of a circuit: 0 closed, 1 half open, 2 open or isolated), or
            a word of the layer's own.
        value: The number.
        resource: Of what, in a few words out of a bounded number; never a user or a session.
        provider: Of which provider; empty if that does not matter.
        model: Of which model of it.
        source: What is read. Two layers that show the same have the same source, so that it is
            counted once.
    """

    layer: str
    name: str
    value: float = attrs.field(converter=float)
    resource: str = ""
    provider: str = ""
    model: str = ""
    source: Hashable = None


def readings(pipeline: Pipeline) -> list[Reading]:
    """What the layers of a pipeline, and of the pipelines inside it, show now.

    Nothing is waited for: of a store that others share, that is what this process heard last. From
    any thread. A layer that fails to say is left out, and logged.

    Args:
        pipeline: The pipeline.
    """
    return list(dict(_readings(pipeline, set())).values())


def pipelines_of(thing: object) -> list[Pipeline]:
    """The pipelines that a layer or transport is in, and that have not been closed."""
    from lamella._pipeline import Pipeline

    return [user for user in users_of(thing) if isinstance(user, Pipeline)]


def _readings(pipeline: Pipeline, seen: set[int]) -> Iterable[tuple[Hashable, Reading]]:
    """The readings, each with what tells it from others."""
    from lamella._pipeline import Pipeline

    if id(pipeline) in seen:
        return
    seen.add(id(pipeline))
    inner: list[object] = [pipeline.transport]
    for layer, info in zip(pipeline.layers, pipeline.infos, strict=True):
        inner += transports_of(layer).values()
        ask = getattr(layer, "readings", None)
        if ask is None:
            continue
        try:
            yield from [(_identity(reading), reading) for reading in ask(pipeline.ports)]
        except Exception:
            logger.exception("The layer %r failed to say how it is", info.name)
    for each in inner:
        if isinstance(each, Pipeline):
            yield from _readings(each, seen)


def _identity(reading: object) -> Hashable:
    if not isinstance(reading, Reading):
        kind = type(reading).__name__
        raise TypeError(f"readings() returned a {kind} where each is a lamella.Reading.")
    where = (reading.layer, reading.name, reading.resource, reading.provider, reading.model)
    identity = (*where, reading.source)
    hash(identity)  # here, where it is known who said it
    return identity
