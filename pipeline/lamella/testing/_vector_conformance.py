"""The rules that every `VectorIndex` obeys."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

import anyio

from lamella._vector_index import VectorIndex
from lamella.testing._store_conformance import (
    Advance,
    Make,
    Rules,
    expect,
    expect_value_error,
    no,
    yes,
)

_rules: Rules[VectorIndex] = Rules("VectorIndex")
_ODD = ("", " ", "a\nb", "ключ", "a*", "a?[b]", "a%_b", "a:b:", "\U0001f511", "a\\b", "a{b}", "a|b")
_RIGHT, _UP, _BETWEEN, _LEFT = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (-1.0, 0.0)


async def check_vector_index(make: Make[VectorIndex], advance: Advance | None = None) -> None:
    """Check that a vector index keeps every rule of `VectorIndex`.

    Few vectors are used, so that an approximate index finds them all.

    Args:
        make: Makes an empty index; may be asynchronous. It is called once for each rule.
        advance: Moves the index's clock by seconds, in all about 20, and may sleep to do so. None
            leaves out the rules about time.

    Raises:
        AssertionError: If the index breaks a rule; it says which.
    """
    await _rules.check(make, advance)


async def _keys(
    index: VectorIndex, partition: str, vector: Sequence[float], count: int = 100
) -> list[str]:
    return [near.key for near in await index.nearest(partition, vector, count=count)]


@_rules.rule("A partition that nothing was added to is empty.")
async def _empty(index: VectorIndex) -> None:
    expect(await _keys(index, "p", _RIGHT), [], "what is near")
    no(await index.remove("p", "key"), "remove of what was never added")
    expect(await index.purge(), 0, "purge of an empty index")


@_rules.rule("The nearest come first, each with the cosine of its angle.")
async def _order(index: VectorIndex) -> None:
    for key, vector in (("up", _UP), ("left", _LEFT), ("right", _RIGHT), ("between", _BETWEEN)):
        await index.add("p", key, vector)
    found = await index.nearest("p", (2.0, 0.5), count=4)
    expect([near.key for near in found], ["right", "between", "up", "left"], "their order")
    length = math.hypot(2.0, 0.5)
    for near, cosine in zip(found, (2.0, 2.5 / math.sqrt(2), 0.5, -2.0), strict=True):
        yes(
            abs(near.similarity - cosine / length) < 1e-4,
            f"similarity of {near.key!r} is {near.similarity!r}, near {cosine / length:.6f}",
        )


@_rules.rule("A vector is like itself, and like its multiples, by 1, and never by more.")
async def _itself(index: VectorIndex) -> None:
    vector = [math.sin(number) for number in range(1, 65)]
    await index.add("p", "key", vector)
    for factor in (1.0, 1e-9, 3.0, 1e9):
        [near] = await index.nearest("p", [factor * value for value in vector])
        yes(0.9999 < near.similarity <= 1, f"similarity {near.similarity!r} of {factor:g} times it")
    [near] = await index.nearest("p", [-value for value in vector])
    yes(-1 <= near.similarity < -0.9999, f"similarity {near.similarity!r} of its opposite")


@_rules.rule("No more come than are asked for, and none below `at_least`.")
async def _bounds(index: VectorIndex) -> None:
    for key, vector in (("right", _RIGHT), ("between", _BETWEEN), ("up", _UP), ("left", _LEFT)):
        await index.add("p", key, vector)
    expect(await _keys(index, "p", _RIGHT, 2), ["right", "between"], "two of them")
    expect(len(await index.nearest("p", _RIGHT)), 1, "how many come of themselves")
    found = await index.nearest("p", _RIGHT, count=10, at_least=0.5)
    expect([near.key for near in found], ["right", "between"], "those of at least 0.5")
    expect(list(await index.nearest("p", (-1.0, -9.0), count=10, at_least=0.9)), [], "of 0.9")
    expect(len(await index.nearest("p", _RIGHT, count=10, at_least=0.9999)), 1, "of 0.9999")


@_rules.rule("Partitions never meet.")
async def _partitions(index: VectorIndex) -> None:
    for partition in _ODD:
        await index.add(partition, f"in {partition}", _RIGHT)
    for partition in _ODD:
        found = await _keys(index, partition, _RIGHT)
        expect(found, [f"in {partition}"], f"what is near in {partition!r}")
    no(await index.remove("a*", "in a?[b]"), "remove of another partition's")
    yes(await index.remove("a*", "in a*"), "remove of its own")
    expect(await _keys(index, "a:b:", _RIGHT), ["in a:b:"], "what is near in another one")


@_rules.rule("Keys are any text, and no two of them are the same.")
async def _odd_keys(index: VectorIndex) -> None:
    for key in _ODD:
        await index.add("p", key, _RIGHT)
    expect(sorted(await _keys(index, "p", _RIGHT)), sorted(_ODD), "the keys")
    for key in _ODD:
        yes(await index.remove("p", key), f"remove of {key!r}")


@_rules.rule("Adding under a key replaces what was there.")
async def _replaced(index: VectorIndex) -> None:
    await index.add("p", "key", _RIGHT)
    await index.add("p", "key", _UP)
    [near] = await index.nearest("p", _UP, count=10)
    yes(near.similarity > 0.9999, f"similarity {near.similarity!r} to the new one")
    expect(await index.purge(), 1, "how many there are")


@_rules.rule("What is removed is not found; removing says whether it was there.")
async def _removed(index: VectorIndex) -> None:
    for key, vector in (("right", _RIGHT), ("up", _UP), ("left", _LEFT)):
        await index.add("p", key, vector)
    yes(await index.remove("p", "right"), "remove")
    no(await index.remove("p", "right"), "remove again")
    expect(await _keys(index, "p", _RIGHT), ["up", "left"], "what is near")
    await index.add("p", "right", _RIGHT)
    expect(await _keys(index, "p", _RIGHT), ["right", "up", "left"], "once it is there again")


@_rules.rule("A purge forgets the partitions that begin with the prefix, taken literally.")
async def _purged(index: VectorIndex) -> None:
    for prefix in _ODD:
        await index.purge()
        for partition in _ODD:
            await index.add(partition, "one", _RIGHT)
            await index.add(partition, "two", _UP)
        begin = [partition for partition in _ODD if partition.startswith(prefix)]
        expect(await index.purge(prefix=prefix), 2 * len(begin), f"purge of prefix {prefix!r}")
        left = [partition for partition in _ODD if await index.nearest(partition, _RIGHT)]
        expect(left, [one for one in _ODD if one not in begin], f"partitions after {prefix!r}")


@_rules.rule("A vector that cannot be compared is refused, and changes nothing.")
async def _refused(index: VectorIndex) -> None:
    await index.add("p", "key", _RIGHT)
    wrong: list[Sequence[float]] = [
        (1.0, 0.0, 0.0), (1.0,), (), (0.0, 0.0), (math.nan, 1.0), (math.inf, 1.0)
    ]  # fmt: skip
    for vector in wrong:
        await expect_value_error(index.add("p", "key", vector), f"add of {vector!r}")
    await expect_value_error(index.nearest("p", (1.0, 0.0, 0.0)), "nearest to another length")
    await index.add("q", "key", (1.0, 0.0, 0.0))  # a partition has a length of its own
    [near] = await index.nearest("p", _RIGHT, count=10)
    yes(near.similarity > 0.9999, "what was there is there")


@_rules.rule("A partition that has been emptied takes vectors of any length.")
async def _emptied(index: VectorIndex) -> None:
    await index.add("p", "key", _RIGHT)
    yes(await index.remove("p", "key"), "remove")
    await index.add("p", "key", (1.0, 2.0, 3.0))
    expect(await _keys(index, "p", (1.0, 2.0, 3.0)), ["key"], "what is near")


@_rules.rule("Concurrent writers lose nothing of each other's.")
async def _concurrent(index: VectorIndex) -> None:
    async def add(first: int) -> None:
        for number in range(first, first + 10):
            await index.add("p", str(number), (math.cos(number / 40), math.sin(number / 40)))

    async with anyio.create_task_group() as group:
        for first in range(0, 50, 10):
            group.start_soon(add, first)
    expect(await _keys(index, "p", _RIGHT, 3), ["0", "1", "2"], "the nearest")
    expect(len(await _keys(index, "p", _RIGHT)), 50, "how many there are")


@_rules.rule("A time to live of 0 or less leaves nothing under the key.")
async def _expired_already(index: VectorIndex) -> None:
    for ttl in (0.0, -1.0):
        await index.add("p", "key", _RIGHT)
        await index.add("p", "key", _UP, ttl=ttl)
        expect(await _keys(index, "p", _UP), [], f"what is near after ttl {ttl!r}")


@_rules.timed_rule("After its time to live a vector is not found, removed or counted.")
async def _expiry(index: VectorIndex, advance: Callable[[float], Awaitable[None]]) -> None:
    await index.add("p", "stays", _UP)
    await index.add("p", "goes", _RIGHT, ttl=2.0)
    await advance(1.0)
    expect(await _keys(index, "p", _RIGHT), ["goes", "stays"], "what is near before its end")
    await advance(1.5)
    expect(await _keys(index, "p", _RIGHT), ["stays"], "what is near after its end")
    no(await index.remove("p", "goes"), "remove after its end")
    expect(await index.purge(), 1, "how many are purged")


@_rules.timed_rule("Many that expire together hide nothing that lives.")
async def _hidden(index: VectorIndex, advance: Callable[[float], Awaitable[None]]) -> None:
    for number in range(300):
        await index.add("p", f"goes {number}", _RIGHT, ttl=1.0)
    await index.add("p", "stays", _BETWEEN)
    await advance(1.5)
    expect(await _keys(index, "p", _RIGHT, 1), ["stays"], "what is near after their end")


@_rules.timed_rule("Adding again makes a vector's time begin anew.")
async def _renewed(index: VectorIndex, advance: Callable[[float], Awaitable[None]]) -> None:
    await index.add("p", "longer", _RIGHT, ttl=2.0)
    await index.add("p", "for good", _UP, ttl=2.0)
    await advance(1.5)
    await index.add("p", "longer", _RIGHT, ttl=3.0)
    await index.add("p", "for good", _UP)
    await advance(1.5)
    expect(await _keys(index, "p", _RIGHT), ["longer", "for good"], "what is near")
    await advance(2.5)
    expect(await _keys(index, "p", _RIGHT), ["for good"], "what is near later")
