"""What a preset is: the same words in code and in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from lamella._mistakes import Finding, Misfit, Mistakes, Place
from lamella._parts import NOTHING


@attrs.frozen
class Use:
    """A layer or transport by name, with options.

    In a file, and wherever presets are written, `"retry"` and `{ use = "retry", attempts = 5 }`.

    Attributes:
        use: The name that it is registered under.
        options: Its options, as plain values.
    """

    use: str
    options: Mapping[str, Any] = attrs.field(default=NOTHING, hash=False)


def _uses(given: Any) -> tuple[Any, ...] | None:
    if given is None:
        return None
    if isinstance(given, str | Mapping | Use) or not hasattr(given, "__iter__"):
        raise Misfit([Finding((), "a list of layers", given)])
    findings: list[Finding] = []
    uses: list[Any] = []
    for index, item in enumerate(cast("list[Any]", given)):
        try:
            uses.append(_use(item))
        except Misfit as misfit:
            findings.extend(misfit.under(index))
    if findings:
        raise Misfit(findings)
    return tuple(uses)


def _use(given: Any) -> Any:
    """What stands for one layer or transport; an object is one itself."""
    if given is None or isinstance(given, Use):
        return given
    if isinstance(given, str) and given:
        return Use(given)
    if isinstance(given, Mapping):
        options = dict(cast("Mapping[str, Any]", given))
        use = options.pop("use", None)
        if isinstance(use, str) and use:
            return Use(use, options)
        if use is None:
            raise Misfit([Finding(("use",), "is missing, expected a name")])
        raise Misfit([Finding(("use",), "a name", use)])
    if not callable(given):
        raise Misfit([Finding((), "a name, or a table such as { use = 'retry', attempts = 5 }", given)])
    return given


def _overrides(given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise Misfit([Finding((), "a table of layers", given)])
    return cast("Mapping[str, Any]", given)


@attrs.frozen
class Preset:
    """A named stack.

    ::

        [presets.production]
        extends = "production"
        transport = { use = "azure", resource = "acme" }
        layers = ["log", { use = "retry", attempts = 5 }]
        allow = ["retry outside log"]

        [presets.production.overrides]
        deadline = { seconds = 30 }
        cost = false

    is in code `Preset(extends="production", transport={"use": "azure", "resource": "acme"}, ...)`.

    Attributes:
        layers: The layers, outermost first: names, tables with `use` and options, or in code layers
            themselves. None takes those of `extends`, or none.
        transport: A name, a table with `use` and options, or in code a transport. None takes that of
            `extends`.
        extends: The preset that says what this one does not. Its own name means the one that it
            replaces.
        overrides: Changes to the layers, by name: options to set, true to add it with its defaults,
            false to leave it out.
        allow: As for `Pipeline`. None takes that of `extends`, unless there are other layers.
        max_attempts: As for `Pipeline`. None takes that of `extends`.
        name: What the pipeline is called. None calls it after the preset.
    """

    layers: tuple[Any, ...] | None = attrs.field(default=None, converter=_uses)
    transport: Any = attrs.field(default=None, converter=_use)
    extends: str | None = None
    overrides: Mapping[str, Any] = attrs.field(default=NOTHING, converter=_overrides, hash=False)
    allow: tuple[str, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(tuple)
    )
    max_attempts: int | None = None
    name: str | None = None


def preset_of(given: object, place: Place) -> Preset:
    """A preset from a record or a table.

    Raises:
        ConfigurationError: If it is none; all mistakes are named.
    """
    from lamella._structuring import fit  # noqa: PLC0415 - by name only

    mistakes = Mistakes()
    preset = Preset()
    try:
        preset = fit(given, Preset)
    except Misfit as misfit:
        mistakes.add(place, *misfit.findings)
    mistakes.raise_any()
    return preset
