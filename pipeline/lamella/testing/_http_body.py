"""The body of a reply, chunk by chunk, with the faults that concern chunks applied to it."""

import math
import zlib
from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator

import anyio
import attrs

from lamella.testing._faults import Faults

_ZEROS = bytes(64 * 1024)


@attrs.frozen
class Pause:
    """A wait between two chunks.

    Attributes:
        seconds: how long; 0 lets other tasks run, ``math.inf`` waits until the client leaves.
    """

    seconds: float


Chunk = bytes | Pause
Body = bytes | Iterable[Chunk] | AsyncIterable[Chunk]


async def wait(seconds: float) -> None:
    """Sleep, for ever if the time is infinite; 0 does not wait at all."""
    if math.isinf(seconds):
        await anyio.sleep_forever()
    elif seconds > 0:
        await anyio.sleep(seconds)


def zeros(count: int) -> Iterator[bytes]:
    """Give so many zero bytes in chunks, without holding them all."""
    for start in range(0, count, len(_ZEROS)):
        yield _ZEROS[: count - start]


class Shape:
    """Turns the chunks that were meant to be sent into those that are.

    Order: the last chunks are left out, then stalls, insertions and replacements by chunk number,
        then compression.
    """

    def __init__(self, faults: Faults) -> None:
        """Apply these faults to one body."""
        self._faults = faults
        self._held: deque[Chunk] = deque()
        self._held_chunks = 0
        self._number = 0
        self._replaced = dict(faults.malformed_at)
        compress = faults.gzip or faults.gzip_bomb is not None
        self._gzip = zlib.compressobj(wbits=31) if compress else None

    def start(self) -> Iterator[Chunk]:
        """Give what comes before the first chunk."""
        for _ in range(self._faults.keepalive_newlines):
            yield from self._encoded(b"\n")
            yield Pause(self._faults.keepalive_gap)

    def feed(self, item: Chunk) -> Iterator[Chunk]:
        """Give what to send now that one more chunk or pause is known."""
        self._held.append(item)
        self._held_chunks += isinstance(item, bytes)
        while self._held_chunks > self._faults.fin_no_terminator:
            yield from self._release(self._held.popleft())
        if not self._held_chunks:
            while self._held:
                yield self._held.popleft()

    def end(self) -> Iterator[Chunk]:
        """Give what remains when there are no more chunks."""
        if self._faults.stall_at == self._number:
            yield Pause(self._faults.stall)
        for index, data in sorted(self._faults.insert, key=lambda pair: pair[0]):
            if index >= self._number:
                yield from self._encoded(data)
        if self._gzip is not None:
            yield self._gzip.flush()

    def whole(self, body: Iterable[Chunk]) -> Iterator[Chunk]:
        """Give everything to send for a body that is known already."""
        yield from self.start()
        for item in body:
            yield from self.feed(item)
        yield from self.end()

    def _release(self, item: Chunk) -> Iterator[Chunk]:
        if isinstance(item, Pause):
            yield item
            return
        self._held_chunks -= 1
        if self._faults.stall_at == self._number:
            yield Pause(self._faults.stall)
        for index, data in self._faults.insert:
            if index == self._number:
                yield from self._encoded(data)
        yield from self._encoded(self._replaced.get(self._number, item))
        self._number += 1

    def _encoded(self, data: bytes) -> Iterator[bytes]:
        if self._gzip is None:
            yield data
            return
        packed = self._gzip.compress(data)
        if self._faults.gzip_bomb is None:
            packed += self._gzip.flush(zlib.Z_SYNC_FLUSH)
        if packed:
            yield packed
