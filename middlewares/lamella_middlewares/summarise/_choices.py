"""The choices among `Summarise`'s options that no other layer has."""

from __future__ import annotations

from typing import Any

import attrs

from lamella import ConfigurationError, Packing, Target
from lamella._keeping import of_table
from lamella._message_sizes import MessageSizes
from lamella._mistakes import Misfit
from lamella._named_stores import layer_store
from lamella._options import refused
from lamella._shortening import Shortener, Size
from lamella._shortening_strategies import SlidingWindow, Strategies, strategies_of
from lamella._target_forms import as_targets, shown

TARGET = 0.5
"""How much of the trigger is left after a summary: each is paid for, so it is made seldom."""

_REPLACING = ("drop_tool_results", "truncate")
"""The strategies by name that leave no message out."""


def size(value: Any) -> Any:
    """A `Size`, or the table of one."""
    return of_table("trigger", Size, value)


def target_size(value: Any) -> Any:
    """A `Size`, or the table of one."""
    return of_table("target", Size, value)


def packing(value: Any) -> Any:
    """A `Packing`, or the table of one."""
    return of_table("packing", Packing, value)


def store(value: Any) -> Any:
    """A store of the layer's own: itself, by name, or by a table; None for the pipeline's."""
    return None if value is None else layer_store("Summarise", "blobs", value)


def before(value: Strategies | None) -> tuple[Shortener, ...]:
    """Strategies that replace messages; none is allowed.

    Raises:
        ConfigurationError: If one of them is none, or leaves messages out.
    """
    if value is None or value in ((), []):
        return ()
    found = strategies_of(value, option="Summarise(before=...)", offered=_REPLACING)
    if any(isinstance(one, SlidingWindow) for one in found):
        raise ConfigurationError(
            "Summarise(before=...) has 'sliding_window', which would leave out what is to be "
            "summarised.",
            hint="It is what happens if that fails: otherwise='sliding_window'.",
        )
    return found


def is_size(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    """A size."""
    if not isinstance(value, Size):
        raise refused(layer, option, value, "a Size: Size(share=0.7), Size(tokens=50_000)")


def is_size_or_none(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    """A size, or None for half of the trigger."""
    if value is not None:
        is_size(layer, option, value)


def prompt(layer: Any, option: attrs.Attribute[Any], value: object) -> None:
    """Instructions, or None for the library's own."""
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise refused(layer, option, value, "the instructions as a text, or None for the usual")


def counter(layer: object, option: attrs.Attribute[Any], given: Any) -> None:
    """What counts tokens."""
    value: object = given
    # Lists have a count() too, and so has an empty name.
    counts = callable(getattr(value, "count", None)) and not isinstance(value, str | list | tuple)
    if value is not None and not counts and not (isinstance(value, str) and value):
        want = "a TokenCounter (an object with count(texts)), a tokenizer's name, 'auto' or None"
        raise refused(layer, option, given, want)


def shown_model(given: object) -> str:
    """What `model` was given, without what may be keys."""
    return "None" if given is None else shown(given)


def writer(layer: Any) -> tuple[Target, ...]:
    """The target that summarises: one, or none for the conversation's own model."""
    if layer.model is None:
        return ()
    try:
        found = as_targets(layer.model, "model")
    except Misfit as misfit:
        if hasattr(layer.model, "__iter__"):
            raise
        msg = f"Summarise(model={layer.model!r}): that is no model."
        hint = "Give a model's name, a transport, a pipeline, or a table: {'model': 'gpt-4o-mini'}."
        raise ConfigurationError(msg, hint=hint) from misfit
    if len(found) != 1:
        raise ConfigurationError(f"Summarise(model=...) takes one model, not {len(found)}.")
    return found


def sizes(layer: Any) -> MessageSizes:
    """What counts; made once the options are known to be right.

    Raises:
        ConfigurationError: If the target is more than the trigger.
    """
    attrs.validate(layer)  # attrs itself does so only once all fields are there
    trigger, target = layer.trigger, layer.target
    for name in ("tokens", "messages", "share"):
        most, least = getattr(trigger, name), getattr(target, name, None)
        if most is not None and least is not None and least > most:
            msg = (
                f"Summarise(trigger={trigger!r}, target={target!r}): the target's {name} are more."
            )
            raise ConfigurationError(msg, hint="What is summarised leaves less than the trigger.")
    return MessageSizes(layer.counter)
