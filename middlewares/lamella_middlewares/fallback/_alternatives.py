"""Telling the layers inside that this target is not the last one."""

from __future__ import annotations

from typing import Any, TypeVar

from lamella import Request

Q = TypeVar("Q", bound=Request[Any])


def more_behind(request: Q, count: int) -> Q:
    """The request with `count` further targets behind it, besides those of layers outside."""
    if not count:
        return request
    context = request.context
    return request.evolve(context=context.evolve(alternatives=context.alternatives + count))
