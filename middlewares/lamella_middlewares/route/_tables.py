"""Options of options, as tables: what a file can say of a policy, an affinity, a rollout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lamella._mistakes import Misfit
from lamella._structuring import build

T = TypeVar("T")


def made(option: str, factory: Callable[..., T], table: Mapping[str, Any]) -> T:
    """What a table describes.

    Args:
        option: The option of the layer, for messages.
        factory: Makes it.
        table: Its options.

    Raises:
        ConfigurationError: With every mistake, and where it stands.
    """
    try:
        found: T = build(factory, table)
    except Misfit as misfit:
        raise Misfit(misfit.under(option)) from None
    return found
