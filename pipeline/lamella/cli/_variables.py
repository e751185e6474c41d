"""Which environment variables the known transports read. Names only: values show nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs


@attrs.frozen
class Variables:
    """What a transport reads from the environment.

    Attributes:
        needed: For each thing that it needs, the variables that may hold it.
        others: Variables that it reads as well, if they are set.
    """

    needed: tuple[tuple[str, ...], ...] = ()
    others: tuple[str, ...] = ()

    def present(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        """The variables that are set and not empty."""
        names = [name for group in (*self.needed, self.others) for name in group]
        return tuple(name for name in dict.fromkeys(names) if environment.get(name))

    def absent(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        """What is needed and not set, with `or` between variables of which one will do."""
        return tuple(
            " or ".join(group)
            for group in self.needed
            if not any(environment.get(name) for name in group)
        )


def variables_of(transport: str) -> Variables | None:
    """What a transport of that name reads; None if only its plugin knows."""
    from lamella.transports._endpoints import endpoints

    if transport == "mock":
        return Variables()
    if transport == "azure":
        return _azure()
    row = endpoints().get(transport)
    if row is None:
        return None
    keys = row.key_variables
    address = [(name, *row.url_variables) for name in row.url_needs]
    needed = ((keys,) if row.key_required else ()) + tuple(address)
    return Variables(needed, _rest((*keys, *row.url_variables), needed))


def _azure() -> Variables:
    from lamella.transports._azure_address import KEY_VARIABLES, TOKEN_VARIABLES

    address = ("AZURE_OPENAI_ENDPOINT", "AZURE_RESOURCE_NAME")
    return Variables(((*KEY_VARIABLES, *TOKEN_VARIABLES), address), ("OPENAI_API_VERSION",))


def _rest(names: Iterable[str], needed: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    there = {name for group in needed for name in group}
    return tuple(name for name in names if name not in there)
