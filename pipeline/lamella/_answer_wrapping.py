"""Answers wrapped for a store and unwrapped again; what takes long, off the event loop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

import attrs

from lamella._answer_codec import (
    VERSION,
    KeptAnswer,
    UnreadableError,
    decode_answer,
    encode_answer,
    merged,
)
from lamella._events import TextDelta
from lamella._packing import unpacked_size

if TYPE_CHECKING:
    from lamella._held_answers import HeldAnswer
    from lamella._packing import Packer
    from lamella._ports import ThreadPort
    from lamella._stores import Blob

LARGE: Final = 128 * 1024
"""Bytes from which on answers are packed and unpacked off the event loop: some milliseconds."""

MANY: Final = 256
"""Events, log probabilities and answers from which on the same is done."""

_FEW: Final = 16  # answers, each of which may be large
_EACH: Final = 512
"""Bytes that take as long to read as what an answer has besides."""


@attrs.frozen
class Found:
    """What a look into the store gave.

    Attributes:
        answer: The answer, fresh or stale; None for a miss.
        why: Of a miss: `"absent"`, `"corrupt"`, `"foreign"`, `"outdated"` or `"unavailable"` (the
            store did not answer: do not ask it again for this call).
        held: Where it came from, if that is a store in memory which has the answer itself.
    """

    answer: KeptAnswer | None = None
    why: str = ""
    held: HeldAnswer | None = None


class Wrapping:
    """Answers as a store keeps them, each for its place.

    Args:
        packer: How they are packed.
        thread: Runs what takes long.
    """

    __slots__ = ("_packer", "_thread")

    def __init__(self, packer: Packer, thread: ThreadPort) -> None:
        self._packer = packer
        self._thread = thread

    def packed(self, address: str, answer: KeptAnswer) -> bytes:
        """The bytes of an answer; empty if it has no form, which reads as damage."""
        return self._wrap(address, answer)[0]

    @property
    def form(self) -> str:
        """8 hexadecimal digits for how answers are written: others' are in other places."""
        return _form(self._packer.way)

    async def wrapped(self, address: str, answer: KeptAnswer) -> tuple[bytes, str]:
        """The bytes of an answer, or why there are none: `"formless"` or `"too large"`."""
        if _pieces([answer]) >= MANY:
            return await self._thread(self._wrap, address, answer)
        data, why = _encoded(answer)
        if why or len(data) < LARGE:
            return self._pack(address, data, why)
        return await self._thread(self._pack, address, data, why)

    def wrapped_now(self, address: str, answer: KeptAnswer) -> tuple[bytes, str] | None:
        """Likewise, here; None where it would keep the event loop from its work."""
        if _pieces([answer]) >= MANY:
            return None
        data, why = _encoded(answer)
        return self._pack(address, data, why) if why or len(data) < LARGE else None

    async def all_wrapped(
        self, answers: Mapping[str, KeptAnswer]
    ) -> Mapping[str, tuple[bytes, str]]:
        """Likewise of several."""

        def wrap_all() -> dict[str, tuple[bytes, str]]:
            return {one: self._wrap(one, answer) for one, answer in answers.items()}

        if len(answers) >= _FEW or _pieces(answers.values()) >= MANY:
            return await self._thread(wrap_all)
        return {one: await self.wrapped(one, answer) for one, answer in answers.items()}

    async def opened(self, address: str, blob: Blob) -> Found:
        """What was found there, as an answer, or why it is none."""
        if unpacked_size(blob.data) < LARGE:
            return self.open(address, blob)
        return await self._thread(self.open, address, blob)

    async def all_opened(self, blobs: Mapping[str, Blob]) -> Mapping[str, Found]:
        """Likewise of several."""

        def open_all() -> dict[str, Found]:
            return {address: self.open(address, blob) for address, blob in blobs.items()}

        if sum([unpacked_size(blob.data) + _EACH for blob in blobs.values()]) < LARGE:
            return open_all()
        return await self._thread(open_all)

    def open(self, address: str, blob: Blob) -> Found:
        """Likewise, here and now."""
        try:
            data = self._packer.unpack(address, blob.data)
            return Found(decode_answer(data, max(0.0, blob.age)))
        except UnreadableError as error:
            return Found(None, error.why)

    def _wrap(self, address: str, answer: KeptAnswer) -> tuple[bytes, str]:
        return self._pack(address, *_encoded(answer))

    def _pack(self, address: str, data: bytes, why: str) -> tuple[bytes, str]:
        if why:
            return b"", why
        try:
            return self._packer.pack(address, data), ""
        except ValueError:
            return b"", "too large"


def _encoded(answer: KeptAnswer) -> tuple[bytes, str]:
    try:
        events = merged(answer.events)
        if len(events) != len(answer.events):
            answer = attrs.evolve(answer, events=events)
        return encode_answer(answer), ""
    except Exception:  # noqa: BLE001 - a program's own mappings in `extra` may raise anything
        return b"", "formless"


def _pieces(answers: Iterable[KeptAnswer]) -> int:
    """How much there is to go through one by one, or enough of it."""
    found = 0
    for answer in answers:
        found += 1 + len(answer.events)
        if found >= MANY:
            break
        for event in answer.events:
            if type(event) is TextDelta and isinstance(event.logprobs, list | tuple):
                found += len(event.logprobs)
    return found


@cache
def _form(way: bytes) -> str:
    return hashlib.blake2b(way + VERSION, digest_size=4, person=b"lamella form").hexdigest()
