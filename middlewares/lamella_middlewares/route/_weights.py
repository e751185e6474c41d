"""Weights that can be changed while requests pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from lamella import ConfigurationError
from lamella._options import is_number


class Weights(MutableMapping[str, float]):
    """How much each target gets, by name; those that are not named have 1.

    Numbers of 0 or more, of which only the proportions matter; 0 takes a target out. Setting one
    (`route.weights["new"] = 0`) holds for the next call. One object may be given to several layers,
    and is changed from any thread.

    Args:
        given: The weights to begin with.

    Raises:
        ConfigurationError: If a weight is no number, negative or infinite.
    """

    def __init__(self, given: Mapping[str, float] | None = None) -> None:
        self._weights: dict[str, float] = {}
        for name, weight in (given or {}).items():
            self[name] = weight

    def of(self, name: str) -> float:
        """The weight of a target."""
        return self._weights.get(name, 1.0)

    def __getitem__(self, name: str) -> float:
        return self._weights[name]

    def __setitem__(self, name: str, weight: float) -> None:
        if not is_number(weight) or weight < 0:
            raise ConfigurationError(
                f"Route(weights=...): {name!r} has {weight!r}: give a number, 0 or more."
            )
        self._weights[name] = float(weight)

    def __delitem__(self, name: str) -> None:
        del self._weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._weights))  # another thread may be setting one

    def __len__(self) -> int:
        return len(self._weights)

    def __repr__(self) -> str:
        return f"Weights({self._weights!r})"


def weights_of(given: Any) -> Weights:
    """The weights that an option asks for.

    Raises:
        ConfigurationError: If it is no table of numbers.
    """
    if isinstance(given, Weights):
        return given
    if given is None or isinstance(given, Mapping):
        return Weights(given)  # pyright: ignore[reportUnknownArgumentType]
    raise ConfigurationError(
        f"Route(weights={given!r}): give a table of numbers by target, such as {{'new': 0.1}}."
    )
