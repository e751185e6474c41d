"""Frozen records, made quickly.

A frozen class forbids plain assignment, so its constructor asks `object.__setattr__` for each
field, which takes several times as long as in a class that forbids nothing. A record that is made
for each event or each call is filled while it is of a class of the same layout that does not forbid
it, and then becomes what it is. Nobody ever sees it before that.
"""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def unfrozen(cls: type[T]) -> type[Any]:
    """A class of the same layout as a slotted frozen one, whose objects can be filled.

    ``new = object.__new__(twin)``, then each field, then ``new.__class__ = cls``. No field may be
    left out, and nothing is converted or checked: it is for values that are known to be right.

    Args:
        cls: The frozen class.

    Raises:
        TypeError: If its objects have a `__dict__`, so that nothing would be gained.
    """
    if hasattr(object.__new__(cls), "__dict__"):
        msg = f"{cls.__name__} has no slots, so that copying its fields is the faster way."
        raise TypeError(msg)
    plain = {
        "__slots__": (),
        "__module__": cls.__module__,
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    return type(f"_{cls.__name__}InTheMaking", (cls,), plain)
