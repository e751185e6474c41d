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


def settle_points(body: JSON, losses: Losses, family: str) -> None:
    """Put points where Bedrock takes them, and shorten the lives of those that last too long.

    Refused are two points in a row, more than four (the first of the messages' are left out), one
    that lives longer than another before it, in the order tools, system, messages, and one right
    behind a block that takes none: it is put before that, and left out where nothing is before.

    Args:
        body: What is written.
        losses: What is left out.
        family: Whose model is asked; empty if unknown.
    """
    config = body.get("toolConfig")
    before: list[list[JSON]] = [config["tools"] if config else [], body.get("system", [])]
    after: list[list[JSON]] = [message["content"] for message in body["messages"]]
    for blocks in after:
        _put_behind_what_takes_one(blocks, family, losses)
    for blocks in (*before, *after):
        blocks[:] = blocks[:1] + [b for a, b in pairwise(blocks) if not {_POINT} == {*a} == {*b}]
    excess = sum(map(_count, (*before, *after))) - MOST_POINTS
    for blocks in (*after, *before):
        excess -= _leave_out(blocks, excess, losses)
    _shorten([*before, *after], losses)


def _put_behind_what_takes_one(blocks: list[JSON], family: str, losses: Losses) -> None:
    place = 0
    while place < len(blocks):
        to = place
        while _POINT in blocks[place] and to and not _takes_one(blocks[to - 1], family):
            to -= 1
        if to == place:
            place += 1
        elif to:
            blocks.insert(to, blocks.pop(place))
        else:
            del blocks[place]
            losses.add(CACHE_MARK, "no block before it takes one on Bedrock")


def _takes_one(block: JSON, family: str) -> bool:
    """Whether a point may stand right behind a block: Amazon's models want a text there.

    For the others it makes text of all documents but PDFs, and then refuses the point behind; it
    refuses one behind a film or a thought, too.
    """
    if family == "amazon":
        return bool(block.keys() & {"text", _POINT})
    document: Any = block.get("document")
    if block.keys() & {"video", "reasoningContent"}:
        return False
    return document is None or document.get("format") == "pdf"


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
