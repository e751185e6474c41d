"""One reply written to the wire, at the pace and to the end that its faults ask for."""

import enum
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import asynccontextmanager
from random import Random

import anyio
import anyio.abc

from lamella.testing._faults import Faults
from lamella.testing._http_body import Body, Chunk, Pause, wait
from lamella.testing._http_framing import Framing, Reply, ReplyPlan, make_plan
from lamella.testing._http_wire import Received

_NO_FAULTS = Faults()
_WRITES_PER_SECOND = 20
_CLEANUP_SECONDS = 5.0


class End(enum.Enum):
    """How a connection goes on after a reply."""

    KEEP = "keep"
    CLOSE = "close"
    CUT = "cut"
    RESET = "reset"
    CLOSE_ON_NEXT = "close on next"


class Replier:
    """Writes one reply to one connection."""

    def __init__(
        self, stream: anyio.abc.ByteStream, random: Random, progress: Callable[[int], None]
    ) -> None:
        """Write to the stream; ``progress`` is told of body bytes handed to the system."""
        self._stream = stream
        self._random = random
        self._progress = progress
        self._faults = _NO_FAULTS
        self._cut: int | None = None
        self._clean = False
        self.body_bytes = 0
        """Body bytes handed to the system so far."""
        self.complete = False
        """Whether the client has been sent all that it is going to get."""

    async def send(self, reply: Reply, request: Received) -> End:
        """Answer a request.

        Raises:
            anyio.BrokenResourceError: the client has gone.
            Exception: whatever the body's iterator raises.
        """
        async with _closing(reply.body):
            faults = self._faults = reply.faults or _NO_FAULTS
            jitter = self._random.uniform(-faults.jitter, faults.jitter) if faults.jitter else 0.0
            await wait(faults.delay + jitter)
            await wait(faults.hold_headers)
            await wait(faults.blackhole)
            if faults.reset_before_headers or faults.blackhole:
                self.complete = True
                return End.RESET if faults.reset_before_headers else End.CUT
            plan = make_plan(reply, faults, request)
            if isinstance(plan.chunks, bytes):
                await self._stream.send(plan.head + plan.chunks)
                self._count(len(plan.chunks))
            else:
                await self._stream.send(plan.head)
                await wait(faults.delay_after_headers)
                if plan.framing is not Framing.NONE and await self._body(plan):
                    self.complete = True
                    return End.RESET if self._cut == faults.reset_at else End.CUT
            return await self._end(plan)

    async def _body(self, plan: ReplyPlan) -> bool:
        """Send the chunks; True when the message must be cut off where it is."""
        self._cut = _least(self._faults.limit_data, self._faults.reset_at)
        self._clean = self._faults.limit_clean and self._cut != self._faults.reset_at
        stopped = self._cut == 0 or await self._chunks(plan)
        return stopped and not self._clean

    async def _chunks(self, plan: ReplyPlan) -> bool:
        chunked = plan.framing is Framing.CHUNKED
        if isinstance(plan.chunks, bytes):
            return await self._emit([plan.chunks], chunked=chunked)
        if not isinstance(plan.chunks, AsyncIterable):
            return await self._emit(plan.chunks, chunked=chunked)
        if await self._emit(plan.shape.start(), chunked=chunked):
            return True
        async for item in plan.chunks:
            if await self._emit(plan.shape.feed(item), chunked=chunked):
                return True
        return await self._emit(plan.shape.end(), chunked=chunked)

    async def _emit(self, chunks: Iterable[Chunk], *, chunked: bool) -> bool:
        """Send some chunks; True once the limit of the body is reached."""
        for item in chunks:
            if isinstance(item, Pause):
                await wait(item.seconds)
                continue
            for piece in self._pieces(item):
                if self.body_bytes and self._faults.slice is not None:
                    await wait(self._faults.gap)
                await self._put(piece, chunked=chunked)
                if self.body_bytes == self._cut:
                    return True
        return False

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        size, variation = self._faults.slice, self._faults.variation
        start = 0
        while start < len(data):
            length = len(data) if size is None else size
            if size is not None and variation:
                length = max(1, self._random.randint(size - variation, size + variation))
            yield data[start : start + length]
            start += length

    async def _put(self, data: bytes, *, chunked: bool) -> None:
        sent = data if self._cut is None else data[: self._cut - self.body_bytes]
        ends = self._clean or len(sent) == len(data)
        # A chunk that is cut off still announces its full size, unless the message is to end well.
        before = b"%x\r\n" % len(sent if ends else data) if chunked else b""
        after = b"\r\n" if chunked and ends else b""
        rate = self._faults.bandwidth
        step = len(sent) if rate is None else max(1, int(min(rate / _WRITES_PER_SECOND, len(sent))))
        for start in range(0, len(sent), step):
            piece = sent[start : start + step]
            if rate is not None:
                await anyio.sleep(len(piece) / rate)
            await self._stream.send(before + piece + (after if start + step >= len(sent) else b""))
            before = b""
            self._count(len(piece))

    def _count(self, number: int) -> None:
        self.body_bytes += number
        self._progress(number)

    async def _end(self, plan: ReplyPlan) -> End:
        # A message of known length is over with its last byte, any other with what marks its end.
        known = plan.framing in {Framing.NONE, Framing.RAW}
        fits = plan.framing is not Framing.RAW or plan.length == self.body_bytes
        self.complete = known and fits
        await wait(self._faults.slow_close)
        if plan.framing is Framing.CHUNKED:
            await self._stream.send(b"0\r\n\r\n")
        self.complete = True
        if not fits:
            return End.CUT
        if plan.close or self._faults.close_idle == "now":
            return End.CLOSE
        return End.KEEP if self._faults.close_idle is None else End.CLOSE_ON_NEXT


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


@asynccontextmanager
async def _closing(body: Body) -> AsyncGenerator[None]:
    """Close a body that is a generator, however its sending ends."""
    try:
        yield
    finally:
        if isinstance(body, AsyncGenerator):
            with anyio.move_on_after(_CLEANUP_SECONDS, shield=True):
                await body.aclose()
        elif isinstance(body, Generator):
            body.close()
