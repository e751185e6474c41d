"""The stack that is simulated: a preset, a pipeline, or what a function makes for the providers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from lamella._errors import ConfigurationError
from lamella._handlers import Handler
from lamella._layers import name_of
from lamella._named_stores import stood_in
from lamella._pipeline import Pipeline
from lamella._ports import Ports
from lamella._registry import registry
from lamella.testing._simulated_provider import CALLER, SimulatedProvider
from lamella.testing._simulated_stores import fresh_stores

Simulated: TypeAlias = str | Pipeline | Callable[[Sequence[SimulatedProvider]], Pipeline]
"""What can be simulated: the name of a preset, a pipeline whose transport the first provider
replaces, or a function of the providers."""


LEFT_OUT: Final = {"log": None, "audit": None}
"""Layers that write down what happens, for people: nothing of a simulation has happened."""


async def seen(request: Any, call_next: Handler) -> Any:
    """The outermost layer of every simulated stack: it lets the caller see its trace."""
    caller = request.context.attributes.get(CALLER)
    if caller is not None:
        caller.trace = request.context.trace
    return await call_next(request)


def built(
    stack: Simulated,
    providers: Sequence[SimulatedProvider],
    ports: Ports,
    *,
    config: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Pipeline:
    """The pipeline to be simulated, as its owner would build it.

    A preset is taken without its logs, with the providers' prices, and, where there are several
    providers, with the others as targets of `Fallback`. Layers that are made here get fresh stores
    in memory in place of their own.

    Args:
        stack: What is simulated.
        providers: Its first one is the transport.
        ports: The simulation's.
        config: The file with presets.
        overrides: As for `Pipeline.preset`; of presets only.

    Raises:
        ConfigurationError: If it cannot be built.
    """
    with stood_in(fresh_stores(ports)):
        if isinstance(stack, str):
            return _preset(stack, providers, config, dict(overrides or {}))
        if overrides or config:
            raise ConfigurationError("Simulation: overrides and config belong to a preset's name.")
        made = stack if isinstance(stack, Pipeline) else stack(providers)
    if not isinstance(made, Pipeline):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"Simulation: the stack gave {made!r}, which is no Pipeline.",
            hint="Give a preset's name, a Pipeline, or a function of the providers that makes one.",
        )
    return made


def _preset(
    name: str,
    providers: Sequence[SimulatedProvider],
    config: str | None,
    overrides: dict[str, Any],
) -> Pipeline:
    overrides = {**LEFT_OUT, **overrides}
    plain = Pipeline.preset(name, transport=providers[0], config=config, **overrides)
    there = {info.name for info in plain.infos}
    changes: dict[str, Any] = {}
    if "cost" in there and "cost" not in overrides:
        changes["cost"] = {"prices": prices_of(providers), "unknown": "note"}
    others = list(providers[1:])
    if others and "fallback" not in overrides:
        if not registry().has("middlewares", "fallback"):
            raise ConfigurationError(
                f"Simulation: the preset {name!r} has no place for {others[0].name!r}.",
                hint="Give a function of the providers that makes the pipeline.",
            )
        changes["fallback"] = {"targets": others}
    if not changes:
        return plain
    return Pipeline.preset(name, transport=providers[0], config=config, **{**overrides, **changes})


def prices_of(providers: Sequence[SimulatedProvider]) -> dict[str, Any]:
    """What `Cost(prices=...)` takes for these providers."""
    return {
        f"{provider.name}/{provider.model}": provider.price
        for provider in providers
        if provider.price is not None
    }


def watched(pipeline: Pipeline, providers: Sequence[SimulatedProvider], ports: Ports) -> Pipeline:
    """The same layers with the simulation's ports, and its eyes outermost.

    Args:
        pipeline: As its owner built it.
        providers: The first one replaces a transport that is none of them.
        ports: Virtual time, seeded chance and fresh stores.
    """
    transport = pipeline.transport
    if not isinstance(transport, SimulatedProvider | Pipeline):
        transport = providers[0]
    return Pipeline(
        [seen, *pipeline.layers],
        transport,
        allow=pipeline.allow,
        ports=ports,
        max_attempts=pipeline.max_attempts,
        name=pipeline.name or name_of(transport),
    )
