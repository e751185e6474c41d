"""What `Cache`'s options are made of where they may be written as a table or a name."""

from __future__ import annotations

from typing import Any

from lamella import Packing
from lamella._keeping import of_table
from lamella_middlewares.cache._records import Keep, Stale


def stale(value: Any) -> Any:
    """A `Stale`, or the table of one."""
    return of_table("stale", Stale, value)


def keep(value: Any) -> Any:
    """A `Keep`, or the table of one."""
    return of_table("keep", Keep, value)


def packing(value: Any) -> Any:
    """A `Packing`, or the table of one."""
    return of_table("packing", Packing, value)


def store(value: Any) -> Any:
    """A store of the layer's own: itself, by name, or by a table; None for the pipeline's."""
    if value is None:
        return None
    from lamella._named_stores import layer_store

    return layer_store("Cache", "blobs", value)
