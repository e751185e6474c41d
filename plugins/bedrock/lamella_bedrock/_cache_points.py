"""Converse: where a prompt cache may keep a request up to, within what Bedrock's caches can do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from lamella._prompt_caching import CACHE_MARK
from lamella.transports._dialect import JSON
from lamella.transports._losses import Losses
from lamella.transports._wire_json import is_object

MOST_POINTS: Final = 4
"""How many points a request may have."""

_POINT: Final = "cachePoint"
_SHORT, _LONG = "5m", "1h"


def cache_point(mark: object, losses: Losses, *, lasting: bool) -> JSON:
    """The block that a mark becomes.

    Args:
        mark: As the request has it.
        losses: What is left out.
        lasting: Whether the model's cache can keep things for an hour.
    """
    lifetime = mark.get("ttl", _SHORT) if is_object(mark) else _SHORT
    if lifetime == _LONG and lasting:
        return {_POINT: {"type": "default", "ttl": _LONG}}
    if lifetime == _LONG:
        losses.add(f"{CACHE_MARK}.ttl", "this model's cache lasts 5m")
    elif lifetime != _SHORT:
        losses.add(f"{CACHE_MARK}.ttl", "Bedrock's caches last 5m or 1h")
    return {_POINT: {"type": "default"}}


def settle_points(body: JSON, losses: Losses) -> None:
    """Leave out points that Bedrock refuses, and shorten the lives of those that last too long.

    Refused are two points in a row, more than four (the first of the messages' are left out), and
    one that lives longer than another before it, in the order tools, system, messages.
    """
    config = body.get("toolConfig")
    before: list[list[JSON]] = [config["tools"] if config else [], body.get("system", [])]
    after: list[list[JSON]] = [message["content"] for message in body["messages"]]
    for blocks in (*before, *after):
        blocks[:] = blocks[:1] + [b for a, b in pairwise(blocks) if not {_POINT} == {*a} == {*b}]
    excess = sum(map(_count, (*before, *after))) - MOST_POINTS
    for blocks in (*after, *before):
        excess -= _leave_out(blocks, excess, losses)
    _shorten([*before, *after], losses)


def _count(blocks: Sequence[JSON]) -> int:
    return sum([_POINT in block for block in blocks])


def _leave_out(blocks: list[JSON], most: int, losses: Losses) -> int:
    """Take the first points out of a list of blocks; how many they were."""
    places = [place for place, block in enumerate(blocks) if _POINT in block][: max(most, 0)]
    for place in reversed(places):
        del blocks[place]
        losses.add(CACHE_MARK, f"Bedrock takes {MOST_POINTS} of them in a request")
    return len(places)


def _shorten(lists: Sequence[list[JSON]], losses: Losses) -> None:
    short = False
    for blocks in lists:
        for place, block in enumerate(blocks):
            point: Any = block.get(_POINT)
            if point is None:
                continue
            if short and point.get("ttl") == _LONG:
                blocks[place] = {_POINT: {"type": "default"}}
                losses.add(f"{CACHE_MARK}.ttl", "none may outlive one before it")
            short = short or point.get("ttl", _SHORT) == _SHORT
