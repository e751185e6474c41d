"""Answers wrapped for a store and unwrapped again; what takes long, off the event loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs

from lamella._answer_codec import KeptAnswer, UnreadableError, decode_answer, encode_answer

if TYPE_CHECKING:
    from lamella._packing import Packer
    from lamella._ports import ThreadPort
    from lamella._stores import Blob

LARGE: Final = 128 * 1024
"""Bytes from which on an answer is packed and unpacked off the event loop."""

MANY: Final = 16
"""Answers that are packed at a time from which on that is done off the event loop."""


@attrs.frozen
class Found:
    """What a look into the store gave.

    Attributes:
        answer: The answer, fresh or stale; None for a miss.
        why: Of a miss: `"absent"`, `"corrupt"`, `"foreign"`, `"outdated"` or `"unavailable"` (the
            store did not answer: do not ask it again for this call).
    """

    answer: KeptAnswer | None = None
    why: str = ""


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

    async def wrapped(self, address: str, answer: KeptAnswer) -> tuple[bytes, str]:
        """The bytes of an answer, or why there are none: `"formless"` or `"too large"`."""
        data, why = _encoded(answer)
        if why or len(data) < LARGE:
            return self._pack(address, data, why)
        return await self._thread(self._pack, address, data, why)

    async def all_wrapped(
        self, answers: Mapping[str, KeptAnswer]
    ) -> Mapping[str, tuple[bytes, str]]:
        """Likewise of several."""
        if len(answers) < MANY:
            return {one: await self.wrapped(one, answer) for one, answer in answers.items()}

        def wrap() -> dict[str, tuple[bytes, str]]:
            return {one: self._pack(one, *_encoded(answer)) for one, answer in answers.items()}

        return await self._thread(wrap)

    async def opened(self, address: str, blob: Blob) -> Found:
        """What was found there, as an answer, or why it is none."""
        if len(blob.data) < LARGE:
            return self.open(address, blob)
        return await self._thread(self.open, address, blob)

    async def all_opened(self, blobs: Mapping[str, Blob]) -> Mapping[str, Found]:
        """Likewise of several."""

        def open_all() -> dict[str, Found]:
            return {address: self.open(address, blob) for address, blob in blobs.items()}

        if sum([len(blob.data) for blob in blobs.values()]) < LARGE:
            return open_all()
        return await self._thread(open_all)

    def open(self, address: str, blob: Blob) -> Found:
        """Likewise, here and now."""
        try:
            data = self._packer.unpack(address, blob.data)
            return Found(decode_answer(data, max(0.0, blob.age)))
        except UnreadableError as error:
            return Found(None, error.why)

    def _pack(self, address: str, data: bytes, why: str) -> tuple[bytes, str]:
        if why:
            return b"", why
        try:
            return self._packer.pack(address, data), ""
        except ValueError:
            return b"", "too large"


def _encoded(answer: KeptAnswer) -> tuple[bytes, str]:
    try:
        return encode_answer(answer), ""
    except TypeError:
        return b"", "formless"
