"""The stack that presets describe, before it is built: who says what about each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from lamella._errors import LamellaError
from lamella._layers import info_of
from lamella._mistakes import Finding, Misfit, Mistakes, Place
from lamella._order import arranged
from lamella._preset_records import Preset, Use
from lamella._registry import Kind, Registry, key_of
from lamella._structuring import build


@attrs.define
class Slot:
    """One layer, or the transport.

    Attributes:
        given: What stands there: a name with options, or an object.
        place: Where it was written.
        options: The options and where each was written, by name.
    """

    given: Any
    place: Place
    options: dict[str, tuple[Any, Place]] = attrs.field(factory=dict[str, tuple[Any, Place]])

    @classmethod
    def of(cls, given: Any, place: Place) -> Slot:
        """A slot with the options that it comes with."""
        slot = cls(given, place)
        if isinstance(given, Use):
            slot.set(given.options, place)
        return slot

    @property
    def name(self) -> str:
        """The name by which overrides mean it."""
        return key_of(self.given.use if isinstance(self.given, Use) else info_of(self.given).name)

    def set(self, options: Mapping[str, Any], place: Place) -> None:
        """Set options; those that are not named stay as they are."""
        for name, value in options.items():
            self.options[name.replace("-", "_")] = (value, place.at(name))

    def made(self, kind: Kind, names: Registry, mistakes: Mistakes) -> Any:
        """What stands here, made; None if that is not possible, and why is written down."""
        if not isinstance(self.given, Use):
            return self.given
        options = {name: value for name, (value, _) in self.options.items()}
        try:
            return build(names.factory(kind, self.given.use), options)
        except Misfit as misfit:
            for finding in misfit.findings:
                at, inner = self._place_of(finding)
                mistakes.add(at, inner)
        except LamellaError as error:
            mistakes.add(self.place, Finding((), str(error), error=error))
        return None

    def _place_of(self, finding: Finding) -> tuple[Place, Finding]:
        """Where the option stands that a finding is about, and the finding as seen from there."""
        option = self.options.get(str(finding.path[0])) if finding.path else None
        if option is None:
            return self.place, finding
        return option[1], attrs.evolve(finding, path=finding.path[1:])


@attrs.define
class Stack:
    """What presets that extend each other, and overrides, come to.

    Attributes:
        slots: The layers, outermost first.
        added: Layers that overrides have added; they go where their phase belongs.
        transport: The transport; None if nobody has named one.
        allow: As for `Pipeline`.
        max_attempts: As for `Pipeline`; None for its default.
    """

    slots: list[Slot] = attrs.field(factory=list[Slot])
    added: list[Slot] = attrs.field(factory=list[Slot])
    transport: Slot | None = None
    allow: tuple[str, ...] = ()
    max_attempts: int | None = None

    def extend(self, preset: Preset, place: Place) -> None:
        """Let a preset say what it says; what it does not stays."""
        if preset.layers is not None:
            at = place.at("layers")
            self.slots = [Slot.of(given, at.at(i)) for i, given in enumerate(preset.layers)]
            self.added = []
            self.allow = ()
        if preset.transport is not None:
            self.transport = Slot.of(preset.transport, place.at("transport"))
        if preset.allow is not None:
            self.allow = tuple(preset.allow)
        if preset.max_attempts is not None:
            self.max_attempts = preset.max_attempts

    def override(
        self, changes: Mapping[str, Any], place: Place, names: Registry, mistakes: Mistakes
    ) -> None:
        """Change layers by name.

        Args:
            changes: By name: options to set, True to add it, None or False to leave it out, or a
                layer to put in its place.
            place: Where the changes were written.
            names: What names stand for.
            mistakes: Where mistakes are written down.
        """
        for name, change in changes.items():
            there = [slot for slot in (*self.slots, *self.added) if slot.name == key_of(name)]
            if not there and not names.has("middlewares", name):
                error = names.unknown("middlewares", name)
                mistakes.add(place.at(name), Finding((), str(error), error=error))
            elif change is None or change is False:
                self._leave_out(there, name)
            elif len(there) > 1:
                text = f"stands in the stack {len(there)} times; write the layers out instead"
                mistakes.add(place.at(name), Finding((), text))
            else:
                slot = there[0] if there else None
                mistakes.add(place.at(name), *self._change(slot, name, change, place.at(name)))

    def _leave_out(self, there: list[Slot], name: str) -> None:
        self.slots = [slot for slot in self.slots if slot not in there]
        self.added = [slot for slot in self.added if slot not in there]
        if there:
            key = key_of(name)
            self.allow = tuple(each for each in self.allow if key not in each.split(" outside "))

    def _change(self, slot: Slot | None, name: str, change: Any, place: Place) -> list[Finding]:
        if change is not True and not isinstance(change, Mapping) and not callable(change):
            return [Finding((), "options, true or false", change)]
        if slot is None:
            slot = Slot(Use(name), place)
            self.added.append(slot)
        if isinstance(change, Mapping):
            if not isinstance(slot.given, Use):
                return [Finding((), "was given as an object; give another, not options")]
            slot.set(cast("Mapping[str, Any]", change), place)
        elif change is not True:
            slot.given, slot.place, slot.options = change, place, {}
        return []

    def layers(self, names: Registry, mistakes: Mistakes) -> list[Any]:
        """The layers, made; those that were added stand where their phase belongs."""
        made = [slot.made("middlewares", names, mistakes) for slot in self.slots]
        layers = [layer for layer in made if layer is not None]
        for slot in self.added:
            layer = slot.made("middlewares", names, mistakes)
            if layer is not None:
                layers.insert(_position(layers, layer), layer)
        return layers


def _position(layers: list[Any], new: Any) -> int:
    """Where a new layer belongs among layers whose order is not to change."""
    info = info_of(new)
    for position, layer in enumerate(layers):
        if arranged([(layer, info_of(layer)), (new, info)])[0] is new:
            return position
    return len(layers)
