"""What a log is owed: outcomes that could not be written when their requests ended.

A request's outcome is known only when the provider has been asked. If it cannot be written then,
it is owed: it is tried again in the background, and at closing, and what had to be given up is
counted in the log itself. Nothing is missing without a trace: an intent without an outcome is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import attrs

from lamella import AuditError, ClosedError
from lamella._fork_locks import fork_safe_lock
from lamella_middlewares.audit._log import AuditLog
from lamella_middlewares.audit._payload import Fields
from lamella_middlewares.audit._queue import Entry
from lamella_middlewares.audit._turn import Turn

if TYPE_CHECKING:
    from lamella import Context, Ports

MOST_OWED: Final = 10_000
"""How many outcomes are kept to be tried again."""

BARE: Final = ("tenant", "user", "session", "call", "branch", "intent", "outcome", "late")
"""What is written of an outcome whose other fields have no canonical form."""

_WAITS: Final = (0.1, 0.5, 2.0, 5.0)
"""Seconds before what is owed is tried again; the last one over and over."""


@attrs.define
class Owed:
    """An outcome that nobody waits for any more.

    Attributes:
        fields: What it says.
        entry: Its record on its way; None if that failed, or there was none yet.
    """

    fields: Fields
    entry: Entry | None = None


class Debts:
    """What is owed to one log by one process.

    Args:
        log: The log.
        written: Called for each record that was written.

    Attributes:
        lost: How many records had to be given up, and the log does not say so yet.
    """

    def __init__(self, log: AuditLog, written: Callable[[], None]) -> None:
        self._log = log
        self._written = written
        self._lock = fork_safe_lock()
        self._turn = Turn()
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked child: what is owed is its parent's."""
        self._owed: deque[Owed] = deque()
        self._settling = False
        self.lost = {"intents": 0, "outcomes": 0}
        self._turn.forget()

    def enter(self, ports: Ports, fields: Fields) -> Entry:
        """Queue an outcome, if need be without what has no canonical form.

        Raises:
            AuditError: If too many wait.
        """
        try:
            return self._log.enter(ports, "outcome", fields)
        except (TypeError, ValueError) as error:
            bare: Fields = {name: fields[name] for name in BARE if name in fields}
            return self._log.enter(ports, "outcome", {**bare, "unwritable": type(error).__name__})

    def owe(self, context: Context, owed: Owed) -> None:
        """Keep an outcome to be written, or to be looked after, later."""
        if len(self._owed) >= MOST_OWED:
            self.lost["outcomes"] += owed.entry is None
        else:
            self._owed.append(owed)
        self._settle_soon(context)

    def missed(self, context: Context) -> None:
        """A request goes on although its intent could not be written."""
        self.lost["intents"] += 1
        self._settle_soon(context)

    def __len__(self) -> int:
        """How many outcomes could not be written yet."""
        return len(self._owed)

    def _settle_soon(self, context: Context) -> None:
        with self._lock:
            if self._settling:
                return
            self._settling = True
        try:
            context.background.spawn(self._settle_later, context.ports, name="audit retry")
        except ClosedError:  # closing tries once more
            self._settling = False

    async def _settle_later(self, ports: Ports) -> None:
        waits = iter(_WAITS)
        wait = next(waits)
        try:
            while True:
                await ports.sleep(wait)
                wait = next(waits, wait)
                if await self.settle(ports):
                    return
        finally:
            self._settling = False

    async def settle(self, ports: Ports) -> bool:
        """Try to write what is owed; whether nothing is owed any more."""
        async with self._turn:
            try:
                if any(self.lost.values()):
                    await self._tell_lost(ports)
                while self._owed:
                    await self._pay(ports, self._owed[0])
                    self._owed.popleft()
                    self._written()
            except AuditError:
                return False
        return True

    async def _tell_lost(self, ports: Ports) -> None:
        """Write down how many records had to be given up."""
        lost, self.lost = self.lost, {"intents": 0, "outcomes": 0}
        try:
            await self._log.append(ports, "note", {"about": "lost", **lost})
        except AuditError:
            self.lost = {name: count + lost[name] for name, count in self.lost.items()}
            raise
        self._written()

    async def _pay(self, ports: Ports, owed: Owed) -> None:
        """Write an outcome; whoever is cancelled meanwhile leaves it to who comes next."""
        if owed.entry is not None:
            with suppress(AuditError):
                await owed.entry.durable()
                return
        owed.entry = self.enter(ports, {**owed.fields, "late": True})
        try:
            await owed.entry.durable()
        except AuditError:
            owed.entry = None
            raise
