"""Frozen records, made quickly; chance; and the loops that are known."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
from typing import Any

import attrs
import pytest

from lamella import Context, Ending, Head, Outcome, TextDelta
from lamella._ending import ending_of
from lamella._events import text_delta
from lamella._loops import _LOOPS, current_loop
from lamella._making import unfrozen
from lamella._ports import Chance

MADE: list[tuple[Any, Any]] = [
    (text_delta("a", 1), TextDelta("a", 1)),
    (
        Head("m", None, "r", headers={"a": "b"}).through("p"),
        Head("m", "p", "r", headers={"a": "b"}),
    ),
    (ending_of(Outcome.LEFT, None, ()), Ending(Outcome.LEFT, events=())),
]


@pytest.mark.parametrize(("made", "same"), MADE)
def test_a_record_made_quickly_is_one_like_any_other(made: Any, same: Any) -> None:
    """Of the same class, equal, whole, and frozen."""
    assert type(made) is type(same)
    assert (made, repr(made)) == (same, repr(same))
    assert pickle.loads(pickle.dumps(made)) == same
    field = attrs.fields(type(made))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(made, field, "other")


def test_only_slotted_classes_have_a_twin() -> None:
    """Of others, the fields are copied at once."""
    with pytest.raises(TypeError, match="Context has no slots"):
        unfrozen(Context)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_other_chances() -> None:
    """A fleet of forked processes does not wait for the same jittered times."""
    chance = Chance()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, repr(chance.random()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert float(os.read(reading, 64)) != chance.random()
    os.close(reading)
    os.close(writing)


def test_what_keys_are_made_of_comes_from_the_system() -> None:
    """Seeding and `random` have nothing to do with it, and numbers keep within their bounds."""
    chance = Chance()
    assert {len(chance.randbytes(32)) for _ in range(3)} == {32}
    assert chance.randbytes(32) != chance.randbytes(32)
    drawn = [chance.random() for _ in range(100)]
    assert min(drawn) >= 0
    assert max(drawn) < 1
    assert {chance.randrange(2) for _ in range(100)} == {0, 1}


def test_a_loop_is_forgotten_when_it_has_gone() -> None:
    """Another that takes its place in memory is another loop."""
    gc.collect()
    before = len(_LOOPS)

    async def loop() -> Any:
        assert current_loop() is current_loop()
        return current_loop()

    found = [asyncio.run(loop()) for _ in range(20)]
    gc.collect()
    assert len(set(found)) == 20
    assert len(_LOOPS) <= before
