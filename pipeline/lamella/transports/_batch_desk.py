"""Where requests become batches, on one event loop: they gather, and are sent together."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from lamella._background import Background
from lamella._errors import ClosedError, LamellaError, copy_of
from lamella._ports import Ports
from lamella.transports._batch_api import BatchAPI, BatchState
from lamella.transports._batch_following import Follower
from lamella.transports._batch_journal import BatchJournal
from lamella.transports._batch_line import BatchReply, Found, Line
from lamella.transports._batch_rows import Kept

if TYPE_CHECKING:
    from lamella.transports._openai_batch import OpenAIBatchOptions

T = TypeVar("T")

logger = logging.getLogger("lamella")

_PATIENCE: Final = 12
"""Requests that never cease to come are sent after so many times `gather`."""
_TRIES: Final = 5
_FIRST_WAIT: Final = 2.0
_LONGEST_WAIT: Final = 60.0


@attrs.define(eq=False)
class Office:
    """What the desks of all event loops have in common.

    Attributes:
        api: The provider's Batch API.
        journal: Which request is in which batch.
        options: How batches are cut, and looked at.
    """

    api: BatchAPI
    journal: BatchJournal
    options: OpenAIBatchOptions
    background: Background = attrs.field(factory=Background)
    _making: set[str] = attrs.field(init=False, factory=set[str])

    def making(self, token: str) -> bool:
        """Whether a batch is being made in this process, on any loop."""
        return token in self._making

    def begin_making(self, token: str) -> None:
        """A batch is going to be made."""
        self._making.add(token)

    def end_making(self, token: str) -> None:
        """It was made, or could not be."""
        self._making.discard(token)


@attrs.define(eq=False)
class _Group:
    """Requests that gather for one batch."""

    lines: list[Line] = attrs.field(factory=list[Line])
    size: int = 0
    inputs: int = 0
    cut: bool = False

    def add(self, line: Line) -> None:
        """One more."""
        self.lines.append(line)
        self.size += len(line.written)
        self.inputs += line.inputs


class Desk:
    """Takes requests and gives their answers. For one event loop.

    Args:
        office: What it has in common with those of other loops.
        ports: Clock and ids.
    """

    def __init__(self, office: Office, ports: Ports) -> None:
        self.office = office
        self.ports = ports
        self._lines: dict[str, Line] = {}
        self._arrived: list[Line] = []
        self._looking = False
        self._groups: dict[tuple[str, str], _Group] = {}
        self._followed: dict[str, dict[str, Line]] = {}
        self._closed = False

    async def answer(self, line: Line) -> BatchReply:
        """Wait for the answer to a request; equal ones under one key share it.

        Raises:
            LamellaError: If there is none.
        """
        if self._closed:
            raise self._closing()
        known = self._lines.setdefault(line.id, line)
        known.waiting += 1
        try:
            if known is line:
                self._arrive(line)
            await known.over.wait()
        finally:
            known.waiting -= 1
        if known.found is None:
            assert known.error is not None  # noqa: S101 - one of them is there when it is over
            raise copy_of(known.error)  # errors are never given to two receivers
        return BatchReply(known.found)

    def close(self) -> None:
        """Let go of all requests; batches that were made go on at the provider."""
        self._closed = True
        for line in list(self._lines.values()):
            self.settle(line, self._closing())

    def _closing(self) -> ClosedError:
        provider = self.office.api.provider
        msg = f"The transport {provider!r} was closed while a batch was waited for."
        hint = "The batch goes on: a transport with the same journal takes its answers."
        return ClosedError(msg, hint=hint, provider=provider)

    def settle(self, line: Line, outcome: Found | Exception) -> None:
        """A request has its answer, or its error."""
        if self._lines.get(line.id) is line:
            del self._lines[line.id]
        if line.over.is_set():
            return
        if isinstance(outcome, Exception):
            line.error = outcome
        else:
            line.found = outcome
        line.over.set()

    def settle_all(self, lines: Iterable[Line], outcome: Exception) -> None:
        """None of them has an answer."""
        for line in list(lines):
            self.settle(line, outcome)

    # --- arriving --------------------------------------------------------------------------------

    def _arrive(self, line: Line) -> None:
        self._arrived.append(line)
        if not self._looking:
            self._looking = True
            self.office.background.spawn(self._look, name="lamella batches: looking up")

    async def _look(self) -> None:
        """Look up what has arrived: what was answered, what is under way, and what is new."""
        lines: list[Line] = []
        try:
            while self._arrived:
                lines, self._arrived = self._arrived, []
                await self.office.journal.open(self.ports)
                ids = [line.id for line in lines if line.stable]
                known = await self.office.journal.known(ids)
                for line in lines:
                    self._place(line, known.get(line.id))
        except Exception as error:  # noqa: BLE001 - those who wait are told
            self.settle_all([*lines, *self._arrived], error)
            self._arrived = []
        finally:
            self._looking = False

    def _place(self, line: Line, kept: Kept | None) -> None:
        if kept is None:
            self.gather(line)
        elif kept.answer is None:
            self._attach(line, kept.token)
        else:
            self.settle(line, Found(200, kept.request, kept.answer))

    def _attach(self, line: Line, token: str) -> None:
        """Wait for a batch that was begun before, by this process or another."""
        lines = self._followed.get(token)
        if lines is not None:
            lines[line.id] = line
            return
        lines = self._followed[token] = {line.id: line}
        self.office.background.spawn(self._follow, token, lines, name="lamella batches: waiting")

    # --- gathering -------------------------------------------------------------------------------

    def gather(self, line: Line) -> None:
        """Have a request go with the next batch of its kind."""
        options = self.office.options
        group = self._groups.get(line.group)
        if group is not None and (
            len(group.lines) >= options.max_lines
            or group.size + len(line.written) > options.max_bytes
            or group.inputs + line.inputs > options.max_lines
        ):
            self._cut(line.group, group)
            group = None
        if group is None:
            group = self._groups[line.group] = _Group()
            spawn = self.office.background.spawn
            spawn(self._wait, line.group, group, name="lamella batches: gathering")
        group.add(line)

    async def _wait(self, key: tuple[str, str], group: _Group) -> None:
        """Until no further request comes."""
        pause, ports = self.office.options.gather, self.ports
        began = ports.monotonic()
        count = 0
        while len(group.lines) > count and ports.monotonic() - began < pause * _PATIENCE:
            count = len(group.lines)
            await ports.sleep(pause)
        if not group.cut:
            self._cut(key, group)

    def _cut(self, key: tuple[str, str], group: _Group) -> None:
        group.cut = True
        del self._groups[key]
        self.office.background.spawn(
            self._submit, key[0], group.lines, name="lamella batches: sending"
        )

    # --- sending ---------------------------------------------------------------------------------

    async def _submit(self, api: str, given: list[Line]) -> None:
        """Make a batch of those requests that somebody waits for, and wait for it."""
        lines: dict[str, Line] = {}
        for line in given:
            if line.waiting:
                lines[line.id] = line
            elif self._lines.get(line.id) is line:
                del self._lines[line.id]
        if not lines:
            return
        token = self.ports.new_id()
        self._followed[token] = lines
        office = self.office
        office.begin_making(token)
        try:
            made = await self._made(token, api, lines)
        except Exception as error:  # noqa: BLE001 - those who wait are told
            self._followed.pop(token, None)
            self.settle_all(lines.values(), error)
            return
        finally:
            office.end_making(token)
        if made:
            await self._follow(token, lines)
        else:
            self._followed.pop(token, None)

    async def _made(self, token: str, api: str, lines: dict[str, Line]) -> bool:
        """Make a batch; False if all of its requests are in others by now."""
        office, ports = self.office, self.ports
        others = await office.journal.begin(token, ports.wall(), api, list(lines))
        for id_, other in others.items():
            self._attach(lines.pop(id_), other)
        written = [line.written for line in lines.values()]
        if not written:
            await office.journal.finish(token)
            return False
        for line in lines.values():
            if line.on_sent is not None:
                line.on_sent()
        provider = office.api
        try:
            boundary = f"lamella-{ports.new_id()}"
            file = await self._tried(lambda _: provider.upload(written, boundary, ports))
        except Exception:
            await office.journal.finish(token)  # nothing was made, so that they may be asked again
            raise
        await office.journal.uploaded(token, file)
        try:
            state = await self._tried(lambda again: self._created(file, api, token, again=again))
        except LamellaError as error:
            if not error.retryable:  # otherwise it may be there, which who asks again finds out
                await office.journal.finish(token)
            raise
        await office.journal.created(token, state.id)
        logger.info("batch %s at %s: %d requests", state.id, provider.provider, len(written))
        return True

    async def _created(self, file: str, api: str, token: str, *, again: bool) -> BatchState:
        """A batch of a file; one that was made although its answer was lost is found again."""
        provider, ports = self.office.api, self.ports
        found = await provider.find(token, ports.wall(), ports) if again else None
        return found or await provider.create(file, api, token, ports)

    async def _tried(self, ask: Callable[[bool], Awaitable[T]]) -> T:
        """Ask the provider, some times if it fails with what may pass."""
        wait = _FIRST_WAIT
        for number in range(1, _TRIES):
            try:
                return await ask(number > 1)
            except LamellaError as error:
                if not error.retryable:
                    raise
                pause = wait if error.retry_after is None else error.retry_after
            await self.ports.sleep(min(pause, _LONGEST_WAIT))
            wait *= 2
        return await ask(True)  # noqa: FBT003 - again

    # --- waiting ---------------------------------------------------------------------------------

    async def _follow(self, token: str, lines: dict[str, Line]) -> None:
        try:
            await Follower(self, token, lines).run()
        except Exception as error:  # noqa: BLE001 - those who wait are told
            self.settle_all(lines.values(), error)
        finally:
            if self._followed.get(token) is lines:
                del self._followed[token]

    def leave(self, token: str, lines: Mapping[str, Line]) -> None:
        """Nobody waits for a batch any more; who asks later finds it in the journal."""
        self._followed.pop(token, None)
        for line in lines.values():
            if self._lines.get(line.id) is line:
                del self._lines[line.id]
