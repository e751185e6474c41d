"""Rollout: a share of the users, always the same ones, gets another target.

Who is in is decided by a hash of the rollout's name and the user, not by a draw for each call. So a
higher percentage only adds users, a lower one only takes some out, and setting it to 0 ends the
rollout with the next call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random  # noqa: TID251 - the type of the random port
from typing import Any, Final, cast

import attrs

from lamella import ConfigurationError, Context
from lamella._options import number, refused
from lamella._structuring import build_option
from lamella_middlewares.route._affinity import fraction, owner

CONTROL: Final = "control"
"""The arm of everybody who is not in."""

_KEYS: Final = ("session", "user", "tenant")


def _name(rollout: Any, option: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value:
        raise refused(rollout, option, value, "a name")


def _own_name(rollout: Any) -> str:
    target: str = rollout.target
    return target


def _keys_of(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(cast("Any", value)) if isinstance(value, Iterable) else (value,)


def _keys(rollout: Any, option: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
    if not value or any(key not in _KEYS for key in value):
        raise refused(rollout, option, value, f"one or several of {', '.join(map(repr, _KEYS))}")


@attrs.define(eq=False)
class Rollout:
    """A share of the users for one target. The target gets no other traffic.

    `percent` may be set at any time, from any thread: `rollout.percent = 0` takes everybody out
    again. One object may be given to several layers.

    Args:
        target: The name of the target that they get.
        percent: How many of a hundred, 0 to 100; fractions are fine.
        by: What makes a user, the first that the context has: `user`, `session`, `tenant`. A call
            that has none of them is drawn by chance, each time anew.
        name: What it is called in the trace and in the call's tags; by default the target's name.
            Rollouts of different names divide the users independently.
    """

    target: str = attrs.field(validator=_name, on_setattr=attrs.setters.frozen)
    percent: float = attrs.field(default=10.0, validator=number(0, 100))
    by: tuple[str, ...] = attrs.field(
        default=("user", "session"),
        converter=_keys_of,
        validator=_keys,
        on_setattr=attrs.setters.frozen,
    )
    name: str = attrs.field(
        default=attrs.Factory(_own_name, takes_self=True),
        validator=_name,
        on_setattr=attrs.setters.frozen,
    )

    def includes(self, context: Context, random: Random) -> bool:
        """Whether a call gets the target."""
        percent = self.percent
        for key in self.by:
            value = owner(context, key)
            if value is not None:
                tenant = owner(context, "tenant") or ""
                return 100 * fraction(self.name, tenant, value) < percent
        return 100 * random.random() < percent


def rollouts_of(given: Any) -> tuple[Rollout, ...]:
    """The rollouts that an option asks for: one or several, as tables or as objects.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if given is None:
        return ()
    if isinstance(given, Rollout | Mapping):
        return (_rollout_of(cast("Any", given)),)
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError(
            f"Route(rollout={given!r}): give a Rollout, a table such as "
            "{'target': 'new', 'percent': 10}, or a list of them; the first that includes a user "
            "wins."
        )
    rollouts = [_rollout_of(item) for item in cast("Any", given)]
    names = [rollout.name for rollout in rollouts]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(
                f"Route(rollout=...) has two rollouts of the name {name!r}.",
                hint="Give each a name of its own, or the trace cannot tell them apart.",
            )
    return tuple(rollouts)


def _rollout_of(item: Any) -> Rollout:
    if isinstance(item, Rollout):
        return item
    if isinstance(item, Mapping):
        return build_option("rollout", Rollout, cast("Any", item))
    raise ConfigurationError(f"Route(rollout=...) has {item!r}: give a Rollout, or a table.")
