"""An answer with its question and the question's vector, as one kept thing."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final

import attrs

from lamella import MediaDelta, Opaque
from lamella._answer_codec import KeptAnswer

_KIND: Final = "vector"


def packed_vector(vector: Sequence[float]) -> bytes:
    """A vector of length 1 as 32-bit floats, the least significant byte first.

    Raises:
        ValueError: If it points nowhere.
    """
    most = max([abs(value) for value in vector], default=0.0)
    if not 0.0 < most < math.inf:
        raise ValueError("A vector needs coordinates that are finite numbers, and not all 0.")
    length = math.sqrt(math.fsum([(value / most) ** 2 for value in vector])) * most
    made = array("f", [value / length for value in vector])
    if sys.byteorder == "big":
        made.byteswap()
    return made.tobytes()


def unpacked_vector(data: bytes) -> array[float]:
    """What was packed.

    Raises:
        ValueError: If it is none.
    """
    made = array("f")
    made.frombytes(data)
    if sys.byteorder == "big":
        made.byteswap()
    return made


def with_question(answer: KeptAnswer, question: str, vector: bytes) -> KeptAnswer:
    """The answer with what it answers."""
    asked = Opaque({"question": question}, provider=_KIND, content=False)
    return attrs.evolve(answer, events=(asked, MediaDelta(_KIND, vector), *answer.events))


def without_question(kept: KeptAnswer) -> tuple[KeptAnswer, str, bytes] | None:
    """The answer, its question and the vector; None if it has none."""
    events: Any = kept.events
    if len(events) < 3 or events[0].__class__ is not Opaque or events[0].provider != _KIND:
        return None
    question, vector = events[0].data.get("question"), events[1]
    if not isinstance(question, str) or vector.__class__ is not MediaDelta:
        return None
    return attrs.evolve(kept, events=events[2:]), question, vector.data
